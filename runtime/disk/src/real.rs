//! The real disk: a capability to one directory.
//!
//! Owns: [`RealDisk`], its files, and the lock that keeps a second process out.
//! Knows nothing of: what is stored.
//!
//! Invariants: nothing outside the directory is reached (cap-std refuses links that lead out, on
//! top of our own check of names); an error of a flush is passed on and never retried, because
//! after a failed flush the kernel marks the pages clean and a second flush lies.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, FileExt as _, OpenOptions};
use rustix::fs::FlockOperation;

use crate::{Open, Storage, StorageFile, path};

/// A directory of the real file system.
#[derive(Debug)]
pub struct RealDisk {
    dir: Dir,
}

/// Holds a lock for as long as it lives; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct LockGuard {
    _directory: File,
}

impl RealDisk {
    /// Opens a directory and creates it, with its parents, where it is missing.
    ///
    /// The directory's own name is made durable in its parent, so that a ledger that was
    /// created and acknowledged something cannot vanish as a whole.
    pub fn open(path: &Path) -> io::Result<Self> {
        let missing = !path.is_dir();
        if missing {
            // What strangers' jobs were given is nobody else's business.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        let dir = Dir::open_ambient_dir(path, ambient_authority())?;
        if missing {
            sync_ancestors(path)?;
        }
        Ok(Self { dir })
    }

    /// Takes the exclusive lock on the directory, or returns `None` where another process (or
    /// another guard in this one) holds it. The file `name` says the owner's process id, see
    /// [`RealDisk::lock_owner`].
    ///
    /// The lock is on the directory and not on that file: a file can be removed while it is held,
    /// and whoever made it anew would hold another lock.
    pub fn lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        path::check(name, false)?;
        let directory = self.dir.open(".")?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Advisory text for the loser's message. It need not be durable, and a directory that
        // cannot be written to can be locked all the same.
        let _ = self.dir.write(name, format!("{}\n", std::process::id()));
        Ok(Some(LockGuard { _directory: directory }))
    }

    /// Whether somebody holds the lock on the directory; leaves no trace.
    pub fn is_locked(&self) -> io::Result<bool> {
        let directory = self.dir.open(".")?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The process id that the holder of the lock `name` wrote into it, where it is readable.
    pub fn lock_owner(&self, name: &str) -> Option<u32> {
        path::check(name, false).ok()?;
        self.dir.read_to_string(name).ok()?.trim().parse().ok()
    }

    fn directory(&self, path: &str) -> io::Result<Dir> {
        path::check(path, true)?;
        if path.is_empty() { self.dir.try_clone() } else { self.dir.open_dir(path) }
    }
}

/// Makes the names of a new directory and of its parents durable.
fn sync_ancestors(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    for ancestor in absolute.ancestors().skip(1) {
        // A parent that may be entered but not read holds names that were there before us.
        match std::fs::File::open(ancestor) {
            Ok(dir) => dir.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Storage for RealDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        path::check(path, false)?;
        match self.dir.create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.dir.is_dir(path) {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            result => result,
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.directory(dir)?.entries()? {
            let name = entry?.file_name().into_string().map_err(|name: OsString| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a name in {dir:?} is not UTF-8: {}", name.to_string_lossy()),
                )
            })?;
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        path::check(path, false)?;
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::Create => options.read(true).write(true).create_new(true),
        };
        let file = self.dir.open_with(path, &options)?;
        Ok(Box::new(RealFile { file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        path::check(from, false)?;
        path::check(to, false)?;
        self.dir.rename(from, &self.dir, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        path::check(path, false)?;
        self.dir.remove_file(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        // Through `.`: a capability may be held by a descriptor that allows no flush (O_PATH).
        self.directory(dir)?.open(".")?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(self.dir.open(".")?)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl StorageFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        while !buffer.is_empty() {
            match self.file.read_at(buffer, offset) {
                Ok(0) => break,
                Ok(count) => {
                    total += count;
                    offset += count as u64;
                    buffer = &mut buffer[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn host_file(&self) -> io::Result<Option<std::fs::File>> {
        Ok(Some(self.file.try_clone()?.into_std()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let root = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(&root.path().join("deep/er")).unwrap();
        (root, disk)
    }

    #[test]
    fn bytes_names_and_lengths_come_back() {
        let (_root, disk) = disk();
        disk.create_dir("d").unwrap();
        disk.create_dir("d").unwrap();
        let file = disk.open("d/b", Open::Create).unwrap();
        file.write_at(3, b"xyz").unwrap();
        file.flush().unwrap();
        assert_eq!(file.len().unwrap(), 6);
        let mut buffer = [9; 8];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"\0\0\0xyz");
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        disk.open("d/a", Open::Create).unwrap();
        disk.sync_dir("d").unwrap();
        disk.sync_dir("").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["a", "b"]);
        disk.rename("d/a", "d/c").unwrap();
        disk.remove("d/b").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["c"]);
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_taken_name_is_not_created_and_a_missing_one_not_opened() {
        let (_root, disk) = disk();
        disk.open("a", Open::Create).unwrap();
        let kind = |result: io::Result<Box<dyn StorageFile>>| result.unwrap_err().kind();
        assert_eq!(kind(disk.open("a", Open::Create)), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.open("b", Open::Write)), io::ErrorKind::NotFound);
        assert_eq!(disk.create_dir("a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn nothing_outside_is_reached_by_name_or_by_link() {
        let (root, disk) = disk();
        std::fs::write(root.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), root.path().join("deep/er/link"))
            .unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("deep/er/out")).unwrap();
        for path in ["../secret", "/etc/passwd", "link", "out/secret", "a/../../secret"] {
            assert!(disk.open(path, Open::Read).is_err(), "{path}");
        }
        assert!(disk.list("out").is_err());
        assert!(disk.rename("link", "../moved").is_err());
        assert!(disk.remove("../secret").is_err());
    }

    #[test]
    fn a_second_lock_is_refused_and_can_name_the_owner() {
        let (_root, disk) = disk();
        let guard = disk.lock("LOCK").unwrap().unwrap();
        assert!(disk.lock("LOCK").unwrap().is_none());
        assert_eq!(disk.lock_owner("LOCK"), Some(std::process::id()));
        drop(guard);
        assert!(disk.lock("LOCK").unwrap().is_some());
        assert_eq!(disk.lock_owner("none"), None);
    }
}
