//! Which jobs are removed, and their removal.
//!
//! Owns: the policy, the plan that it makes of the jobs that are over, and the records that remove
//! them. Blobs that only they needed go the way of all blobs that nothing needs (`decide.rs`). Knows
//! nothing of when a policy is applied.
//!
//! Invariants: a job that is not over is never removed; a plan changes nothing, and names what is to
//! be removed in the order in which it ended, oldest first.

use std::{collections::BTreeSet, io};

use hb_types::{
    Digest,
    event::{Event, Forgetting, Forgotten, JobNumber},
    ledger::{Found, Job, Ledger},
};
use serde::{Deserialize, Serialize};

use crate::{
    Host,
    error::DecideError,
    execute::chain_of,
    journal::{Subject, Urgency},
};

/// The most jobs that one plan names.
pub const PLAN_MAX: usize = 10_000;

/// Jobs that are looked at under one lock of the ledger.
const SCAN_BATCH: usize = 10_000;
/// Jobs that one record removes.
const FORGET_BATCH: usize = 128;
/// Uses of blobs after which a record takes no more jobs.
const FORGET_USES: usize = 1024;
/// How often a record is tried anew because jobs of it were removed by someone else.
const TRIES: u32 = 4;

/// What jobs that are over are kept for. What is absent bounds nothing. Jobs that are never removed
/// count too: the bounds are about what the ledger and the disk hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// A job is removed this many milliseconds after its end.
    pub max_age_ms: Option<u64>,
    /// At most this many jobs that are over are kept.
    pub max_jobs: Option<u64>,
    /// What jobs that are over printed and left is kept up to this many bytes in all.
    pub max_bytes: Option<u64>,
}

/// What a job is removed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PruneReason {
    /// It ended long enough ago.
    Age,
    /// There are too many jobs.
    Count,
    /// They hold too many bytes.
    Bytes,
}

/// A job that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prunable {
    /// Its number.
    pub job: JobNumber,
    /// Its name.
    pub job_id: String,
    /// What for.
    pub why: PruneReason,
    /// When it ended, in nanoseconds since the Unix epoch.
    pub ended_ns: u64,
    /// What it printed and left, in bytes. Components and inputs are shared between jobs and not
    /// counted.
    pub bytes: u64,
}

/// What a policy would remove now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PrunePlan {
    /// Which jobs, the one that ended first coming first; at most [`PLAN_MAX`].
    pub jobs: Vec<Prunable>,
    /// Whether the policy would remove further jobs, which the next plan names.
    pub more: bool,
    /// The sum of their bytes.
    pub bytes: u64,
    /// How many jobs are over, these included.
    pub jobs_over: u64,
    /// What those printed and left, in bytes.
    pub bytes_over: u64,
    /// Jobs that the policy would remove, were they not labelled `keep=true` or what a job that is
    /// not over goes on from or repeats.
    pub spared: u64,
    /// Jobs that the policy would remove and whose record cannot be read.
    pub unreadable: u64,
}

/// Why a job was not removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftReason {
    /// There is none of that number.
    Unknown,
    /// It still has something to do.
    NotOver,
    /// Its record cannot be read.
    Unreadable,
}

/// What came of a removal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ForgetReport {
    /// Jobs that were removed; durable.
    pub forgotten: Vec<JobNumber>,
    /// Jobs that were not, and why.
    pub left: Vec<(JobNumber, LeftReason)>,
}

/// A job that is over, as far as a policy is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Over {
    ended_ns: u64,
    job: JobNumber,
    bytes: u64,
    is_spared: bool,
}

/// What jobs that are not over, and schedules, name.
#[derive(Default)]
struct Needed {
    jobs: BTreeSet<JobNumber>,
    hashes: BTreeSet<Digest>,
}

impl Host {
    /// What a policy would remove at a moment, in nanoseconds since the Unix epoch. Changes nothing.
    pub fn prune_plan(&self, policy: &RetentionPolicy, now_ns: u64) -> PrunePlan {
        let over = self.jobs_over();
        let mut plan = PrunePlan {
            jobs_over: over.len() as u64,
            bytes_over: over.iter().map(|job| job.bytes).sum(),
            ..PrunePlan::default()
        };
        let (mut jobs_left, mut bytes_left) = (plan.jobs_over, plan.bytes_over);
        for job in over {
            let Some(why) = policy.verdict(&job, now_ns, jobs_left, bytes_left) else { break };
            if job.is_spared {
                plan.spared += 1;
                continue;
            }
            if plan.jobs.len() == PLAN_MAX {
                plan.more = true;
                break;
            }
            let Some(job_id) = self.name_of(job.job) else {
                plan.unreadable += 1;
                continue;
            };
            let Over { job, ended_ns, bytes, .. } = job;
            plan.jobs.push(Prunable { job, job_id, why, ended_ns, bytes });
            plan.bytes += bytes;
            jobs_left -= 1;
            bytes_left -= bytes;
        }
        plan
    }

    /// Removes jobs that are over, for good: their ids are free then, and what only they needed is
    /// removed from the disk. Durable when this returns. An error leaves some of them there; asking
    /// once more is harmless.
    pub fn forget(&self, jobs: &[JobNumber]) -> Result<ForgetReport, DecideError> {
        let mut report = ForgetReport::default();
        let mut waiting = jobs.iter().copied().collect::<BTreeSet<_>>().into_iter().peekable();
        while waiting.peek().is_some() {
            let mut batch = Vec::new();
            let mut uses = 0;
            while batch.len() < FORGET_BATCH && uses < FORGET_USES {
                let Some(number) = waiting.next() else { break };
                match self.to_forget(number) {
                    Ok(job) => {
                        uses += job.uses().len();
                        batch.push(job);
                    }
                    Err(why) => report.left.push((number, why)),
                }
            }
            self.forget_batch(batch, &mut report)?;
        }
        if report.left.iter().any(|(_, why)| *why == LeftReason::Unknown) {
            // Another thread may have removed it, and that may be on its way to the disk.
            self.await_durable(self.with_ledger(|ledger| ledger.applied))?;
        }
        Ok(report)
    }

    /// Removes the compiled code that was not used for longest, until the rest is no longer than
    /// `max_bytes`; returns the bytes that were removed. It is made again where it is needed.
    pub fn shrink_code_cache(&self, max_bytes: u64) -> io::Result<u64> {
        self.executor().shrink_cache(max_bytes)
    }

    /// A job that may be removed.
    fn to_forget(&self, number: JobNumber) -> Result<Job, LeftReason> {
        match self.load(number) {
            Ok(Some(job)) if job.is_over() => Ok(job),
            Ok(Some(_)) => Err(LeftReason::NotOver),
            Ok(None) => Err(LeftReason::Unknown),
            Err(error) => {
                let error = chain_of(&error);
                tracing::warn!(job = number, error, "a job cannot be removed");
                Err(LeftReason::Unreadable)
            }
        }
    }

    fn forget_batch(
        &self,
        mut batch: Vec<Job>,
        report: &mut ForgetReport,
    ) -> Result<(), DecideError> {
        for left in (0..TRIES).rev() {
            if batch.is_empty() {
                return Ok(());
            }
            let jobs = batch.iter().map(|job| Forgetting { job: job.number, releases: job.uses() });
            let record: Event = Forgotten { jobs: jobs.collect(), at_ns: self.now_ns() }.into();
            match self.decide_whole(record, Urgency::Closing) {
                Ok(decided) => {
                    let subjects = batch.iter().flat_map(|job| {
                        [Subject::Job(job.number), Subject::Id(job.job_id.clone())]
                    });
                    self.journal.release(subjects);
                    self.settle(decided)?;
                    report.forgotten.extend(batch.iter().map(|job| job.number));
                    return Ok(());
                }
                // Somebody else removed one of them meanwhile.
                Err(DecideError::Apply(_)) if left > 0 => batch.retain(|job| {
                    let is_there = self.with_ledger(|l| l.by_number(job.number).is_some());
                    if !is_there {
                        report.left.push((job.number, LeftReason::Unknown));
                    }
                    is_there
                }),
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last try returns")
    }

    /// The jobs that are over, the one that ended first coming first.
    fn jobs_over(&self) -> Vec<Over> {
        let needed = self.with_ledger(Needed::of);
        let mut over = Vec::new();
        // First those in memory: one that is archived meanwhile is then seen twice rather than never.
        in_batches(|from| {
            self.with_ledger(|ledger| {
                let jobs = ledger.jobs.range(from..).take(SCAN_BATCH);
                jobs.map(|(number, job)| {
                    let conclusion = job.conclusion.as_ref().filter(|_| job.is_over());
                    over.extend(conclusion.map(|conclusion| Over {
                        ended_ns: conclusion.at_ns,
                        job: *number,
                        bytes: job.kept_bytes(),
                        is_spared: job.spec.is_kept() || needed.names(*number, job.job_hash),
                    }));
                    *number
                })
                .last()
            })
        });
        in_batches(|from| {
            self.with_ledger(|ledger| {
                let jobs = ledger.archive.jobs().range(from..).take(SCAN_BATCH);
                jobs.map(|(number, job)| {
                    over.push(Over {
                        ended_ns: job.ended_ns,
                        job: *number,
                        bytes: job.kept_bytes,
                        is_spared: job.is_kept || needed.names(*number, job.job_hash),
                    });
                    *number
                })
                .last()
            })
        });
        over.sort_unstable();
        over.dedup_by_key(|job| job.job);
        over
    }

    fn name_of(&self, number: JobNumber) -> Option<String> {
        let here = self.with_ledger(|ledger| match ledger.by_number(number) {
            Some(Found::Here(job)) => Some(job.job_id.clone()),
            Some(Found::Archived(..)) | None => None,
        });
        here.or_else(|| self.to_forget(number).ok().map(|job| job.job_id))
    }
}

/// Calls with the number from which to go on, until nothing was found there.
fn in_batches(mut look: impl FnMut(JobNumber) -> Option<JobNumber>) {
    let mut from = 0;
    while let Some(last) = look(from) {
        from = last + 1;
    }
}

impl RetentionPolicy {
    /// Whether it removes the job that ended first of those that are left, and what for.
    fn verdict(
        &self,
        job: &Over,
        now_ns: u64,
        jobs_left: u64,
        bytes_left: u64,
    ) -> Option<PruneReason> {
        let age_ms = now_ns.saturating_sub(job.ended_ns) / 1_000_000;
        if self.max_age_ms.is_some_and(|max| age_ms > max) {
            return Some(PruneReason::Age);
        }
        if self.max_jobs.is_some_and(|max| jobs_left > max) {
            return Some(PruneReason::Count);
        }
        self.max_bytes.is_some_and(|max| bytes_left > max).then_some(PruneReason::Bytes)
    }
}

impl Needed {
    fn of(ledger: &Ledger) -> Self {
        let mut needed = Self::default();
        let jobs = ledger.jobs.values().filter(|job| job.is_unfinished());
        let jobs = jobs.map(|job| (&job.spec, &job.terms));
        let schedules = ledger.schedules.values().map(|one| (&one.spec, &one.terms));
        for (spec, terms) in jobs.chain(schedules) {
            needed.jobs.extend(terms.successor_of);
            needed.hashes.extend(spec.origin.as_ref().map(|origin| origin.job_hash));
        }
        needed
    }

    fn names(&self, job: JobNumber, job_hash: Digest) -> bool {
        self.jobs.contains(&job) || self.hashes.contains(&job_hash)
    }
}
