//! Proof by repetition: run a job again and compare.
//!
//! Owns: the two ways of repeating, and the words for where two runs part.
//!
//! - *whole*: from the beginning to the end, comparing every recorded checkpoint on the way.
//! - *by checkpoints*: the same, but at every checkpoint the run is ended and a new one is started
//!   from it. What it proves: a crash at any checkpoint leaves no trace in what follows.
//!
//! A job that goes on from another one's checkpoint is repeated from that checkpoint, which is made
//! again first.
//!
//! Nothing is written to the ledger; what a repetition holds lies in a store of its own that is
//! removed afterwards.

use std::{collections::BTreeMap, fmt::Display, io, sync::Arc};

use hb_disk::RealDisk;
use hb_sandbox::{
    Control, Ended, Ending, HostFault, Input, Launch, PrepareError, Prepared, Sandbox, Saved,
    Session, Stream,
};
use hb_store::{Store, StoreError};
use hb_types::{
    Digest,
    capture::{Capture, Counters, Progress, Restored},
    content::Holdings,
    job::{InvalidSpec, JobSpec},
    limits::Limits,
    outcome::{Explanation, Outcome},
};

use crate::{
    attempt::restored,
    conclusion::Leavings,
    delta,
    error::RunError,
    materialise::{Materialised, Materialiser},
    origin::{self, OriginError, Source},
    spool::Spooled,
    view::blob_file,
};

/// One recorded checkpoint.
pub use hb_seal::CheckpointMark;

/// What a repetition is compared with.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The seal.
    pub seal: Digest,
    /// The outcome.
    pub outcome: Outcome,
    /// Digest of standard output.
    pub stdout: Digest,
    /// Digest of standard error.
    pub stderr: Digest,
    /// Digests of the artifacts.
    pub artifacts: BTreeMap<String, Digest>,
    /// The recorded checkpoints, in order.
    pub checkpoints: Vec<CheckpointMark>,
    /// Whether these are all that there were.
    pub checkpoints_complete: bool,
    /// Whether the seal claims that a repetition must come out the same.
    pub reproducible: bool,
}

/// One place where two runs part.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// What differs: `checkpoint 3`, `stdout`, `artifact a/b`, …
    pub what: String,
    /// What was recorded.
    pub expected: String,
    /// What the repetition gave.
    pub found: String,
}

/// What a repetition came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Where the runs part, in the order in which it was found; empty when they are the same.
    pub differences: Vec<Difference>,
    /// The seal of the repetition.
    pub seal: Digest,
    /// Its outcome.
    pub outcome: Outcome,
    /// What helps to understand it.
    pub explanation: Explanation,
    /// Checkpoints that were compared.
    pub checkpoints_compared: u64,
    /// How often the repetition was ended and started from a checkpoint.
    pub restarts: u64,
}

impl Verdict {
    /// Whether everything was the same.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }
}

/// A repetition that came to no verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A part of what went in is not here.
    #[error(
        "{what} ({digest}) is not in this data directory: run the job here with the same file first"
    )]
    Missing {
        /// Which part.
        what: String,
        /// Its digest.
        digest: Digest,
    },
    /// The specification does not have the recorded hash: another version of the semantics.
    #[error(
        "the recorded job hash is {recorded}, this version of hb computes {computed}: it runs jobs by other rules, use the version that sealed it"
    )]
    Semantics {
        /// The recorded hash.
        recorded: Digest,
        /// What this version computes.
        computed: Digest,
    },
    /// The specification asks for more than a host allows, or names what no host would.
    #[error("the statement's manifest cannot be run here")]
    Invalid(#[from] InvalidSpec),
    /// The job that it goes on from.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The outcome depends on more than the job.
    #[error(
        "the outcome ({outcome}) depends on the machine, its user or the job's history, not only on the job: no repetition can prove it"
    )]
    NotReproducible {
        /// The outcome.
        outcome: String,
    },
    /// The job cannot be started from its checkpoints.
    #[error(
        "the job saves checkpoints but never asks for them (`restore`): leave out --checkpoints to verify it as a whole"
    )]
    NeverRestores,
    /// Someone asked it to stop.
    #[error("the verification was interrupted")]
    Interrupted,
    /// The component.
    #[error(transparent)]
    NotRunnable(#[from] PrepareError),
    /// Blobs.
    #[error("what the job needs cannot be read")]
    Store(#[from] StoreError),
    /// The host.
    #[error("the repetition could not be made")]
    Fault(#[from] HostFault),
    /// Anything else.
    #[error("the repetition could not be started")]
    Run(#[from] RunError),
    /// A place for what the repetition holds.
    #[error("cannot make a directory for temporary files: free some space or set TMPDIR")]
    Scratch(#[from] io::Error),
}

/// Repeats jobs whose blobs are in one store.
pub struct Verifier<'a> {
    /// Where component and inputs are.
    pub store: &'a Store,
    /// What runs them.
    pub sandbox: &'a Sandbox,
}

impl Verifier<'_> {
    /// Runs the job again and compares; `by_checkpoints` restarts it at every checkpoint.
    pub fn verify(
        &self,
        spec: &JobSpec,
        job_hash: Digest,
        expected: &Expected,
        by_checkpoints: bool,
        control: &Control,
    ) -> Result<Verdict, VerifyError> {
        if spec.hash() != job_hash {
            return Err(VerifyError::Semantics { recorded: job_hash, computed: spec.hash() });
        }
        spec.check(&Limits::ceilings())?;
        if !expected.reproducible {
            return Err(VerifyError::NotReproducible { outcome: expected.outcome.canonical() });
        }
        self.check_presence(spec)?;
        let sources = origin::sources(self.store, spec, &Limits::ceilings())?;
        let component = self.store.get(spec.component.digest)?;
        let prepared = self.sandbox.prepare(&component, spec.component.digest, &spec.limits)?;
        let directory = tempfile::tempdir()?;
        let store = Store::open(Arc::new(RealDisk::open(directory.path())?))?;
        let mut repetition = Repetition::new(&store, expected, job_hash, by_checkpoints);
        let mut restarts = 0;
        if !sources.is_empty() {
            self.begin(&sources, spec, &mut repetition, control)?;
        }
        while repetition.end.is_none() {
            match self.run(&prepared, spec, &mut repetition, control)? {
                Ended::Stopped if repetition.never_restores => break,
                Ended::Stopped => restarts += 1,
                Ended::Finished(_) => break,
            }
        }
        if repetition.never_restores {
            return Err(VerifyError::NeverRestores);
        }
        repetition.verdict(restarts)
    }

    fn check_presence(&self, spec: &JobSpec) -> Result<(), VerifyError> {
        let inputs = spec.inputs.iter().map(|(name, blob)| (format!("input {name:?}"), *blob));
        let stdin = spec.stdin.map(|blob| ("standard input".to_owned(), blob));
        let component = ("the component".to_owned(), spec.component);
        let origin =
            spec.origin.iter().flat_map(|origin| origin.needs.iter().chain([&origin.spec]));
        let origin = origin.map(|blob| ("a part of the job to go on from".to_owned(), *blob));
        for (what, blob) in std::iter::once(component).chain(inputs).chain(stdin).chain(origin) {
            if !self.store.contains(blob.digest)? {
                return Err(VerifyError::Missing { what, digest: blob.digest });
            }
        }
        Ok(())
    }

    /// Makes the checkpoint that the job begins at; where it cannot be made, the repetition is over.
    fn begin(
        &self,
        sources: &[Source],
        spec: &JobSpec,
        repetition: &mut Repetition<'_>,
        control: &Control,
    ) -> Result<(), VerifyError> {
        let materialiser = Materialiser {
            store: self.store,
            executor: self.sandbox,
            control,
            limits: &spec.limits,
            scratch: &tempfile::tempfile,
        };
        match materialiser.materialise(sources, &mut |_| ())? {
            Materialised::Made(held) => repetition.begin_at(&held)?,
            Materialised::NotMade(why) => {
                let what = format!("checkpoint to go on from, at step {}", why.step);
                repetition.differ(what, &why.checkpoint, &why.found);
                repetition.end_as_not_runnable(why.to_string());
            }
            Materialised::Ended(_) | Materialised::Stopped => return Err(VerifyError::Interrupted),
        }
        Ok(())
    }

    fn run(
        &self,
        prepared: &Prepared,
        spec: &JobSpec,
        repetition: &mut Repetition<'_>,
        control: &Control,
    ) -> Result<Ended, VerifyError> {
        let mut inputs = Vec::new();
        for (name, blob) in &spec.inputs {
            let file = blob_file(self.store, *blob)?;
            inputs.push(Input { name: name.clone(), file, len_bytes: blob.len_bytes });
        }
        let stdin = spec.stdin.map(|blob| blob_file(self.store, blob)).transpose()?;
        let launch = Launch {
            arguments: spec.arguments.clone(),
            environment: spec.environment.clone(),
            stdin,
            inputs,
            limits: spec.limits.clone(),
            seed: spec.seed_bytes(),
            start_ns: spec.start_ns,
            scratch: tempfile::tempfile()?,
        };
        repetition.begin();
        Ok(self.sandbox.run(prepared, launch, repetition, control)?)
    }
}

/// A checkpoint that the repetition made.
struct Point {
    sequence: u64,
    step: u64,
    counters: Counters,
    progress: Progress,
}

/// What a repetition knows while it runs; over several runs when it goes by checkpoints.
#[expect(clippy::struct_excessive_bools, reason = "each says something else of the run")]
struct Repetition<'a> {
    store: &'a Store,
    expected: &'a Expected,
    job_hash: Digest,
    by_checkpoints: bool,
    /// Index of the next recorded checkpoint.
    next: usize,
    /// What was found at its step, where that was something else.
    missed: Option<Digest>,
    held: Holdings,
    point: Option<Point>,
    /// Whether the job goes on from another one's checkpoint.
    has_origin: bool,
    restored: bool,
    never_restores: bool,
    compared: u64,
    differences: Vec<Difference>,
    end: Option<(Digest, Outcome, Explanation)>,
}

impl<'a> Repetition<'a> {
    fn new(
        store: &'a Store,
        expected: &'a Expected,
        job_hash: Digest,
        by_checkpoints: bool,
    ) -> Self {
        Self {
            store,
            expected,
            job_hash,
            by_checkpoints,
            next: 0,
            missed: None,
            held: Holdings::default(),
            point: None,
            has_origin: false,
            restored: false,
            never_restores: false,
            compared: 0,
            differences: Vec::new(),
            end: None,
        }
    }

    fn begin(&mut self) {
        self.restored = false;
    }

    /// Lets the job begin at a checkpoint, which counts as its first.
    fn begin_at(&mut self, held: &Spooled) -> Result<(), HostFault> {
        self.has_origin = true;
        self.held = held.build(self.store)?.holdings;
        // A job that reached a limit before it asked for its checkpoint has none in its record.
        if !self.expected.checkpoints.is_empty() {
            self.compare(held.step, held.digest);
        }
        let (step, counters) = (held.step, held.counters);
        self.point = Some(Point { sequence: 1, step, counters, progress: held.progress.clone() });
        Ok(())
    }

    /// Ends the repetition of a job that cannot go on from where it should.
    fn end_as_not_runnable(&mut self, message: String) {
        let outcome = Outcome::NotRunnable;
        self.differ("outcome".to_owned(), &self.expected.outcome.canonical(), &outcome.canonical());
        // Where it did not even begin, it cannot have come by the recorded checkpoints.
        self.next = self.expected.checkpoints.len();
        let seal = Leavings::nothing().seal(self.job_hash, &outcome);
        self.end = Some((seal, outcome, Explanation { message, backtrace: Vec::new() }));
    }

    fn differ(&mut self, what: String, expected: &dyn Display, found: &dyn Display) {
        let (expected, found) = (expected.to_string(), found.to_string());
        self.differences.push(Difference { what, expected, found });
    }

    /// Compares a checkpoint with the recorded one that it should be; false while that is open.
    fn compare(&mut self, step: u64, digest: Digest) -> bool {
        let expected = self.expected;
        while let Some(mark) = expected.checkpoints.get(self.next) {
            if mark.step > step {
                break;
            }
            if mark.step == step && mark.digest == digest {
                self.next += 1;
                self.compared += 1;
                self.missed = None;
                return true;
            }
            if mark.step == step {
                // A job may ask with one step at two places, and the other may be the recorded
                // one: passing the step decides.
                self.missed.get_or_insert(digest);
                return false;
            }
            self.pass(mark, &format!("none; the next is at step {step}"));
        }
        if expected.checkpoints_complete {
            self.differ(format!("checkpoint at step {step}"), &"none", &digest);
        }
        true
    }

    /// Gives up on the next recorded checkpoint.
    fn pass(&mut self, mark: &CheckpointMark, otherwise: &str) {
        self.next += 1;
        let what = format!("checkpoint {} at step {}", mark.sequence, mark.step);
        match self.missed.take() {
            Some(found) => {
                self.compared += 1;
                self.differ(what, &mark.digest, &found);
            }
            None => self.differ(what, &mark.digest, &otherwise),
        }
    }

    fn verdict(mut self, restarts: u64) -> Result<Verdict, VerifyError> {
        let expected = self.expected;
        let Some((seal, outcome, explanation)) = self.end.take() else {
            return Err(VerifyError::Interrupted);
        };
        while let Some(mark) = expected.checkpoints.get(self.next) {
            self.pass(mark, "none; the job ended before");
        }
        if seal != expected.seal && self.differences.is_empty() {
            // The parts agree with the record, so the record does not agree with its own seal.
            self.differ("seal".to_owned(), &expected.seal, &seal);
        }
        Ok(Verdict {
            differences: self.differences,
            seal,
            outcome,
            explanation,
            checkpoints_compared: self.compared,
            restarts,
        })
    }

    fn compare_end(&mut self, outcome: &Outcome, leavings: &Leavings) {
        let expected = self.expected;
        if outcome.canonical() != expected.outcome.canonical() {
            self.differ("outcome".to_owned(), &expected.outcome.canonical(), &outcome.canonical());
        }
        if leavings.stdout.digest != expected.stdout {
            self.differ("stdout".to_owned(), &expected.stdout, &leavings.stdout.digest);
        }
        if leavings.stderr.digest != expected.stderr {
            self.differ("stderr".to_owned(), &expected.stderr, &leavings.stderr.digest);
        }
        let found = leavings.artifact_digests();
        let shown = |digest: Option<&Digest>| digest.map_or("none".to_owned(), Digest::to_string);
        let names: std::collections::BTreeSet<&String> =
            expected.artifacts.keys().chain(found.keys()).collect();
        for name in names {
            let (was, is) = (expected.artifacts.get(name), found.get(name));
            if was != is {
                let what = format!("artifact {}", hb_types::text::printable(name, 200));
                self.differ(what, &shown(was), &shown(is));
            }
        }
    }
}

/// What keeps a job from going on that does not ask for its checkpoint.
const IGNORES_ORIGIN: &str =
    "the job never asks for the checkpoint that it goes on from (`restore`)";

impl Session for Repetition<'_> {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        self.restored = true;
        let Some(point) = &self.point else { return Ok(None) };
        let (counters, progress) = (point.counters, point.progress.clone());
        restored(self.store, &self.held, point.sequence, point.step, counters, progress).map(Some)
    }

    /// At the recorded steps, and only there.
    fn due(&mut self, step: u64) -> bool {
        // A recorded step that was passed is missed: the comparison will say so.
        let marks = self.expected.checkpoints.get(self.next..).unwrap_or_default();
        let upcoming = marks.iter().take_while(|mark| mark.step <= step);
        upcoming.into_iter().any(|mark| mark.step == step)
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        if self.has_origin && !self.restored {
            self.end_as_not_runnable(IGNORES_ORIGIN.to_owned());
            return Ok(Saved::Stop);
        }
        let fresh = self.point.is_none() || !self.restored;
        if fresh && self.point.is_some() && self.by_checkpoints {
            self.never_restores = true;
            return Ok(Saved::Stop);
        }
        let first = self.point.is_none();
        let kind = delta::Kind::Checkpoint;
        let built = delta::build(self.store, &self.held, first, capture, kind)?;
        let (step, counters) = (capture.step, capture.counters);
        let digest = delta::checkpoint_digest(step, &counters, &capture.progress, &built.holdings);
        let settled = self.compare(step, digest);
        self.let_go_of_packs(&built.holdings)?;
        self.held = built.holdings;
        let sequence = self.point.as_ref().map_or(0, |point| point.sequence) + 1;
        self.point = Some(Point { sequence, step, counters, progress: capture.progress.clone() });
        if self.by_checkpoints && settled { Ok(Saved::Stop) } else { Ok(Saved::Continue(sequence)) }
    }

    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}

    fn progress(&mut self, _progress: &Progress) {}

    fn finish(&mut self, ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault> {
        let leavings = Leavings::of_capture(capture)
            .map_err(|source| HostFault::new("cannot read what the job left", source))?;
        if ending.outcome == Outcome::Cancelled {
            return Ok(());
        }
        let is_its_own = matches!(
            ending.outcome,
            Outcome::Success | Outcome::Exit { .. } | Outcome::Trap { .. }
        );
        if self.has_origin && !self.restored && is_its_own {
            self.end_as_not_runnable(IGNORES_ORIGIN.to_owned());
            return Ok(());
        }
        if self.by_checkpoints && self.point.is_some() && !self.restored {
            self.never_restores = true;
            return Ok(());
        }
        self.compare_end(&ending.outcome, &leavings);
        let seal = leavings.seal(self.job_hash, &ending.outcome);
        self.end = Some((seal, ending.outcome, ending.explanation.clone()));
        Ok(())
    }
}

impl Repetition<'_> {
    /// Removes the packs that the new checkpoint no longer needs.
    fn let_go_of_packs(&self, next: &Holdings) -> Result<(), HostFault> {
        let needed = next.packs();
        for pack in self.held.packs().into_keys().filter(|pack| !needed.contains_key(pack)) {
            self.store
                .remove(pack)
                .map_err(|source| HostFault::new("cannot remove a temporary file", source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hb_disk::SimulatedDisk;

    use super::*;

    fn mark(sequence: u64, step: u64, held: &str) -> CheckpointMark {
        CheckpointMark { sequence, step, digest: Digest::of(held.as_bytes()) }
    }

    /// Saves these, one after the other, against records of `a` at step 1 and `b` at step 2;
    /// gives back which were settled, and what differs.
    fn compared(saves: &[(u64, &str)]) -> (Vec<bool>, Vec<String>) {
        let store = Store::open(Arc::new(SimulatedDisk::new())).unwrap();
        let nothing = Digest::of(b"");
        let expected = Expected {
            seal: nothing,
            outcome: Outcome::Success,
            stdout: nothing,
            stderr: nothing,
            artifacts: BTreeMap::new(),
            checkpoints: vec![mark(1, 1, "a"), mark(2, 2, "b")],
            checkpoints_complete: true,
            reproducible: true,
        };
        let mut repetition = Repetition::new(&store, &expected, nothing, false);
        let save = |(step, held): &(u64, &str)| {
            assert!(repetition.due(*step), "{held} at {step}");
            repetition.compare(*step, Digest::of(held.as_bytes()))
        };
        let settled = saves.iter().map(save).collect();
        repetition.end = Some((nothing, Outcome::Success, Explanation::default()));
        let differences = repetition.verdict(0).unwrap().differences;
        (settled, differences.into_iter().map(|difference| difference.what).collect())
    }

    #[test]
    fn a_checkpoint_is_looked_for_at_every_place_of_its_step() {
        assert_eq!(compared(&[(1, "a"), (2, "b")]), (vec![true, true], vec![]));
        let other_place_first = [(1, "x"), (1, "a"), (2, "b")];
        assert_eq!(compared(&other_place_first), (vec![false, true, true], vec![]));
    }

    #[test]
    fn a_checkpoint_that_is_at_no_place_of_its_step_differs() {
        let first = "checkpoint 1 at step 1".to_owned();
        assert_eq!(compared(&[(1, "x"), (2, "b")]), (vec![false, true], vec![first.clone()]));
        assert_eq!(compared(&[(2, "b")]), (vec![true], vec![first]));
        let last = "checkpoint 2 at step 2".to_owned();
        assert_eq!(compared(&[(1, "a"), (2, "x")]), (vec![true, false], vec![last.clone()]));
        assert_eq!(compared(&[(1, "a")]), (vec![true], vec![last]));
    }
}
