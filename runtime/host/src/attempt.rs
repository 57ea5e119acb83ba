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
use hb_types::{
    Lsn,
    capture::{Capture, ContentId, Progress, Restored},
    content::Holdings,
    event::{Checkpointed, JobNumber},
    job::CheckpointPolicy,
    ledger::Job,
};

use crate::{
    Host, clock, contents,
    contents::HeldContents,
    delta,
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
    sequence: u64,
    last_step: u64,
    last_saved: Instant,
    observer: &'a mut dyn Observer,
    /// Output before it is certain that this attempt does not roll it back.
    held_back: Option<Vec<(Stream, Vec<u8>)>>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        host: &'a Host,
        job: &Job,
        token: Lsn,
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
            sequence: 0,
            last_step: 0,
            last_saved: Instant::now(),
            observer,
            held_back: may_resume.then(Vec::new),
        }
    }

    /// From here on output is shown as it comes.
    fn release_output(&mut self) {
        for (stream, bytes) in self.held_back.take().into_iter().flatten() {
            self.observer.output(stream, &bytes);
        }
    }

    /// Shows what earlier attempts durably wrote.
    fn show_restored(&mut self) -> Result<(), HostFault> {
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
        self.last_step = job.state.step;
        // What this attempt printed before it asked is rolled back with everything else.
        self.held_back = None;
        self.show_restored()?;
        let (sequence, step) = (self.sequence, self.last_step);
        self.observer.notice(Notice::Resumed { sequence, step });
        restored(self.host, &self.held, sequence, step, job.counters, job.progress).map(Some)
    }

    fn due(&mut self, step: u64) -> bool {
        match self.policy {
            CheckpointPolicy::EveryMs(interval_ms) => {
                self.last_saved.elapsed().as_millis() >= u128::from(interval_ms)
            }
            CheckpointPolicy::EverySteps(steps) => {
                step.saturating_sub(self.last_step) >= steps.max(1)
            }
            CheckpointPolicy::Never => false,
        }
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        self.release_output();
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
            progress: capture.progress.clone(),
            delta: built.delta,
            at_ns: clock::now_ns(),
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
        Ok(Saved::Continue(sequence))
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        match &mut self.held_back {
            Some(held) => held.push((stream, bytes.to_vec())),
            None => self.observer.output(stream, bytes),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.observer.progress(progress);
    }

    fn finish(&mut self, ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault> {
        self.release_output();
        let hold = self.host.store().hold();
        let decided =
            self.host.conclude(self.job, self.token, &self.held, self.fresh, ending, capture)?;
        drop(hold);
        self.host
            .settle(decided)
            .map_err(|source| HostFault::new("the outcome is not durable", source))
    }
}

/// The form in which the sandbox takes a checkpoint back.
pub(crate) fn restored<'a>(
    host: &'a Host,
    held: &'a Holdings,
    sequence: u64,
    step: u64,
    counters: hb_types::capture::Counters,
    progress: Progress,
) -> Result<Restored<'a>, HostFault> {
    restored_from(host.store(), held, sequence, step, counters, progress)
}

/// The same from any store.
pub(crate) fn restored_from<'a>(
    store: &'a hb_store::Store,
    held: &'a Holdings,
    sequence: u64,
    step: u64,
    counters: hb_types::capture::Counters,
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
