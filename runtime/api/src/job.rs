//! A job as JSON: in full, as a row of a list, and why it waits.
//!
//! Owns the shapes. Knows nothing of where a job is kept. All text that a guest chose is printable.

use std::collections::BTreeMap;

use hb_types::{
    capture::Progress,
    job::{BlobRef, JobSpec},
    ledger::{Attempt, CheckpointMark, Job, Stop},
    outcome::Outcome,
    terms::Terms,
    text::printable,
    units::show_time,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bytes of a name that a guest chose.
const NAME_BYTES: usize = 300;

/// How a job ended, in one word or two: `success`, `exit 3`, `trap unreachable`, `limit fuel`.
pub fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success => "success".to_owned(),
        other => other.canonical(),
    }
}

/// How a job ended, in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeView {
    /// `success`, `exit`, `trap`, `limit`, `cancelled`, `poisoned` or `not-runnable`.
    pub kind: String,
    /// The exit code, where the job chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Which trap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trap: Option<String>,
    /// Which limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// The flag that raises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise_with: Option<String>,
}

impl OutcomeView {
    /// Of an outcome.
    pub fn of(outcome: &Outcome) -> Self {
        let mut view = Self {
            kind: String::new(),
            code: None,
            trap: None,
            limit: None,
            value: None,
            raise_with: None,
        };
        let kind = match outcome {
            Outcome::Success => "success",
            Outcome::Exit { code } => {
                view.code = Some(*code);
                "exit"
            }
            Outcome::Trap { trap } => {
                view.trap = Some(trap.name().to_owned());
                "trap"
            }
            Outcome::Limit { reached } => {
                let spec = reached.limit.spec();
                view.limit = Some(spec.name.to_owned());
                view.value = Some(reached.value);
                view.raise_with = Some(spec.flag.to_owned());
                "limit"
            }
            Outcome::Cancelled => "cancelled",
            Outcome::Poisoned => "poisoned",
            Outcome::NotRunnable => "not-runnable",
        };
        view.kind.push_str(kind);
        view
    }
}

/// Bytes by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobView {
    /// BLAKE3.
    pub digest: String,
    /// Length.
    pub bytes: u64,
}

impl From<&BlobRef> for BlobView {
    fn from(blob: &BlobRef) -> Self {
        Self { digest: blob.digest.to_string(), bytes: blob.len_bytes }
    }
}

/// A file that a job left below `/out`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Its path below `/out`.
    pub name: String,
    /// BLAKE3.
    pub digest: String,
    /// Length.
    pub bytes: u64,
}

/// What a job last said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// Units done.
    pub done: u64,
    /// Units in all, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Newest value of each metric; what is no number is left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// Whether it is durable.
    pub durable: bool,
}

impl ProgressView {
    /// Of what a job said.
    pub fn of(progress: &Progress, durable: bool) -> Self {
        let metrics = progress.metrics.iter();
        // JSON has no other numbers.
        let metrics = metrics.filter(|(_, value)| value.is_finite());
        Self {
            done: progress.done,
            total: progress.total,
            metrics: metrics.map(|(name, value)| (printable(name, NAME_BYTES), *value)).collect(),
            durable,
        }
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: u32,
    /// The claim: every record of it carries this token.
    pub token: u64,
    /// The process that ran it.
    pub process: u32,
    /// When it began.
    pub started_at: String,
    /// The checkpoint that was newest; 0 for none.
    pub from_sequence: u64,
    /// Why it ended, where it was not the last: `interrupted` or `retried`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// What is known of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointView {
    /// Its number, from 1.
    pub sequence: u64,
    /// Its step.
    pub step: u64,
    /// Digest of everything it holds, fuel apart.
    pub digest: String,
    /// Fuel used up to it.
    pub fuel: u64,
    /// The claim of the attempt that saved it.
    pub token: u64,
    /// When.
    pub at: String,
}

/// How a job ended, and what it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConclusionView {
    /// How, short.
    pub outcome: String,
    /// How, in full.
    pub outcome_detail: OutcomeView,
    /// The exit code that `hb` gives.
    pub exit_code: u8,
    /// For people.
    pub message: String,
    /// The guest's stack, innermost frame first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<String>,
    /// Standard output.
    pub stdout: BlobView,
    /// Standard error.
    pub stderr: BlobView,
    /// What it left below `/out`.
    pub artifacts: Vec<ArtifactView>,
    /// The most linear memory it held in its last attempt.
    pub peak_memory_bytes: u64,
    /// Whether a repetition must end the same way.
    pub reproducible: bool,
    /// When.
    pub at: String,
}

/// Everything that is known of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    pub job_id: String,
    /// Its number: the position of its first record in the log.
    pub number: u64,
    /// BLAKE3 over everything that may change the result.
    pub job_hash: String,
    /// `RECEIVED`, `SCHEDULED`, `RUNNING`, `COMPLETED`, `SEALED`, `FAILED` or `CANCELLED`.
    pub state: String,
    /// Whether it is on hold.
    pub held: bool,
    /// How it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<ConclusionView>,
    /// Its seal, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// When it was accepted.
    pub received_at: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// How many of them died with their host.
    pub crashes: u32,
    /// How many failed and were tried again.
    pub retries: u32,
    /// The newest attempts, at most 100.
    pub attempt_list: Vec<AttemptView>,
    /// How many checkpoints there were.
    pub checkpoints: u64,
    /// The newest checkpoints, at most 100.
    pub checkpoint_list: Vec<CheckpointView>,
    /// Fuel used, as far as it is durable.
    pub fuel: u64,
    /// What it last said of itself.
    pub progress: ProgressView,
    /// What was asked for, with every file resolved.
    #[schema(value_type = Object)]
    pub spec: JobSpec,
    /// Under which terms.
    #[schema(value_type = Object)]
    pub terms: Terms,
    /// The position of the last record about it.
    pub last: u64,
}

/// Attempts and checkpoints that a view lists.
const LISTED: usize = 100;

impl JobView {
    /// Of a job; `live` is what it said since what is durable.
    pub fn of(job: &Job, live: Option<&Progress>) -> Self {
        let progress = match live {
            Some(progress) => ProgressView::of(progress, false),
            None => ProgressView::of(&job.progress, true),
        };
        let first = job.attempts.len().saturating_sub(LISTED);
        let attempts = job.attempts.iter().enumerate().skip(first);
        let newest = &job.checkpoints[job.checkpoints.len().saturating_sub(LISTED)..];
        Self {
            job_id: job.job_id.clone(),
            number: job.number,
            job_hash: job.job_hash.to_string(),
            state: job.state.phase.name().to_owned(),
            held: job.state.held,
            conclusion: job.conclusion.as_ref().map(ConclusionView::of),
            seal: job.seal.as_ref().map(|kept| kept.seal.to_string()),
            received_at: show_time(job.received_ns),
            attempts: job.state.attempts,
            crashes: job.state.crashes,
            retries: job.state.retries,
            attempt_list: attempts.map(|(index, one)| AttemptView::of(index, one)).collect(),
            checkpoints: job.checkpoints.len() as u64,
            checkpoint_list: newest.iter().map(CheckpointView::of).collect(),
            fuel: job.counters.fuel_used,
            progress,
            spec: job.spec.clone(),
            terms: job.terms.clone(),
            last: job.last,
        }
    }
}

impl AttemptView {
    fn of(index: usize, attempt: &Attempt) -> Self {
        let stopped = attempt.stopped.as_ref();
        let name = |why: &Stop| match why {
            Stop::Interrupted(why) => format!("interrupted: {}", why.name()),
            Stop::Retried(outcome) => format!("retried: {}", outcome_text(outcome)),
        };
        Self {
            attempt: u32::try_from(index + 1).unwrap_or(u32::MAX),
            token: attempt.token,
            process: attempt.process,
            started_at: show_time(attempt.started_ns),
            from_sequence: attempt.from_sequence,
            stopped: stopped.map(|stopped| name(&stopped.why)),
            detail: stopped.map(|stopped| stopped.detail.clone()),
        }
    }
}

impl CheckpointView {
    fn of(mark: &CheckpointMark) -> Self {
        Self {
            sequence: mark.sequence,
            step: mark.step,
            digest: mark.digest.to_string(),
            fuel: mark.fuel_used,
            token: mark.token,
            at: show_time(mark.at_ns),
        }
    }
}

impl ConclusionView {
    fn of(conclusion: &hb_types::ledger::Conclusion) -> Self {
        let artifacts = conclusion.artifacts.iter().map(|(name, artifact)| ArtifactView {
            name: name.clone(),
            digest: artifact.blob.digest.to_string(),
            bytes: artifact.blob.len_bytes,
        });
        Self {
            outcome: outcome_text(&conclusion.outcome),
            outcome_detail: OutcomeView::of(&conclusion.outcome),
            exit_code: conclusion.outcome.exit_code(),
            message: conclusion.explanation.message.clone(),
            backtrace: conclusion.explanation.backtrace.clone(),
            stdout: (&conclusion.stdout).into(),
            stderr: (&conclusion.stderr).into(),
            artifacts: artifacts.collect(),
            peak_memory_bytes: conclusion.peak_memory_bytes,
            reproducible: conclusion.reproducible,
            at: show_time(conclusion.at_ns),
        }
    }
}

/// A job as a row of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRow {
    /// Its name.
    pub job_id: String,
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub job_hash: String,
    /// Where it is in its life.
    pub state: String,
    /// How it ended, short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The exit code that `hb` gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Its seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// The program's own name.
    pub program: String,
    /// Its queue.
    pub queue: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was accepted.
    pub received_at: String,
    /// When it first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// How many attempts there were.
    pub attempts: u32,
    /// How many of them died with their host.
    pub crashes: u32,
    /// How many checkpoints there were.
    pub checkpoints: u64,
    /// Bytes that are kept of what it printed and left.
    pub bytes: u64,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    /// The jobs, newest first.
    pub jobs: Vec<JobRow>,
    /// Give it as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The list shows the log up to this position.
    pub as_of: u64,
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// The job's name.
    pub job_id: String,
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub job_hash: String,
    /// Where it is in its life.
    pub state: String,
    /// Whether this request made it.
    pub created: bool,
    /// Where it is.
    pub url: String,
}

/// Why a job is not running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    /// The job's name.
    pub job_id: String,
    /// Where it is in its life.
    pub state: String,
    /// `running`, `ended`, `held`, `starts-paused`, `draining`, `not-before`, `concurrency`,
    /// `resources`, `turn` or `moving`.
    pub reason: String,
    /// In words, with what would change it.
    pub detail: String,
    /// Since when, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// What a fork changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ForkRequest {
    /// The checkpoint to go on from [default: the newest].
    pub at: Option<u64>,
    /// The new job's name [default: made of the old one's].
    pub job_id: Option<String>,
    /// Other arguments.
    pub arguments: Option<Vec<String>>,
    /// Other environment.
    pub environment: Option<BTreeMap<String, String>>,
    /// Another component: the BLAKE3 digest of its bytes.
    pub component: Option<String>,
    /// Other limits, by name.
    pub limits: BTreeMap<String, crate::manifest::Amount>,
    /// Other labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// What a retry changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryRequest {
    /// Go on from the newest checkpoint instead of starting again.
    pub from_checkpoint: bool,
    /// Other limits, by name.
    pub limits: BTreeMap<String, crate::manifest::Amount>,
}

/// What a hold asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HoldRequest {
    /// Stop at once instead of at the next checkpoint.
    pub now: bool,
}
