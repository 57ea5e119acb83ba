//! The shared state of an open log and what every thread may do to it.
//!
//! Owns: staging, group commit, the inline commit of a lone caller, sealing, preparing segments,
//! poisoning.
//! Knows nothing of: which threads exist ([`crate::threads`]), recovery.
//!
//! Invariants: locks are taken in the order stage, then core, and the stage is never held during
//! I/O; whoever set `busy` writes exactly one frame and then clears it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hb_disk::Storage;

use crate::Lsn;
use crate::commit::Core;
use crate::error::{AppendError, SnapshotError};
use crate::frame::FLAG_SEAL;
use crate::layout::{
    BLOCK_U64, LOG_DIR, LogId, SNAPSHOT_DIR, TEMPORARY, segment_path, snapshot_path, to_u64,
};
use crate::mark::MarkFile;
use crate::options::{Options, Stats};
use crate::record::Record;
use crate::segment::{self, PrepareFault, SegmentHeader};
use crate::snapshot;
use crate::stage::{Health, Job, Signal, Spare, Stage, Tell, Waiter, Waits};

pub(crate) struct Log {
    pub(crate) disk: Arc<dyn Storage>,
    pub(crate) id: LogId,
    pub(crate) options: Options,
    pub(crate) stage: Mutex<Stage>,
    pub(crate) core: Mutex<Core>,
    pub(crate) mark: Arc<MarkFile>,
    pub(crate) durable: AtomicU64,
    pub(crate) mark_flushes: AtomicU64,
    /// The positions of the snapshots that are kept, ascending.
    pub(crate) snapshots: Mutex<Vec<Lsn>>,
    pub(crate) writer_wakes: Condvar,
    pub(crate) keeper_wakes: Condvar,
    /// Wakes those who wait for room or for the frame in flight.
    pub(crate) room_wakes: Condvar,
}

type StageGuard<'a> = MutexGuard<'a, Stage>;

/// A panic elsewhere while a lock was held has already torn the program down or poisoned the log;
/// the data under the locks is consistent between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    pub(crate) fn durable_lsn(&self) -> Lsn {
        self.durable.load(Ordering::Acquire)
    }

    /// Stages a batch, waiting for room where waiting helps.
    fn stage_batch(
        &self,
        records: &[Record],
        reserved: bool,
    ) -> Result<(StageGuard<'_>, Lsn, Lsn), AppendError> {
        if records.is_empty() {
            return Err(AppendError::Empty);
        }
        let limit = self.options.max_frame_bytes;
        let bytes: usize = records.iter().map(Record::encoded_len).sum();
        if bytes > limit {
            let (bytes, limit_bytes) = (to_u64(bytes), to_u64(limit));
            return Err(AppendError::TooLarge { bytes, limit_bytes });
        }
        let reserve = if reserved { 0 } else { self.options.reserve_bytes };
        let mut stage = lock(&self.stage);
        loop {
            stage.healthy()?;
            if stage.staged_bytes() + bytes > limit {
                stage = self.wait_for_buffer(stage);
            } else if stage.fits(bytes, reserve) {
                let (first, last) = stage.push(records);
                return Ok((stage, first, last));
            } else {
                stage = self.wait_for_segment(stage)?;
            }
        }
    }

    /// The staging buffer is full: it is written, by this thread where there is no other.
    fn wait_for_buffer<'a>(&'a self, stage: StageGuard<'a>) -> StageGuard<'a> {
        if self.options.background {
            self.wake_writer(&stage);
            return self.wait_for_room(stage);
        }
        self.commit_one(stage)
    }

    /// There is no room in the segments: one is prepared, or there is no room on the disk.
    fn wait_for_segment<'a>(
        &'a self,
        mut stage: StageGuard<'a>,
    ) -> Result<StageGuard<'a>, AppendError> {
        if self.options.background {
            if let Some((needed_bytes, free_bytes)) = stage.room.full {
                return Err(AppendError::Full { needed_bytes, free_bytes });
            }
            stage.room.awaited = true;
            self.keeper_wakes.notify_one();
            return Ok(self.wait_for_room(stage));
        }
        let stage = self.prepare_spare(stage);
        match stage.room.full {
            Some((needed_bytes, free_bytes)) => Err(AppendError::Full { needed_bytes, free_bytes }),
            None => Ok(stage),
        }
    }

    fn wait_for_room<'a>(&'a self, stage: StageGuard<'a>) -> StageGuard<'a> {
        self.room_wakes.wait(stage).unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages a batch and leaves it to whoever writes next.
    pub(crate) fn append(
        &self,
        records: &[Record],
        reserved: bool,
    ) -> Result<(Lsn, Lsn), AppendError> {
        let (stage, first, last) = self.stage_batch(records, reserved)?;
        if self.options.background {
            self.wake_writer(&stage);
        }
        Ok((first, last))
    }

    /// Stages a batch and waits. A caller who finds the log idle commits on its own thread, which
    /// saves two hand-offs between threads.
    pub(crate) fn append_wait(
        &self,
        records: &[Record],
        reserved: bool,
    ) -> Result<Lsn, AppendError> {
        let (stage, first, last) = self.stage_batch(records, reserved)?;
        let alone = !stage.busy && stage.count() as usize == records.len();
        if alone && self.options.background {
            let stage = self.commit_one(stage);
            let outcome = self.outcome(&stage, first, last);
            return outcome.expect("a commit ends durable or poisoned").map(|()| last);
        }
        if self.options.background {
            self.wake_writer(&stage);
        }
        self.wait_from(stage, first, last)?;
        Ok(last)
    }

    pub(crate) fn wait(&self, first: Lsn, last: Lsn) -> Result<(), AppendError> {
        if self.durable_lsn() >= last {
            return Ok(());
        }
        self.wait_from(lock(&self.stage), first, last)
    }

    fn wait_from<'a>(
        &'a self,
        mut stage: StageGuard<'a>,
        first_lsn: Lsn,
        last_lsn: Lsn,
    ) -> Result<(), AppendError> {
        loop {
            if let Some(outcome) = self.outcome(&stage, first_lsn, last_lsn) {
                return outcome;
            }
            if self.options.background {
                break;
            }
            stage = self.commit_one(stage);
        }
        let signal = Arc::new(Signal::default());
        let tell = Tell::Signal(Arc::clone(&signal));
        stage.waiters.push(Waiter { first_lsn, last_lsn, tell });
        drop(stage);
        signal.wait()
    }

    /// Calls back when the records are durable or never will be known to be.
    pub(crate) fn on_durable(
        &self,
        first_lsn: Lsn,
        last_lsn: Lsn,
        call: Box<dyn FnOnce(Result<(), AppendError>) + Send>,
    ) {
        let mut stage = lock(&self.stage);
        match self.outcome(&stage, first_lsn, last_lsn) {
            Some(outcome) => {
                drop(stage);
                call(outcome);
            }
            None => {
                stage.waiters.push(Waiter { first_lsn, last_lsn, tell: Tell::Call(call) });
            }
        }
    }

    /// What is known already about records that were staged.
    fn outcome(
        &self,
        stage: &Stage,
        first_lsn: Lsn,
        last_lsn: Lsn,
    ) -> Option<Result<(), AppendError>> {
        if self.durable_lsn() >= last_lsn {
            return Some(Ok(()));
        }
        match &stage.health {
            Health::Poisoned(cause) => {
                let cause = Arc::clone(cause);
                Some(Err(AppendError::Unknown { first_lsn, last_lsn, cause }))
            }
            Health::Open | Health::Closed => None,
        }
    }

    fn wake_writer(&self, stage: &Stage) {
        // While a frame is in flight its writer finds what is staged when it is done.
        if !stage.busy && stage.writer_waits != Waits::No {
            self.writer_wakes.notify_one();
        }
    }

    /// Writes what is staged as one frame, after the one that may be in flight.
    pub(crate) fn commit_one<'a>(&'a self, mut stage: StageGuard<'a>) -> StageGuard<'a> {
        while stage.busy {
            stage = self.wait_for_room(stage);
        }
        if stage.count() == 0 || stage.healthy().is_err() {
            return stage;
        }
        let job = stage.take();
        // The buffer is empty again: who waits for it can stage while this frame is written.
        self.room_wakes.notify_all();
        self.write_job(stage, job, false)
    }

    /// Writes a job that was taken. With `settle`, the mark is made durable too.
    fn write_job<'a>(&'a self, stage: StageGuard<'a>, job: Job, settle: bool) -> StageGuard<'a> {
        let last_lsn = job.last_lsn();
        let seals = job.flags & FLAG_SEAL != 0;
        drop(stage);
        let (buffer, mut result) = lock(&self.core).write(job);
        if settle && result.is_ok() {
            result = self.flush_mark();
        }
        let mut stage = lock(&self.stage);
        stage.busy = false;
        stage.recycle(buffer);
        match result {
            Ok(()) => {
                stage.unsealed = !seals;
                stage.mark_dirty = !settle;
                stage.last_write = Instant::now();
                self.durable.store(last_lsn, Ordering::Release);
            }
            Err(cause) => stage.health = Health::Poisoned(cause.into()),
        }
        self.tell(stage)
    }

    /// Tells those who are done, and wakes the threads that have something to do now.
    fn tell<'a>(&'a self, mut stage: StageGuard<'a>) -> StageGuard<'a> {
        let ready = stage.ready(self.durable_lsn());
        let cause = match &stage.health {
            Health::Poisoned(cause) => Some(Arc::clone(cause)),
            Health::Open | Health::Closed => None,
        };
        let writer_needed = stage.count() > 0 && stage.writer_waits != Waits::No;
        if writer_needed || cause.is_some() || stage.writer_waits == Waits::UntilWoken {
            self.writer_wakes.notify_one();
        }
        let keeper_needed = stage.mark_dirty || stage.room.wants_spare(self.options.spare_segments);
        if cause.is_some() || (keeper_needed && stage.keeper_waits == Waits::UntilWoken) {
            self.keeper_wakes.notify_one();
        }
        self.room_wakes.notify_all();
        if ready.is_empty() {
            return stage;
        }
        // Without the lock: a callback may append, and a woken thread would only queue up.
        drop(stage);
        let durable = self.durable_lsn();
        for waiter in ready {
            let unknown = cause.as_ref().filter(|_| waiter.last_lsn > durable);
            waiter.tell(unknown);
        }
        lock(&self.stage)
    }

    pub(crate) fn flush_mark(&self) -> Result<(), String> {
        let flush = self.mark.flush();
        self.mark_flushes.fetch_add(1, Ordering::Relaxed);
        flush.map_err(|error| format!("flushing the high-water mark failed: {error}"))
    }

    pub(crate) fn poison(&self, cause: String) {
        let mut stage = lock(&self.stage);
        if matches!(stage.health, Health::Open) {
            stage.health = Health::Poisoned(cause.into());
        }
        drop(self.tell(stage));
    }

    /// Writes a seal if the log is idle and has none, and makes the mark durable.
    pub(crate) fn seal<'a>(&'a self, mut stage: StageGuard<'a>) -> StageGuard<'a> {
        if stage.busy || stage.count() > 0 || stage.healthy().is_err() {
            return stage;
        }
        if stage.unsealed
            && let Some(job) = stage.take_empty(FLAG_SEAL)
        {
            return self.write_job(stage, job, true);
        }
        // Nothing to seal, or no room to: the mark alone then says how far the log goes.
        stage.unsealed = false;
        self.flush_dirty_mark(stage)
    }

    /// Makes the mark durable if it was written since.
    pub(crate) fn flush_dirty_mark<'a>(&'a self, mut stage: StageGuard<'a>) -> StageGuard<'a> {
        if !std::mem::take(&mut stage.mark_dirty) {
            return stage;
        }
        drop(stage);
        if let Err(cause) = self.flush_mark() {
            self.poison(cause);
        }
        lock(&self.stage)
    }

    /// Writes everything that is staged, seals, and makes the mark durable.
    pub(crate) fn settle(&self) -> Result<StageGuard<'_>, AppendError> {
        let mut stage = lock(&self.stage);
        loop {
            stage.healthy()?;
            if stage.busy || stage.count() > 0 {
                stage = self.commit_one(stage);
            } else if stage.unsealed || stage.mark_dirty {
                stage = self.seal(stage);
            } else {
                return Ok(stage);
            }
        }
    }

    /// Settles and takes nothing more.
    pub(crate) fn close(&self) -> Result<(), AppendError> {
        let settled = match self.settle() {
            Ok(mut stage) => {
                stage.health = Health::Closed;
                Ok(())
            }
            Err(AppendError::Closed) => Ok(()),
            Err(error) => Err(error),
        };
        self.writer_wakes.notify_all();
        self.keeper_wakes.notify_all();
        self.room_wakes.notify_all();
        settled
    }

    /// Prepares one segment; where the disk is full, `room.full` says so.
    pub(crate) fn prepare_spare<'a>(&'a self, mut stage: StageGuard<'a>) -> StageGuard<'a> {
        if std::mem::replace(&mut stage.room.preparing, true) {
            return self.wait_for_room(stage);
        }
        let header = SegmentHeader {
            id: self.id,
            seq: stage.room.next_seq,
            len: self.options.segment_bytes,
            created_ns: (self.options.clock_ns)(),
        };
        drop(stage);
        let needed = || lock(&self.stage).healthy().is_ok();
        let prepared = segment::prepare(self.disk.as_ref(), &header, &needed);
        let mut stage = lock(&self.stage);
        stage.room.preparing = false;
        stage.room.awaited = false;
        match prepared {
            Ok(file) => {
                let (seq, end) = (header.seq, header.len - BLOCK_U64);
                stage.room.spares.push_back(Spare { seq, end, file });
                stage.room.next_seq += 1;
                stage.room.full = None;
            }
            Err(PrepareFault::Stopped) => {}
            Err(PrepareFault::Full { needed_bytes, free_bytes }) => {
                stage.room.full = Some((needed_bytes, free_bytes));
            }
            Err(PrepareFault::Io(error)) => {
                let path = segment_path(header.seq);
                drop(stage);
                self.poison(format!("preparing {path} failed: {error}"));
                stage = lock(&self.stage);
            }
        }
        self.room_wakes.notify_all();
        stage
    }

    /// Writes a snapshot and removes what no kept snapshot needs.
    pub(crate) fn snapshot(&self, at: Lsn, state: &[u8]) -> Result<(), SnapshotError> {
        let mut kept = lock(&self.snapshots);
        lock(&self.stage).healthy()?;
        let durable = self.durable_lsn();
        if at > durable || at == 0 {
            return Err(SnapshotError::Ahead { at, durable });
        }
        if let Some(newest) = kept.last().copied().filter(|newest| *newest >= at) {
            return Err(SnapshotError::NotNewer { at, newest });
        }
        // The mark first, so that it never names a frame that is removed below.
        if let Err(cause) = self.flush_mark() {
            self.poison(cause);
            lock(&self.stage).healthy()?;
        }
        let io = |source| SnapshotError::Io { at, source };
        let created_ns = (self.options.clock_ns)();
        if let Err(error) = snapshot::write(self.disk.as_ref(), &self.id, at, state, created_ns) {
            // The space goes back; where that fails too, the next start removes the file.
            let temporary = format!("{}{TEMPORARY}", snapshot_path(at));
            if let Err(error) = self.disk.remove(&temporary) {
                tracing::debug!(%error, file = temporary, "an unfinished snapshot stays");
            }
            return Err(io(error));
        }
        kept.push(at);
        let excess = kept.len().saturating_sub(snapshot::KEPT);
        kept.drain(..excess);
        self.remove_unneeded(&kept).map_err(io)
    }

    /// Removes snapshots that are not kept, and segments wholly below the older kept one.
    ///
    /// Segments go oldest first, each durably before the next: whatever a power cut leaves has no
    /// gap.
    fn remove_unneeded(&self, kept: &[Lsn]) -> std::io::Result<()> {
        let all = snapshot::list(self.disk.as_ref())?;
        let unneeded: Vec<Lsn> = all.into_iter().filter(|lsn| !kept.contains(lsn)).collect();
        for lsn in &unneeded {
            self.disk.remove(&snapshot_path(*lsn))?;
        }
        if !unneeded.is_empty() {
            self.disk.sync_dir(SNAPSHOT_DIR)?;
        }
        if kept.len() < snapshot::KEPT {
            return Ok(());
        }
        loop {
            let oldest = {
                let core = lock(&self.core);
                let below = core.used.get(1).is_some_and(|(_, first)| *first <= kept[0] + 1);
                core.used.first().map(|(seq, _)| *seq).filter(|_| below)
            };
            let Some(seq) = oldest else { return Ok(()) };
            self.disk.remove(&segment_path(seq))?;
            self.disk.sync_dir(LOG_DIR)?;
            lock(&self.core).used.remove(0);
        }
    }

    /// What failed, once the log takes nothing more. Waits for no write and no flush.
    pub(crate) fn failure(&self) -> Option<String> {
        match &lock(&self.stage).health {
            Health::Poisoned(cause) => Some(cause.to_string()),
            Health::Open | Health::Closed => None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let snapshot_lsn = lock(&self.snapshots).last().copied();
        let poisoned = self.failure();
        let stage = lock(&self.stage);
        let (staged_bytes, spares) = (stage.staged_u64(), to_u64(stage.room.spares.len()));
        let full = stage.room.full;
        drop(stage);
        let core = lock(&self.core);
        Stats {
            durable_lsn: self.durable_lsn(),
            staged_bytes,
            frames: core.written.frames,
            seals: core.written.seals,
            records: core.written.records,
            bytes: core.written.bytes,
            flushes: core.written.frames,
            mark_flushes: self.mark_flushes.load(Ordering::Relaxed),
            segments: to_u64(core.used.len()),
            spares,
            snapshot_lsn,
            full,
            poisoned,
        }
    }
}
