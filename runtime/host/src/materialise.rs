//! Makes a checkpoint of another job again, by running that job as far as there.
//!
//! Owns: the run in which only one step is due, how the checkpoint is recognised, and the words for
//! why it was not found. Knows nothing of ledgers: what is found lies in a file without a name.
//!
//! A row of jobs of which each goes on from a checkpoint of the one before is run in that order. The
//! jobs run under their own limits, with two exceptions that no guest can see: fuel is bounded by
//! the larger of the source's limit and that of the job to begin, since undisturbed the source may
//! use a little more than it did in the history that it had; and real time by that of the job to
//! begin.

use std::{fmt, fs::File, io};

use hb_sandbox::{Control, Ended, Ending, HostFault, Input, Launch, Saved, Session, Stream};
use hb_store::Store;
use hb_types::{
    Digest,
    capture::{Capture, Progress, Restored},
    job::JobSpec,
    limits::Limits,
};

use crate::{
    attempt::ended_from_outside, error::RunError, executor::Executor, observer::Notice,
    origin::Source, spool::Spooled, view::blob_file,
};

/// How often at most one run is told of, the beginning apart.
const TOLD_MAX: u64 = 100;

/// What runs the jobs.
pub(crate) struct Materialiser<'a> {
    /// Where components and inputs are.
    pub store: &'a Store,
    /// What runs them.
    pub executor: &'a dyn Executor,
    /// How it is ended from outside.
    pub control: &'a Control,
    /// The limits of the job to begin.
    pub limits: &'a Limits,
    /// Makes an empty file without a name.
    pub scratch: &'a (dyn Fn() -> io::Result<File> + Sync),
}

/// What came of it.
pub(crate) enum Materialised {
    /// The checkpoint.
    Made(Box<Spooled>),
    /// The jobs do not make it.
    NotMade(NotMade),
    /// It was ended from outside.
    Ended(Ending),
    /// It was stopped.
    Stopped,
}

/// Why a checkpoint was not made again.
#[derive(Clone, Debug)]
pub(crate) struct NotMade {
    job_hash: Digest,
    /// The step at which it was looked for.
    pub step: u64,
    /// The digest that was looked for.
    pub checkpoint: Digest,
    /// What was found instead.
    pub found: String,
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job_hash, step, checkpoint, found } = self;
        let (job, checkpoint) = (job_hash.short(), checkpoint.short());
        write!(
            f,
            "the checkpoint to go on from, {checkpoint}… at step {step} of the job with hash {job}…, \
             cannot be made again: {found}"
        )
    }
}

impl Materialiser<'_> {
    /// Runs the jobs, one after the other, each as far as the checkpoint at which the next begins.
    pub(crate) fn materialise(
        &self,
        sources: &[Source],
        tell: &mut (dyn FnMut(Notice) + Send),
    ) -> Result<Materialised, RunError> {
        let mut base: Option<Box<Spooled>> = None;
        for source in sources {
            let is_wanted =
                |held: &Spooled| (held.step, held.digest) == (source.step, source.checkpoint);
            // The first checkpoint of a job that itself goes on from one is that very one.
            if base.as_deref().is_some_and(is_wanted) {
                continue;
            }
            match self.run_to(source, base.as_deref(), tell)? {
                Materialised::Made(made) => base = Some(made),
                other => return Ok(other),
            }
        }
        Ok(Materialised::Made(base.expect("a job with an origin has a job behind it")))
    }

    fn run_to(
        &self,
        source: &Source,
        base: Option<&Spooled>,
        tell: &mut (dyn FnMut(Notice) + Send),
    ) -> Result<Materialised, RunError> {
        let spec = &source.spec;
        let prepared = if let Some(prepared) = self.executor.prepared(spec.component.digest) {
            prepared
        } else {
            tell(Notice::Preparing);
            let bytes = self.store.get(spec.component.digest)?;
            self.executor.prepare(&bytes, spec.component.digest, &spec.limits)?
        };
        let launch = self.launch(spec)?;
        let mut search = Search {
            source,
            base,
            scratch: self.scratch,
            restored: false,
            sequence: u64::from(base.is_some()),
            told_at: None,
            tell,
            made: None,
            missed: None,
            given_up: false,
        };
        search.tell_of(base.map_or(0, |held| held.step));
        let ended = prepared.run(launch, &mut search, self.control)?;
        let Search { made, missed, given_up, .. } = search;
        if let Some(made) = made {
            return Ok(Materialised::Made(Box::new(made)));
        }
        let not_made = |found: String| {
            let Source { job_hash, step, checkpoint, .. } = *source;
            Materialised::NotMade(NotMade { job_hash, step, checkpoint, found })
        };
        Ok(match (ended, missed) {
            (Ended::Finished(ending), _) if ended_from_outside(&ending) => {
                Materialised::Ended(ending)
            }
            (Ended::Stopped, _) if !given_up => Materialised::Stopped,
            (_, Some(missed)) => not_made(missed.to_string()),
            (Ended::Finished(ending), None) => not_made(format!(
                "the job ended before it saved there ({})",
                ending.outcome.canonical()
            )),
            (Ended::Stopped, None) => unreachable!("who gives up has missed it"),
        })
    }

    fn launch(&self, spec: &JobSpec) -> Result<Launch, RunError> {
        let mut inputs = Vec::with_capacity(spec.inputs.len());
        for (name, blob) in &spec.inputs {
            let file = blob_file(self.store, *blob)?;
            inputs.push(Input { name: name.clone(), file, len_bytes: blob.len_bytes });
        }
        let mut limits = spec.limits.clone();
        limits.fuel = limits.fuel.max(self.limits.fuel);
        limits.deadline_ms = self.limits.deadline_ms;
        Ok(Launch {
            arguments: spec.arguments.clone(),
            environment: spec.environment.clone(),
            stdin: spec.stdin.map(|blob| blob_file(self.store, blob)).transpose()?,
            inputs,
            limits,
            seed: spec.seed_bytes(),
            start_ns: spec.start_ns,
            scratch: (self.scratch)().map_err(RunError::Scratch)?,
        })
    }
}

/// What was there instead of the checkpoint.
enum Missed {
    Other(Digest),
    Passed { step: u64 },
    NeverAsked,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(digest) => write!(f, "what the job holds there is {digest}"),
            Self::Passed { step } => write!(f, "the job saved next at step {step}"),
            Self::NeverAsked => f.write_str(
                "the job goes on from a checkpoint itself and never asks for it (`restore`)",
            ),
        }
    }
}

/// The host's side of a run in which one checkpoint is looked for.
struct Search<'a> {
    source: &'a Source,
    base: Option<&'a Spooled>,
    scratch: &'a (dyn Fn() -> io::Result<File> + Sync),
    restored: bool,
    sequence: u64,
    told_at: Option<u64>,
    tell: &'a mut (dyn FnMut(Notice) + Send),
    made: Option<Spooled>,
    missed: Option<Missed>,
    /// Whether it was ended because nothing more can be found.
    given_up: bool,
}

impl Search<'_> {
    /// Tells how far the run has come, where that is news.
    fn tell_of(&mut self, reached: u64) {
        let step = self.source.step;
        let apart = (step / TOLD_MAX).max(1);
        if self.told_at.is_some_and(|told| reached < told.saturating_add(apart)) {
            return;
        }
        self.told_at = Some(reached);
        (self.tell)(Notice::Materialising { job_hash: self.source.job_hash, step, reached });
    }
}

impl Session for Search<'_> {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        self.restored = true;
        Ok(self.base.map(Spooled::restored))
    }

    /// At the step, and beyond it so that the run can be given up.
    fn due(&mut self, step: u64) -> bool {
        self.tell_of(step);
        step >= self.source.step
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        self.tell_of(capture.step);
        if self.base.is_some() && !self.restored {
            (self.missed, self.given_up) = (Some(Missed::NeverAsked), true);
            return Ok(Saved::Stop);
        }
        if capture.step > self.source.step {
            self.missed.get_or_insert(Missed::Passed { step: capture.step });
            self.given_up = true;
            return Ok(Saved::Stop);
        }
        if capture.step == self.source.step {
            let fault = |error| HostFault::new("cannot write a scratch file", error);
            let spooled = (self.scratch)().and_then(|file| Spooled::of(capture, file));
            let spooled = spooled.map_err(fault)?;
            if spooled.digest == self.source.checkpoint {
                self.made = Some(spooled);
                return Ok(Saved::Stop);
            }
            // A job may save with one step at two places, and the other may be the right one.
            self.missed.get_or_insert(Missed::Other(spooled.digest));
        }
        self.sequence += 1;
        Ok(Saved::Continue(self.sequence))
    }

    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}

    fn progress(&mut self, _progress: &Progress) {}

    fn finish(&mut self, _ending: &Ending, _capture: &Capture<'_>) -> Result<(), HostFault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use hb_types::{
        capture::{ChunkSource, ContentId, Counters, NameTree},
        job::{BlobRef, CheckpointPolicy},
    };

    use super::*;

    struct Nothing;

    impl ChunkSource for Nothing {
        fn read_chunk(&self, _: ContentId, _: u32) -> io::Result<Vec<u8>> {
            unreachable!("there are no contents")
        }
    }

    fn capture(step: u64, state: &[u8]) -> Capture<'_> {
        Capture {
            step,
            state,
            counters: Counters::default(),
            contents: Vec::new(),
            names: NameTree::new(),
            progress: Progress::default(),
            source: &Nothing,
        }
    }

    fn source(step: u64, checkpoint: Digest) -> Source {
        let spec = JobSpec {
            component: BlobRef { digest: Digest::of(b""), len_bytes: 0 },
            arguments: Vec::new(),
            environment: Vec::new(),
            stdin: None,
            inputs: BTreeMap::new(),
            limits: Limits::default(),
            seed: 0,
            start_ns: 0,
            origin: None,
            checkpoints: CheckpointPolicy::Never,
            max_crashes: 1,
            labels: BTreeMap::new(),
        };
        Source { spec, job_hash: Digest::of(b"job"), step, checkpoint }
    }

    fn search<'a>(source: &'a Source, tell: &'a mut (dyn FnMut(Notice) + Send)) -> Search<'a> {
        Search {
            source,
            base: None,
            scratch: &tempfile::tempfile,
            restored: false,
            sequence: 0,
            told_at: None,
            tell,
            made: None,
            missed: None,
            given_up: false,
        }
    }

    /// What is found when these are saved, one after the other, and `b` at step 2 is looked for.
    fn found(saves: &[(u64, &str)]) -> (Vec<Saved>, bool, Option<String>) {
        let wanted = Spooled::of(&capture(2, b"b"), tempfile::tempfile().unwrap()).unwrap();
        let source = source(2, wanted.digest);
        let mut tell = |_| ();
        let mut search = search(&source, &mut tell);
        let save =
            |(step, state): &(u64, &str)| search.save(&capture(*step, state.as_bytes())).unwrap();
        let answers = saves.iter().map(save).collect();
        (answers, search.made.is_some(), search.missed.map(|missed| missed.to_string()))
    }

    #[test]
    fn a_checkpoint_is_found_at_every_place_of_its_step() {
        let (saved, made, _) = found(&[(1, "a"), (2, "x"), (2, "b")]);
        assert_eq!(saved, [Saved::Continue(1), Saved::Continue(2), Saved::Stop]);
        assert!(made);
    }

    #[test]
    fn a_run_that_passed_the_step_is_given_up() {
        let (saved, made, missed) = found(&[(1, "a"), (3, "b")]);
        assert_eq!((saved[1], made), (Saved::Stop, false));
        assert_eq!(missed.unwrap(), "the job saved next at step 3");
        let (_, made, missed) = found(&[(2, "x"), (3, "b")]);
        assert!(!made && missed.unwrap().contains("what the job holds there is"));
    }

    #[test]
    fn a_run_is_told_of_a_bounded_number_of_times() {
        let source = source(100_000, Digest::of(b"held"));
        let mut told = 0;
        let mut tell = |_| told += 1;
        let mut search = search(&source, &mut tell);
        let due = (0..=source.step).filter(|step| search.due(*step)).count();
        assert_eq!((due, told), (1, 101));
    }
}
