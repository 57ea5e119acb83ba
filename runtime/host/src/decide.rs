//! Decisions: the way of records into the log and the ledger, and what follows once they are
//! durable.
//!
//! Owns: the order check, append, apply, all under one lock; snapshots of the ledger; the removal of
//! blobs that nothing needs. Knows nothing of why something is decided.
//!
//! Invariants: records are applied to the ledger in the order of the log; a blob is removed only
//! after the record that let go of it is durable.

use hb_store::WhileHeld;
use hb_types::{
    Digest, Lsn,
    event::{Event, JobNumber},
    ledger::Ledger,
};

use crate::{
    error::DecideError,
    host::{Host, Shared},
    journal::{Entry, Expect, Journal, JournalError, Pending, Subject, Urgency},
    listen::Change,
};

/// The most blobs that wait to be removed until nobody is about to refer to one.
const UNUSED_MAX: usize = 64;

/// A snapshot is made once the log has grown by this many times the size of the last one: what
/// snapshots cost then stays a fixed part of what is written, however large the ledger is.
const SNAPSHOT_GROWTH: u64 = 4;
/// Snapshots up to this size cost next to nothing.
const SNAPSHOT_SMALL_BYTES: u64 = 1024 * 1024;

/// A decision that is in the log's order and on its way to the disk.
#[must_use = "nothing may be announced before it was settled"]
pub struct Decided {
    pending: Pending,
    /// Position of its first record.
    pub first: Lsn,
    /// Position of its last record.
    pub last: Lsn,
    unused: Vec<Digest>,
}

impl Host {
    /// Decides records about one job: checks that they may follow, appends and applies them.
    pub(crate) fn decide(
        &self,
        job: JobNumber,
        events: Vec<Event>,
        urgency: Urgency,
    ) -> Result<Decided, DecideError> {
        let mut shared = self.lock();
        shared.ledger.check(&events)?;
        let mut first = None;
        let mut batch = Vec::with_capacity(events.len());
        for event in events {
            let Some((parts, assembled)) = event.split() else {
                batch.push(event);
                continue;
            };
            // A frame of the log holds a bounded number of bytes. Parts do nothing by
            // themselves, so a crash among them leaves the job as it was.
            for part in parts {
                let entries = entries_about(&shared.ledger, job, vec![part]);
                let part = self.append_entries(&mut shared, &entries, urgency)?;
                first.get_or_insert(part.first);
            }
            batch.push(assembled);
        }
        let entries = entries_about(&shared.ledger, job, batch);
        let decided = self.append_entries(&mut shared, &entries, urgency)?;
        drop(shared);
        self.announce(Some(job), first.unwrap_or(decided.first), &decided);
        Ok(decided)
    }

    /// Decides a record about the ledger as a whole.
    pub(crate) fn decide_whole(
        &self,
        event: Event,
        urgency: Urgency,
    ) -> Result<Decided, DecideError> {
        let mut shared = self.lock();
        shared.ledger.check(std::slice::from_ref(&event))?;
        let forgotten: Vec<JobNumber> = match &event {
            Event::Forgotten(record) => record.jobs.iter().map(|one| one.job).collect(),
            _ => Vec::new(),
        };
        let entry = Entry { subject: Subject::Ledger, expect: Expect::Any, event };
        let decided = self.append_entries(&mut shared, &[entry], urgency)?;
        drop(shared);
        if !forgotten.is_empty() {
            let listeners = self.listeners();
            decided.pending.on_durable(move |result| {
                if result.is_ok() {
                    listeners.iter().for_each(|listener| listener.forgotten(&forgotten));
                }
            });
        }
        self.announce(None, decided.first, &decided);
        Ok(decided)
    }

    /// Appends the record that founds a job, if its name is still free.
    pub(crate) fn found(&self, job_id: &str, event: Event) -> Result<Decided, DecideError> {
        let mut shared = self.lock();
        shared.ledger.check(std::slice::from_ref(&event))?;
        let subject = Subject::Id(job_id.to_owned());
        let entry = Entry { subject, expect: Expect::Absent, event };
        let decided = self.append_entries(&mut shared, &[entry], Urgency::New)?;
        drop(shared);
        self.announce(Some(decided.first), decided.first, &decided);
        Ok(decided)
    }

    /// Appends entries and applies them, under the lock that orders both.
    fn append_entries(
        &self,
        shared: &mut Shared,
        entries: &[Entry],
        urgency: Urgency,
    ) -> Result<Decided, JournalError> {
        let pending = self.journal.append(entries, urgency)?;
        let first = pending.first;
        let mut unused = Vec::new();
        for (lsn, entry) in (first..).zip(entries) {
            let applied = shared.ledger.apply(lsn, &entry.event);
            unused.extend(applied.expect("a decision was checked before it was appended"));
        }
        Ok(Decided { pending, first, last: first + entries.len() as u64 - 1, unused })
    }

    /// Tells those who listen, once the decision is durable. `first` is the position of its first
    /// part.
    fn announce(&self, job: Option<JobNumber>, first: Lsn, decided: &Decided) {
        let listeners = self.listeners();
        if listeners.is_empty() {
            return;
        }
        let change = Change { job, first, last: decided.last };
        decided.pending.on_durable(move |result| {
            if result.is_ok() {
                listeners.iter().for_each(|listener| listener.changed(change));
            }
        });
    }

    /// Waits until a decision is durable; then removes what it made useless.
    pub(crate) fn settle(&self, decided: Decided) -> Result<(), JournalError> {
        let Decided { pending, unused, last, .. } = decided;
        pending.wait()?;
        self.let_go(unused, last);
        if !self.is_kept() {
            self.tidy();
        }
        Ok(())
    }

    /// Calls back once a decision is durable, or may not be; then removes what it made useless,
    /// which is left to whoever keeps this host.
    pub fn when_durable(
        &self,
        decided: Decided,
        call: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        let Decided { pending, unused, last, .. } = decided;
        pending.on_durable(call);
        // `tidy` removes none of them before the record is durable.
        self.let_go(unused, last);
    }

    pub(crate) fn let_go(&self, unused: Vec<Digest>, position: Lsn) {
        if !unused.is_empty() {
            self.lock().unused.extend(unused.into_iter().map(|digest| (digest, position)));
        }
    }

    /// Removes blobs that were let go of, and bounds what the next recovery has to read. Called by
    /// every decision, or, where a host is kept by a thread of its own, by that thread.
    pub fn tidy(&self) {
        self.remove_unused();
        self.snapshot_if_due();
    }

    /// Removes blobs that were let go of, unless somebody has put a blob and not yet decided the
    /// record that refers to it: it may be one of these, found and taken up again. Then it is
    /// left to a later decision, unless too many wait already. What stays behind is found by the
    /// sweep of the next start.
    fn remove_unused(&self) {
        let durable = self.durable_lsn();
        let unused: Vec<Digest> = {
            let shared = self.lock();
            let settled = shared.unused.iter().filter(|(_, position)| **position <= durable);
            settled.map(|(digest, _)| *digest).collect()
        };
        if unused.is_empty() {
            return;
        }
        let needed = |digest| self.lock().ledger.refers_to(digest);
        let patient = unused.len() > UNUSED_MAX;
        let while_held = if patient { WhileHeld::Wait } else { WhileHeld::Leave };
        match self.store().remove_unneeded(&unused, &needed, while_held) {
            Ok(true) => {
                let mut shared = self.lock();
                for digest in &unused {
                    shared.unused.remove(digest);
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "a blob that nothing needs could not be removed");
            }
        }
    }

    /// Waits until everything up to a position is durable: what another thread decided may be
    /// seen in the ledger before it is.
    pub fn await_durable(&self, lsn: Lsn) -> Result<(), JournalError> {
        self.journal.await_durable(lsn)
    }

    /// Calls back once everything up to a position is durable, or may never be.
    pub fn when_durable_at(
        &self,
        lsn: Lsn,
        call: impl FnOnce(Result<(), JournalError>) + Send + 'static,
    ) {
        self.journal.when_durable(lsn, Box::new(call));
    }

    /// Bounds what the next recovery has to read. A failure costs time at the next start, nothing
    /// else, and is only told.
    fn snapshot_if_due(&self) {
        let written = self.log_figures().bytes;
        let (at, bytes) = {
            let mut shared = self.lock();
            let since = shared.inherited_bytes + written - shared.snapshot_at_bytes;
            let large_bytes = shared.snapshot_bytes.saturating_sub(SNAPSHOT_SMALL_BYTES);
            let due = self.snapshot_every_bytes().max(SNAPSHOT_GROWTH * large_bytes);
            if since < due {
                return;
            }
            (shared.inherited_bytes, shared.snapshot_at_bytes) = (0, written);
            let bytes = shared.ledger.to_bytes();
            shared.snapshot_bytes = bytes.len() as u64;
            (shared.ledger.applied, bytes)
        };
        // Decisions of other threads may be in it that are still on their way.
        if let Err(error) = self.await_durable(at) {
            tracing::warn!(%error, "the ledger's snapshot could not be written");
            return;
        }
        if let Err(error) = self.journal.wal().snapshot(at, &bytes) {
            tracing::warn!(%error, "the ledger's snapshot could not be written");
        }
    }
}

/// Entries about one job that hold only if nothing else was decided about it.
fn entries_about(ledger: &Ledger, job: JobNumber, events: Vec<Event>) -> Vec<Entry> {
    let last = ledger.jobs.get(&job).map_or(Expect::Absent, |job| Expect::At(job.last));
    let entry = |(index, event)| Entry {
        subject: Subject::Job(job),
        // The records of one batch follow each other by being appended together.
        expect: if index == 0 { last } else { Expect::Any },
        event,
    };
    events.into_iter().enumerate().map(entry).collect()
}
