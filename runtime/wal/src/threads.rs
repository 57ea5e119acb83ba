//! The two threads behind a log.
//!
//! Owns: when the writer and the keeper run.
//! Knows nothing of: how frames are written or segments prepared.
//!
//! The writer commits what is staged, and seals a log that fell idle. The keeper prepares
//! segments ahead of use, tries again when the disk was full, and makes the mark durable from
//! time to time while appends go on.

use std::sync::{Arc, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::layout::{BLOCK_U64, LOG_DIR, segment_path};
use crate::log::{Log, lock};
use crate::recovery::Notice;
use crate::segment::Segment;
use crate::stage::{Health, Spare, Waits};

pub(crate) fn start(log: &Arc<Log>, spares: Vec<Segment>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let (writer, keeper) = (Arc::clone(log), Arc::clone(log));
    let writer_thread = Builder::new().name("wal-writer".to_owned()).spawn(move || {
        raise_priority();
        write(&writer);
    })?;
    let keeper_thread = Builder::new().name("wal-keeper".to_owned()).spawn(move || {
        adopt(&keeper, spares);
        keep(&keeper);
    });
    match keeper_thread {
        Ok(keeper_thread) => Ok(vec![writer_thread, keeper_thread]),
        Err(error) => {
            lock(&log.stage).health = Health::Closed;
            log.writer_wakes.notify_all();
            Err(error)
        }
    }
}

/// Commits wait behind this thread, so it should not wait behind guests. Without the privilege
/// for it things work as they are, only later under load.
fn raise_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), -10) {
        tracing::debug!(%error, "the log's writer keeps the common priority");
    }
}

fn write(log: &Log) {
    let mut stage = lock(&log.stage);
    loop {
        if !matches!(stage.health, Health::Open) {
            return;
        }
        if !stage.busy && stage.count() > 0 {
            stage = log.commit_one(stage);
            continue;
        }
        let idle = stage.last_write.elapsed();
        let idle_seal = log.options.idle_seal;
        if !stage.busy && stage.unsealed && idle >= idle_seal {
            stage = log.seal(stage);
            continue;
        }
        if stage.busy || stage.unsealed {
            let rest = if stage.busy { idle_seal } else { idle_seal.saturating_sub(idle) };
            stage.writer_waits = Waits::Briefly;
            let woken = log.writer_wakes.wait_timeout(stage, rest);
            stage = woken.unwrap_or_else(PoisonError::into_inner).0;
        } else {
            stage.writer_waits = Waits::UntilWoken;
            stage = log.writer_wakes.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        stage.writer_waits = Waits::No;
    }
}

/// Takes over the empty segments that an earlier process prepared.
fn adopt(log: &Log, spares: Vec<Segment>) {
    for notice in log.adopt(spares) {
        tracing::warn!("{notice}");
    }
}

fn keep(log: &Log) {
    let mut tick = Instant::now() + log.options.mark_flush;
    let mut stage = lock(&log.stage);
    loop {
        if !matches!(stage.health, Health::Open) {
            return;
        }
        let wanted = stage.room.wants_spare(log.options.spare_segments);
        if wanted && stage.room.full.is_none() {
            stage = log.prepare_spare(stage);
            continue;
        }
        if !wanted && !stage.mark_dirty {
            stage.keeper_waits = Waits::UntilWoken;
            stage = log.keeper_wakes.wait(stage).unwrap_or_else(PoisonError::into_inner);
            stage.keeper_waits = Waits::No;
            tick = Instant::now() + log.options.mark_flush;
            continue;
        }
        // Every commit may wake this thread, so the tick is a moment and not a pause.
        let rest = tick.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            let woken = log.keeper_wakes.wait_timeout(stage, rest);
            stage = woken.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        tick = Instant::now() + log.options.mark_flush;
        if wanted {
            stage = log.prepare_spare(stage);
        }
        stage = log.flush_dirty_mark(stage);
    }
}

impl Log {
    /// Makes spares of empty segments that were found, after a look at every byte: a frame in a
    /// segment that was not all zeros could not be told from rot. One that is not empty, or too
    /// short for today's frames, is prepared anew, and so are those after it; they are removed
    /// from the last to the first, so that no gap arises.
    pub(crate) fn adopt(&self, found: Vec<Segment>) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut clean = Vec::new();
        let mut dropped = Vec::new();
        for segment in found {
            // One that was made for smaller frames must not be the next.
            let large = segment.end() - BLOCK_U64 >= self.options.needed_room();
            match segment.first_dirty(BLOCK_U64) {
                Ok(None) if dropped.is_empty() && large => clean.push(segment),
                Ok(dirty) => {
                    if let Some(offset) = dirty {
                        notices.push(Notice::SpareReplaced { segment: segment.seq, offset });
                    }
                    dropped.push(segment.seq);
                }
                Err(error) => {
                    self.poison(format!("reading segment {:06} failed: {error}", segment.seq));
                    return notices;
                }
            }
        }
        for seq in dropped.iter().rev() {
            let removed = self.disk.remove(&segment_path(*seq));
            if let Err(error) = removed.and_then(|()| self.disk.sync_dir(LOG_DIR)) {
                self.poison(format!("removing segment {seq:06} failed: {error}"));
                return notices;
            }
        }
        let mut stage = lock(&self.stage);
        for segment in clean {
            stage.room.next_seq = segment.seq + 1;
            let (seq, end) = (segment.seq, segment.end());
            stage.room.spares.push_back(Spare { seq, end, file: segment.file });
        }
        self.room_wakes.notify_all();
        notices
    }
}
