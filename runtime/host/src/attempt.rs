//! One attempt at a job: the host's side of a run.
//!
//! Owns: when checkpoints fall due, how they reach the ledger, and what those who watch may see
//! when. Knows nothing of wasm.
//!
//! Invariants: a checkpoint's blobs are durable before its record, and its record before `save`
//! returns; nothing is written once another attempt holds the job; watchers never see output that
//! is rolled back by this attempt's own `restore`.

use std::time::Instant;

use hb_sandbox::{Ending, HostFault, Saved, Session, Stream};
use hb_store::Store;
use hb_types::{
    Digest, Lsn,
    capture::{Capture, ContentId, Counters, Progress, Restored},
    content::Holdings,
    event::{Checkpointed, JobNumber, Retried},
    job::CheckpointPolicy,
    ledger::Job,
    limits::Limit,
    outcome::Outcome,
    terms::RetryOn,
};

use crate::{
    Host,
    conclusion::End,
    contents,
    contents::HeldContents,
    delta,
    execute::{Executed, Orders},
    journal::Urgency,
    observer::{Notice, Observer},
};

/// An attempt that holds a job.
pub(crate) struct Attempt<'a> {
    host: &'a Host,
    job: JobNumber,
    token: Lsn,
    policy: CheckpointPolicy,
    /// The job as it was when it was claimed, for `restore`; taken by it.
    claimed: Option<Box<Job>>,
    /// What the newest checkpoint of this attempt holds, or the one that it restored.
    held: Holdings,
    /// Whether neither `restore` gave anything back nor anything was saved.
    fresh: bool,
    /// The number of the checkpoint that `restore` gave back; zero where it gave none.
    started_from: u64,
    sequence: u64,
    last_step: u64,
    last_saved: Instant,
    /// Whether the answer to `due`, which no manifest decides, was ever yes.
    said_due: bool,
    orders: Orders,
    /// What was decided at the end.
    result: Option<Executed>,
    observer: &'a mut dyn Observer,
    /// Whether output is not shown yet because this attempt may still roll it back.
    held_back: bool,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        host: &'a Host,
        job: &Job,
        token: Lsn,
        orders: Orders,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let may_resume = job.state.sequence > 0;
        Self {
            host,
            job: job.number,
            token,
            policy: job.spec.checkpoints,
            claimed: may_resume.then(|| Box::new(job.clone())),
            held: Holdings::default(),
            fresh: true,
            started_from: 0,
            sequence: 0,
            last_step: 0,
            last_saved: Instant::now(),
            said_due: false,
            orders,
            result: None,
            observer,
            held_back: may_resume,
        }
    }

    /// What was decided, if the guest came to an end.
    pub(crate) fn into_result(self) -> Option<Executed> {
        self.result
    }

    /// From here on output is shown as it comes; first, what was held back, which the capture has.
    fn release_output(&mut self, capture: &Capture<'_>) -> Result<(), HostFault> {
        if !std::mem::take(&mut self.held_back) {
            return Ok(());
        }
        for content in &capture.contents {
            let stream = match content.id {
                ContentId::STDOUT => Stream::Stdout,
                ContentId::STDERR => Stream::Stderr,
                _ => continue,
            };
            let mut sink = ToObserver { observer: &mut *self.observer, stream };
            contents::copy(capture.source, content.id, content.len_bytes, &mut sink)
                .map_err(|error| HostFault::new("cannot read what the job printed", error))?;
        }
        Ok(())
    }

    /// Writes down that the job is tried again, where its terms say so.
    pub(crate) fn retry(&self, ending: &Ending) -> Result<Option<Executed>, HostFault> {
        let job = self.host.job(self.job).expect("an attempt holds a job of this ledger");
        let policy = &job.terms.retry;
        let wanted = RetryOn::of(&ending.outcome).is_some_and(|kind| policy.on.contains(&kind));
        if !wanted || job.state.retries >= policy.max_retries {
            return Ok(None);
        }
        let at_ns = self.host.now_ns();
        let salt = Digest::of(&[job.job_hash.0, Digest::of(&at_ns.to_le_bytes()).0].concat());
        let random = u64::from_le_bytes(*salt.0.first_chunk().expect("a digest has 32 bytes"));
        let pause_ms = policy.pause_ms(job.state.retries + 1, random);
        let not_before_ns = at_ns.saturating_add(pause_ms.saturating_mul(1_000_000));
        // Its time is over for good, not only for this try.
        if job.terms.finish_by_ns != 0 && not_before_ns >= job.terms.finish_by_ns {
            return Ok(None);
        }
        let record = Retried {
            job: self.job,
            token: self.token,
            outcome: ending.outcome,
            message: ending.explanation.message.clone(),
            not_before_ns,
            at_ns,
        };
        let decided = self.host.decide(self.job, vec![record.into()], Urgency::Closing);
        let decided =
            decided.map_err(|error| HostFault::new("the retry cannot be written down", error))?;
        Ok(Some(Executed::Retried { decided, not_before_ns }))
    }

    /// Ends a job that goes on from another one's checkpoint and did something without having asked
    /// for it: what follows would be a run from the beginning under another name.
    fn end_where_origin_is_ignored(&mut self, how: &str) -> Result<Option<Executed>, HostFault> {
        let Some(job) = self.claimed.take_if(|job| job.spec.origin.is_some()) else {
            return Ok(None);
        };
        let message = format!(
            "the job cannot go on from a checkpoint: {how} without asking for it; \
             its program must call `restore` first"
        );
        let ended = self.host.conclude_unresumed(&job, self.token, Outcome::NotRunnable, message);
        let decided =
            ended.map_err(|error| HostFault::new("the outcome cannot be written down", error))?;
        Ok(Some(Executed::Ended(decided)))
    }

    /// Shows what earlier attempts durably wrote.
    fn show_restored(&mut self) -> Result<(), HostFault> {
        if !self.observer.wants_earlier_output() {
            return Ok(());
        }
        let source = HeldContents { store: self.host.store(), holdings: &self.held };
        for (id, stream) in
            [(ContentId::STDOUT, Stream::Stdout), (ContentId::STDERR, Stream::Stderr)]
        {
            let len_bytes = self.held.content(id).map_or(0, |content| content.len_bytes);
            let mut sink = ToObserver { observer: &mut *self.observer, stream };
            contents::copy(&source, id, len_bytes, &mut sink).map_err(|error| {
                HostFault::new("cannot read what the job printed so far", error)
            })?;
        }
        Ok(())
    }
}

impl Session for Attempt<'_> {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        let Some(job) = self.claimed.take() else { return Ok(None) };
        let job = *job;
        self.held = job.holdings;
        self.fresh = false;
        self.sequence = job.state.sequence;
        self.started_from = job.state.sequence;
        self.last_step = job.state.step;
        // What this attempt printed before it asked is rolled back with everything else.
        self.held_back = false;
        self.show_restored()?;
        let (sequence, step) = (self.sequence, self.last_step);
        let len_bytes = |id| self.held.content(id).map_or(0, |content| content.len_bytes);
        let (stdout_bytes, stderr_bytes) =
            (len_bytes(ContentId::STDOUT), len_bytes(ContentId::STDERR));
        self.observer.notice(Notice::Resumed { sequence, step, stdout_bytes, stderr_bytes });
        let store = self.host.store();
        restored(store, &self.held, sequence, step, job.counters, job.progress).map(Some)
    }

    fn due(&mut self, step: u64) -> bool {
        let due = match self.policy {
            CheckpointPolicy::EveryMs(interval_ms) => {
                self.last_saved.elapsed().as_millis() >= u128::from(interval_ms)
            }
            CheckpointPolicy::EverySteps(steps) => {
                step.saturating_sub(self.last_step) >= steps.max(1)
            }
            CheckpointPolicy::Never => false,
        } || self.orders.wanted().is_some();
        self.said_due |= due;
        due
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        if let Some(executed) = self.end_where_origin_is_ignored("it saved")? {
            self.result = Some(executed);
            return Ok(Saved::Stop);
        }
        self.release_output(capture)?;
        let hold = self.host.store().hold();
        let kind = delta::Kind::Checkpoint;
        let built = delta::build(self.host.store(), &self.held, self.fresh, capture, kind)?;
        let sequence = self.sequence + 1;
        let digest = delta::checkpoint_digest(
            capture.step,
            &capture.counters,
            &capture.progress,
            &built.holdings,
        );
        let record = Checkpointed {
            job: self.job,
            token: self.token,
            sequence,
            step: capture.step,
            digest,
            counters: capture.counters,
            progress: with_bounded_notes(&capture.progress),
            delta: built.delta,
            at_ns: self.host.now_ns(),
        };
        let decided = self
            .host
            .decide(self.job, vec![record.into()], Urgency::New)
            .map_err(|source| HostFault::new("the ledger did not take the checkpoint", source))?;
        drop(hold);
        self.host
            .settle(decided)
            .map_err(|source| HostFault::new("the checkpoint is not durable", source))?;
        self.held = built.holdings;
        self.fresh = false;
        self.sequence = sequence;
        self.last_step = capture.step;
        self.last_saved = Instant::now();
        let written_bytes = built.written_bytes;
        self.observer.notice(Notice::Checkpoint { sequence, step: capture.step, written_bytes });
        if self.orders.wanted().is_some() {
            return Ok(Saved::Stop);
        }
        Ok(Saved::Continue(sequence))
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if !self.held_back {
            self.observer.output(stream, bytes);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.observer.progress(progress);
    }

    fn finish(&mut self, ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault> {
        if let Outcome::Success | Outcome::Exit { .. } | Outcome::Trap { .. } = ending.outcome {
            let how = format!("it ended ({})", ending.explanation.message);
            if let Some(executed) = self.end_where_origin_is_ignored(&how)? {
                self.result = Some(executed);
                return Ok(());
            }
        }
        if let Some(retried) = self.retry(ending)? {
            self.result = Some(retried);
            return Ok(());
        }
        let hold = self.host.store().hold();
        let decided = match self.claimed.take() {
            // Stopped from outside before it asked for its checkpoint: what counts is what was
            // durable, not what this attempt had not yet rolled back.
            Some(job) if self.fresh && ended_from_outside(ending) => {
                let message = ending.explanation.message.clone();
                self.host
                    .conclude_unresumed(&job, self.token, ending.outcome, message)
                    .map_err(|error| HostFault::new("the outcome cannot be written down", error))?
            }
            _ => {
                self.release_output(capture)?;
                // An attempt that resumed has paid for it in fuel and memory.
                let resumed = !self.fresh && self.started_from > 0;
                let end = End { ending, capture, depends_on_history: self.said_due || resumed };
                self.host.conclude(self.job, self.token, &self.held, self.fresh, &end)?
            }
        };
        drop(hold);
        self.result = Some(Executed::Ended(decided));
        Ok(())
    }
}

/// Whether an ending says nothing about the job itself.
pub(crate) fn ended_from_outside(ending: &Ending) -> bool {
    match ending.outcome {
        Outcome::Cancelled => true,
        Outcome::Limit { reached } => reached.limit == Limit::Deadline,
        Outcome::Success
        | Outcome::Exit { .. }
        | Outcome::Trap { .. }
        | Outcome::Poisoned
        | Outcome::NotRunnable => false,
    }
}

/// The most bytes of remarks that one record keeps.
const NOTES_MAX_BYTES: usize = 16 * 1024;

/// Progress as it is written down.
pub(crate) fn with_bounded_notes(progress: &Progress) -> Progress {
    let mut kept = Progress { notes: Vec::new(), ..progress.clone() };
    let mut bytes = 0;
    for note in &progress.notes {
        bytes += note.len();
        if bytes > NOTES_MAX_BYTES {
            let more = progress.notes.len() - kept.notes.len();
            kept.notes.push(format!("({more} more remarks were not kept)"));
            break;
        }
        kept.notes.push(note.clone());
    }
    kept
}

/// The form in which the sandbox takes a checkpoint back.
pub(crate) fn restored<'a>(
    store: &'a Store,
    held: &'a Holdings,
    sequence: u64,
    step: u64,
    counters: Counters,
    progress: Progress,
) -> Result<Restored<'a>, HostFault> {
    let source = HeldContents { store, holdings: held };
    let state_len = held.content(ContentId::STATE).map_or(0, |content| content.len_bytes);
    let mut state = Vec::new();
    contents::copy(&source, ContentId::STATE, state_len, &mut state)
        .map_err(|error| HostFault::new("cannot read the state of the checkpoint", error))?;
    let contents = held.contents.iter().filter(|(id, _)| **id != ContentId::STATE);
    Ok(Restored {
        sequence,
        step,
        state,
        counters,
        contents: contents.map(|(id, content)| (*id, content.len_bytes)).collect(),
        names: held.names.clone(),
        progress,
        source: Box::new(source),
    })
}

struct ToObserver<'a> {
    observer: &'a mut dyn Observer,
    stream: Stream,
}

impl std::io::Write for ToObserver<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.observer.output(self.stream, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
