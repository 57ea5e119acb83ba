//! The disk of a host that is put through faults: the real one, until a trap is reached.
//!
//! Owns: which operation of the disk is which [`Point`], and each [`Strike`]. What is undone by a
//! power cut is `volatile.rs`.
//!
//! One operation at a time: a power cut has to find the disk at rest, and the numbers of operations
//! mean something only in their order.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hb_disk::{Open, SECTOR_BYTES, Storage, StorageFile};

use crate::{
    ambush::{Ambush, Point, Strike, Trap},
    dice::Dice,
    volatile::Volatile,
};

/// A disk that strikes.
#[derive(Debug)]
pub struct ChaosDisk {
    inner: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    trap: Option<Trap>,
    /// Places of the trap's kind that were passed.
    passed: u64,
    dice: Dice,
    /// What is not durable, where the strike needs to know.
    volatile: Option<Volatile>,
    full: bool,
    failing: bool,
    /// Open files keep their number when their name changes.
    numbers: HashMap<String, u64>,
    names: HashMap<u64, String>,
    next: u64,
}

impl State {
    fn number(&mut self, path: &str) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.next += 1;
        self.numbers.insert(path.to_owned(), self.next);
        self.names.insert(self.next, path.to_owned());
        self.next
    }

    fn forget_name(&mut self, path: &str) {
        if let Some(number) = self.numbers.remove(path) {
            self.names.remove(&number);
        }
    }

    /// Whether the trap is reached by passing one of these places.
    fn reaches(&mut self, points: &[Point]) -> Option<Strike> {
        let trap = self.trap.as_ref()?;
        if !points.contains(&trap.at) {
            return None;
        }
        self.passed += 1;
        (self.passed == trap.nth).then_some(trap.strike)
    }

    fn lies(&self) -> bool {
        self.trap.as_ref().is_some_and(|trap| trap.strike == Strike::LyingFlushes)
    }

    /// Says outside that the strike was made.
    fn tell(&self) {
        if let Some(trap) = &self.trap {
            let _ = fs::write(&trap.told, trap.at.name());
        }
    }

    fn die(&self) -> ! {
        self.tell();
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal cannot be caught; until it is delivered nothing else may happen.
        loop {
            std::thread::park();
        }
    }
}

fn is_segment(path: &str) -> bool {
    path.starts_with("wal/")
        && Path::new(path).extension().is_some_and(|extension| extension == "seg")
}

fn no_space() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn failed_flush() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl ChaosDisk {
    /// Takes over the disk of the data directory `root`.
    pub fn new(inner: Arc<dyn Storage>, root: &Path, ambush: &Ambush) -> io::Result<Self> {
        let remembers = ambush.trap.as_ref().is_some_and(|trap| trap.strike.remembers());
        let state = State {
            trap: ambush.trap.clone(),
            passed: 0,
            dice: Dice::new(ambush.seed),
            volatile: if remembers { Some(Volatile::new(root)?) } else { None },
            full: false,
            failing: false,
            numbers: HashMap::new(),
            names: HashMap::new(),
            next: 0,
        };
        Ok(Self { inner, state: Arc::new(Mutex::new(state)) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes places; returns only if the process is to go on.
    fn pass(&self, state: &mut State, points: &[Point]) {
        strike(&self.inner, state, points);
    }
}

/// Passes places that are not a write or a flush.
fn strike(disk: &Arc<dyn Storage>, state: &mut State, points: &[Point]) {
    match state.reaches(points) {
        None => {}
        Some(Strike::Kill | Strike::Tear) => state.die(),
        Some(Strike::PowerCut | Strike::LyingFlushes) => {
            if let Some(mut volatile) = state.volatile.take() {
                volatile.forget(&**disk, &mut state.dice);
            }
            state.die()
        }
        Some(Strike::Full) => {
            state.full = true;
            state.tell();
        }
        Some(Strike::FailFlush) => {
            state.failing = true;
            state.tell();
        }
    }
}

impl Storage for ChaosDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        self.pass(&mut state, &[Point::Recovery]);
        if state.full {
            return Err(no_space());
        }
        self.inner.create_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.lock();
        if how == Open::Create {
            let segment = path.starts_with("wal/") && path.contains(".seg");
            let points: &[Point] =
                if segment { &[Point::Recovery, Point::SegmentChange] } else { &[Point::Recovery] };
            self.pass(&mut state, points);
            if state.full {
                return Err(no_space());
            }
        }
        let inner = self.inner.open(path, how)?;
        if how == Open::Create
            && let Some(volatile) = &mut state.volatile
        {
            volatile.created(path);
        }
        let number = state.number(path);
        let (disk, state) = (Arc::clone(&self.inner), Arc::clone(&self.state));
        Ok(Box::new(ChaosFile { inner, disk, state, number }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        self.pass(&mut state, &[Point::Recovery, Point::BeforeRename]);
        if let Some(volatile) = &mut state.volatile {
            volatile.rename(from, to)?;
        }
        self.inner.rename(from, to)?;
        state.forget_name(to);
        if let Some(number) = state.numbers.remove(from) {
            state.numbers.insert(to.to_owned(), number);
            state.names.insert(number, to.to_owned());
        }
        self.pass(&mut state, &[Point::AfterRename]);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.lock();
        self.pass(&mut state, &[Point::Recovery, Point::Removal]);
        if let Some(volatile) = &mut state.volatile {
            volatile.remove(path)?;
        }
        self.inner.remove(path)?;
        state.forget_name(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.lock();
        self.pass(&mut state, &[Point::Recovery]);
        if state.failing {
            return Err(failed_flush());
        }
        self.inner.sync_dir(dir)?;
        if !state.lies()
            && let Some(volatile) = &mut state.volatile
        {
            volatile.synced(dir);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        if self.lock().full { Ok(0) } else { self.inner.free_bytes() }
    }
}

#[derive(Debug)]
struct ChaosFile {
    inner: Box<dyn StorageFile>,
    disk: Arc<dyn Storage>,
    state: Arc<Mutex<State>>,
    number: u64,
}

impl ChaosFile {
    fn lock(&self) -> (MutexGuard<'_, State>, String) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that was removed goes on under no name.
        let path = state.names.get(&self.number).cloned().unwrap_or_default();
        (state, path)
    }

    /// Writes some sectors of `bytes` and dies.
    fn tear(&self, state: &mut State, offset: u64, bytes: &[u8]) -> ! {
        for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            if state.dice.coin() {
                let _ = self.inner.write_at(offset + (index * SECTOR_BYTES) as u64, sector);
            }
        }
        state.die()
    }
}

impl StorageFile for ChaosFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, path) = self.lock();
        let points: &[Point] = if is_segment(&path) {
            &[Point::Recovery, Point::LogWrite]
        } else if path.starts_with("wal/snap") {
            &[Point::Recovery, Point::Snapshot]
        } else {
            &[Point::Recovery]
        };
        let torn = state.trap.as_ref().is_some_and(|trap| trap.strike == Strike::Tear);
        if torn {
            if state.reaches(points).is_some() {
                self.tear(&mut state, offset, bytes);
            }
        } else {
            strike(&self.disk, &mut state, points);
        }
        let end = offset + bytes.len() as u64;
        // What was filled with zeros ahead has its place on the disk.
        if state.full && end > self.inner.len()? {
            return Err(no_space());
        }
        if let Some(volatile) = &mut state.volatile {
            volatile.remember_bytes(&path, &*self.inner, offset, bytes.len() as u64)?;
        }
        self.inner.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut state, path) = self.lock();
        strike(&self.disk, &mut state, &[Point::Recovery]);
        let now = self.inner.len()?;
        if state.full && len > now {
            return Err(no_space());
        }
        if let Some(volatile) = &mut state.volatile {
            volatile.remember_bytes(&path, &*self.inner, len.min(now), now.saturating_sub(len))?;
        }
        self.inner.set_len(len)
    }

    fn flush(&self) -> io::Result<()> {
        let (mut state, path) = self.lock();
        let log = is_segment(&path);
        let before: &[Point] = if log {
            &[Point::Recovery, Point::BetweenWriteAndFlush]
        } else if path.starts_with("blob/") {
            &[Point::Recovery, Point::Blob]
        } else {
            &[Point::Recovery]
        };
        strike(&self.disk, &mut state, before);
        if state.failing {
            let State { volatile, dice, .. } = &mut *state;
            if let Some(volatile) = volatile {
                volatile.forget_bytes(&*self.disk, &path, dice);
            }
            return Err(failed_flush());
        }
        self.inner.flush()?;
        if !state.lies()
            && let Some(volatile) = &mut state.volatile
        {
            volatile.flushed(&path);
        }
        if log {
            strike(&self.disk, &mut state, &[Point::BetweenFlushAndAnswer]);
        }
        Ok(())
    }

    fn host_file(&self) -> io::Result<Option<fs::File>> {
        self.inner.host_file()
    }
}
