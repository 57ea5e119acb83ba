//! The host as a whole, schedules, limits, retention: as JSON.
//!
//! Owns the shapes. Knows nothing of how the figures come about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::manifest::Manifest;

/// What of the machine is there, and in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MachineView {
    /// Processors that jobs may use.
    pub cpus: f64,
    /// Of these, in use.
    pub cpus_used: f64,
    /// Bytes of memory that jobs may use.
    pub memory_bytes: u64,
    /// Of these, promised to running jobs.
    pub memory_used_bytes: u64,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogView {
    /// The newest durable position.
    pub durable: u64,
    /// Records written since the host started.
    pub records: u64,
    /// Flushes since the host started.
    pub flushes: u64,
    /// Bytes written since the host started.
    pub bytes: u64,
    /// Why it takes nothing any more, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A host: one place that says how it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostStatus {
    /// `idle`, `running`, `paused`, `draining` or `error`.
    pub status: String,
    /// Why, where it is `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Name of the machine.
    pub host: String,
    /// Identity of the ledger.
    pub ledger: String,
    /// Version of `hb`.
    pub version: String,
    /// When it started.
    pub started_at: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait.
    pub waiting: u64,
    /// Jobs by state, over the whole history.
    pub jobs: BTreeMap<String, u64>,
    /// The machine.
    pub machine: MachineView,
    /// The log.
    pub log: LogView,
    /// The last event of any job, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<crate::event::EventView>,
    /// What jobs that run last said of themselves, by job id; at most 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<String, crate::job::ProgressView>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitView {
    /// Name in a manifest.
    pub name: String,
    /// What it bounds.
    pub what: String,
    /// `fuel`, `bytes`, `count` or `milliseconds`.
    pub unit: String,
    /// Its value where a manifest says nothing.
    pub default: u64,
    /// The most that this host allows.
    pub ceiling: u64,
    /// The flag of `hb` that sets it.
    pub flag: String,
    /// Whether it is part of the job hash.
    pub hashed: bool,
}

/// Jobs that are submitted again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRequest {
    /// When: a cron expression of five or six fields, in UTC.
    pub cron: String,
    /// What becomes of moments that passed while no host was there: `latest` (the newest is made up
    /// for) or `skip` [default: `latest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
    /// What is submitted; it must not have a `job_id`.
    pub manifest: Manifest,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// When.
    pub cron: String,
    /// What becomes of moments that passed.
    pub missed: String,
    /// When it was made.
    pub since: String,
    /// The newest moment whose job was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// The next moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The component that is run.
    pub component: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What is removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneRequest {
    /// Remove nothing, only say what would be.
    pub dry_run: bool,
    /// Jobs that ended longer ago than this go: milliseconds or a duration.
    pub max_age: Option<crate::manifest::Amount>,
    /// At most this many jobs that are over stay.
    pub max_jobs: Option<u64>,
    /// At most this much of what they printed and left stays: bytes or a size.
    pub max_bytes: Option<crate::manifest::Amount>,
}

/// One job that is removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedJob {
    /// Its name.
    pub job_id: String,
    /// Its number.
    pub number: u64,
    /// Why it goes.
    pub why: String,
    /// Bytes that were kept of it.
    pub bytes: u64,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneReport {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// How many jobs.
    pub count: u64,
    /// Bytes that were kept of them.
    pub bytes: u64,
    /// The first of them, at most 1000.
    pub jobs: Vec<PrunedJob>,
}

/// An upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// BLAKE3 of what it will be.
    pub digest: String,
    /// Bytes that are here.
    pub offset: u64,
    /// Whether it is complete.
    pub complete: bool,
}
