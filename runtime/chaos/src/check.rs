//! The checker: what was told against what there is.
//!
//! Owns the promises, each as one rule. Pure: it reads what clients were told, what the host says in
//! the end, and what an undisturbed run came to, and nothing else.

use std::collections::BTreeMap;

use hb_api::event::EventBody;
use serde::Serialize;

use crate::told::{Final, Finals, JobTold};

/// What an undisturbed run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// What ran.
    pub name: String,
    /// How it ended.
    pub ended: Final,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which: `lost`, `doubled`, `backwards`, `changed`, `unfinished`, `stream`, `unhealthy`,
    /// `refused`.
    pub promise: &'static str,
    /// The job, if it is about one.
    pub job_id: Option<String>,
    /// What was found.
    pub found: String,
}

impl Violation {
    pub(crate) fn new(promise: &'static str, job_id: &str, found: impl Into<String>) -> Self {
        Self { promise, job_id: Some(job_id.to_owned()), found: found.into() }
    }

    pub(crate) fn of_host(promise: &'static str, found: impl Into<String>) -> Self {
        Self { promise, job_id: None, found: found.into() }
    }
}

/// Checks everything.
pub fn check(told: &[JobTold], finals: &Finals, references: &[Reference]) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut tellers: BTreeMap<&str, u32> = BTreeMap::new();
    for job in told {
        *tellers.entry(&job.job_id).or_default() += 1;
        match (&job.trouble, finals.get(&job.job_id)) {
            (Some(why), _) => broken.push(Violation::new("refused", &job.job_id, why)),
            (None, None) => {
                let why = "the host acknowledged it and does not know it any more";
                broken.push(Violation::new("lost", &job.job_id, why));
            }
            (None, Some(there)) => check_job(job, there, &references[job.subject], &mut broken),
        }
    }
    for job_id in finals.keys().filter(|job_id| !tellers.contains_key(job_id.as_str())) {
        let why = "the host has a job that no client submitted";
        broken.push(Violation::new("doubled", job_id, why));
    }
    let mut numbers = BTreeMap::new();
    for (job_id, there) in finals {
        for event in &there.history {
            if let Some(other) = numbers.insert(event.id, job_id) {
                let why = format!("position {} of the log belongs to {other} too", event.id);
                broken.push(Violation::new("doubled", job_id, why));
            }
        }
    }
    broken
}

fn check_job(job: &JobTold, there: &Final, reference: &Reference, broken: &mut Vec<Violation>) {
    let mut wrong =
        |promise, found: String| broken.push(Violation::new(promise, &job.job_id, found));
    if job.job_hash != there.job_hash {
        wrong("changed", format!("its hash was {} and is {}", job.job_hash, there.job_hash));
    }
    for (what, count) in counted(there) {
        if count != 1 {
            wrong("doubled", format!("it was {what} {count} times"));
        }
    }
    if there.seal.is_empty() {
        wrong("unfinished", format!("it is {} and was not sealed", there.state));
        return;
    }
    let expected = &reference.ended;
    if there.seal != expected.seal {
        wrong("changed", format!("its seal is {}, undisturbed {}", there.seal, expected.seal));
    }
    if (&there.outcome, there.exit_code) != (&expected.outcome, expected.exit_code) {
        wrong(
            "changed",
            format!("it ended with {}, undisturbed {}", there.outcome, expected.outcome),
        );
    }
    for (what, is, was) in [
        ("standard output", &there.stdout, &expected.stdout),
        ("standard error", &there.stderr, &expected.stderr),
    ] {
        if is != was {
            wrong("changed", format!("its {what} is not that of the undisturbed run"));
        }
    }
    check_forward(there, &mut wrong);
    check_stream(job, there, &mut wrong);
}

/// What must happen to a job once.
fn counted(there: &Final) -> [(&'static str, usize); 3] {
    let count = |is: fn(&EventBody) -> bool| there.history.iter().filter(|e| is(&e.what)).count();
    [
        ("received", count(|what| matches!(what, EventBody::Received))),
        ("ended", count(|what| matches!(what, EventBody::Ended { .. }))),
        ("sealed", count(|what| matches!(what, EventBody::Sealed { .. }))),
    ]
}

/// State goes only forward: each checkpoint is the next one, and each attempt starts from the newest.
fn check_forward(there: &Final, wrong: &mut impl FnMut(&'static str, String)) {
    let (mut position, mut newest, mut newest_step) = (0, 0, 0);
    for event in &there.history {
        if event.id <= position {
            wrong("backwards", format!("event {} comes after {position}", event.id));
        }
        position = event.id;
        match &event.what {
            EventBody::Checkpoint { sequence, step, .. } => {
                if *sequence != newest + 1 || *step < newest_step {
                    let is = format!("checkpoint {sequence} at step {step}");
                    wrong("backwards", format!("{is} after {newest} at step {newest_step}"));
                }
                (newest, newest_step) = (*sequence, *step);
            }
            EventBody::Started { attempt, from_sequence, .. } if *from_sequence != newest => {
                let from = format!("attempt {attempt} went on from checkpoint {from_sequence}");
                wrong("backwards", format!("{from}, and {newest} was durable"));
            }
            _ => {}
        }
    }
}

/// Whoever watched saw each event once, in order, and as it is; and what was printed likewise.
fn check_stream(job: &JobTold, there: &Final, wrong: &mut impl FnMut(&'static str, String)) {
    for pair in job.events.windows(2) {
        if pair[0].id >= pair[1].id {
            wrong("stream", format!("event {} came after {}", pair[1].id, pair[0].id));
        }
    }
    for event in &job.events {
        match there.history.iter().find(|there| there.id == event.id) {
            None => {
                let what = event.what.name();
                wrong("lost", format!("event {} ({what}) was told and is gone", event.id));
            }
            Some(is) if is != event => {
                wrong("changed", format!("event {} is not what was told", event.id));
            }
            Some(_) => {}
        }
    }
    if !job.over {
        return;
    }
    if job.events.len() != there.history.len() {
        let (seen, all) = (job.events.len(), there.history.len());
        wrong("stream", format!("{seen} of {all} events came"));
    }
    for (what, told, blob) in [
        ("standard output", &job.stdout, &there.stdout),
        ("standard error", &job.stderr, &there.stderr),
    ] {
        if !blob.as_ref().is_some_and(|blob| told.is(blob)) {
            wrong("stream", format!("the {what} that was streamed is not what there is"));
        }
    }
}

#[cfg(test)]
mod tests;
