//! What a history contained, so that it can be seen that histories are not empty.

use hb_host::Host;
use hb_types::outcome::Outcome;

use crate::check::{Broken, all_jobs};

/// Figures of the ledger at the end of a history, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Jobs that came to their end.
    pub jobs: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Attempts.
    pub attempts: u64,
    /// Attempts that began at a checkpoint.
    pub resumed: u64,
    /// Attempts that died with their host.
    pub crashes: u64,
    /// Attempts that failed and were followed by another.
    pub retries: u64,
    /// Jobs that go on from another one's checkpoint.
    pub forks: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that were set aside.
    pub poisoned: u64,
    /// Jobs whose record lies in an archive.
    pub archived: u64,
}

impl Seen {
    /// Adds what another history contained.
    pub fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.checkpoints += other.checkpoints;
        self.attempts += other.attempts;
        self.resumed += other.resumed;
        self.crashes += other.crashes;
        self.retries += other.retries;
        self.forks += other.forks;
        self.cancelled += other.cancelled;
        self.poisoned += other.poisoned;
        self.archived += other.archived;
    }

    /// Of an open host.
    pub(crate) fn of(host: &Host) -> Result<Self, Broken> {
        let archived = host.with_ledger(|ledger| ledger.archive.jobs().len() as u64);
        let mut seen = Self { archived, ..Self::default() };
        for job in all_jobs(host)? {
            let outcome = job.conclusion.as_ref().map(|conclusion| conclusion.outcome);
            let resumed = job.attempts.iter().filter(|attempt| attempt.from_sequence > 0);
            seen.add(&Self {
                jobs: 1,
                checkpoints: job.checkpoints.len() as u64,
                attempts: job.attempts.len() as u64,
                resumed: resumed.count() as u64,
                crashes: u64::from(job.state.crashes),
                retries: u64::from(job.state.retries),
                forks: u64::from(job.spec.origin.is_some()),
                cancelled: u64::from(outcome == Some(Outcome::Cancelled)),
                poisoned: u64::from(outcome == Some(Outcome::Poisoned)),
                archived: 0,
            });
        }
        Ok(seen)
    }
}
