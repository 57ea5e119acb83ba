//! What the clients of all hosts on one disk were told.
//!
//! Owns: the facts that must hold for ever, each written down at the moment at which a client learnt
//! it. The checker reads this and the opened ledger, and nothing else of a history.

use std::collections::{BTreeMap, BTreeSet};

use hb_types::{event::JobNumber, history::JobEvent, job::JobSpec, terms::Terms};

use crate::{
    executor::ToldSave,
    program::{Program, Undisturbed},
};

/// A job that a client asked for, under a name that it chose.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was asked for.
    pub spec: JobSpec,
    /// When and how.
    pub terms: Terms,
    /// The jobs behind it, each with the step up to which it counts.
    pub before: Vec<(JobSpec, u64)>,
    /// What must come of it.
    pub undisturbed: Undisturbed,
}

impl Asked {
    /// Whether its program asks for its checkpoint.
    pub fn restores(&self) -> bool {
        Program::of_arguments(&self.spec.arguments).is_some_and(|program| program.restores)
    }
}

/// A job that was accepted, and what was told of it since.
#[derive(Clone, Debug, Default)]
pub struct ToldJob {
    /// Its number.
    pub number: JobNumber,
    /// The highest number of a checkpoint that its guest was told to be durable.
    pub sequence: u64,
    /// The highest step of one.
    pub step: u64,
    /// The events that a client has seen, from the first on.
    pub events: Vec<JobEvent>,
    /// Whether it is on hold, as far as was answered.
    pub held: Option<bool>,
    /// Whether it was answered that it is cancelled.
    pub cancelled: bool,
    /// Bytes of standard output that were shown as durable.
    pub output_bytes: u64,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Jobs that were asked for, answered or not.
    pub asked: BTreeMap<String, Asked>,
    /// Jobs that were accepted.
    pub accepted: BTreeMap<String, ToldJob>,
    /// Jobs whose removal was asked for and not answered.
    pub going: BTreeSet<String>,
    /// Jobs that were said to be removed.
    pub gone: BTreeSet<String>,
    /// Whether it was answered that no job is started.
    pub starts_paused: Option<bool>,
}

impl Told {
    /// A client is told that a job is accepted; says what is wrong with that.
    pub fn accept(&mut self, name: &str, number: JobNumber) -> Result<(), String> {
        let job = self
            .accepted
            .entry(name.to_owned())
            .or_insert_with(|| ToldJob { number, ..ToldJob::default() });
        if job.number == number {
            return Ok(());
        }
        Err(format!("{name} was accepted as job {} and again as job {number}", job.number))
    }

    /// A guest is told that its checkpoint is durable.
    pub fn save(&mut self, save: &ToldSave) {
        let mut jobs = self.accepted.iter_mut();
        let Some((name, job)) = jobs.find(|(_, job)| job.number == save.job) else { return };
        let asked = &self.asked[name];
        // A job that goes on from another one's checkpoint may first run that other job, which is
        // told what concerns nobody else.
        let is_other = save.own_name.as_deref() != Some(name);
        if asked.spec.origin.is_some() && (is_other || !asked.restores()) {
            return;
        }
        if asked.restores() {
            job.sequence = job.sequence.max(save.sequence.unwrap_or(0));
        }
        job.step = job.step.max(save.step);
    }
}
