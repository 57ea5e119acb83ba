//! What running jobs print and say before it is durable.
//!
//! Owns: the last bytes of each stream of each running job, and what it last said of itself. All of
//! it may be rolled back; what is durable is in the ledger. Knows nothing of who watches.
//!
//! Invariants: a job's bytes are numbered from its beginning, whatever attempt prints them, so a byte
//! of one number is the same byte in every attempt of a deterministic job; memory is bounded for
//! each job.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hb_sandbox::Stream;
use hb_types::{capture::Progress, event::JobNumber};

use crate::{
    Host,
    listen::Listener,
    observer::{Notice, Observer},
};

/// Bytes of each stream that are kept of a running job.
pub const TAIL_BYTES: usize = 256 * 1024;

/// The last bytes of a stream.
#[derive(Debug, Default)]
struct Tail {
    /// Number of the first byte that is kept.
    start: u64,
    bytes: VecDeque<u8>,
}

impl Tail {
    fn begin_at(&mut self, start: u64) {
        self.start = start;
        self.bytes.clear();
    }

    fn push(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let excess = (self.bytes.len() + kept.len()).saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
        self.bytes.extend(kept);
        self.start += (bytes.len() - kept.len() + excess) as u64;
    }

    /// The bytes from `offset` on, at most `max`; `None` where they are not kept any more or were
    /// not printed yet.
    fn read(&self, offset: u64, max: usize) -> Option<Vec<u8>> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        if skip >= self.bytes.len() {
            return None;
        }
        Some(self.bytes.range(skip..).take(max).copied().collect())
    }
}

#[derive(Debug, Default)]
struct LiveJob {
    stdout: Tail,
    stderr: Tail,
    progress: Option<Progress>,
}

impl LiveJob {
    fn tail(&mut self, stream: Stream) -> &mut Tail {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// All running jobs of a host.
#[derive(Debug, Default)]
pub struct LiveJobs {
    jobs: Mutex<HashMap<JobNumber, Arc<Mutex<LiveJob>>>>,
}

// Bytes and numbers are consistent between statements; a panic elsewhere says nothing about them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LiveJobs {
    fn find(&self, job: JobNumber) -> Option<Arc<Mutex<LiveJob>>> {
        lock(&self.jobs).get(&job).cloned()
    }

    /// Bytes that a running job printed, from number `offset` on and at most `max`; `None` where
    /// they are not kept any more or were not printed yet.
    pub fn read(&self, job: JobNumber, stream: Stream, offset: u64, max: usize) -> Option<Vec<u8>> {
        let live = self.find(job)?;
        lock(&live).tail(stream).read(offset, max)
    }

    /// Number of the first byte that is kept of what a running job printed, if it printed anything.
    pub fn kept_from(&self, job: JobNumber, stream: Stream) -> Option<u64> {
        let live = self.find(job)?;
        let mut live = lock(&live);
        let tail = live.tail(stream);
        (!tail.bytes.is_empty()).then_some(tail.start)
    }

    /// The jobs that run.
    pub fn running(&self) -> Vec<JobNumber> {
        lock(&self.jobs).keys().copied().collect()
    }

    /// What a running job last said of itself.
    pub fn progress(&self, job: JobNumber) -> Option<Progress> {
        let live = self.find(job)?;
        lock(&live).progress.clone()
    }

    fn begin(&self, job: JobNumber) -> Arc<Mutex<LiveJob>> {
        Arc::clone(lock(&self.jobs).entry(job).or_default())
    }

    fn end(&self, job: JobNumber) {
        lock(&self.jobs).remove(&job);
    }
}

/// Feeds [`LiveJobs`] from one attempt, and lets go of it when dropped.
pub struct LiveObserver {
    host: Arc<Host>,
    job: JobNumber,
    live: Arc<Mutex<LiveJob>>,
    listeners: Arc<[Arc<dyn Listener>]>,
}

impl LiveObserver {
    /// For an attempt at `job` on `host`.
    pub fn new(host: &Arc<Host>, job: JobNumber) -> Self {
        let live = host.live().begin(job);
        *lock(&live) = LiveJob::default();
        Self { host: Arc::clone(host), job, live, listeners: host.listeners() }
    }
}

impl Drop for LiveObserver {
    fn drop(&mut self) {
        self.host.live().end(self.job);
    }
}

impl Observer for LiveObserver {
    fn notice(&mut self, notice: Notice) {
        if let Notice::Resumed { stdout_bytes, stderr_bytes, .. } = notice {
            let mut live = lock(&self.live);
            live.stdout.begin_at(stdout_bytes);
            live.stderr.begin_at(stderr_bytes);
        }
    }

    fn wants_earlier_output(&self) -> bool {
        false
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        lock(&self.live).tail(stream).push(bytes);
        self.listeners.iter().for_each(|listener| listener.printed(self.job, stream));
    }

    fn progress(&mut self, progress: &Progress) {
        lock(&self.live).progress = Some(progress.clone());
        self.listeners.iter().for_each(|listener| listener.progressed(self.job));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_bytes_under_their_numbers() {
        let mut tail = Tail::default();
        tail.begin_at(100);
        tail.push(b"hello ");
        tail.push(b"world");
        assert_eq!(tail.read(106, 3).unwrap(), b"wor");
        assert_eq!((tail.read(99, 1), tail.read(111, 1)), (None, None));
        tail.push(&vec![b'x'; TAIL_BYTES - 5]);
        assert_eq!(tail.start, 106);
        assert_eq!(tail.read(106, 5).unwrap(), b"world");
        assert_eq!(tail.read(105, 1), None);
        let long: Vec<u8> = (0..TAIL_BYTES + 10).map(|index| index.to_le_bytes()[0]).collect();
        tail.push(&long);
        let end = 111 + (TAIL_BYTES - 5) as u64 + long.len() as u64;
        assert_eq!(tail.start, end - TAIL_BYTES as u64);
        assert_eq!(tail.read(end - 1, 9).unwrap(), [*long.last().unwrap()]);
    }
}
