//! The one door to the disk.
//!
//! Owns: the [`Storage`] and [`StorageFile`] traits through which every durable byte of the log
//! and of the blob store goes, [`RealDisk`] (a capability to one directory) and [`SimulatedDisk`]
//! (a live and a durable image, for crash tests).
//! Knows nothing of: what the bytes mean, jobs, wasm, threads.
//!
//! Invariant: a path is relative, has no `..` component, and never leaves the directory that the
//! storage was opened on.

mod path;
mod real;
mod simulated;

use std::{fmt, io};

pub use real::{LockGuard, RealDisk};
pub use simulated::{CrashChoice, FlushMode, SECTOR_BYTES, SimulatedDisk};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; fails when the name is taken.
    Create,
}

/// A directory tree that keeps bytes.
///
/// Nothing is durable by itself: a file's bytes are after [`StorageFile::flush`], its name after
/// [`Storage::sync_dir`] on the directory that holds it. Paths use `/`; `""` is the root.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates a directory; one that exists is no error. Parents must exist.
    fn create_dir(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, sorted by byte order.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Opens a file.
    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes that can still be written by this user.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file.
pub trait StorageFile: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`, growing the file where needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the bytes, and the length, durable (`fdatasync`).
    fn flush(&self) -> io::Result<()>;
    /// The operating system's own handle on this very file, where there is one, for those who
    /// must hand it on (the sandbox reads inputs through it). It sees later changes of the file.
    fn host_file(&self) -> io::Result<Option<std::fs::File>> {
        Ok(None)
    }
}
