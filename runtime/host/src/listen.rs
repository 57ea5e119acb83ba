//! Who wants to know that something changed.
//!
//! Owns: the shape of the hint. A hint says where to look; what is there is read from the ledger, so
//! that a hint may be lost or come twice without harm. Knows nothing of who listens.

use hb_sandbox::Stream;
use hb_types::{Lsn, event::JobNumber};

/// Records that became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which job they are about; `None` where they are about the ledger as a whole.
    pub job: Option<JobNumber>,
    /// Position of the first.
    pub first: Lsn,
    /// Position of the last.
    pub last: Lsn,
}

/// Wants to know of changes. Called by the thread that commits: it passes the news on and returns.
pub trait Listener: Send + Sync {
    /// Records became durable. Calls may come out of order; each position is in exactly one of them,
    /// as long as the log takes records.
    fn changed(&self, change: Change);
    /// Jobs were removed for good. Comes before the change that says so.
    fn forgotten(&self, jobs: &[JobNumber]);
    /// A job that runs printed something that is not durable yet.
    fn printed(&self, job: JobNumber, stream: Stream);
    /// A job that runs said something of itself.
    fn progressed(&self, job: JobNumber);
}
