//! What is waiting to be written, and where it will go.
//!
//! Owns: the staging buffer, the numbering of records, the room in the current segment and the
//! prepared ones, the list of those who wait.
//! Knows nothing of: I/O (except the open files of prepared segments), threads.
//!
//! Invariants: what has been staged has a place: a batch is refused before it is staged or not at
//! all for want of room. All that is staged goes into one frame.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use hb_disk::StorageFile;

use crate::Lsn;
use crate::error::AppendError;
use crate::frame::len_for_body;
use crate::layout::{BLOCK_U64, SECTOR, to_u32, to_u64};
use crate::record::Record;

/// An empty segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) seq: u64,
    pub(crate) end: u64,
    pub(crate) file: Box<dyn StorageFile>,
}

/// Where a frame goes.
#[derive(Debug)]
pub(crate) enum Target {
    /// To this offset of the current segment.
    Here(u64),
    /// To the first block of the next one.
    Next(Spare),
}

/// A frame to be written.
#[derive(Debug)]
pub(crate) struct Job {
    /// One free sector and the body.
    pub(crate) buffer: Vec<u8>,
    pub(crate) first_lsn: Lsn,
    pub(crate) count: u32,
    pub(crate) flags: u32,
    pub(crate) target: Target,
}

impl Job {
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.first_lsn + u64::from(self.count) - 1
    }
}

/// Whether the log takes records.
#[derive(Clone, Debug)]
pub(crate) enum Health {
    Open,
    Poisoned(Arc<str>),
    Closed,
}

/// Space for frames.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) offset: u64,
    pub(crate) end: u64,
    pub(crate) spares: VecDeque<Spare>,
    /// The number of the next segment to be prepared.
    pub(crate) next_seq: u64,
    /// Needed and free bytes, while no segment can be prepared.
    pub(crate) full: Option<(u64, u64)>,
    /// Somebody is preparing one.
    pub(crate) preparing: bool,
    /// Somebody waits for one.
    pub(crate) awaited: bool,
}

impl Room {
    /// Whether another segment should be prepared. Not before the current one has begun to fill: a
    /// short run would fill a segment with zeros for nothing.
    pub(crate) fn wants_spare(&self, spare_segments: usize) -> bool {
        let begun = self.offset - BLOCK_U64 > (self.end - BLOCK_U64) / 8;
        self.spares.len() < spare_segments && (begun || self.awaited || self.full.is_some())
    }

    /// Whether a frame of `len` bytes has a place that leaves `reserve` bytes once no spare is
    /// left.
    fn fits(&self, len: u64, reserve: u64) -> bool {
        let here = self.end.saturating_sub(self.offset);
        match self.spares.front() {
            Some(spare) => len <= here || len <= spare.end - BLOCK_U64,
            None => len + reserve <= here,
        }
    }

    fn place(&mut self, len: u64) -> Option<Target> {
        if len <= self.end.saturating_sub(self.offset) {
            let offset = self.offset;
            self.offset += len;
            return Some(Target::Here(offset));
        }
        let spare = self.spares.pop_front()?;
        self.offset = BLOCK_U64 + len;
        self.end = spare.end;
        Some(Target::Next(spare))
    }
}

/// What happens to someone who waits.
pub(crate) enum Tell {
    Signal(Arc<Signal>),
    Call(Box<dyn FnOnce(Result<(), AppendError>) + Send>),
}

pub(crate) struct Waiter {
    pub(crate) first_lsn: Lsn,
    pub(crate) last_lsn: Lsn,
    pub(crate) tell: Tell,
}

impl Waiter {
    /// Tells the outcome; `cause` is why it is not known.
    pub(crate) fn tell(self, cause: Option<&Arc<str>>) {
        let (first_lsn, last_lsn) = (self.first_lsn, self.last_lsn);
        let result = cause.map_or(Ok(()), |cause| {
            Err(AppendError::Unknown { first_lsn, last_lsn, cause: Arc::clone(cause) })
        });
        match self.tell {
            Tell::Signal(signal) => signal.set(result),
            Tell::Call(call) => call(result),
        }
    }
}

/// One thread's wait: of its own, so that waking it wakes nobody else.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    result: Mutex<Option<Result<(), AppendError>>>,
    changed: Condvar,
}

impl Signal {
    fn set(&self, result: Result<(), AppendError>) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.changed.notify_one();
    }

    pub(crate) fn wait(&self) -> Result<(), AppendError> {
        let mut result = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            result = self.changed.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// How a thread of the log waits, so that nobody wakes it for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    No,
    /// It looks again by itself soon.
    Briefly,
    UntilWoken,
}

pub(crate) struct Stage {
    buffer: Vec<u8>,
    recycled: Option<Vec<u8>>,
    count: u32,
    pub(crate) next_lsn: Lsn,
    /// Somebody is writing a frame.
    pub(crate) busy: bool,
    pub(crate) health: Health,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) room: Room,
    /// The last frame is not a seal.
    pub(crate) unsealed: bool,
    /// The mark was written and not flushed.
    pub(crate) mark_dirty: bool,
    pub(crate) last_write: Instant,
    pub(crate) writer_waits: Waits,
    pub(crate) keeper_waits: Waits,
}

impl Stage {
    pub(crate) fn new(next_lsn: Lsn, room: Room, unsealed: bool) -> Self {
        Self {
            buffer: vec![0; SECTOR],
            recycled: None,
            count: 0,
            next_lsn,
            busy: false,
            health: Health::Open,
            waiters: Vec::new(),
            room,
            unsealed,
            mark_dirty: false,
            last_write: Instant::now(),
            writer_waits: Waits::No,
            keeper_waits: Waits::No,
        }
    }

    /// Records staged and not yet being written.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of body staged and not yet being written.
    pub(crate) fn staged_bytes(&self) -> usize {
        self.buffer.len() - SECTOR
    }

    /// Whether `more` bytes of records have a place.
    pub(crate) fn fits(&self, more: usize, reserve: u64) -> bool {
        self.room.fits(len_for_body(self.staged_bytes() + more), reserve)
    }

    pub(crate) fn healthy(&self) -> Result<(), AppendError> {
        match &self.health {
            Health::Open => Ok(()),
            Health::Poisoned(cause) => Err(AppendError::Poisoned { cause: Arc::clone(cause) }),
            Health::Closed => Err(AppendError::Closed),
        }
    }

    /// Stages a batch that fits; returns its first and last LSN.
    pub(crate) fn push(&mut self, records: &[Record]) -> (Lsn, Lsn) {
        let first = self.next_lsn;
        for record in records {
            record.encode(self.next_lsn, &mut self.buffer);
            self.next_lsn += 1;
        }
        self.count += to_u32(records.len());
        (first, self.next_lsn - 1)
    }

    /// Takes what is staged as one frame; the caller writes it and nobody else writes meanwhile.
    pub(crate) fn take(&mut self) -> Job {
        assert!(!self.busy && self.count > 0, "one frame is in flight at a time");
        let fresh = self.fresh_buffer();
        let buffer = std::mem::replace(&mut self.buffer, fresh);
        let len = len_for_body(buffer.len() - SECTOR);
        let target = self.room.place(len).expect("what was staged was found to fit");
        let count = std::mem::take(&mut self.count);
        self.busy = true;
        Job { buffer, first_lsn: self.next_lsn - u64::from(count), count, flags: 0, target }
    }

    /// Takes an empty frame, if there is room for one.
    pub(crate) fn take_empty(&mut self, flags: u32) -> Option<Job> {
        assert!(!self.busy && self.count == 0, "a seal claims that nothing is staged");
        let target = self.room.place(len_for_body(0))?;
        self.busy = true;
        let buffer = self.fresh_buffer();
        Some(Job { buffer, first_lsn: self.next_lsn, count: 0, flags, target })
    }

    fn fresh_buffer(&mut self) -> Vec<u8> {
        self.recycled.take().unwrap_or_else(|| vec![0; SECTOR])
    }

    /// Keeps a written buffer for the frame after next: a fresh one costs page faults.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        buffer.truncate(SECTOR);
        self.recycled = Some(buffer);
    }

    /// Those who wait for nothing beyond `durable`; everybody where the log is poisoned.
    pub(crate) fn ready(&mut self, durable: Lsn) -> Vec<Waiter> {
        if matches!(self.health, Health::Poisoned(_)) {
            return std::mem::take(&mut self.waiters);
        }
        let (ready, waiting) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|waiter| waiter.last_lsn <= durable);
        self.waiters = waiting;
        ready
    }

    /// The bytes of the next frame's body that are staged, for figures.
    pub(crate) fn staged_u64(&self) -> u64 {
        to_u64(self.staged_bytes())
    }
}
