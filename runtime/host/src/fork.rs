//! Jobs that go on from a checkpoint of another job.
//!
//! Owns: which checkpoints there are to go on from, the specification of the new job, and how its
//! first attempt comes to hold the checkpoint: taken over from a job that still holds it, or made
//! again. From then on it is a job with a checkpoint like every other.
//!
//! Invariant: the checkpoint that a job begins at is in its ledger, under the claim of an attempt and
//! with the digest that its origin names, before its own program runs.

use hb_sandbox::{Control, HostFault};
use hb_store::Hold;
use hb_types::{
    Lsn,
    capture::{ContentId, Counters, Progress},
    content::{ChunkChange, ContentChange, Delta, Holdings},
    event::{Checkpointed, JobNumber},
    job::{JobSpec, Origin},
    ledger::{CheckpointMark, Job},
    outcome::Outcome,
};

use crate::{
    Host,
    attempt::Attempt,
    delta,
    error::{LoadError, RunError, SubmitError},
    execute::{Executed, Orders},
    journal::Urgency,
    materialise::{Materialised, Materialiser},
    observer::{Notice, Observer},
    origin::{self, OriginError},
    submit::Submission,
};

/// A job that nothing can go on from as asked.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// There is no such job.
    #[error("there is no job number {job}")]
    NoSuchJob {
        /// What was asked for.
        job: JobNumber,
    },
    /// The job's record.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It has no checkpoints.
    #[error(
        "job {job_id} has no checkpoint to go on from: submit it again to run it from its beginning"
    )]
    NoCheckpoints {
        /// Its name.
        job_id: String,
    },
    /// It has others.
    #[error("job {job_id} has no checkpoint {sequence}: choose one from {first} to {last}")]
    NoSuchCheckpoint {
        /// Its name.
        job_id: String,
        /// What was asked for.
        sequence: u64,
        /// Number of the first that there is.
        first: u64,
        /// Number of the last.
        last: u64,
    },
    /// Its program does not ask for its checkpoints.
    #[error(
        "job {job_id} saves checkpoints but never asks for them (`restore`), so nothing can go on from them: submit it again to run it from its beginning"
    )]
    NeverRestores {
        /// Its name.
        job_id: String,
    },
    /// It cannot be the origin of another job.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

/// Where an attempt begins.
pub(crate) enum Begun {
    /// At what this job holds.
    At(Box<Job>),
    /// Nowhere: the job ended, is tried again later, or was stopped.
    Over(Executed),
}

/// What the first checkpoint of a job consists of.
struct First {
    counters: Counters,
    progress: Progress,
    delta: Delta,
    written_bytes: u64,
    /// Keeps its blobs until its record refers to them.
    hold: Hold,
}

impl Host {
    /// The specification of a job that goes on from a checkpoint of another job: from number
    /// `sequence`, or from the newest. `changes` says in what it differs from the other one:
    /// arguments, environment, inputs, limits, labels, the component itself.
    ///
    /// What the source used of its fuel counts: a job that ran out of it goes on under a higher limit.
    /// Only a submission keeps the blobs that the specification names.
    pub fn fork_spec(
        &self,
        source: JobNumber,
        sequence: Option<u64>,
        changes: impl FnOnce(&mut JobSpec),
    ) -> Result<JobSpec, ForkError> {
        let job = self.load(source)?.ok_or(ForkError::NoSuchJob { job: source })?;
        let mark = choose(&job, sequence)?;
        let mut spec = job.spec.clone();
        changes(&mut spec);
        spec.origin = Some(origin::of(self.store(), &job.spec, mark.step, mark.digest)?);
        origin::sources(self.store(), &spec, self.ceilings())?;
        Ok(spec)
    }

    /// A submission whose job reserves as much memory as the jobs need that may have to be run again
    /// before it; `None` where it starts from its beginning or says itself what it needs.
    pub(crate) fn with_memory_for_origin(
        &self,
        submission: &Submission,
    ) -> Result<Option<Submission>, SubmitError> {
        let spec = &submission.spec;
        if spec.origin.is_none() || submission.terms.resources.memory_bytes != 0 {
            return Ok(None);
        }
        self.check_presence(spec)?;
        let sources = origin::sources(self.store(), spec, self.ceilings())?;
        let specs = sources.iter().map(|source| &source.spec).chain([spec]);
        let mut submission = submission.clone();
        submission.terms.resources.memory_bytes =
            specs.map(|spec| spec.limits.memory_bytes).max().unwrap_or_default();
        Ok(Some(submission))
    }

    /// Sees to it that a job that goes on from another one's checkpoint holds it.
    pub(crate) fn begin(
        &self,
        job: Job,
        token: Lsn,
        orders: &Orders,
        control: &Control,
        observer: &mut dyn Observer,
    ) -> Result<Begun, RunError> {
        let Some(origin) = job.spec.origin.clone().filter(|_| job.state.sequence == 0) else {
            return Ok(Begun::At(Box::new(job)));
        };
        let first = match self.take_over(&origin) {
            Some(first) => first,
            None => match self.make_again(&job, token, orders, control, observer) {
                Ok(Made::First(first)) => *first,
                Ok(Made::Over(executed)) => return Ok(Begun::Over(executed)),
                Err(error) => return Err(self.not_begun(job.number, token, error)),
            },
        };
        let written_bytes = first.written_bytes;
        self.adopt(job.number, token, &origin, first)
            .map_err(|error| self.not_begun(job.number, token, error))?;
        observer.notice(Notice::Checkpoint { sequence: 1, step: origin.step, written_bytes });
        if orders.wanted().is_some() {
            return self.stopped(job.number, token, orders).map(Begun::Over);
        }
        let job = self.job(job.number).expect("a claimed job is in the ledger");
        Ok(Begun::At(Box::new(job)))
    }

    /// The checkpoint of a job in the ledger that still holds it; it costs nothing then.
    fn take_over(&self, origin: &Origin) -> Option<First> {
        // From here on until the record is decided the source may let go of its blobs.
        let hold = self.store().hold();
        let job = self.with_ledger(|ledger| {
            let newest = |job: &&Job| {
                let mark = job.checkpoints.last();
                mark.is_some_and(|mark| {
                    (mark.step, mark.digest) == (origin.step, origin.checkpoint)
                }) && job.holdings.content(ContentId::STATE).is_some()
            };
            ledger.by_hash(origin.job_hash).find(newest).cloned()
        })?;
        let (counters, progress) = (job.counters, job.progress);
        let holds = delta::checkpoint_digest(origin.step, &counters, &progress, &job.holdings);
        if holds != origin.checkpoint {
            return None;
        }
        let delta = whole(job.holdings);
        Some(First { counters, progress, delta, written_bytes: 0, hold })
    }

    /// Runs the jobs behind a job as far as the checkpoint that it begins at.
    fn make_again(
        &self,
        job: &Job,
        token: Lsn,
        orders: &Orders,
        control: &Control,
        observer: &mut dyn Observer,
    ) -> Result<Made, RunError> {
        let not_runnable = |message: String| {
            let decided = self.conclude_unresumed(job, token, Outcome::NotRunnable, message)?;
            Ok(Made::Over(Executed::Ended(decided)))
        };
        let sources = match origin::sources(self.store(), &job.spec, self.ceilings()) {
            Ok(sources) => sources,
            Err(OriginError::Store(error)) => return Err(error.into()),
            Err(error) => return not_runnable(crate::execute::chain_of(&error)),
        };
        let materialiser = Materialiser {
            programs: self.programs(),
            control,
            limits: &job.spec.limits,
            scratch: &|| tempfile::tempfile_in(&self.scratch),
        };
        let made = materialiser.materialise(&sources, &mut |notice| observer.notice(notice));
        match made {
            Ok(Materialised::Made(made)) => {
                let hold = self.store().hold();
                let built = made.build(self.store())?;
                Ok(Made::First(Box::new(First {
                    counters: made.counters,
                    progress: made.progress.clone(),
                    delta: built.delta,
                    written_bytes: built.written_bytes,
                    hold,
                })))
            }
            Ok(Materialised::NotMade(why)) => not_runnable(why.to_string()),
            Ok(Materialised::Ended(ending)) => {
                let attempt = Attempt::new(self, job, token, orders.clone(), observer);
                if let Some(retried) = attempt.retry(&ending)? {
                    return Ok(Made::Over(retried));
                }
                let message = ending.explanation.message;
                let decided = self.conclude_unresumed(job, token, ending.outcome, message)?;
                Ok(Made::Over(Executed::Ended(decided)))
            }
            Ok(Materialised::Stopped) => self.stopped(job.number, token, orders).map(Made::Over),
            Err(RunError::NotRunnable(error)) if error.is_component() => {
                let why = crate::execute::chain_of(&error);
                not_runnable(format!("a job behind this one cannot be run here: {why}"))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the checkpoint down as the job's first.
    fn adopt(
        &self,
        job: JobNumber,
        token: Lsn,
        origin: &Origin,
        first: First,
    ) -> Result<(), RunError> {
        let First { counters, progress, delta, hold, .. } = first;
        let record = Checkpointed {
            job,
            token,
            sequence: 1,
            step: origin.step,
            digest: origin.checkpoint,
            counters,
            // The remarks stand in the trace of the job that made them.
            progress: Progress { notes: Vec::new(), ..progress },
            delta,
            at_ns: self.now_ns(),
        };
        let decided = self.decide(job, vec![record.into()], Urgency::New)?;
        drop(hold);
        Ok(self.settle(decided)?)
    }

    /// Lets go of the claim of an attempt that could not begin.
    fn not_begun(&self, job: JobNumber, token: Lsn, error: RunError) -> RunError {
        let what = "the checkpoint that the job goes on from cannot be taken up";
        self.interrupt(job, token, HostFault::new(what, error))
    }
}

enum Made {
    First(Box<First>),
    Over(Executed),
}

/// All that is held, as what changes from nothing.
fn whole(holdings: Holdings) -> Delta {
    let changed = holdings.contents.into_iter().map(|(id, content)| {
        let set = |(index, chunk)| ChunkChange::Set { index, chunk };
        let chunks = (0..).zip(content.chunks).map(set).collect();
        ContentChange { id, len_bytes: content.len_bytes, chunks }
    });
    Delta {
        fresh: true,
        changed: changed.collect(),
        names_set: holdings.names.into_iter().collect(),
        ..Delta::default()
    }
}

/// The checkpoint to go on from.
fn choose(job: &Job, sequence: Option<u64>) -> Result<&CheckpointMark, ForkError> {
    let job_id = || job.job_id.clone();
    if never_restores(job) {
        return Err(ForkError::NeverRestores { job_id: job_id() });
    }
    let chain = job.checkpoint_chain();
    let (Some(first), Some(last)) = (chain.first(), chain.last()) else {
        return Err(ForkError::NoCheckpoints { job_id: job_id() });
    };
    let Some(sequence) = sequence else { return Ok(last) };
    chain.iter().find(|mark| mark.sequence == sequence).ok_or_else(|| {
        let (first, last) = (first.sequence, last.sequence);
        ForkError::NoSuchCheckpoint { job_id: job_id(), sequence, first, last }
    })
}

/// Whether an attempt that had a checkpoint to ask for began from nothing instead.
fn never_restores(job: &Job) -> bool {
    let had_one = |token: Lsn| {
        let attempt = job.attempts.iter().find(|attempt| attempt.token == token);
        attempt.is_some_and(|attempt| attempt.from_sequence > 0)
    };
    let saved = job.checkpoints.iter().any(|mark| mark.fresh && had_one(mark.token));
    let ended = job.conclusion.as_ref().is_some_and(|conclusion| conclusion.fresh)
        && job.attempts.last().is_some_and(|attempt| attempt.from_sequence > 0);
    saved || ended
}
