//! One thing that happened to a job, as JSON.
//!
//! Owns the shape; what happened is `hb_types::history`. Knows nothing of how events are sent.

use hb_types::{
    event::JobNumber,
    history::{Happening, JobEvent},
    units::show_time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::{OutcomeView, outcome_text};

/// One thing that happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its position in the ledger's log: ascending, never used twice.
    pub id: u64,
    /// When, as RFC 3339.
    pub at: String,
    /// The job's number.
    pub job: u64,
    /// The job's name.
    pub job_id: String,
    /// What.
    #[serde(flatten)]
    pub what: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventBody {
    /// The job was accepted.
    Received,
    /// It may run.
    Scheduled,
    /// An attempt began.
    Started {
        /// Its number, from 1.
        attempt: u32,
        /// The process that runs it.
        process: u32,
        /// The checkpoint that was newest; 0 for none.
        from_sequence: u64,
    },
    /// A checkpoint is durable.
    Checkpoint {
        /// Its number.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Its digest.
        digest: String,
        /// Bytes on standard output up to it.
        stdout_bytes: u64,
        /// Bytes on standard error up to it.
        stderr_bytes: u64,
        /// What the job remarked since the one before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<String>,
    },
    /// The attempt was interrupted; the job goes on from its newest checkpoint.
    Interrupted {
        /// Why: `host-crashed`, `host-fault`, `shutdown` or `held`.
        why: String,
        /// What is known of the cause.
        detail: String,
    },
    /// The attempt failed; the job is tried again.
    Retried {
        /// How it failed, short.
        outcome: String,
        /// For people.
        message: String,
    },
    /// It was put on hold.
    Held,
    /// It was released.
    Released,
    /// It ended.
    Ended {
        /// How, short.
        outcome: String,
        /// How, in full.
        outcome_detail: OutcomeView,
        /// The exit code that `hb` gives.
        exit_code: u8,
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
        seal: String,
    },
}

/// What a job printed, as it is streamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutputView {
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Number of the first byte, counted from the beginning of the job.
    pub offset: u64,
    /// How many bytes these are.
    pub bytes: u64,
    /// The bytes, where they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Whether they are durable. Others may have to be printed again after a crash; the numbers
    /// then are the same.
    pub durable: bool,
}

impl EventView {
    /// An event of a job.
    pub fn of(job: JobNumber, job_id: &str, event: &JobEvent) -> Self {
        Self {
            id: event.lsn,
            at: show_time(event.at_ns),
            job,
            job_id: job_id.to_owned(),
            what: EventBody::of(&event.what),
        }
    }
}

impl EventBody {
    fn of(what: &Happening) -> Self {
        match what {
            Happening::Received => Self::Received,
            Happening::Scheduled => Self::Scheduled,
            Happening::Started { attempt, process, from_sequence } => Self::Started {
                attempt: *attempt,
                process: *process,
                from_sequence: *from_sequence,
            },
            Happening::Checkpoint { sequence, step, digest, stdout_bytes, stderr_bytes, notes } => {
                Self::Checkpoint {
                    sequence: *sequence,
                    step: *step,
                    digest: digest.to_string(),
                    stdout_bytes: *stdout_bytes,
                    stderr_bytes: *stderr_bytes,
                    notes: notes.clone(),
                }
            }
            Happening::Interrupted { why, detail } => {
                Self::Interrupted { why: why.name().to_owned(), detail: detail.clone() }
            }
            Happening::Retried { outcome, message } => {
                Self::Retried { outcome: outcome_text(outcome), message: message.clone() }
            }
            Happening::Held => Self::Held,
            Happening::Released => Self::Released,
            Happening::Ended { outcome, message, stdout_bytes, stderr_bytes } => Self::Ended {
                outcome: outcome_text(outcome),
                outcome_detail: OutcomeView::of(outcome),
                exit_code: outcome.exit_code(),
                message: message.clone(),
                stdout_bytes: *stdout_bytes,
                stderr_bytes: *stderr_bytes,
            },
            Happening::Sealed { seal } => Self::Sealed { seal: seal.to_string() },
        }
    }

    /// Its name, which is also the name of the server-sent event.
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
}
