//! What a program asks of its host: checkpoints and progress.
//!
//! Owns: the rules, which are those of `wit/job.wit`, and what the program said of itself. Knows
//! nothing of sockets and of how checkpoints are kept.
//!
//! Invariants: steps never fall; `restore` comes before any `save`; a request that comes again after
//! a lost connection does nothing twice.

use std::collections::BTreeMap;

use hb_session::{METRIC_NAME_BYTES, NOTE_BYTES, SAID_MAX};
use hb_types::{
    capture::Progress,
    limits::{Limit, Limits},
    text::printable,
};

use crate::end::End;

/// What is to be done about `save`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A new checkpoint.
    New,
    /// It is there already, under this number.
    There(u64),
}

/// What a program has said and asked.
#[derive(Debug, Default)]
pub(crate) struct Job {
    /// Whether it goes on from a checkpoint: it was given one, or made one.
    pub bound: bool,
    /// The number of its newest checkpoint.
    pub sequence: u64,
    /// The step of its newest checkpoint.
    saved_step: Option<u64>,
    last_step: Option<u64>,
    /// The step that was given back and not yet asked about.
    settle: Option<u64>,
    said: Progress,
    /// Marker lines of standard output since the newest checkpoint.
    markers: Vec<String>,
    dropped: u64,
}

impl Job {
    /// Goes on from a checkpoint.
    pub(crate) fn go_on(&mut self, sequence: u64, step: u64, progress: Progress) {
        self.bound = true;
        self.sequence = sequence;
        self.saved_step = Some(step);
        self.last_step = Some(step);
        self.settle = Some(step);
        // The remarks of the checkpoint are in the job's trace already.
        self.said = Progress { notes: Vec::new(), ..progress };
        self.markers.clear();
    }

    /// The last step that it named.
    pub(crate) fn step(&self) -> u64 {
        self.last_step.unwrap_or(0)
    }

    /// Everything that it said of itself.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = self.said.clone();
        progress.notes.extend(self.markers.iter().cloned());
        if self.dropped > 0 {
            progress.notes.push(format!(
                "{} further remarks, markers or metrics were dropped: at most {SAID_MAX} are kept",
                self.dropped
            ));
        }
        progress
    }

    fn advance(&mut self, step: u64) -> Result<(), End> {
        if let Some(last) = self.last_step.filter(|last| step < *last) {
            return Err(End::Contract(format!(
                "its step falls from {last} to {step}: steps must never fall"
            )));
        }
        self.last_step = Some(step);
        Ok(())
    }

    /// Whether the host has to be asked if a checkpoint is due.
    pub(crate) fn asks_due(&mut self, step: u64) -> Result<bool, End> {
        self.advance(step)?;
        // This step has its checkpoint: it is the one that was just given back.
        Ok(self.settle.take() != Some(step))
    }

    /// What is to be done about a `save` that will have the number `sequence`.
    pub(crate) fn wants_save(
        &mut self,
        step: u64,
        sequence: u64,
        limits: &Limits,
    ) -> Result<Wanted, End> {
        if self.bound && sequence == self.sequence && self.saved_step == Some(step) {
            return Ok(Wanted::There(sequence));
        }
        self.advance(step)?;
        if sequence != self.sequence + 1 {
            return Err(End::Contract(format!(
                "it saves checkpoint {sequence} where {} is next: one connection at a time saves",
                self.sequence + 1
            )));
        }
        if sequence > limits.checkpoints {
            return Err(End::limit(limits, Limit::Checkpoints, sequence));
        }
        self.settle = None;
        Ok(Wanted::New)
    }

    /// A checkpoint is durable.
    pub(crate) fn saved(&mut self, sequence: u64, step: u64) {
        self.bound = true;
        self.sequence = sequence;
        self.saved_step = Some(step);
        self.said.notes.clear();
        self.markers.clear();
        self.dropped = 0;
    }

    pub(crate) fn report(&mut self, done: u64, total: Option<u64>) {
        self.said.done = done;
        self.said.total = total;
    }

    pub(crate) fn metric(&mut self, name: &str, value: f64) {
        let name = printable(name, METRIC_NAME_BYTES);
        if self.said.metrics.len() >= SAID_MAX && !self.said.metrics.contains_key(&name) {
            self.dropped += 1;
            return;
        }
        self.said.metrics.insert(name, value);
    }

    pub(crate) fn note(&mut self, text: &str) {
        if self.said.notes.len() >= SAID_MAX {
            self.dropped += 1;
            return;
        }
        self.said.notes.push(printable(text, NOTE_BYTES));
    }

    /// A marker line was printed.
    pub(crate) fn marker(&mut self, line: String) {
        if self.markers.len() >= SAID_MAX {
            self.dropped += 1;
            return;
        }
        self.markers.push(line);
    }

    /// Everything anew, from a program that lost its connection.
    pub(crate) fn say_again(
        &mut self,
        done: u64,
        total: Option<u64>,
        metrics: &BTreeMap<String, f64>,
        notes: &[String],
    ) {
        self.report(done, total);
        for (name, value) in metrics {
            self.metric(name, *value);
        }
        self.said.notes.clear();
        for text in notes {
            self.note(text);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_save_that_comes_again_is_answered_and_not_made_twice() {
        let limits = Limits::default();
        let mut job = Job::default();
        assert_eq!(job.wants_save(5, 1, &limits).unwrap(), Wanted::New);
        job.saved(1, 5);
        assert_eq!(job.wants_save(5, 1, &limits).unwrap(), Wanted::There(1));
        assert_eq!(job.wants_save(5, 2, &limits).unwrap(), Wanted::New);
        assert!(matches!(job.wants_save(6, 9, &limits), Err(End::Contract(_))));
    }

    #[test]
    fn a_program_that_was_never_bound_saves_anew_what_another_attempt_had_saved() {
        let mut job = Job::default();
        assert_eq!(job.wants_save(5, 1, &Limits::default()).unwrap(), Wanted::New);
    }

    #[test]
    fn the_restored_step_is_not_due_once_more() {
        let mut job = Job::default();
        job.go_on(3, 30, Progress::default());
        assert!(!job.asks_due(30).unwrap());
        assert!(job.asks_due(30).unwrap());
        assert!(matches!(job.asks_due(29), Err(End::Contract(_))));
    }

    #[test]
    fn what_was_said_since_the_checkpoint_is_replaced_when_it_is_said_again() {
        let mut job = Job::default();
        job.note("a");
        job.say_again(7, Some(9), &[("x".to_owned(), 1.0)].into(), &["a".into(), "b".into()]);
        let progress = job.progress();
        assert_eq!((progress.done, progress.total), (7, Some(9)));
        assert_eq!(progress.notes, ["a", "b"]);
    }
}
