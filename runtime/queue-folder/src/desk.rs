//! Where manifests are handed in.
//!
//! Owns: the small interface to whatever accepts jobs, and its implementation over a host. Knows
//! nothing of folders.

use std::{io::Read, sync::Arc};

use hb_api::manifest::{Manifest, ManifestError};
use hb_host::{Dispatcher, EngineError, StoreError, Submission, SubmitError};
use hb_types::{Digest, event::JobNumber, ledger::Job};

/// A job that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Its number.
    pub number: JobNumber,
}

/// A manifest that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// It makes no sense, now and later.
    #[error("{0}")]
    Refused(String),
    /// Not now: the queue or the disk is full, or the host is about to stop.
    #[error("{0}")]
    Later(String),
}

impl From<ManifestError> for HandError {
    fn from(error: ManifestError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<EngineError> for HandError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Absent { .. } | EngineError::Refused { .. } => {
                Self::Refused(format!("image: {error}"))
            }
            // It may be started later.
            EngineError::None { .. } | EngineError::Broken { .. } | EngineError::Threads(_) => {
                Self::Later(error.to_string())
            }
        }
    }
}

impl From<StoreError> for HandError {
    fn from(error: StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

/// Accepts jobs and knows how they are.
pub trait Desk: Send + Sync {
    /// Takes a file's bytes in.
    fn take_in(&self, file: &mut dyn Read) -> Result<Digest, HandError>;
    /// Accepts a job; durable when it returns. The same manifest gives the same job.
    fn hand_in(&self, manifest: &Manifest) -> Result<Handed, HandError>;
    /// A job as it stands, once that is durable; `None` where there is none of that number.
    fn look(&self, number: JobNumber) -> Option<Job>;
}

/// A host's desk.
pub struct HostDesk(pub Arc<Dispatcher>);

impl Desk for HostDesk {
    fn take_in(&self, file: &mut dyn Read) -> Result<Digest, HandError> {
        Ok(self.0.host().add_blob(file)?.digest)
    }

    fn hand_in(&self, manifest: &Manifest) -> Result<Handed, HandError> {
        let host = self.0.host();
        let mut manifest = manifest.clone();
        if manifest.image.is_some() {
            host.containers().ping()?;
        }
        if let Some(image) = manifest.unpinned() {
            manifest.image_id = Some(host.containers().pin(image)?);
        }
        let resolved = manifest.resolve(|digest| host.blob_len(digest).map_err(HandError::from))?;
        let mut terms = resolved.terms;
        terms.submitted_by = Some("queue folder".to_owned());
        let submission = Submission {
            job_id: resolved.job_id,
            name_hint: resolved.name_hint,
            spec: resolved.spec,
            terms,
            rerun: false,
        };
        let refused = |error: SubmitError| match error {
            SubmitError::Blob(_) | SubmitError::Journal(_) | SubmitError::QueueFull { .. } => {
                HandError::Later(error.to_string())
            }
            _ => HandError::Refused(error.to_string()),
        };
        let (submitted, _) = self.0.submit(&submission).map_err(refused)?;
        let number = submitted.number();
        let later = |error: hb_host::journal::JournalError| HandError::Later(error.to_string());
        host.await_durable(number).map_err(later)?;
        Ok(Handed { number })
    }

    fn look(&self, number: JobNumber) -> Option<Job> {
        let host = self.0.host();
        let job = host.load(number).ok().flatten()?;
        (job.last <= host.durable_lsn()).then_some(job)
    }
}
