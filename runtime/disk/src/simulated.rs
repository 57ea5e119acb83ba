//! A disk in memory that can lose power, lie and fail.
//!
//! Owns: [`SimulatedDisk`] with its live image (what a running program sees) and its durable
//! image (what is certain to survive), the changes between the two, injected faults, and the
//! choice of what a power cut leaves.
//! Knows nothing of: what is stored.
//!
//! Invariants: every create, write, change of length, flush, rename, removal and directory sync
//! is one numbered operation, from 1; reads are not. A change is durable only after the flush or
//! the directory sync that covers it; until then a power cut may keep any subset of the sectors
//! of any subset of the writes. The same calls and the same seed give the same bytes.

mod files;
mod names;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Open, Storage, StorageFile, path};
use files::{Change, Inode};
use names::{Entry, NameChange, Names};

/// The unit that a power cut writes or does not write, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// What a flush of a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// Everything written before it is durable after it.
    Honest,
    /// Makes durable only what the flush before it should have: "answered before the flush".
    Late,
    /// Succeeds and makes nothing durable.
    Lying,
}

/// Which of the changes that were not yet durable a power cut leaves.
///
/// Changes are counted as [`SimulatedDisk::pending_units`] counts them. A change of names whose
/// forerunner on the same file did not happen does not happen either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashChoice {
    /// None of them.
    Nothing,
    /// All of them, as if only the process had died.
    Everything,
    /// Those whose bit is set; a write lands whole or not at all.
    Writes(u128),
    /// Those whose bit is set; every 512-byte sector of a write has a bit of its own.
    Sectors(u128),
    /// Drawn from this seed; writes land whole, in part or not at all.
    Seeded(u64),
}

/// A disk in memory; clones share it.
#[derive(Clone, Debug)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable_names: Names,
    pending_names: Vec<NameChange>,
    operations: Vec<String>,
    crash_at: Option<u64>,
    crashed: bool,
    failures: BTreeMap<u64, i32>,
    capacity_bytes: Option<u64>,
    flush_mode: FlushMode,
    sync_dir_lies: bool,
    draw: Draw,
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedDisk {
    /// An empty disk without faults and without bound.
    pub fn new() -> Self {
        Self::with(BTreeMap::new(), Names::new())
    }

    fn with(inodes: BTreeMap<u64, Inode>, names: Names) -> Self {
        let state = State {
            inodes,
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
            operations: Vec::new(),
            crash_at: None,
            crashed: false,
            failures: BTreeMap::new(),
            capacity_bytes: None,
            flush_mode: FlushMode::Honest,
            sync_dir_lies: false,
            draw: Draw(0),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panics while it holds the lock has failed already; the image stays whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses power in the middle of operation `number` (from 1): the operation is begun, so what
    /// it writes may be left in part, and it and everything after it returns an error.
    pub fn crash_at(&self, number: u64) {
        self.state().crash_at = Some(number);
    }

    /// Lets operation `number` (from 1) fail with this `errno`. A failed write has written a
    /// part; of a failed flush a random part is durable, the rest never will be although reads
    /// still show it, as Linux does it.
    pub fn fail_at(&self, number: u64, errno: i32) {
        self.state().failures.insert(number, errno);
    }

    /// Bounds the sum of the files' lengths; what would exceed it fails with `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Ends what [`Self::fail_at`] and [`Self::set_capacity`] began.
    pub fn heal(&self) {
        let mut state = self.state();
        state.failures.clear();
        state.capacity_bytes = None;
    }

    /// Sets what a flush does.
    pub fn set_flush_mode(&self, mode: FlushMode) {
        self.state().flush_mode = mode;
    }

    /// Lets directory syncs succeed and make nothing durable.
    pub fn set_sync_dir_lies(&self, lies: bool) {
        self.state().sync_dir_lies = lies;
    }

    /// Seeds the draws of failed flushes.
    pub fn set_seed(&self, seed: u64) {
        self.state().draw = Draw(seed);
    }

    /// The number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations.len() as u64
    }

    /// Each operation so far, as `write wal/a 0+512` or `sync_dir wal`.
    pub fn operation_log(&self) -> Vec<String> {
        self.state().operations.clone()
    }

    /// Whether the power is gone.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// The number of changes that are not durable: changes of names, then the writes and changes
    /// of length of each file, or their sectors.
    pub fn pending_units(&self, sectors: bool) -> usize {
        let state = self.state();
        let files = state.inodes.values();
        state.pending_names.len() + files.map(|inode| inode.units(sectors)).sum::<usize>()
    }

    /// The disk that a power cut at this moment would leave; this one is not changed.
    #[must_use]
    pub fn crash_image(&self, choice: CrashChoice) -> Self {
        let state = self.state();
        let mut picker = Picker { choice, next: 0, draw: Draw(0) };
        if let CrashChoice::Seeded(seed) = choice {
            picker.draw = Draw(seed);
        }
        let chosen: Vec<bool> = state.pending_names.iter().map(|_| picker.whole()).collect();
        let names = names::after_cut(&state.durable_names, &state.pending_names, &chosen);
        let mut inodes = BTreeMap::new();
        for (id, inode) in &state.inodes {
            // The bits of a file without a name are counted too, so that masks stay stable.
            let left = inode.after_cut(&mut picker);
            if names.values().any(|entry| *entry == Entry::File(*id)) {
                inodes.insert(*id, left);
            }
        }
        drop(state);
        Self::with(inodes, names)
    }

    /// A second disk with the same live bytes, all of them durable.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let settled = |inode: &Inode| Inode::settled(inode.live.clone());
        let inodes = state.inodes.iter().map(|(id, inode)| (*id, settled(inode))).collect();
        Self::with(inodes, state.names.clone())
    }

    /// Every file as a running program sees it.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let files = state.names.iter().filter_map(|(path, entry)| match entry {
            Entry::Dir => None,
            Entry::File(id) => Some((path.clone(), state.inodes[id].live.clone())),
        });
        files.collect()
    }

    /// Changes a file behind the program's back, durably; `false` where there is none.
    pub fn tamper(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state();
        let Some(&Entry::File(id)) = state.names.get(path) else { return false };
        let inode = state.inodes.get_mut(&id).expect("every name leads to a file");
        change(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.pending.clear();
        true
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("the simulated disk has no power")) } else { Ok(()) }
    }

    /// Counts an operation; says whether it is done, cut short by the end of power, or fails.
    fn begin(&mut self, what: String) -> io::Result<Begun> {
        self.alive()?;
        self.operations.push(what);
        let number = self.operations.len() as u64;
        if self.crash_at == Some(number) {
            self.crashed = true;
            return Ok(Begun::Cut);
        }
        Ok(self.failures.get(&number).map_or(Begun::Runs, |errno| Begun::Fails(*errno)))
    }

    fn end(&self, begun: Begun) -> io::Result<()> {
        match begun {
            Begun::Runs => Ok(()),
            Begun::Cut => self.alive(),
            Begun::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn used_bytes(&self) -> u64 {
        let ids = self.names.values().filter_map(|entry| match entry {
            Entry::Dir => None,
            Entry::File(id) => Some(id),
        });
        ids.map(|id| self.inodes[id].live.len() as u64).sum()
    }

    fn room_for(&self, inode: u64, new_len: u64) -> io::Result<()> {
        let old_len = self.inodes[&inode].live.len() as u64;
        let grows = new_len.saturating_sub(old_len);
        match self.capacity_bytes {
            Some(capacity) if grows > 0 && self.used_bytes() + grows > capacity => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }

    fn file(&self, path: &str) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Entry::File(id)) => Ok(*id),
            Some(Entry::Dir) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {path:?}"))),
        }
    }

    fn directory(&self, path: &str) -> io::Result<()> {
        match self.names.get(path) {
            _ if path.is_empty() => Ok(()),
            Some(Entry::Dir) => Ok(()),
            Some(Entry::File(_)) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no directory {path:?}"))),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

/// How an operation goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Runs,
    Cut,
    Fails(i32),
}

impl Storage for SimulatedDisk {
    fn create_dir(&self, path: &str) -> io::Result<()> {
        path::check(path, false)?;
        let mut state = self.state();
        state.alive()?;
        match state.names.get(path) {
            Some(Entry::Dir) => return Ok(()),
            Some(Entry::File(_)) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            None => {}
        }
        state.directory(path::parent(path))?;
        let begun = state.begin(format!("create_dir {path}"))?;
        if !matches!(begun, Begun::Fails(_)) {
            state.change_names(NameChange::create(path, Entry::Dir));
        }
        state.end(begun)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        path::check(dir, true)?;
        let state = self.state();
        state.alive()?;
        state.directory(dir)?;
        // What lies below a directory stands together in the map.
        let below = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let after = state.names.range(below.clone()..).map(|(path, _)| path);
        let inside = after
            .take_while(|path| path.starts_with(&below))
            .filter(|path| path::parent(path) == dir);
        // The map is sorted by path, and siblings sort as their last parts do.
        Ok(inside.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    fn open(&self, path: &str, how: Open) -> io::Result<Box<dyn StorageFile>> {
        path::check(path, false)?;
        let mut state = self.state();
        state.alive()?;
        let inode = match how {
            Open::Read | Open::Write => state.file(path)?,
            Open::Create => {
                state.directory(path::parent(path))?;
                if state.names.contains_key(path) {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists));
                }
                let begun = state.begin(format!("create {path}"))?;
                let id = state.inodes.last_key_value().map_or(1, |(id, _)| id + 1);
                if !matches!(begun, Begun::Fails(_)) {
                    state.inodes.insert(id, Inode::default());
                    state.change_names(NameChange::create(path, Entry::File(id)));
                }
                state.end(begun)?;
                id
            }
        };
        drop(state);
        let writable = how != Open::Read;
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Box::new(SimulatedFile { disk, inode, path, writable }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        path::check(from, false)?;
        path::check(to, false)?;
        let mut state = self.state();
        state.alive()?;
        let inode = state.file(from)?;
        state.directory(path::parent(to))?;
        if state.names.get(to) == Some(&Entry::Dir) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let begun = state.begin(format!("rename {from} {to}"))?;
        if !matches!(begun, Begun::Fails(_)) {
            state.change_names(NameChange::rename(from, to, inode));
        }
        state.end(begun)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        path::check(path, false)?;
        let mut state = self.state();
        state.alive()?;
        let inode = state.file(path)?;
        let begun = state.begin(format!("remove {path}"))?;
        if !matches!(begun, Begun::Fails(_)) {
            state.change_names(NameChange::remove(path, inode));
        }
        state.end(begun)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        path::check(dir, true)?;
        let mut state = self.state();
        state.alive()?;
        state.directory(dir)?;
        let begun = state.begin(format!("sync_dir {dir}"))?;
        if begun == Begun::Runs && !state.sync_dir_lies {
            let State { durable_names, pending_names, .. } = &mut *state;
            names::sync(dir, durable_names, pending_names);
        }
        state.end(begun)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        state.alive()?;
        Ok(state.capacity_bytes.map_or(u64::MAX / 2, |all| all.saturating_sub(state.used_bytes())))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
    path: String,
    writable: bool,
}

impl SimulatedFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(EBADF)) }
    }

    fn change(&self, what: String, change: &Change) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.disk.state();
        state.alive()?;
        let new_len = change.end();
        // An operation that finds the disk full is counted as every other.
        let begun = state.begin(what)?;
        state.room_for(self.inode, new_len)?;
        let inode = state.inodes.get_mut(&self.inode).expect("an open file keeps its inode");
        match (begun, change) {
            (Begun::Runs | Begun::Cut, change) => inode.change(change.clone()),
            (Begun::Fails(_), Change::Write { offset, bytes }) => {
                let half = bytes[..bytes.len() / 2].to_vec();
                inode.change(Change::Write { offset: *offset, bytes: half });
            }
            (Begun::Fails(_), Change::SetLen(_)) => {}
        }
        state.end(begun)
    }
}

/// `EBADF`: the file was opened for reading only.
const EBADF: i32 = 9;

impl StorageFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.inodes[&self.inode].live.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.state();
        state.alive()?;
        let live = &state.inodes[&self.inode].live;
        let from = usize::try_from(offset).map_or(live.len(), |offset| offset.min(live.len()));
        let count = buffer.len().min(live.len() - from);
        buffer[..count].copy_from_slice(&live[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let what = format!("write {} {offset}+{}", self.path, bytes.len());
        self.change(what, &Change::Write { offset, bytes: bytes.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(format!("set_len {} {len}", self.path), &Change::SetLen(len))
    }

    fn flush(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let begun = state.begin(format!("flush {}", self.path))?;
        let State { inodes, draw, flush_mode, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).expect("an open file keeps its inode");
        match begun {
            Begun::Runs => inode.flush(*flush_mode),
            Begun::Cut => {}
            Begun::Fails(_) => inode.fail_flush(draw.next()),
        }
        state.end(begun)
    }
}

/// Says of one change after another whether a power cut leaves it.
struct Picker {
    choice: CrashChoice,
    next: u32,
    draw: Draw,
}

/// How much of one write a power cut leaves.
enum Landing {
    Nothing,
    Whole,
    /// One bit or draw for each sector.
    BySector,
}

impl Picker {
    fn bit(&mut self, mask: u128) -> bool {
        let bit = mask.checked_shr(self.next).is_some_and(|rest| rest & 1 == 1);
        self.next += 1;
        bit
    }

    /// For a change that cannot be torn.
    fn whole(&mut self) -> bool {
        match self.choice {
            CrashChoice::Nothing => false,
            CrashChoice::Everything => true,
            CrashChoice::Writes(mask) | CrashChoice::Sectors(mask) => self.bit(mask),
            CrashChoice::Seeded(_) => self.draw.next() & 1 == 1,
        }
    }

    fn landing(&mut self) -> Landing {
        match self.choice {
            CrashChoice::Sectors(_) => Landing::BySector,
            CrashChoice::Seeded(_) => match self.draw.next() % 4 {
                0 => Landing::Nothing,
                1 => Landing::Whole,
                _ => Landing::BySector,
            },
            CrashChoice::Nothing | CrashChoice::Everything | CrashChoice::Writes(_) => {
                if self.whole() { Landing::Whole } else { Landing::Nothing }
            }
        }
    }
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, seeded, the same everywhere.
#[derive(Clone, Copy, Debug)]
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
