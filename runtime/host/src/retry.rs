//! Jobs that try once more what another job did not bring to an end.
//!
//! Owns: which jobs can be tried again, and the submission of the new one. What ended stays as it
//! is. Knows nothing of the retries that a manifest asks for: those are attempts at one job.

use hb_types::{
    event::JobNumber,
    job::NAME_MAX_BYTES,
    ledger::{Job, Ledger},
    state::Phase,
    terms::Terms,
};

use crate::{Host, Submission, error::LoadError, fork::ForkError};

/// Where a job that is tried again begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryFrom {
    /// At its beginning.
    #[default]
    Beginning,
    /// At the newest checkpoint of the job before.
    NewestCheckpoint,
}

/// A job that is not tried again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// There is no such job.
    #[error("there is no job number {job}")]
    NoSuchJob {
        /// What was asked for.
        job: JobNumber,
    },
    /// The job's record.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It still has something to do.
    #[error("job {job_id} is {}: wait for its end, or cancel it first", phase.name())]
    NotOver {
        /// Its name.
        job_id: String,
        /// Where it is.
        phase: Phase,
    },
    /// It ended with success.
    #[error(
        "job {job_id} ended with success, so there is nothing to try again: submit it with --rerun to run it once more"
    )]
    Succeeded {
        /// Its name.
        job_id: String,
    },
    /// Nothing can go on from its checkpoints.
    #[error(transparent)]
    Fork(#[from] ForkError),
}

impl Host {
    /// A job that tries again what a failed or cancelled one did: the same specification, or one that
    /// goes on from its newest checkpoint. It has the name of the other one with `-retry-N` behind it
    /// and the same terms, apart from moments that belonged to the other one: when it was to start,
    /// by when to end, and whose request it was.
    pub fn retry_submission(
        &self,
        source: JobNumber,
        from: RetryFrom,
    ) -> Result<Submission, RetryError> {
        let job = self.load(source)?.ok_or(RetryError::NoSuchJob { job: source })?;
        check(&job)?;
        let spec = match from {
            RetryFrom::Beginning => job.spec.clone(),
            RetryFrom::NewestCheckpoint => self.fork_spec(source, None, |_| {})?,
        };
        let job_id = self.with_ledger(|ledger| next_name(ledger, &job.job_id));
        let terms = Terms {
            not_before_ns: 0,
            finish_by_ns: 0,
            traceparent: None,
            submitted_by: None,
            successor_of: Some(source),
            ..job.terms
        };
        let name_hint = job_id.clone();
        Ok(Submission { job_id: Some(job_id), name_hint, spec, terms, rerun: true })
    }
}

fn check(job: &Job) -> Result<(), RetryError> {
    let job_id = job.job_id.clone();
    match job.state.phase {
        Phase::Failed | Phase::Cancelled => Ok(()),
        Phase::Completed | Phase::Sealed => Err(RetryError::Succeeded { job_id }),
        phase @ (Phase::Received | Phase::Scheduled | Phase::Running) => {
            Err(RetryError::NotOver { job_id, phase })
        }
    }
}

/// `kmer-retry-1`, and after it `kmer-retry-2`.
fn next_name(ledger: &Ledger, job_id: &str) -> String {
    let stem = job_id.rsplit_once("-retry-").map_or(job_id, |(stem, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if is_number && !stem.is_empty() { stem } else { job_id }
    });
    let name = |number: u64| {
        let suffix = format!("-retry-{number}");
        // Names are ASCII, so every byte is a place to cut.
        let room = NAME_MAX_BYTES - suffix.len();
        format!("{}{suffix}", &stem[..stem.len().min(room)])
    };
    let names = (1..=u64::MAX).map(name);
    let mut free = names.filter(|name| ledger.by_id(name).is_none());
    free.next().expect("there are more numbers than jobs")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hb_types::job::check_name;

    use super::*;

    #[test]
    fn names_are_counted_on_and_stay_valid() {
        let ledger = Ledger::default();
        for (before, after) in [
            ("kmer", "kmer-retry-1"),
            ("kmer-retry-7", "kmer-retry-1"),
            ("a-retry-x", "a-retry-x-retry-1"),
            ("a-retry-", "a-retry--retry-1"),
        ] {
            assert_eq!(next_name(&ledger, before), after);
        }
        let long = next_name(&ledger, &"x".repeat(NAME_MAX_BYTES));
        check_name("job id", &long).unwrap();
        assert!(long.ends_with("x-retry-1"));
    }
}
