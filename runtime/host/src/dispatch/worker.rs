//! One thread that runs jobs.
//!
//! Owns: what becomes of a job after an attempt, and that a worker gives way to the threads that
//! answer and write. Knows nothing of the order between jobs.
//!
//! Invariant: a job's share of the machine is given back as soon as its guest has ended, before the
//! disk is waited for: the next one runs meanwhile, and their outcomes share a flush.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use hb_types::{event::JobNumber, ledger::Job, outcome::Outcome, text::printable};

use super::{Faults, LONGEST_WAIT, Mode, Shared, State, Taken};
use crate::{
    decide::Decided,
    error::{ChangeError, RunError, is_disk_full},
    execute::{Executed, Orders, chain_of},
    live::LiveObserver,
    queue::Candidate,
};

/// Stack of a worker: what a session's calls need, and the compiler's answer on top.
const STACK_BYTES: usize = 4 * 1024 * 1024;
/// How much later than others a worker runs: whoever answers or writes goes first.
const NICENESS: i32 = 5;
/// The pause after the first fault of the host while it ran a job; it doubles each time that the job
/// did not come to a new checkpoint.
const FAULT_PAUSE_NS: u64 = 1_000_000_000;
/// The longest such pause.
const FAULT_PAUSE_MAX_NS: u64 = 60_000_000_000;
/// Bytes of an error that are told.
const ERROR_BYTES: usize = 1000;

pub(super) fn spawn(shared: &Arc<Shared>, index: usize) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    Builder::new().name(format!("job-{index}")).stack_size(STACK_BYTES).spawn(move || {
        give_way();
        while let Some(taken) = shared.next_job() {
            shared.work_on(&taken);
        }
    })
}

fn give_way() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
        tracing::debug!(%error, "a worker keeps the common priority");
    }
}

impl Shared {
    /// The next job to run, once there is one; `None` when no more will be.
    fn next_job(&self) -> Option<Taken> {
        let mut state = self.lock();
        loop {
            if state.mode == Mode::Stopped {
                return None;
            }
            let now_ns = self.host.now_ns();
            if let Some(taken) = self.take_next(&mut state, now_ns) {
                return Some(taken);
            }
            let until_next = state.queue.next_wake_ns().map_or(LONGEST_WAIT, |wake_ns| {
                Duration::from_nanos(wake_ns.saturating_sub(now_ns)).min(LONGEST_WAIT)
            });
            let waited = self.work.wait_timeout(state, until_next.max(Duration::from_millis(1)));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The job that starts next, if one may start now.
    pub(super) fn take_next(&self, state: &mut State, now_ns: u64) -> Option<Taken> {
        if state.mode != Mode::Open || self.host.with_ledger(|ledger| ledger.starts_paused) {
            return None;
        }
        let number = state.queue.start_next(now_ns)?;
        let orders = Orders::default();
        state.running.insert(number, orders.clone());
        Some(Taken { number, orders })
    }

    /// The span around an attempt, below the trace of whoever asked for the job.
    fn span(&self, number: JobNumber) -> tracing::Span {
        let job = self.host.with_ledger(|ledger| {
            let job = ledger.jobs.get(&number)?;
            Some((job.job_id.clone(), job.terms.traceparent.clone()))
        });
        let (job_id, traceparent) = job.unwrap_or_default();
        let span = tracing::info_span!("job", job = number, job_id);
        if let (Some(adopt), Some(traceparent)) = (&self.options.adopt_trace, traceparent) {
            adopt(&span, &traceparent);
        }
        span
    }

    pub(super) fn work_on(&self, taken: &Taken) {
        let Taken { number, orders } = taken;
        let number = *number;
        let _span = self.span(number).entered();
        let mut observer = LiveObserver::new(&self.host, number);
        let attempt = AssertUnwindSafe(|| self.host.execute(number, orders, &mut observer));
        let executed = catch_unwind(attempt);
        self.release(number);
        match executed {
            Ok(Ok(executed)) => self.after(number, executed),
            Ok(Err(error)) => self.after_error(number, &error),
            Err(_) => {
                tracing::error!(job = number, "running a job panicked; it is tried again");
                self.offer_after_fault(number);
            }
        }
        // What the job printed stays to be seen until all of it is durable.
        drop(observer);
    }

    /// Gives back what the job took of the machine.
    fn release(&self, number: JobNumber) {
        let mut state = self.lock();
        state.queue.finished(number);
        state.running.remove(&number);
        let idle = state.running.is_empty();
        drop(state);
        self.work.notify_one();
        if idle {
            self.idle.notify_all();
        }
    }

    fn after(&self, number: JobNumber, executed: Executed) {
        let decided = match executed {
            Executed::Over => return,
            Executed::Ended(decided) => {
                self.lock().faults.remove(&number);
                decided
            }
            Executed::Retried { decided, .. } | Executed::Stopped { decided, .. } => {
                self.offer_again(number);
                decided
            }
        };
        self.settle(decided);
    }

    fn settle(&self, decided: Decided) {
        if let Err(error) = self.host.settle(decided) {
            self.fail(&chain_of(&error));
        }
    }

    fn offer_again(&self, number: JobNumber) {
        if let Some(job) = self.host.job(number) {
            self.offer(&job);
        }
    }

    fn after_error(&self, number: JobNumber, error: &RunError) {
        // It was put on hold while it was made ready: nothing was claimed, and nothing is wrong.
        if self.host.job(number).is_none_or(|job| job.state.held || !job.is_unfinished()) {
            return;
        }
        let text = printable(&chain_of(error), ERROR_BYTES);
        match error {
            RunError::NotRunnable(refusal) if refusal.is_component() => {
                self.end_not_runnable(number, text);
                return;
            }
            _ if self.host.failure().is_some() => {
                self.fail(&text);
                return;
            }
            _ => {}
        }
        let full = is_disk_full(error);
        tracing::warn!(job = number, error = text, full, "an attempt ended without an outcome");
        self.offer_after_fault(number);
    }

    fn end_not_runnable(&self, number: JobNumber, text: String) {
        let Some(job) = self.host.job(number) else { return };
        if let Err(error) = self.end_idle(&job, Outcome::NotRunnable, text) {
            tracing::warn!(job = number, %error, "a job that cannot run could not be ended");
            self.offer_after_fault(number);
        }
    }

    /// Ends a job that does not run.
    pub(super) fn end_idle(
        &self,
        job: &Job,
        outcome: Outcome,
        message: String,
    ) -> Result<(), ChangeError> {
        let decided = self.host.conclude_idle(job, outcome, message)?;
        Ok(self.host.settle(decided)?)
    }

    /// Puts a job back after a fault of the host, later each time.
    fn offer_after_fault(&self, number: JobNumber) {
        let Some(job) = self.host.job(number) else { return };
        if !job.is_unfinished() || job.state.held {
            return;
        }
        let mut state = self.lock();
        let faults = state.faults.entry(number).or_default();
        if job.state.sequence != faults.sequence {
            // It came further, so what went wrong before is over.
            *faults = Faults { count: 0, sequence: job.state.sequence };
        }
        let pause_ns =
            FAULT_PAUSE_NS.saturating_mul(1 << faults.count.min(16)).min(FAULT_PAUSE_MAX_NS);
        faults.count = faults.count.saturating_add(1);
        let now_ns = self.host.now_ns();
        let not_before_ns = now_ns.saturating_add(pause_ns).max(job.not_before_ns);
        state.queue.offer(Candidate { not_before_ns, ..Candidate::of(&job) }, now_ns);
        drop(state);
        self.work.notify_one();
    }

    /// Ends jobs that wait although their time is over.
    pub(super) fn end_those_out_of_time(&self, now_ns: u64) {
        loop {
            let mut state = self.lock();
            let Some((by_ns, number)) = state.finish_by.first().copied() else { return };
            if by_ns > now_ns {
                return;
            }
            state.finish_by.pop_first();
            // One that runs knows its time itself.
            let waited = state.queue.withdraw(number);
            drop(state);
            let job = self.host.job(number).filter(|job| waited && job.is_unfinished());
            let Some(job) = job else { continue };
            let reached = hb_types::limits::LimitReached {
                limit: hb_types::limits::Limit::Deadline,
                value: by_ns.saturating_sub(job.received_ns) / 1_000_000,
                wanted: 0,
            };
            let message = "its time was over before it could run".to_owned();
            if let Err(error) = self.end_idle(&job, Outcome::Limit { reached }, message) {
                tracing::warn!(job = number, %error, "a job out of time could not be ended");
                self.offer_after_fault(number);
            }
        }
    }
}
