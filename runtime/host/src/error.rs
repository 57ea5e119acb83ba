//! What can go wrong with a host, by operation.

use std::{io, path::PathBuf};

use hb_sandbox::{HostFault, PrepareError, SandboxError};
use hb_seal::{KeyError, SealError};
use hb_store::StoreError;
use hb_types::{Digest, event::UnknownRecord, job::InvalidSpec, ledger::ApplyError};
use hb_wal::{AppendError, OpenError};

use crate::{journal::JournalError, origin::OriginError};

/// A data directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenHostError {
    /// The directory itself.
    #[error("cannot open the data directory {}: check that it can be written to, or choose another with --data DIR", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no ledger to read.
    #[error("there is no ledger in {}: run a job first, or choose another directory with --data DIR", path.display())]
    NoLedger {
        /// Which directory.
        path: PathBuf,
    },
    /// Another process owns it.
    #[error("the ledger in {} is in use by process {}: wait for it, stop it, or choose another directory with --data DIR", path.display(), owner.map_or_else(|| "(unknown)".to_owned(), |pid| pid.to_string()))]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// The owner's process id.
        owner: Option<u32>,
    },
    /// The log.
    #[error("the ledger's log cannot be opened")]
    Log(#[from] OpenError),
    /// Reading the log once more.
    #[error("the ledger's log cannot be read: {0}")]
    Replay(String),
    /// A record or a snapshot that was written by another version, or that is damaged in a way
    /// that no checksum could see.
    #[error("record {lsn} of the ledger's log cannot be read")]
    Record {
        /// Its position.
        lsn: u64,
        /// Why.
        source: UnknownRecord,
    },
    /// A snapshot.
    #[error(
        "the snapshot of the ledger at record {lsn} cannot be read: it was written by another version of hb; use that version"
    )]
    Snapshot {
        /// Its position.
        lsn: u64,
    },
    /// Records that contradict each other.
    #[error(
        "the ledger's log contradicts itself: report this with the output of `hb ledger check`"
    )]
    Apply(#[from] ApplyError),
    /// The blobs.
    #[error("the ledger's blobs cannot be opened")]
    Store(#[from] StoreError),
    /// The key.
    #[error("the host's key cannot be used")]
    Key(#[from] KeyError),
    /// The sandbox.
    #[error("the sandbox cannot be set up")]
    Sandbox(#[from] SandboxError),
    /// Writing down what recovery found.
    #[error("what recovery found cannot be written down")]
    Recover(#[from] DecideError),
    /// Making it durable.
    #[error("what recovery found cannot be made durable")]
    Settle(#[from] JournalError),
}

/// Records that were not appended.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// They may not follow what the ledger holds.
    #[error("the ledger does not allow it")]
    Apply(#[from] ApplyError),
    /// The log.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A job that is in the ledger and cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The blob that holds it.
    #[error("the archive that holds the job cannot be read")]
    Store(#[source] StoreError),
    /// What was read is not what was written.
    #[error(
        "job {job} in archive {blob} is damaged: restore the blob from a copy of the data directory"
    )]
    Damaged {
        /// Its number.
        job: u64,
        /// The blob.
        blob: Digest,
    },
}

/// Output that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadOutputError {
    /// There is no such job.
    #[error("there is no job number {job}")]
    NoSuchJob {
        /// What was asked for.
        job: u64,
    },
    /// The job.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its bytes.
    #[error("what the job left cannot be read")]
    Read(#[source] io::Error),
}

/// A change of a job that was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such job.
    #[error("there is no job number {job}")]
    NoSuchJob {
        /// What was asked for.
        job: u64,
    },
    /// It has ended.
    #[error("job {job_id:?} has ended ({phase}): nothing about it can change any more")]
    Ended {
        /// Its name.
        job_id: String,
        /// Where its life ended.
        phase: &'static str,
    },
    /// It is already so.
    #[error("job {job_id:?} is {what} already")]
    Already {
        /// Its name.
        job_id: String,
        /// How it is.
        what: &'static str,
    },
    /// There is no such schedule.
    #[error("there is no schedule {name:?}")]
    NoSuchSchedule {
        /// What was asked for.
        name: String,
    },
    /// The ledger does not allow it, or cannot take it.
    #[error("the change cannot be written down")]
    Decide(#[from] DecideError),
    /// It is not certain that it is durable.
    #[error("the change is not durable")]
    Journal(#[from] JournalError),
    /// What the job left cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A job that was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// What was asked for.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
    /// The operator does not allow its container.
    #[error(transparent)]
    NotAllowed(#[from] hb_container::NotAllowed),
    /// The name is taken by another job.
    #[error("the job id {job_id:?} belongs to a job with another hash ({}, this one has {}): choose another one, with --job-id or in the manifest", existing.short(), asked.short())]
    Conflict {
        /// The name.
        job_id: String,
        /// The hash of the job that has it.
        existing: Digest,
        /// The hash of this one.
        asked: Digest,
    },
    /// The name is taken by a job that has ended, and a new run was asked for.
    #[error(
        "the job id {job_id:?} belongs to a job that has ended: to run it once more, choose another one with --job-id or in the manifest, or leave it out"
    )]
    Ended {
        /// The name.
        job_id: String,
    },
    /// Things that it needs are not in the store.
    #[error("{} of the job's blobs are not here, the first is {}: upload them and submit again", missing.len(), missing[0])]
    Missing {
        /// Their digests, at least one.
        missing: Vec<Digest>,
    },
    /// The checkpoint that it goes on from is not one that a job can begin at.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// It needs more of the machine than there is.
    #[error(
        "the job needs {asked} {what}, this host has {have}: ask for less, or use a larger host"
    )]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much was asked for.
        asked: u64,
        /// How much there is.
        have: u64,
    },
    /// Too many jobs wait already.
    #[error("{queued} jobs are waiting, at most {max} may: submit again later")]
    QueueFull {
        /// How many wait.
        queued: usize,
        /// How many may.
        max: usize,
    },
    /// The store.
    #[error("the job's blobs cannot be looked up")]
    Blob(#[from] StoreError),
    /// The log.
    #[error("the job was not accepted")]
    Journal(#[from] JournalError),
}

/// An attempt that ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such job.
    #[error("there is no job {name:?} in this ledger: `hb jobs` lists them")]
    NoSuchJob {
        /// What was asked for.
        name: String,
    },
    /// The job's record.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ledger does not allow it, or cannot take it.
    #[error(
        "what happened to the job cannot be written down; nothing that was saved is lost, run it again to resume"
    )]
    Decide(#[from] DecideError),
    /// The component.
    #[error(transparent)]
    NotRunnable(#[from] PrepareError),
    /// Its blobs.
    #[error("what the job needs cannot be read")]
    Blob(#[from] StoreError),
    /// A scratch file.
    #[error("cannot make a scratch file in the data directory: free some space")]
    Scratch(#[source] io::Error),
    /// The host failed while it ran.
    #[error(
        "the host failed while the job ran; nothing that was saved is lost, run it again to resume"
    )]
    Fault(#[from] HostFault),
    /// The log.
    #[error(
        "the ledger cannot take what happened; nothing that was saved is lost, run it again to resume"
    )]
    Journal(#[from] JournalError),
    /// The seal.
    #[error("the outcome cannot be sealed")]
    Seal(#[from] SealError),
}

/// What a failed log means for what was asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFailure {
    /// Nothing was written: the same can be asked again of the next host.
    Refused,
    /// It may or may not have been written: only the next host knows.
    Unknown,
}

/// Whether the cause of an error is that the log, or the blob store, takes nothing until it is opened
/// again.
pub fn log_failure(error: &(dyn std::error::Error + 'static)) -> Option<LogFailure> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(StoreError::Stopped { .. }) = error.downcast_ref() {
            return Some(LogFailure::Refused);
        }
        match error.downcast_ref() {
            Some(AppendError::Poisoned { .. } | AppendError::Closed) => {
                return Some(LogFailure::Refused);
            }
            Some(AppendError::Unknown { .. }) => return Some(LogFailure::Unknown),
            _ => cause = error.source(),
        }
    }
    None
}

/// Whether the cause of an error is that the disk is full.
pub fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(AppendError::Full { .. }) = error.downcast_ref() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::StorageFull
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_log_that_failed_says_whether_something_may_have_been_done() {
        let cause: Arc<str> = Arc::from("flushing failed");
        let refused = JournalError::Append(AppendError::Poisoned { cause: Arc::clone(&cause) });
        let unknown = AppendError::Unknown { first_lsn: 1, last_lsn: 1, cause };
        let unknown = JournalError::Append(unknown);
        assert_eq!(log_failure(&SubmitError::Journal(refused)), Some(LogFailure::Refused));
        assert_eq!(log_failure(&SubmitError::Journal(unknown)), Some(LogFailure::Unknown));
        assert_eq!(log_failure(&SubmitError::Ended { job_id: String::new() }), None);
    }
}
