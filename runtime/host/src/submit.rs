//! How a job is accepted.
//!
//! Owns: what becomes of components and files that are handed in, the idempotency of job ids, and
//! when an earlier answer is given instead of a new run.
//!
//! Invariant: `submit` returns a new job only after it is durable.

use std::io::Read;

use hb_sandbox::PrepareError;
use hb_store::StoreError;
use hb_types::{
    Digest,
    event::{JobNumber, Received},
    job::{BlobRef, JobSpec, check_name},
    ledger::{Job, Ledger},
    limits::Limits,
    terms::Terms,
};

use crate::{
    Host,
    decide::Decided,
    error::{DecideError, SubmitError},
    journal::JournalError,
};

/// A job to accept.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The name that its user gives it; a job with a name is a job of its own.
    pub job_id: Option<String>,
    /// What a name is made of where the user gave none.
    pub name_hint: String,
    /// What is asked for; its blobs are in the store.
    pub spec: JobSpec,
    /// When, and with what.
    pub terms: Terms,
    /// Run even if the answer is known.
    pub rerun: bool,
}

/// What came of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// A new job.
    New(JobNumber),
    /// A job that was there.
    Existing(JobNumber),
}

impl Submitted {
    /// The job.
    pub fn number(self) -> JobNumber {
        match self {
            Self::New(number) | Self::Existing(number) => number,
        }
    }
}

/// A component that was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It cannot be run.
    #[error(transparent)]
    NotRunnable(#[from] PrepareError),
    /// It cannot be kept.
    #[error("the component cannot be stored")]
    Store(#[from] StoreError),
}

impl Host {
    /// Takes a component: text is translated, the bytes are scanned, compiled and kept.
    pub fn add_component(&self, bytes: Vec<u8>, limits: &Limits) -> Result<BlobRef, AddError> {
        let bytes = self.executor().to_binary(bytes, limits)?;
        let digest = Digest::of(&bytes);
        self.executor().prepare(&bytes, digest, limits)?;
        self.store().put(&bytes)?;
        Ok(BlobRef { digest, len_bytes: bytes.len() as u64 })
    }

    /// Takes an input, read to its end.
    pub fn add_blob(&self, source: &mut dyn Read) -> Result<BlobRef, StoreError> {
        let mut writer = self.store().writer()?;
        writer.copy_from(source)?;
        let (digest, len_bytes) = writer.finish()?;
        Ok(BlobRef { digest, len_bytes })
    }

    /// Accepts a job, or answers with one that is there:
    ///
    /// - the one that has the job id, if its hash is the same;
    /// - without a job id, an unfinished one with the same hash, or one that ended in a way that a
    ///   repetition must reproduce.
    pub fn submit(&self, submission: &Submission) -> Result<Submitted, SubmitError> {
        let (submitted, decided) = self.submit_undurable(submission)?;
        match decided {
            Some(decided) => self.settle(decided)?,
            // It may be another thread's, and on its way to the disk.
            None => self.await_durable(submitted.number())?,
        }
        Ok(submitted)
    }

    /// As [`Host::submit`], but what was decided is not durable yet: nobody may be told before it
    /// is, nor, where nothing was decided, before the job's number is (`when_durable_at`).
    pub fn submit_undurable(
        &self,
        submission: &Submission,
    ) -> Result<(Submitted, Option<Decided>), SubmitError> {
        submission.spec.check(self.ceilings())?;
        submission.terms.check()?;
        if let Some(job_id) = &submission.job_id {
            check_name("job id", job_id)?;
        }
        let job_hash = submission.spec.hash();
        // What is there now must still be there when the record refers to it.
        let _hold = self.store().hold();
        // Another submission may take the name in between; then the ledger is asked again.
        loop {
            let known = self.with_ledger(|ledger| known_answer(ledger, submission, job_hash))?;
            if let Some(number) = known {
                return Ok((Submitted::Existing(number), None));
            }
            self.take_container(&submission.spec)?;
            self.check_presence(&submission.spec)?;
            crate::origin::sources(self.store(), &submission.spec, self.ceilings())?;
            let job_id = match &submission.job_id {
                Some(job_id) => job_id.clone(),
                None => {
                    self.with_ledger(|ledger| free_name(ledger, &submission.name_hint, job_hash))
                }
            };
            let (spec, terms) = (submission.spec.clone(), submission.terms.clone());
            let received =
                Received { job_id: job_id.clone(), job_hash, spec, terms, at_ns: self.now_ns() };
            match self.found(&job_id, received.into()) {
                Ok(decided) => return Ok((Submitted::New(decided.first), Some(decided))),
                Err(
                    DecideError::Apply(_) | DecideError::Journal(JournalError::Conflict { .. }),
                ) => {}
                Err(DecideError::Journal(error)) => return Err(error.into()),
            }
        }
    }

    /// Sees to it that a container is allowed and that its description is there, as a component
    /// would be. The caller holds the store.
    pub(crate) fn take_container(&self, spec: &JobSpec) -> Result<(), SubmitError> {
        if let Some(container) = &spec.container {
            self.containers().check(container)?;
            self.store().put(&container.description())?;
        }
        Ok(())
    }

    /// Whether everything that a job needs is there, durably: what only seems to be there must not be
    /// accepted.
    pub(crate) fn check_presence(&self, spec: &JobSpec) -> Result<(), SubmitError> {
        let mut missing = Vec::new();
        for blob in spec.blobs() {
            if self.store().durable_len(blob.digest)? != Some(blob.len_bytes) {
                missing.push(blob.digest);
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(SubmitError::Missing { missing }) }
    }
}

fn known_answer(
    ledger: &Ledger,
    submission: &Submission,
    job_hash: Digest,
) -> Result<Option<JobNumber>, SubmitError> {
    if let Some(job_id) = &submission.job_id {
        let Some(found) = ledger.by_id(job_id) else { return Ok(None) };
        if found.job_hash() != job_hash {
            let (existing, asked) = (found.job_hash(), job_hash);
            return Err(SubmitError::Conflict { job_id: job_id.clone(), existing, asked });
        }
        if submission.rerun && !found.is_unfinished() {
            return Err(SubmitError::Ended { job_id: job_id.clone() });
        }
        return Ok(Some(found.number()));
    }
    let answers = |job: &&Job| {
        job.is_unfinished()
            || (!submission.rerun && job.conclusion.as_ref().is_some_and(|c| c.reproducible))
    };
    let here = ledger.by_hash(job_hash).find(answers).map(|job| job.number);
    let archived = || if submission.rerun { None } else { ledger.archive.answer(job_hash) };
    Ok(here.or_else(archived))
}

/// `kmer-1a2b3c4d`, and with a number behind it where that is taken.
fn free_name(ledger: &Ledger, hint: &str, job_hash: Digest) -> String {
    let stem: String = hint
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .take(64)
        .collect();
    let stem = stem.trim_matches('-');
    let stem = if stem.is_empty() { "job" } else { stem };
    let name = format!("{stem}-{}", job_hash.short());
    let numbered = (2u64..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone())
        .chain(numbered)
        .find(|name| ledger.by_id(name).is_none())
        .expect("there are more numbers than jobs")
}
