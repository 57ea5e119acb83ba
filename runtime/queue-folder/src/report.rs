//! What `telemetry/` says of a manifest.
//!
//! Owns the shape. Knows nothing of files.

use hb_api::job::{OutcomeView, outcome_text};
use hb_types::{Digest, ledger::Job, units::show_time};
use serde::{Deserialize, Serialize};

/// How far a manifest came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its job was accepted, durably.
    Accepted,
    /// Its job is over.
    Over,
    /// It makes no sense.
    Rejected,
    /// It was not taken yet, and is tried again.
    Waiting,
}

/// How a manifest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The manifest's file.
    pub manifest: String,
    /// BLAKE3 of its bytes.
    pub digest: String,
    /// How far it came.
    pub state: State,
    /// Why it was rejected or has to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its job's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Its job's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Its job's hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_hash: Option<String>,
    /// Where its job is in its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_state: Option<String>,
    /// How its job ended, short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How its job ended, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome_detail: Option<OutcomeView>,
    /// The exit code that `hb` gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The seal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<String>,
    /// Attempts so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Checkpoints so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<u64>,
    /// When its job was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<String>,
    /// When its job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}

impl Report {
    /// Of a manifest that has no job.
    pub fn without_job(manifest: &str, digest: Digest, state: State, reason: String) -> Self {
        Self {
            manifest: manifest.to_owned(),
            digest: digest.to_string(),
            state,
            reason: Some(reason),
            job_id: None,
            number: None,
            job_hash: None,
            job_state: None,
            outcome: None,
            outcome_detail: None,
            exit_code: None,
            message: None,
            seal: None,
            attempts: None,
            checkpoints: None,
            received_at: None,
            ended_at: None,
        }
    }

    /// Of a manifest whose job was accepted.
    pub fn of_job(manifest: &str, digest: Digest, job: &Job) -> Self {
        let conclusion = job.conclusion.as_ref();
        Self {
            manifest: manifest.to_owned(),
            digest: digest.to_string(),
            state: if job.is_over() { State::Over } else { State::Accepted },
            reason: None,
            job_id: Some(job.job_id.clone()),
            number: Some(job.number),
            job_hash: Some(job.job_hash.to_string()),
            job_state: Some(job.state.phase.name().to_owned()),
            outcome: conclusion.map(|conclusion| outcome_text(&conclusion.outcome)),
            outcome_detail: conclusion.map(|conclusion| OutcomeView::of(&conclusion.outcome)),
            exit_code: conclusion.map(|conclusion| conclusion.outcome.exit_code()),
            message: conclusion.map(|conclusion| conclusion.explanation.message.clone()),
            seal: job.seal.as_ref().map(|kept| kept.seal.to_string()),
            attempts: Some(job.state.attempts),
            checkpoints: Some(job.checkpoints.len() as u64),
            received_at: Some(show_time(job.received_ns)),
            ended_at: conclusion.map(|conclusion| show_time(conclusion.at_ns)),
        }
    }
}
