//! What is known of a job and of an event, as one row each.
//!
//! Owns: the rows as callers give and get them. Knows nothing of how they are stored.

use std::collections::BTreeMap;

use hb_types::{Digest, Lsn, state::Phase};

/// One job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    /// Its number: the position of its first record, so that newer jobs have greater ones.
    pub number: u64,
    /// The name its user gave it.
    pub job_id: String,
    /// Its hash.
    pub job_hash: Digest,
    /// Where it is in its life.
    pub phase: Phase,
    /// How it ended, as [`hb_types::outcome::Outcome::canonical`] says it.
    pub outcome: Option<String>,
    /// The exit code for it.
    pub exit_code: Option<u8>,
    /// Its seal.
    pub seal: Option<Digest>,
    /// What runs, as people call it.
    pub program: String,
    /// The queue it came through.
    pub queue: String,
    /// Free remarks.
    pub labels: BTreeMap<String, String>,
    /// When it was accepted, in nanoseconds since the Unix epoch, as all times here.
    pub received_ns: u64,
    /// When its first attempt started.
    pub started_ns: Option<u64>,
    /// When it ended.
    pub ended_ns: Option<u64>,
    /// Attempts that were started.
    pub attempts: u32,
    /// Attempts that died with their host.
    pub crashes: u32,
    /// Checkpoints that were saved.
    pub checkpoints: u64,
    /// Bytes that are kept for it.
    pub bytes: u64,
    /// The position of the last record about it.
    pub last: Lsn,
}

/// One event of the global history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its position.
    pub lsn: Lsn,
    /// The number of the job that it is about.
    pub job: u64,
    /// What kind of event it is.
    pub kind: String,
    /// All of it, as JSON; not looked into here.
    pub json: String,
}
