//! Attempts: claim a job, run it, write down how that went.
//!
//! Owns: the order prepare, claim, run, conclude; what becomes of an attempt that failed, was
//! stopped, or died with its host. Knows nothing of queues or threads: an attempt runs on the thread
//! that asks for it.
//!
//! Invariant: an attempt leaves an outcome, an interruption, or, where even that cannot be written
//! down, a claim that the next start of the host finds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use hb_container::Identity;
use hb_sandbox::{Control, Ended, Input, Launch};
use hb_types::{
    Digest, Lsn,
    event::{Event, Interrupted, JobNumber, Scheduled, Started},
    job::BlobRef,
    ledger::Job,
    limits::{Limit, Limits},
    outcome::Outcome,
    state::{Interruption, Phase},
};

use crate::{
    Host,
    attempt::Attempt,
    decide::Decided,
    error::RunError,
    fork::Begun,
    journal::Urgency,
    observer::{Notice, Observer},
    program::Whose,
};

/// How whoever runs a job reaches the attempt. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Cancellation, stop, and a bound on real time.
    pub control: Control,
    wanted: Arc<AtomicU8>,
}

const GO_ON: u8 = 0;

/// A program that does nothing, as text.
const SELF_TEST: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;

impl Orders {
    /// Asks the attempt to save at the next place where it can and to stop there.
    pub fn stop_at_checkpoint(&self, why: Interruption) {
        let code = match why {
            Interruption::HostCrashed => 1,
            Interruption::HostFault => 2,
            Interruption::Shutdown => 3,
            Interruption::Held => 4,
        };
        self.wanted.store(code, Ordering::Relaxed);
    }

    /// Asks it to stop at once; what it did since its newest checkpoint is done again later.
    pub fn stop_now(&self, why: Interruption) {
        self.stop_at_checkpoint(why);
        self.control.stop.store(true, Ordering::Relaxed);
    }

    /// Takes back what was asked, where the attempt has not stopped yet.
    pub fn go_on(&self) {
        self.wanted.store(GO_ON, Ordering::Relaxed);
        self.control.stop.store(false, Ordering::Relaxed);
    }

    /// Ends the job as cancelled.
    pub fn cancel(&self) {
        self.control.cancel.store(true, Ordering::Relaxed);
    }

    /// Why the attempt is to stop, if it is.
    pub(crate) fn wanted(&self) -> Option<Interruption> {
        match self.wanted.load(Ordering::Relaxed) {
            1 => Some(Interruption::HostCrashed),
            2 => Some(Interruption::HostFault),
            3 => Some(Interruption::Shutdown),
            4 => Some(Interruption::Held),
            _ => None,
        }
    }
}

/// What came of an attempt. What was decided is on its way to the disk.
pub enum Executed {
    /// The job was over before.
    Over,
    /// The job ended.
    Ended(Decided),
    /// It failed and is tried again.
    Retried {
        /// The record that says so.
        decided: Decided,
        /// When it may start again.
        not_before_ns: u64,
    },
    /// The attempt was stopped as asked.
    Stopped {
        /// The record that says so.
        decided: Decided,
        /// As what.
        why: Interruption,
    },
}

impl Host {
    /// Whether a component can be made ready to run here: scans and compiles the smallest one there
    /// is, or finds it in the cache.
    pub fn self_test(&self) -> Result<(), hb_sandbox::PrepareError> {
        let limits = Limits::default();
        let bytes = self.executor().to_binary(SELF_TEST.to_vec(), &limits)?;
        self.executor().prepare(&bytes, Digest::of(&bytes), &limits).map(drop)
    }

    /// Runs a job to its outcome, from its newest checkpoint. One that has an outcome is left as it
    /// is.
    ///
    /// `Err` means that the attempt ended without an outcome; everything that was saved stays.
    pub fn run(
        &self,
        number: JobNumber,
        control: &Control,
        observer: &mut dyn Observer,
    ) -> Result<Job, RunError> {
        let orders = Orders { control: control.clone(), ..Orders::default() };
        let find = || {
            let missing = || RunError::NoSuchJob { name: number.to_string() };
            self.load(number)?.ok_or_else(missing)
        };
        loop {
            match self.execute(number, &orders, observer)? {
                Executed::Over => {
                    let job = find()?;
                    self.await_durable(job.last)?;
                    return Ok(job);
                }
                Executed::Ended(decided) => {
                    self.settle(decided)?;
                    let job = find()?;
                    if let Some(conclusion) = &job.conclusion {
                        let seal = job.seal.as_ref().map(|kept| kept.seal);
                        observer.notice(Notice::Ended { outcome: conclusion.outcome, seal });
                    }
                    return Ok(job);
                }
                Executed::Retried { decided, .. } => self.settle(decided)?,
                Executed::Stopped { decided, .. } => {
                    self.settle(decided)?;
                    return find();
                }
            }
        }
    }

    /// Makes one attempt at a job. What it comes to is decided when this returns, and not durable
    /// yet.
    pub fn execute(
        &self,
        number: JobNumber,
        orders: &Orders,
        observer: &mut dyn Observer,
    ) -> Result<Executed, RunError> {
        let job = self.load(number)?;
        let job = job.ok_or_else(|| RunError::NoSuchJob { name: number.to_string() })?;
        if !job.is_unfinished() {
            return Ok(Executed::Over);
        }
        if job.state.crashes_since_checkpoint >= job.spec.max_crashes {
            let message = poison_message(&job);
            return Ok(Executed::Ended(self.conclude_idle(&job, Outcome::Poisoned, message)?));
        }
        let tell = &mut || observer.notice(Notice::Preparing);
        let ready = self.programs().ready(&job.spec, tell)?;
        let launch = self.launch(&job)?;
        let (token, job) = self.claim(&job)?;
        observer.notice(Notice::Started { attempt: job.state.attempts });
        let control = with_deadline(&orders.control, &job, self.now_ns());
        let job = match self.begin(job, token, orders, &control, observer)? {
            Begun::At(job) => *job,
            Begun::Over(executed) => return Ok(executed),
        };
        let mut attempt = Attempt::new(self, &job, token, orders.clone(), observer);
        let whose = self.whose(&job, token);
        let programs = self.programs();
        let ended = programs.run(&ready, &job.spec, launch, whose, &mut attempt, &control);
        match (ended, attempt.into_result()) {
            (Ok(_), Some(executed)) => Ok(executed),
            (Ok(Ended::Finished(_)), None) => unreachable!("an ending is always written down"),
            (Ok(Ended::Stopped), None) => self.stopped(number, token, orders),
            (Err(fault), _) => Err(self.interrupt(number, token, fault)),
        }
    }

    fn whose(&self, job: &Job, token: Lsn) -> Whose {
        let identity =
            Identity::Job { ledger: self.ledger_id(), number: job.number, attempt: token };
        let cpu_milli = job.terms.resources.cpu_milli;
        Whose { identity, job_hash: job.job_hash, cpu_milli }
    }

    /// Writes down that an attempt stopped as it was asked to.
    pub(crate) fn stopped(
        &self,
        job: JobNumber,
        token: Lsn,
        orders: &Orders,
    ) -> Result<Executed, RunError> {
        let why = orders.wanted().unwrap_or(Interruption::Shutdown);
        let detail = match why {
            Interruption::Held => "the job was put on hold",
            _ => "the host was asked to stop",
        };
        let record = Interrupted { job, token, why, detail: detail.into(), at_ns: self.now_ns() };
        let decided = self.decide(job, vec![record.into()], Urgency::Closing)?;
        Ok(Executed::Stopped { decided, why })
    }

    /// Writes down that the host could not go on, as far as it still can.
    pub(crate) fn interrupt(
        &self,
        job: JobNumber,
        token: Lsn,
        fault: hb_sandbox::HostFault,
    ) -> RunError {
        let detail = hb_types::text::printable(&chain_of(&fault), 1000);
        let why =
            if fault.is_death() { Interruption::HostCrashed } else { Interruption::HostFault };
        let record = Interrupted { job, token, why, detail, at_ns: self.now_ns() };
        let written = self.decide(job, vec![record.into()], Urgency::Closing);
        let written = written.and_then(|decided| Ok(self.settle(decided)?));
        if let Err(error) = written {
            // The next start finds the attempt and marks it; nothing depends on this record.
            tracing::warn!(%error, "the interruption could not be written down");
        }
        RunError::Fault(fault)
    }

    /// Claims a job for this process. Not waited for: the log's order alone makes the claim hold
    /// before anything that the attempt writes.
    fn claim(&self, job: &Job) -> Result<(Lsn, Job), RunError> {
        let at_ns = self.now_ns();
        let number = job.number;
        let mut events: Vec<Event> = Vec::new();
        if job.state.phase == Phase::Received {
            events.push(Scheduled { job: number, at_ns }.into());
        }
        events.push(Started { job: number, process: self.process, at_ns }.into());
        let decided = self.decide(number, events, Urgency::New)?;
        let job = self.job(number).expect("a claimed job is in the ledger");
        Ok((decided.last, job))
    }

    fn launch(&self, job: &Job) -> Result<Launch, RunError> {
        let mut inputs = Vec::with_capacity(job.spec.inputs.len());
        for (name, blob) in &job.spec.inputs {
            let file = self.open_blob(*blob)?;
            inputs.push(Input { name: name.clone(), file, len_bytes: blob.len_bytes });
        }
        Ok(Launch {
            arguments: job.spec.arguments.clone(),
            environment: job.spec.environment.clone(),
            stdin: job.spec.stdin.map(|blob| self.open_blob(blob)).transpose()?,
            inputs,
            limits: job.spec.limits.clone(),
            seed: job.spec.seed_bytes(),
            start_ns: job.spec.start_ns,
            scratch: tempfile::tempfile_in(&self.scratch).map_err(RunError::Scratch)?,
        })
    }

    fn open_blob(&self, blob: BlobRef) -> Result<std::fs::File, RunError> {
        crate::view::blob_file(self.store(), blob)
    }
}

/// The control of one attempt: the caller's, the job's own limit of real time, and the time by
/// which it must have ended.
fn with_deadline(control: &Control, job: &Job, now_ns: u64) -> Control {
    let mut control = control.clone();
    let limit = Duration::from_millis(job.spec.limits.get(Limit::Deadline));
    let finish_by = match job.terms.finish_by_ns {
        0 => None,
        by_ns => Some(Duration::from_nanos(by_ns.saturating_sub(now_ns))),
    };
    let left = finish_by.map_or(limit, |left| left.min(limit));
    if let Some(end) = Instant::now().checked_add(left) {
        control.deadline = Some(control.deadline.map_or(end, |other| other.min(end)));
    }
    control
}

fn poison_message(job: &Job) -> String {
    format!(
        "set aside: {} attempts died with their host since the last checkpoint; \
         `hb trace {}` shows them, and --max-crashes raises the bound for a new job",
        job.state.crashes_since_checkpoint, job.job_id
    )
}

/// An error and its causes, in one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
