//! Schedules: jobs that are submitted again and again at moments of a calendar.
//!
//! Owns what a schedule is. Knows nothing of calendars: when a moment is due is decided by the
//! host.

use serde::{Deserialize, Serialize};

use crate::{job::JobSpec, terms::Terms};

/// What becomes of moments that passed while no host was there.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// The newest of them is made up for.
    #[default]
    Latest,
    /// None of them is.
    Skip,
}

/// A job that is submitted again and again.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Schedule {
    /// When, as a cron expression of five or six fields, in UTC.
    pub cron: String,
    /// What becomes of moments that passed while no host was there.
    pub missed: Missed,
    /// What is submitted.
    pub spec: JobSpec,
    /// Under which terms.
    pub terms: Terms,
    /// When it was made, in nanoseconds since the Unix epoch: no earlier moment counts.
    pub since_ns: u64,
    /// The newest moment whose job was submitted; zero for none.
    pub fired_ns: u64,
}

impl Schedule {
    /// The id of the job of one moment: the same moment never gives two jobs.
    pub fn job_id(name: &str, moment_ns: u64) -> String {
        format!("{name}-at-{}", moment_ns / 1_000_000_000)
    }
}
