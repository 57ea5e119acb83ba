//! Feeds the read model from the ledger.
//!
//! Owns: the thread that does it, the newest lines of the global history in memory, and when the read
//! model is made again. It is never on the path of an acknowledgement: it runs behind by some
//! milliseconds, and says how far it is.
//!
//! Invariant: the read model claims a position only when everything up to it was announced and fed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use hb_api::event::EventView;
use hb_host::Host;
use hb_read_model::{Changes, EventRow, JobRow, ReadModel, ReadModelError};
use hb_types::{
    Lsn,
    event::JobNumber,
    history::Happening,
    ledger::{Attempt, Job, Stop},
    state::{Interruption, Phase},
};
use tokio::sync::watch;

use crate::hub::{Hub, Taken};

/// Jobs that one transaction takes.
const BATCH: usize = 1000;
/// Events of one job that one transaction takes.
const EVENTS_OF_A_JOB: usize = 10_000;
/// Lines of the global history that are kept in memory.
const KEPT_LINES: usize = 8192;

/// One line of the global history.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its position.
    pub lsn: Lsn,
    /// Its kind.
    pub kind: Arc<str>,
    /// All of it, as JSON.
    pub json: Arc<str>,
}

/// The feed of one read model.
pub(crate) struct Feed {
    host: Arc<Host>,
    hub: Arc<Hub>,
    read_model: Arc<ReadModel>,
    recent: Mutex<Recent>,
    fed: watch::Sender<Lsn>,
}

#[derive(Default)]
struct Recent {
    lines: VecDeque<Line>,
    /// Everything after this position is in `lines`.
    complete_after: Lsn,
}

impl Feed {
    pub fn new(host: Arc<Host>, hub: Arc<Hub>, read_model: Arc<ReadModel>) -> Self {
        let recent = Mutex::new(Recent { complete_after: Lsn::MAX, ..Recent::default() });
        let fed = watch::Sender::new(read_model.applied());
        Self { host, hub, read_model, recent, fed }
    }

    /// Everything up to this position can be asked for.
    pub fn fed(&self) -> Lsn {
        *self.fed.borrow()
    }

    /// Tells when more can be asked for.
    pub fn subscribe(&self) -> watch::Receiver<Lsn> {
        self.fed.subscribe()
    }

    /// Starts the thread. It ends when the hub is stopped.
    pub fn spawn(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let feed = Arc::clone(self);
        std::thread::Builder::new().name("read-model".to_owned()).spawn(move || feed.run())
    }

    fn run(&self) {
        if let Err(error) = self.catch_up() {
            self.complain(&error);
        }
        let mut held = BTreeMap::new();
        while let Some(taken) = self.hub.take() {
            let taken = in_order(taken, &mut held);
            if let Err(error) = self.feed(&taken) {
                self.complain(&error);
                self.rebuild();
            }
        }
    }

    fn complain(&self, error: &ReadModelError) {
        let applied = self.read_model.applied();
        tracing::error!(%error, applied, "the read model cannot be fed; lists are older than they say");
    }

    /// Makes the read model again, from the ledger.
    fn rebuild(&self) {
        let rebuilt = self.read_model.clear().and_then(|()| self.feed_all(0));
        match rebuilt {
            Ok(()) => tracing::info!("the read model was made again"),
            Err(error) => self.complain(&error),
        }
    }

    /// Feeds what changed while nobody did.
    fn catch_up(&self) -> Result<(), ReadModelError> {
        let applied = self.read_model.applied();
        if applied > self.host.durable_lsn() {
            tracing::warn!("the read model knows of records that the ledger does not have");
            self.rebuild();
            return Ok(());
        }
        self.feed_all(applied)?;
        let known: u64 = self.read_model.counts_by_phase()?.into_values().sum();
        let there = self.host.with_ledger(hb_types::ledger::Ledger::count) as u64;
        // A job that was removed after the read model was last fed.
        if known > there {
            self.rebuild();
        }
        Ok(())
    }

    /// Feeds every job that changed after a position.
    fn feed_all(&self, after: Lsn) -> Result<(), ReadModelError> {
        let up_to = self.host.durable_lsn();
        let numbers: Vec<JobNumber> = self.host.with_ledger(|ledger| {
            let here = ledger.jobs.values().filter(|job| job.last > after).map(|job| job.number);
            let archived = ledger.archive.jobs().iter();
            let archived = archived.filter(|(_, job)| job.last > after).map(|(number, _)| *number);
            let mut numbers: Vec<JobNumber> = here.chain(archived).collect();
            numbers.sort_unstable();
            numbers
        });
        for batch in numbers.chunks(BATCH) {
            let jobs = batch.iter().map(|number| (*number, after + 1)).collect();
            self.apply(&Taken { jobs, forgotten: Vec::new(), up_to: after }, up_to, false)?;
        }
        self.apply(&Taken { up_to, ..Taken::default() }, up_to, false)?;
        let mut recent = self.recent();
        recent.lines.clear();
        recent.complete_after = up_to;
        drop(recent);
        self.fed.send_replace(up_to);
        Ok(())
    }

    fn feed(&self, taken: &Taken) -> Result<(), ReadModelError> {
        // Whatever is announced is durable, and what is durable may be shown.
        let durable = self.host.durable_lsn();
        self.apply(taken, durable, true)?;
        self.fed.send_if_modified(|fed| {
            let more = taken.up_to > *fed;
            *fed = (*fed).max(taken.up_to);
            more
        });
        Ok(())
    }

    /// Feeds what was taken; nothing after `durable` is shown.
    fn apply(&self, taken: &Taken, durable: Lsn, live: bool) -> Result<(), ReadModelError> {
        let mut changes = Changes {
            jobs: Vec::new(),
            events: Vec::new(),
            forgotten: taken.forgotten.clone(),
            applied: taken.up_to,
        };
        for (number, first) in &taken.jobs {
            let job = match self.host.load(*number) {
                Ok(Some(job)) => job,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(job = number, %error, "a job cannot be read for the read model");
                    continue;
                }
            };
            let events = job.events_after(first - 1, EVENTS_OF_A_JOB);
            let durable_events = events.iter().take_while(|event| event.lsn <= durable);
            changes.events.extend(durable_events.map(|event| {
                let view = EventView::of(job.number, &job.job_id, event);
                let json = serde_json::to_string(&view).expect("a view is plain data");
                EventRow { lsn: event.lsn, job: job.number, kind: view.what.name().into(), json }
            }));
            changes.jobs.push(row_of(&job, durable));
        }
        changes.events.sort_by_key(|event| event.lsn);
        changes.events.dedup_by_key(|event| event.lsn);
        self.read_model.apply(&changes)?;
        if live {
            self.remember(&changes.events, taken.up_to);
        }
        Ok(())
    }

    fn remember(&self, events: &[EventRow], up_to: Lsn) {
        let mut recent = self.recent();
        if recent.complete_after > up_to {
            return;
        }
        for event in events {
            // A line may come twice, with what was announced late.
            let at = recent.lines.partition_point(|line| line.lsn < event.lsn);
            if recent.lines.get(at).is_some_and(|line| line.lsn == event.lsn) {
                continue;
            }
            let line = Line {
                lsn: event.lsn,
                kind: event.kind.as_str().into(),
                json: event.json.as_str().into(),
            };
            recent.lines.insert(at, line);
        }
        while recent.lines.len() > KEPT_LINES {
            if let Some(line) = recent.lines.pop_front() {
                recent.complete_after = line.lsn;
            }
        }
    }

    /// Lines of the global history after a position and up to what was fed, at most `limit`.
    pub fn lines_after(&self, after: Lsn, limit: usize) -> Result<Vec<Line>, ReadModelError> {
        let fed = self.fed();
        {
            let recent = self.recent();
            if after >= recent.complete_after {
                let at = recent.lines.partition_point(|line| line.lsn <= after);
                let lines = recent.lines.range(at..).take_while(|line| line.lsn <= fed);
                return Ok(lines.take(limit).cloned().collect());
            }
        }
        let rows = self.read_model.events_after(after, limit)?;
        let rows = rows.into_iter().filter(|row| row.lsn <= fed);
        Ok(rows
            .map(|row| Line { lsn: row.lsn, kind: row.kind.into(), json: row.json.into() })
            .collect())
    }

    /// The newest line.
    pub fn last_line(&self) -> Option<Line> {
        self.recent().lines.back().cloned()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be fed now. Jobs are fed in the order of their numbers, so one that is announced before
/// an older one waits in `held` until nothing before it can be missing.
fn in_order(taken: Taken, held: &mut BTreeMap<JobNumber, Lsn>) -> Taken {
    for (job, first) in taken.jobs {
        let known = held.entry(job).or_insert(first);
        *known = (*known).min(first);
    }
    let later = held.split_off(&(taken.up_to + 1));
    let jobs = std::mem::replace(held, later).into_iter().collect();
    Taken { jobs, ..taken }
}

/// A job as the read model keeps it, as it stood at a durable position.
fn row_of(job: &Job, durable: Lsn) -> JobRow {
    let conclusion = job.conclusion.as_ref().filter(|conclusion| conclusion.lsn <= durable);
    let seal = job.seal.as_ref().filter(|kept| kept.lsn <= durable);
    let attempts = job.attempts.partition_point(|attempt| attempt.token <= durable);
    let died = |attempt: &&Attempt| {
        attempt.stopped.as_ref().is_some_and(|stopped| {
            stopped.lsn <= durable && stopped.why == Stop::Interrupted(Interruption::HostCrashed)
        })
    };
    let crashes = job.attempts.iter().filter(died).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    JobRow {
        number: job.number,
        job_id: job.job_id.clone(),
        job_hash: job.job_hash,
        phase: if job.last <= durable { job.state.phase } else { phase_at(job, durable) },
        outcome: conclusion.map(|conclusion| hb_api::job::outcome_text(&conclusion.outcome)),
        exit_code: conclusion.map(|conclusion| conclusion.outcome.exit_code()),
        seal: seal.map(|kept| kept.seal),
        program: job.spec.arguments.first().cloned().unwrap_or_default(),
        queue: job.terms.queue.clone(),
        labels: job.spec.labels.clone(),
        received_ns: job.received_ns,
        started_ns: job.attempts[..attempts].first().map(|attempt| attempt.started_ns),
        ended_ns: conclusion.map(|conclusion| conclusion.at_ns),
        attempts: count(attempts),
        crashes: count(crashes),
        checkpoints: job.checkpoints.partition_point(|mark| mark.lsn <= durable) as u64,
        bytes: job.kept_bytes(),
        last: job.last.min(durable),
    }
}

/// The phase of a job that goes on after a durable position: what its newest durable event says.
fn phase_at(job: &Job, durable: Lsn) -> Phase {
    let events = job.events_after(0, usize::MAX);
    let durable = events.iter().take_while(|event| event.lsn <= durable);
    let newest =
        durable.filter(|event| !matches!(event.what, Happening::Held | Happening::Released));
    match newest.last().map(|event| &event.what) {
        Some(Happening::Scheduled | Happening::Interrupted { .. } | Happening::Retried { .. }) => {
            Phase::Scheduled
        }
        Some(Happening::Started { .. } | Happening::Checkpoint { .. }) => Phase::Running,
        // An outcome and its seal are one batch, and one flush.
        Some(Happening::Ended { .. } | Happening::Sealed { .. }) => job.state.phase,
        Some(Happening::Received | Happening::Held | Happening::Released) | None => Phase::Received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_waits_until_nothing_before_it_can_be_missing() {
        let mut held = BTreeMap::new();
        let taken = |jobs: &[(JobNumber, Lsn)], up_to| Taken {
            jobs: jobs.to_vec(),
            forgotten: Vec::new(),
            up_to,
        };
        assert_eq!(in_order(taken(&[(5, 5), (9, 9)], 2), &mut held).jobs, []);
        assert_eq!(in_order(taken(&[(3, 3), (5, 6)], 6), &mut held).jobs, [(3, 3), (5, 5)]);
        assert_eq!(in_order(taken(&[(1, 10)], 10), &mut held).jobs, [(1, 10), (9, 9)]);
        assert!(held.is_empty());
    }
}
