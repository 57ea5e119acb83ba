//! Disks that leave out what a host must not leave out.
//!
//! Owns the mutations by which the checks are themselves checked: each stands for a host that
//! forgets one step.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use hb_disk::{Open, SimulatedDisk, Storage, StorageFile};

/// The step that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// To flush files below a directory.
    Flush(&'static str),
    /// To make the names below a directory durable.
    SyncDir(&'static str),
    /// To remove files below a directory.
    Removal(&'static str),
}

#[derive(Debug)]
pub struct Spoiled {
    disk: SimulatedDisk,
    forgotten: Forgotten,
}

impl Spoiled {
    pub fn on(disk: &SimulatedDisk, forgotten: Forgotten) -> Arc<dyn Storage> {
        Arc::new(Self { disk: disk.clone(), forgotten })
    }
}

impl Storage for Spoiled {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.open(path, how)?;
        match self.forgotten {
            Forgotten::Flush(below) if path.starts_with(below) => {
                Ok(Box::new(NeverFlushed { file }))
            }
            _ => Ok(file),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match self.forgotten {
            Forgotten::Removal(below) if path.starts_with(below) => Ok(()),
            _ => self.disk.remove(path),
        }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        match self.forgotten {
            Forgotten::SyncDir(below) if dir.starts_with(below) => Ok(()),
            _ => self.disk.sync_dir(dir),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct NeverFlushed {
    file: Box<dyn StorageFile>,
}

impl StorageFile for NeverFlushed {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The disk of a process that is killed: from some operation on nothing reaches it any more, and
/// what reached it before stays readable without being durable.
#[derive(Debug, Clone)]
pub struct Killed {
    disk: SimulatedDisk,
    left: Arc<AtomicU64>,
}

impl Killed {
    /// The process lives for this many operations.
    pub fn after(disk: &SimulatedDisk, operations: u64) -> Arc<dyn Storage> {
        Arc::new(Self { disk: disk.clone(), left: Arc::new(AtomicU64::new(operations)) })
    }

    fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the process was killed"))
    }
}

impl Storage for Killed {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.step()?;
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        if how == Open::Create {
            self.step()?;
        }
        let file = self.disk.open(path, how)?;
        Ok(Box::new(KilledFile { file, process: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.step()?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.step()?;
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct KilledFile {
    file: Box<dyn StorageFile>,
    process: Killed,
}

impl StorageFile for KilledFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
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
        self.file.flush()
    }
}

/// A disk on which the first removal of a file below a directory waits for permission.
#[derive(Debug)]
pub struct Paused {
    disk: SimulatedDisk,
    below: &'static str,
    reached: Mutex<Option<Sender<()>>>,
    permitted: Mutex<Receiver<()>>,
}

impl Paused {
    /// Also what tells that the removal was begun, and what permits it.
    pub fn before_removal(
        disk: &SimulatedDisk,
        below: &'static str,
    ) -> (Arc<dyn Storage>, Receiver<()>, Sender<()>) {
        let (reached, was_reached) = channel();
        let (permit, permitted) = channel();
        let (reached, permitted) = (Mutex::new(Some(reached)), Mutex::new(permitted));
        let paused = Self { disk: disk.clone(), below, reached, permitted };
        (Arc::new(paused), was_reached, permit)
    }
}

impl Storage for Paused {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        self.disk.open(path, how)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if path.starts_with(self.below)
            && let Some(reached) = self.reached.lock().unwrap().take()
        {
            reached.send(()).unwrap();
            self.permitted.lock().unwrap().recv().unwrap();
        }
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}
