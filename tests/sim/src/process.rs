//! The disk as one process sees it.
//!
//! Owns: the end of a process (`kill -9`: nothing reaches the disk any more, and what did stays
//! readable without being durable), slow flushes, and the steps that a spoiled host forgets. What
//! the disk itself does wrong is [`SimulatedDisk`]'s.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use hb_disk::{Open, SimulatedDisk, Storage, StorageFile};

use crate::{clock::SimulatedClock, spoil::Mutation};

/// One process and its disk. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process {
    disk: SimulatedDisk,
    /// Set when the process is gone.
    pub dead: Arc<AtomicBool>,
    /// Operations that are left to it.
    left: Arc<AtomicU64>,
    clock: Arc<SimulatedClock>,
    /// What a flush takes.
    flush_ns: u64,
    mutation: Option<Mutation>,
}

impl Process {
    /// A process that lives for this many operations of the disk.
    pub fn new(
        disk: &SimulatedDisk,
        operations: u64,
        clock: &Arc<SimulatedClock>,
        flush_ns: u64,
        mutation: Option<Mutation>,
    ) -> Self {
        Self {
            disk: disk.clone(),
            dead: Arc::new(AtomicBool::new(false)),
            left: Arc::new(AtomicU64::new(operations)),
            clock: Arc::clone(clock),
            flush_ns,
            mutation,
        }
    }

    /// Ends it.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Whether it is gone, or its machine without power.
    pub fn is_gone(&self) -> bool {
        if self.disk.crashed() {
            self.kill();
        }
        self.dead.load(Ordering::Relaxed)
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_gone() { Err(io::Error::other("the process is gone")) } else { Ok(()) }
    }

    fn step(&self) -> io::Result<()> {
        self.alive()?;
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            self.kill();
            return self.alive();
        }
        self.left.store(left - 1, Ordering::Relaxed);
        Ok(())
    }

    fn forgets(&self, what: Mutation) -> bool {
        self.mutation == Some(what)
    }
}

impl Storage for Process {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.step()?;
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.alive()?;
        self.disk.list(dir)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        if how == Open::Create {
            self.step()?;
        } else {
            self.alive()?;
        }
        let file = self.disk.open(path, how)?;
        let (process, in_log) = (self.clone(), path.starts_with("wal/"));
        Ok(Box::new(ProcessFile { file, process, in_log, in_blobs: path.starts_with("blob/") }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.step()?;
        if self.forgets(Mutation::KeepsUnneededBlobs) && path.starts_with("blob/") {
            return Ok(());
        }
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.step()?;
        let forgotten = (self.forgets(Mutation::SkipsBlobDirectorySync) && dir.starts_with("blob"))
            || (self.forgets(Mutation::SkipsLogDirectorySync) && dir.starts_with("wal"));
        if forgotten { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.alive()?;
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct ProcessFile {
    file: Box<dyn StorageFile>,
    process: Process,
    in_log: bool,
    in_blobs: bool,
}

impl StorageFile for ProcessFile {
    fn len(&self) -> io::Result<u64> {
        self.process.alive()?;
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.process.alive()?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.process.step()?;
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.process.step()?;
        self.file.set_len(len)
    }

    fn flush(&self) -> io::Result<()> {
        self.process.step()?;
        self.process.clock.advance(self.process.flush_ns);
        let forgotten = (self.process.forgets(Mutation::SkipsBlobFlush) && self.in_blobs)
            || (self.process.forgets(Mutation::SkipsLogFlush) && self.in_log);
        if forgotten {
            return Ok(());
        }
        let flushed = self.file.flush();
        if self.process.forgets(Mutation::IgnoresFailedFlush) && !self.process.is_gone() {
            return Ok(());
        }
        flushed
    }
}
