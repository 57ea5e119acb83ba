//! What must hold of every disk that a crash leaves.
//!
//! Owns the promises: nothing that was told is lost, what is there is a prefix of the undisturbed
//! history, blobs are exactly those that the ledger refers to, and every job can be run to the
//! end that it would have had.

use std::{collections::BTreeSet, sync::Arc};

use hb_disk::Storage;
use hb_host::Host;
use hb_store::Store;
use hb_types::{Digest, ledger::Job};

use crate::world::{self, Finished, Script, Told, ToldJob};

/// How far an image is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only what is there.
    Opened,
    /// Also what comes of it.
    RunToTheEnd,
}

/// Opens a host on what is left; says which promise is broken, or what has been told now: all
/// that a reader of the opened ledger sees, and what the runs to the end announced.
pub fn check(
    disk: &Arc<dyn Storage>,
    script: &Script,
    undisturbed: &[Finished],
    told: &Told,
    depth: Depth,
) -> Result<Told, String> {
    let host =
        world::open(disk, script).map_err(|error| format!("refused: {}", world::chain(&error)))?;
    told_is_there(&host, told)?;
    is_a_prefix(&host, script, undisturbed, told)?;
    blobs_are_those_needed(disk, &host)?;
    let mut told = visible(&host, told);
    if depth == Depth::RunToTheEnd {
        for (plan, expected) in script.plans.iter().zip(undisturbed) {
            let job_id = &plan.job_id;
            let found = world::run(&host, plan, &mut told).map_err(|error| {
                format!("{job_id} cannot be run to its end: {}", world::chain(&*error))
            })?;
            if found != *expected {
                return Err(format!("{job_id} ended as {found:?}, {expected:?} expected"));
            }
        }
        told_is_there(&host, &told)?;
        blobs_are_those_needed(disk, &host)?;
    }
    Ok(told)
}

/// Who opens a ledger and looks has been told what is there.
fn visible(host: &Host, told: &Told) -> Told {
    let submitted = told.submitted.clone();
    let accepted = host.with_ledger(|ledger| {
        let seen = |job: &Job| ToldJob {
            number: job.number,
            sequence: job.state.sequence,
            step: job.state.step,
            ended: job
                .conclusion
                .as_ref()
                .map(|conclusion| (conclusion.outcome, job.seal.as_ref().map(|kept| kept.seal))),
        };
        ledger.jobs.values().map(|job| (job.job_id.clone(), seen(job))).collect()
    });
    Told { accepted, submitted }
}

pub fn told_is_there(host: &Host, told: &Told) -> Result<(), String> {
    for (job_id, told) in &told.accepted {
        let job = host
            .with_ledger(|ledger| ledger.by_id(job_id).map(|found| found.number()))
            .and_then(|number| host.load(number).unwrap());
        let Some(job) = job else { return Err(format!("{job_id} was accepted and is gone")) };
        if job.number != told.number {
            return Err(format!("{job_id} was accepted as {}, is {}", told.number, job.number));
        }
        if job.state.sequence < told.sequence || job.state.step < told.step {
            return Err(format!("{job_id}: {told:?} was told, {:?} is there", job.state));
        }
        if let Some((outcome, seal)) = told.ended {
            let found = job.conclusion.as_ref().map(|conclusion| conclusion.outcome);
            let found = found.map(|found| (found, job.seal.as_ref().map(|kept| kept.seal)));
            if found != Some((outcome, seal)) {
                return Err(format!("{job_id}: {:?} was told, {found:?} is there", told.ended));
            }
        }
    }
    Ok(())
}

fn is_a_prefix(
    host: &Host,
    script: &Script,
    undisturbed: &[Finished],
    told: &Told,
) -> Result<(), String> {
    host.with_ledger(|ledger| {
        let last = ledger.jobs.len();
        for (at, job) in ledger.jobs.values().enumerate() {
            let plan = script.plans.get(at).filter(|plan| plan.job_id == job.job_id);
            if plan.is_none() || !told.submitted.contains(&job.job_id) {
                return Err(format!("job {:?} was not submitted as number {at}", job.job_id));
            }
            let expected = &undisturbed[at];
            if !expected.checkpoints.starts_with(&world::marks(job)) {
                return Err(format!("{}: other checkpoints: {:?}", job.job_id, job.checkpoints));
            }
            if job.state.token.is_some() {
                return Err(format!("{}: a dead attempt still holds it", job.job_id));
            }
            match &job.conclusion {
                Some(conclusion) => {
                    let seal = job.seal.as_ref().map(|kept| kept.seal);
                    if (conclusion.outcome, seal) != (expected.outcome, expected.seal) {
                        return Err(format!("{}: {conclusion:?}, {seal:?}", job.job_id));
                    }
                }
                None if at + 1 < last => {
                    return Err(format!("{} has no outcome, the job after it exists", job.job_id));
                }
                None => {}
            }
        }
        Ok(())
    })
}

/// The blobs on the disk are those that the ledger refers to, whole.
pub fn blobs_are_those_needed(disk: &Arc<dyn Storage>, host: &Host) -> Result<(), String> {
    let store = Store::attach(Arc::clone(disk));
    let audit = store.verify_all().map_err(|error| world::chain(&error))?;
    if audit.damaged > 0 || !audit.foreign.is_empty() {
        return Err(format!("damaged {:?}, foreign {:?}", audit.findings, audit.foreign));
    }
    let listed: Result<BTreeSet<Digest>, _> = store.list().map(|entry| Ok(entry?.0)).collect();
    let there = listed.map_err(|error: hb_store::StoreError| world::chain(&error))?;
    let needed: BTreeSet<Digest> = host.with_ledger(|ledger| ledger.referenced().collect());
    if let Some(missing) = needed.difference(&there).next() {
        return Err(format!("blob {missing} is needed and gone"));
    }
    if let Some(extra) = there.difference(&needed).next() {
        return Err(format!("blob {extra} is there and nothing needs it"));
    }
    let temporary = disk.list("blob/tmp").map_err(|error| error.to_string())?;
    if temporary.is_empty() { Ok(()) } else { Err(format!("left over: {temporary:?}")) }
}
