//! What must hold of every ledger that is opened.
//!
//! Owns the promises: nothing that was told is lost or changed, nothing is there that nobody asked
//! for, no job exists twice, outcomes and seals are those of the undisturbed run, and the blobs are
//! those that the ledger needs. Reads what clients were told and what a host shows; knows nothing of
//! which faults there were.

use std::{collections::BTreeSet, sync::Arc};

use hb_disk::Storage;
use hb_host::Host;
use hb_store::Store;
use hb_types::{
    Digest, capture::ContentId, event::JobNumber, job::EXECUTION_SEMANTICS, ledger::Job,
    limits::Limit, outcome::Outcome,
};

use crate::told::{Asked, Told, ToldJob};

/// More events than any simulated job has.
const EVENTS_MAX: usize = 10_000;

/// A promise that is broken, in words.
pub type Broken = String;

/// An error and its causes.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Checks a host that was just opened, before anything is asked of it.
pub fn opened(host: &Host, told: &Told) -> Result<(), Broken> {
    records(host, told)?;
    nothing_runs(host)
}

/// Checks that no attempt holds a job.
pub fn nothing_runs(host: &Host) -> Result<(), Broken> {
    for job in all_jobs(host)? {
        if job.state.token.is_some() {
            return Err(format!("{}: an attempt that is no more still holds it", job.job_id));
        }
    }
    Ok(())
}

/// Checks what a host shows against what was told.
pub fn records(host: &Host, told: &Told) -> Result<(), Broken> {
    for (name, job) in &told.accepted {
        accepted(host, name, &told.asked[name], job)?;
    }
    for name in &told.gone {
        if find(host, name).is_some() {
            return Err(format!("{name} was said to be removed and is there"));
        }
    }
    for job in all_jobs(host)? {
        let Some(asked) = told.asked.get(&job.job_id) else {
            return Err(format!("{} (job {}): nobody asked for it", job.job_id, job.number));
        };
        ended(&job, asked)?;
    }
    let paused = host.with_ledger(|ledger| ledger.starts_paused);
    if told.starts_paused.is_some_and(|told| told != paused) {
        return Err(format!("that starts are paused is {paused}, the opposite was answered"));
    }
    Ok(())
}

fn find(host: &Host, name: &str) -> Option<JobNumber> {
    host.with_ledger(|ledger| ledger.by_id(name).map(|found| found.number()))
}

/// Every job, in memory or archived.
pub fn all_jobs(host: &Host) -> Result<Vec<Job>, Broken> {
    let numbers: Vec<JobNumber> = host.with_ledger(|ledger| {
        ledger.jobs.keys().chain(ledger.archive.jobs().keys()).copied().collect()
    });
    let load = |number| {
        let job = host.load(number).map_err(|error| format!("job {number}: {}", chain(&error)))?;
        job.ok_or_else(|| format!("job {number} is listed and not there"))
    };
    numbers.into_iter().map(load).collect()
}

fn accepted(host: &Host, name: &str, asked: &Asked, told: &ToldJob) -> Result<(), Broken> {
    let Some(number) = find(host, name) else {
        return Err(format!("{name} was accepted as job {} and is gone", told.number));
    };
    if number != told.number {
        return Err(format!("{name} was accepted as job {}, is {number}", told.number));
    }
    let job = host.load(number).map_err(|error| format!("{name}: {}", chain(&error)))?;
    let job = job.ok_or_else(|| format!("{name} cannot be found under its number"))?;
    if job.job_hash != asked.spec.hash() {
        return Err(format!("{name} is another job than was asked for"));
    }
    let state = &job.state;
    if state.sequence < told.sequence || state.furthest_step < told.step {
        let (sequence, step) = (told.sequence, told.step);
        return Err(format!("{name}: checkpoint {sequence} at step {step} was durable: {state:?}"));
    }
    let events = job.events_after(0, EVENTS_MAX);
    if !events.starts_with(&told.events) {
        let (shown, there) = (&told.events, events);
        return Err(format!("{name}: events {shown:?} were shown, {there:?} are there"));
    }
    if state.retries > asked.terms.retry.max_retries {
        return Err(format!("{name}: {} retries, more than were granted", state.retries));
    }
    if job.is_unfinished() {
        if told.held.is_some_and(|held| held != state.held) {
            return Err(format!("{name}: on hold is {}, {:?} was told", state.held, told.held));
        }
        if told.cancelled {
            return Err(format!("{name} was cancelled and goes on"));
        }
    }
    let output_bytes = job.len_bytes(ContentId::STDOUT);
    if asked.restores() && output_bytes < told.output_bytes {
        return Err(format!("{name}: {} bytes were shown, {output_bytes} kept", told.output_bytes));
    }
    Ok(())
}

/// Checks how a job ended, if it did.
fn ended(job: &Job, asked: &Asked) -> Result<(), Broken> {
    let name = &job.job_id;
    let Some(conclusion) = &job.conclusion else { return Ok(()) };
    let Some(kept) = &job.seal else {
        return Err(format!("{name} has an outcome and no seal"));
    };
    let undisturbed = &asked.undisturbed;
    let from_outside = match conclusion.outcome {
        Outcome::Cancelled => true,
        Outcome::Poisoned => job.state.crashes_since_checkpoint >= asked.spec.max_crashes,
        Outcome::Limit { reached } if reached.limit == Limit::Deadline => {
            asked.terms.finish_by_ns != 0
        }
        // A job that goes on from a checkpoint has to ask for it.
        Outcome::NotRunnable => asked.spec.origin.is_some() && !asked.restores(),
        _ => false,
    };
    let expected = if from_outside {
        let len = usize::try_from(conclusion.stdout.len_bytes).unwrap_or(usize::MAX);
        let prefix = undisturbed.stdout.get(..len).unwrap_or_default();
        if Digest::of(prefix) != conclusion.stdout.digest {
            return Err(format!("{name}: what it printed is not what it would have"));
        }
        let artifacts = conclusion.artifacts.iter();
        hb_seal::seal_digest(
            job.job_hash,
            &conclusion.outcome.canonical(),
            conclusion.stdout.digest,
            conclusion.stderr.digest,
            &artifacts.map(|(name, artifact)| (name.clone(), artifact.blob.digest)).collect(),
            EXECUTION_SEMANTICS,
        )
    } else {
        if conclusion.outcome != undisturbed.outcome {
            let (found, wanted) = (conclusion.outcome, undisturbed.outcome);
            return Err(format!("{name} ended as {found:?}, undisturbed it is {wanted:?}"));
        }
        undisturbed.seal(job.job_hash)
    };
    if kept.seal == expected {
        return Ok(());
    }
    Err(format!("{name} has seal {}, undisturbed it is {expected}", kept.seal))
}

/// Checks that every job is over and that what it printed reads back as the undisturbed run's.
pub fn all_over(host: &Host, told: &Told) -> Result<(), Broken> {
    for job in all_jobs(host)? {
        let name = &job.job_id;
        if !job.is_over() {
            return Err(format!("{name} was never brought to its end: {:?}", job.state));
        }
        let asked = &told.asked[name];
        let mut stdout = Vec::new();
        host.copy_output(&job, ContentId::STDOUT, &mut stdout)
            .map_err(|error| format!("{name}: {}", chain(&error)))?;
        if !asked.undisturbed.stdout.starts_with(&stdout) {
            return Err(format!("{name}: what it printed reads back as something else"));
        }
    }
    Ok(())
}

/// Checks that every blob that the ledger refers to is there.
pub fn no_blob_is_missing(disk: &Arc<dyn Storage>, host: &Host) -> Result<(), Broken> {
    let store = Store::attach(Arc::clone(disk));
    let needed: Vec<Digest> = host.with_ledger(|ledger| ledger.referenced().collect());
    for digest in needed {
        if !store.contains(digest).map_err(|error| chain(&error))? {
            return Err(format!("blob {digest} is needed and gone"));
        }
    }
    Ok(())
}

/// Checks that the blobs on the disk are those that the ledger refers to, whole.
pub fn blobs(disk: &Arc<dyn Storage>, host: &Host) -> Result<(), Broken> {
    let store = Store::attach(Arc::clone(disk));
    let audit = store.verify_all().map_err(|error| chain(&error))?;
    if audit.damaged > 0 || !audit.foreign.is_empty() {
        return Err(format!("damaged {:?}, foreign {:?}", audit.findings, audit.foreign));
    }
    let listed: Result<BTreeSet<Digest>, _> = store.list().map(|entry| Ok(entry?.0)).collect();
    let there = listed.map_err(|error: hb_store::StoreError| chain(&error))?;
    let needed: BTreeSet<Digest> = host.with_ledger(|ledger| ledger.referenced().collect());
    if let Some(missing) = needed.difference(&there).next() {
        return Err(format!("blob {missing} is needed and gone"));
    }
    if let Some(extra) = there.difference(&needed).next() {
        return Err(format!("blob {extra} is there and nothing needs it"));
    }
    Ok(())
}
