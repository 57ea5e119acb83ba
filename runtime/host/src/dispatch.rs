//! Runs the jobs of a host, many at once.
//!
//! Owns: the threads that run jobs, who is running, how they are reached, and when the host stops
//! taking new ones. The order between jobs is `queue.rs`; what happens to a job is `execute.rs`;
//! what a worker does is `dispatch/worker.rs`.
//!
//! Invariants: whatever the ledger says is unfinished and not on hold is in the queue, runs, or is
//! on its way between the two; nothing here has to survive a crash, since all of it is made again
//! from the ledger.

mod keeper;
mod worker;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hb_types::{
    Lsn,
    event::{Held, JobNumber, Released, StartsPaused},
    ledger::{Found, Job},
    outcome::Outcome,
    state::Interruption,
};

use crate::{
    Host,
    decide::Decided,
    error::{ChangeError, SubmitError},
    execute::Orders,
    journal::Urgency,
    queue::{Candidate, Capacity, Queue, Waiting},
    retention::RetentionPolicy,
    submit::{Submission, Submitted},
};

/// Puts a span below the trace that a W3C `traceparent` names.
pub type AdoptTrace = Arc<dyn Fn(&tracing::Span, &str) + Send + Sync>;

/// How jobs are run.
#[derive(Clone)]
pub struct DispatchOptions {
    /// What jobs may take of the machine, all together.
    pub machine: Capacity,
    /// Threads that run jobs. A thread that waits for the disk takes nothing of the machine, so
    /// there may be more of them than processors.
    pub workers: usize,
    /// Jobs that may wait; more are refused.
    pub max_waiting: usize,
    /// What jobs that are over are kept for.
    pub retention: RetentionPolicy,
    /// Time between two looks at what may be removed.
    pub retention_every: Duration,
    /// Where traces are exported, how an attempt becomes part of the trace of whoever asked.
    pub adopt_trace: Option<AdoptTrace>,
}

impl DispatchOptions {
    /// For a machine of this size; what is over is kept, and no trace is exported.
    pub fn new(machine: Capacity, workers: usize, max_waiting: usize) -> Self {
        Self {
            machine,
            workers,
            max_waiting,
            retention: RetentionPolicy::default(),
            retention_every: Duration::from_hours(1),
            adopt_trace: None,
        }
    }
}

/// Whether jobs are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    Open,
    /// No more; those that run are asked to stop.
    Draining,
    /// Nothing runs, and nothing will.
    Stopped,
}

/// Why a job is not running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRunning {
    /// It runs.
    Runs,
    /// It is over.
    Ended,
    /// It is on hold.
    Held,
    /// No job is started, because somebody said so.
    StartsPaused,
    /// The host is about to stop.
    Draining,
    /// It waits in the queue.
    Waiting(Waiting),
    /// It is on its way between two places, for a moment.
    Between,
}

/// Figures of the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DispatchFigures {
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs that run.
    pub running: usize,
    /// What the running ones take.
    pub used: Capacity,
    /// What there is.
    pub machine: Capacity,
    /// Whether jobs are started.
    pub mode: Mode,
}

/// A job that was taken out of the queue: it has its share of the machine until its attempt ends.
pub struct Taken {
    /// Its number.
    pub number: JobNumber,
    orders: Orders,
}

/// Runs the jobs of a host. Stops when dropped, as a crash would: at once.
pub struct Dispatcher {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub host: Arc<Host>,
    options: DispatchOptions,
    state: Mutex<State>,
    /// Wakes workers when there may be something to start.
    work: Condvar,
    /// Wakes those who wait for running jobs to stop.
    idle: Condvar,
    /// Wakes the keeper.
    keeper: Condvar,
}

pub(crate) struct State {
    queue: Queue,
    running: HashMap<JobNumber, Orders>,
    /// How often in a row the host failed while it ran a job.
    faults: HashMap<JobNumber, Faults>,
    /// When jobs must have ended.
    finish_by: BTreeSet<(u64, JobNumber)>,
    mode: Mode,
    /// Why the host can do nothing any more, if it cannot.
    failure: Option<String>,
}

/// Faults of the host without a new checkpoint in between.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    count: u32,
    /// The job's newest checkpoint at the last one.
    sequence: u64,
}

impl Shared {
    // The state is consistent between statements; a job that panics does so without the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job into the queue, if it still has something to do.
    pub(crate) fn offer(&self, job: &Job) {
        if !job.is_unfinished() || job.state.held {
            return;
        }
        let mut state = self.lock();
        if job.terms.finish_by_ns != 0 {
            state.finish_by.insert((job.terms.finish_by_ns, job.number));
        }
        state.queue.offer(Candidate::of(job), self.host.now_ns());
        drop(state);
        self.work.notify_one();
    }

    /// The log takes nothing any more: what follows must be a new start of the host.
    fn fail(&self, cause: &str) {
        let mut state = self.lock();
        state.failure.get_or_insert_with(|| cause.to_owned());
        state.mode = Mode::Stopped;
        for orders in state.running.values() {
            orders.stop_now(Interruption::HostFault);
        }
        drop(state);
        tracing::error!(cause, "the ledger takes nothing any more; start the host again");
        self.work.notify_all();
        self.idle.notify_all();
        self.keeper.notify_all();
    }
}

impl Dispatcher {
    /// Puts everything that is unfinished into the queue and starts the threads.
    pub fn start(host: Arc<Host>, options: DispatchOptions) -> io::Result<Self> {
        let workers = options.workers.max(1);
        let dispatcher = Self::unstaffed(host, options);
        let mut threads = Vec::with_capacity(workers + 1);
        for index in 0..workers {
            threads.push(worker::spawn(&dispatcher.shared, index)?);
        }
        threads.push(keeper::spawn(&dispatcher.shared)?);
        *dispatcher.threads.lock().unwrap_or_else(PoisonError::into_inner) = threads;
        Ok(dispatcher)
    }

    /// Puts everything that is unfinished into the queue and starts no thread: whoever holds it calls
    /// [`Self::take_next`], [`Self::run_taken`] and [`Self::keep_once`], in an order of their own.
    pub fn unstaffed(host: Arc<Host>, options: DispatchOptions) -> Self {
        let state = State {
            queue: Queue::new(options.machine),
            running: HashMap::new(),
            faults: HashMap::new(),
            finish_by: BTreeSet::new(),
            mode: Mode::Open,
            failure: None,
        };
        let shared = Arc::new(Shared {
            host,
            options,
            state: Mutex::new(state),
            work: Condvar::new(),
            idle: Condvar::new(),
            keeper: Condvar::new(),
        });
        let unfinished: Vec<JobNumber> = shared.host.with_ledger(|ledger| {
            let jobs = ledger.jobs.values().filter(|job| job.is_unfinished());
            jobs.map(|job| job.number).collect()
        });
        for number in unfinished {
            if let Some(job) = shared.host.job(number) {
                shared.offer(&job);
            }
        }
        shared.host.keep();
        Self { shared, threads: Mutex::default() }
    }

    /// Takes the job that starts next out of the queue, if one may start now.
    pub fn take_next(&self) -> Option<Taken> {
        let now_ns = self.shared.host.now_ns();
        self.shared.take_next(&mut self.shared.lock(), now_ns)
    }

    /// Makes an attempt at a job that was taken, on the calling thread.
    pub fn run_taken(&self, taken: &Taken) {
        self.shared.work_on(taken);
    }

    /// One round of what looks after a host: jobs out of time, schedules, archives, blobs that nothing
    /// needs, snapshots.
    pub fn keep_once(&self) {
        let now_ns = self.shared.host.now_ns();
        self.shared.keep_once(now_ns);
        self.shared.fire_schedules(now_ns);
    }

    /// The host.
    pub fn host(&self) -> &Arc<Host> {
        &self.shared.host
    }

    /// Accepts a job and puts it into the queue. What was decided is not durable yet; see
    /// [`Host::submit_undurable`].
    pub fn submit(
        &self,
        submission: &Submission,
    ) -> Result<(Submitted, Option<Decided>), SubmitError> {
        let with_memory = self.shared.host.with_memory_for_origin(submission)?;
        let submission = with_memory.as_ref().unwrap_or(submission);
        self.check_size(submission)?;
        let queued = self.shared.lock().queue.waiting();
        let max = self.shared.options.max_waiting;
        if queued >= max && !self.is_known(submission) {
            return Err(SubmitError::QueueFull { queued, max });
        }
        let (submitted, decided) = self.shared.host.submit_undurable(submission)?;
        if let Submitted::New(number) = submitted
            && let Some(job) = self.shared.host.job(number)
        {
            self.shared.offer(&job);
        }
        Ok((submitted, decided))
    }

    /// Whether the answer is a job that is there: a full queue is no reason to refuse it.
    fn is_known(&self, submission: &Submission) -> bool {
        submission.job_id.as_ref().is_some_and(|job_id| {
            self.shared.host.with_ledger(|ledger| ledger.by_id(job_id).is_some())
        })
    }

    fn check_size(&self, submission: &Submission) -> Result<(), SubmitError> {
        let machine = self.shared.options.machine;
        let asked = u64::from(submission.terms.resources.cpu_milli);
        if asked > machine.cpu_milli {
            let what = "thousandths of a processor";
            return Err(SubmitError::TooLarge { what, asked, have: machine.cpu_milli });
        }
        let asked = match submission.terms.resources.memory_bytes {
            0 => submission.spec.limits.memory_bytes,
            bytes => bytes,
        };
        if asked > machine.memory_bytes {
            let what = "bytes of memory";
            return Err(SubmitError::TooLarge { what, asked, have: machine.memory_bytes });
        }
        Ok(())
    }

    /// Cancels a job. One that runs is asked to end, which it does within moments.
    pub fn cancel(&self, number: JobNumber) -> Result<(), ChangeError> {
        let job = self.unfinished(number)?;
        let mut state = self.shared.lock();
        if let Some(orders) = state.running.get(&number) {
            orders.cancel();
            return Ok(());
        }
        state.queue.withdraw(number);
        drop(state);
        self.shared.end_idle(&job, Outcome::Cancelled, "cancelled before it ran".to_owned())
    }

    /// Puts a job on hold. One that runs stops at its next checkpoint; with `now`, at once.
    pub fn hold(&self, number: JobNumber, now: bool) -> Result<(), ChangeError> {
        let job = self.unfinished(number)?;
        if job.state.held {
            return Err(ChangeError::Already { job_id: job.job_id, what: "on hold" });
        }
        let record = Held { job: number, at_ns: self.shared.host.now_ns() };
        let decided = self.shared.host.decide(number, vec![record.into()], Urgency::Closing)?;
        let mut state = self.shared.lock();
        state.queue.withdraw(number);
        if let Some(orders) = state.running.get(&number) {
            if now {
                orders.stop_now(Interruption::Held);
            } else {
                orders.stop_at_checkpoint(Interruption::Held);
            }
        }
        drop(state);
        Ok(self.shared.host.settle(decided)?)
    }

    /// Lets a job that is on hold go on.
    pub fn release(&self, number: JobNumber) -> Result<(), ChangeError> {
        let job = self.unfinished(number)?;
        if !job.state.held {
            return Err(ChangeError::Already { job_id: job.job_id, what: "released" });
        }
        let record = Released { job: number, at_ns: self.shared.host.now_ns() };
        let decided = self.shared.host.decide(number, vec![record.into()], Urgency::Closing)?;
        if let Some(orders) = self.shared.lock().running.get(&number) {
            // It has not stopped yet, so it need not. If it just did, it is offered again.
            orders.go_on();
        }
        if let Some(job) = self.shared.host.job(number) {
            self.shared.offer(&job);
        }
        Ok(self.shared.host.settle(decided)?)
    }

    /// Starts no more jobs, or goes on starting them; durable, so also after a new start.
    pub fn pause_starts(&self, paused: bool) -> Result<(), ChangeError> {
        let record = StartsPaused { paused, at_ns: self.shared.host.now_ns() };
        let decided = self.shared.host.decide_whole(record.into(), Urgency::Closing)?;
        self.shared.work.notify_all();
        Ok(self.shared.host.settle(decided)?)
    }

    /// Why a job is not running.
    pub fn why(&self, number: JobNumber) -> Result<NotRunning, ChangeError> {
        let missing = ChangeError::NoSuchJob { job: number };
        let (over, held, paused) = self
            .shared
            .host
            .with_ledger(|ledger| {
                let paused = ledger.starts_paused;
                ledger.by_number(number).map(|found| match found {
                    Found::Here(job) => (!job.is_unfinished(), job.state.held, paused),
                    Found::Archived(..) => (true, false, paused),
                })
            })
            .ok_or(missing)?;
        let state = self.shared.lock();
        Ok(if over {
            NotRunning::Ended
        } else if state.running.contains_key(&number) {
            NotRunning::Runs
        } else if held {
            NotRunning::Held
        } else if state.mode != Mode::Open {
            NotRunning::Draining
        } else if paused {
            NotRunning::StartsPaused
        } else {
            state.queue.why(number).map_or(NotRunning::Between, NotRunning::Waiting)
        })
    }

    /// Figures.
    pub fn figures(&self) -> DispatchFigures {
        let state = self.shared.lock();
        DispatchFigures {
            waiting: state.queue.waiting(),
            running: state.queue.running(),
            used: state.queue.used(),
            machine: state.queue.machine(),
            mode: state.mode,
        }
    }

    /// Why the host can do nothing any more, if it cannot: it has to be started again.
    pub fn failure(&self) -> Option<String> {
        let noticed = self.shared.lock().failure.clone();
        // A flush may fail under a request while no job runs that would notice.
        noticed.or_else(|| self.shared.host.failure())
    }

    /// The newest position up to which everything that was decided is durable.
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.host.durable_lsn()
    }

    /// Starts no more jobs and asks those that run to stop at their next checkpoint; those that
    /// have not by `grace` stop at once and go on from their newest one later. Says whether all
    /// stopped at a checkpoint, or ended.
    pub fn drain(&self, grace: Duration) -> bool {
        self.begin_drain();
        let in_time = self.wait_until_idle(grace);
        self.stop_all();
        self.wait_until_idle(STOP_PATIENCE);
        in_time
    }

    /// Starts no more jobs and asks those that run to stop at their next checkpoint.
    pub fn begin_drain(&self) {
        let mut state = self.shared.lock();
        if state.mode == Mode::Open {
            state.mode = Mode::Draining;
        }
        for orders in state.running.values() {
            orders.stop_at_checkpoint(Interruption::Shutdown);
        }
    }

    fn stop_all(&self) {
        let mut state = self.shared.lock();
        state.mode = Mode::Stopped;
        for orders in state.running.values() {
            orders.stop_now(Interruption::Shutdown);
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.keeper.notify_all();
    }

    /// Whether nothing ran any more within this time.
    fn wait_until_idle(&self, patience: Duration) -> bool {
        let end = Instant::now().checked_add(patience);
        let mut state = self.shared.lock();
        while !state.running.is_empty() && state.failure.is_none() {
            let left =
                end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.idle.wait_timeout(state, left.min(LONGEST_WAIT));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn unfinished(&self, number: JobNumber) -> Result<Job, ChangeError> {
        if let Some(job) = self.shared.host.job(number)
            && job.is_unfinished()
        {
            return Ok(job);
        }
        let job = self.shared.host.load(number).map_err(crate::RunError::from)?;
        let job = job.ok_or(ChangeError::NoSuchJob { job: number })?;
        Err(ChangeError::Ended { job_id: job.job_id, phase: job.state.phase.name() })
    }
}

/// How long a job that was told to stop at once may take: a single operation of its own, or one
/// write of the host.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// The longest single wait, so that a condition that was missed is seen all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.stop_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread that runs jobs panicked");
            }
        }
    }
}
