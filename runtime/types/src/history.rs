//! A job's life as a list of events, each at the position of its record in the log.
//!
//! The list is derived from the [`Job`], not kept beside it: what a watcher is shown live, what it
//! is shown when it comes back, and what a trace shows years later are one function of one value.
//! Knows nothing of how events are sent.
//!
//! Invariant: positions ascend, and an event of a position never changes.

use serde::Serialize;

use crate::{
    Digest, Lsn,
    ledger::{Attempt, CheckpointMark, HoldMark, Job, Stop, Stopped},
    outcome::Outcome,
    state::Interruption,
};

/// One thing that happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobEvent {
    /// Position of its record.
    pub lsn: Lsn,
    /// When, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// What.
    pub what: Happening,
}

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Happening {
    /// It was accepted.
    Received,
    /// It may run.
    Scheduled,
    /// An attempt began.
    Started {
        /// Its number, from 1.
        attempt: u32,
        /// The process that runs it.
        process: u32,
        /// The checkpoint that was newest; zero for none.
        from_sequence: u64,
    },
    /// A checkpoint is durable.
    Checkpoint {
        /// Its number.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Its digest.
        digest: Digest,
        /// Bytes on standard output up to it.
        stdout_bytes: u64,
        /// Bytes on standard error up to it.
        stderr_bytes: u64,
        /// What the job remarked since the one before.
        notes: Vec<String>,
    },
    /// The attempt was interrupted; the job goes on later.
    Interrupted {
        /// Why.
        why: Interruption,
        /// What is known of the cause.
        detail: String,
    },
    /// The attempt failed; the job is tried again.
    Retried {
        /// How it failed.
        outcome: Outcome,
        /// For people.
        message: String,
    },
    /// It was put on hold.
    Held,
    /// It was released.
    Released,
    /// It ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// For people.
        message: String,
        /// Bytes on standard output.
        stdout_bytes: u64,
        /// Bytes on standard error.
        stderr_bytes: u64,
    },
    /// Its outcome was sealed.
    Sealed {
        /// The seal.
        seal: Digest,
    },
}

impl Happening {
    /// Its name, as everywhere.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Scheduled => "scheduled",
            Self::Started { .. } => "started",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Interrupted { .. } => "interrupted",
            Self::Retried { .. } => "retried",
            Self::Held => "held",
            Self::Released => "released",
            Self::Ended { .. } => "ended",
            Self::Sealed { .. } => "sealed",
        }
    }

    /// The lengths of standard output and standard error that are durable with it, where it says.
    pub const fn durable_output(&self) -> Option<(u64, u64)> {
        match self {
            Self::Checkpoint { stdout_bytes, stderr_bytes, .. }
            | Self::Ended { stdout_bytes, stderr_bytes, .. } => {
                Some((*stdout_bytes, *stderr_bytes))
            }
            _ => None,
        }
    }
}

impl Job {
    /// What happened after a position, in order; at most `limit` events.
    pub fn events_after(&self, after: Lsn, limit: usize) -> Vec<JobEvent> {
        let mut events = Vec::new();
        let mut add = |lsn, at_ns, what: &dyn Fn() -> Happening| {
            if lsn > after {
                events.push(JobEvent { lsn, at_ns, what: what() });
            }
        };
        add(self.number, self.received_ns, &|| Happening::Received);
        if let Some((lsn, at_ns)) = self.scheduled {
            add(lsn, at_ns, &|| Happening::Scheduled);
        }
        let first = self.attempts.partition_point(|attempt| {
            attempt.token <= after
                && attempt.stopped.as_ref().is_some_and(|stopped| stopped.lsn <= after)
        });
        for (attempt, number) in self.attempts[first..].iter().zip((first + 1)..) {
            add(attempt.token, attempt.started_ns, &|| started(attempt, number));
            if let Some(stopped) = &attempt.stopped {
                add(stopped.lsn, stopped.at_ns, &|| how_stopped(stopped));
            }
        }
        let first = self.checkpoints.partition_point(|mark| mark.lsn <= after);
        // No more than the limit can be wanted of one ascending list.
        for mark in self.checkpoints[first..].iter().take(limit) {
            add(mark.lsn, mark.at_ns, &|| checkpoint(mark));
        }
        for HoldMark { lsn, held, at_ns } in &self.holds {
            add(*lsn, *at_ns, &|| if *held { Happening::Held } else { Happening::Released });
        }
        if let Some(conclusion) = &self.conclusion {
            add(conclusion.lsn, conclusion.at_ns, &|| Happening::Ended {
                outcome: conclusion.outcome,
                message: conclusion.explanation.message.clone(),
                stdout_bytes: conclusion.stdout.len_bytes,
                stderr_bytes: conclusion.stderr.len_bytes,
            });
        }
        if let Some(kept) = &self.seal {
            add(kept.lsn, kept.at_ns, &|| Happening::Sealed { seal: kept.seal });
        }
        events.sort_by_key(|event| event.lsn);
        events.truncate(limit);
        events
    }

    /// The lengths of standard output and standard error that were durable at a position.
    pub fn durable_output_at(&self, lsn: Lsn) -> (u64, u64) {
        if let Some(conclusion) = &self.conclusion
            && conclusion.lsn <= lsn
        {
            return (conclusion.stdout.len_bytes, conclusion.stderr.len_bytes);
        }
        let count = self.checkpoints.partition_point(|mark| mark.lsn <= lsn);
        let newest = count.checked_sub(1).map(|index| &self.checkpoints[index]);
        newest.map_or((0, 0), |mark| (mark.stdout_bytes, mark.stderr_bytes))
    }
}

fn started(attempt: &Attempt, number: usize) -> Happening {
    Happening::Started {
        attempt: u32::try_from(number).unwrap_or(u32::MAX),
        process: attempt.process,
        from_sequence: attempt.from_sequence,
    }
}

fn how_stopped(stopped: &Stopped) -> Happening {
    match stopped.why {
        Stop::Interrupted(why) => Happening::Interrupted { why, detail: stopped.detail.clone() },
        Stop::Retried(outcome) => Happening::Retried { outcome, message: stopped.detail.clone() },
    }
}

fn checkpoint(mark: &CheckpointMark) -> Happening {
    Happening::Checkpoint {
        sequence: mark.sequence,
        step: mark.step,
        digest: mark.digest,
        stdout_bytes: mark.stdout_bytes,
        stderr_bytes: mark.stderr_bytes,
        notes: mark.notes.clone(),
    }
}
