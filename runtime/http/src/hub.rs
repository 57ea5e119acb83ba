//! Wakes whoever waits for something to happen.
//!
//! Owns: who waits for which job, and which positions of the log were announced. What happened is read
//! from the ledger by those who were woken: a hint carries no news, so none can be lost with it.
//! Knows nothing of who waits and what for.
//!
//! Invariants: a job is kept track of only while somebody waits for it; calls from the thread that
//! commits take a lock for moments and return.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use hb_host::{Change, Listener, Stream};
use hb_types::{Lsn, event::JobNumber};
use tokio::sync::watch;

/// Wakes whoever waits. One for a host.
pub struct Hub {
    waiting: Mutex<HashMap<JobNumber, watch::Sender<u64>>>,
    changes: Mutex<Changes>,
    changed: Condvar,
}

/// What changed and was not taken yet.
#[derive(Debug, Default)]
struct Changes {
    /// Jobs, each with the first position that changed it.
    jobs: BTreeMap<JobNumber, Lsn>,
    forgotten: Vec<JobNumber>,
    announced: Announced,
    stopped: bool,
}

/// Which positions were announced.
#[derive(Debug, Default)]
struct Announced {
    /// All up to this one.
    up_to: Lsn,
    /// Ranges after it, by their first position.
    later: BTreeMap<Lsn, Lsn>,
}

impl Announced {
    fn add(&mut self, first: Lsn, last: Lsn) {
        self.later.insert(first, last);
        while let Some((first, last)) = self.later.first_key_value().map(|(f, l)| (*f, *l))
            && first <= self.up_to + 1
        {
            self.up_to = self.up_to.max(last);
            self.later.pop_first();
        }
    }
}

/// What changed since it was last asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Jobs, each with the first position that changed it.
    pub jobs: Vec<(JobNumber, Lsn)>,
    /// Jobs that were removed for good.
    pub forgotten: Vec<JobNumber>,
    /// Everything up to this position is in what was taken now or before.
    pub up_to: Lsn,
}

// Maps and numbers are consistent between statements; a panic elsewhere says nothing about them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// For a log whose positions up to `up_to` need no announcement.
    pub fn new(up_to: Lsn) -> Self {
        let announced = Announced { up_to, later: BTreeMap::new() };
        Self {
            waiting: Mutex::default(),
            changes: Mutex::new(Changes { announced, ..Changes::default() }),
            changed: Condvar::new(),
        }
    }

    /// Waits for changes of a job until the result is dropped.
    pub(crate) fn wait_for(self: &Arc<Self>, job: JobNumber) -> Waiter {
        let mut waiting = lock(&self.waiting);
        let sender = waiting.entry(job).or_insert_with(|| watch::Sender::new(0));
        Waiter { hub: Arc::clone(self), job, receiver: Some(sender.subscribe()) }
    }

    fn wake(&self, job: JobNumber) {
        if let Some(sender) = lock(&self.waiting).get(&job) {
            sender.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Waits until something changed and takes it; `None` once the hub was stopped and all is taken.
    pub(crate) fn take(&self) -> Option<Taken> {
        let mut changes = lock(&self.changes);
        while changes.jobs.is_empty() && changes.forgotten.is_empty() {
            if changes.stopped {
                return None;
            }
            changes = self.changed.wait(changes).unwrap_or_else(PoisonError::into_inner);
        }
        Some(Taken {
            jobs: std::mem::take(&mut changes.jobs).into_iter().collect(),
            forgotten: std::mem::take(&mut changes.forgotten),
            up_to: changes.announced.up_to,
        })
    }

    /// Lets [`Hub::take`] end.
    pub(crate) fn stop(&self) {
        lock(&self.changes).stopped = true;
        self.changed.notify_all();
    }

    /// How many watchers there are, by job.
    #[cfg(test)]
    fn watched(&self) -> usize {
        lock(&self.waiting).len()
    }
}

impl Listener for Hub {
    fn changed(&self, change: Change) {
        let mut changes = lock(&self.changes);
        changes.announced.add(change.first, change.last);
        if let Some(job) = change.job {
            let first = changes.jobs.entry(job).or_insert(change.first);
            *first = (*first).min(change.first);
        }
        drop(changes);
        self.changed.notify_all();
        if let Some(job) = change.job {
            self.wake(job);
        }
    }

    fn forgotten(&self, jobs: &[JobNumber]) {
        lock(&self.changes).forgotten.extend_from_slice(jobs);
        self.changed.notify_all();
        for job in jobs {
            self.wake(*job);
        }
    }

    fn printed(&self, job: JobNumber, _: Stream) {
        self.wake(job);
    }

    fn progressed(&self, job: JobNumber) {
        self.wake(job);
    }
}

/// Somebody who waits for a job.
pub(crate) struct Waiter {
    hub: Arc<Hub>,
    job: JobNumber,
    receiver: Option<watch::Receiver<u64>>,
}

impl Waiter {
    /// Returns once something happened since it last returned.
    pub async fn changed(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            // The sender stays while somebody waits.
            let _ = receiver.changed().await;
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = lock(&self.hub.waiting);
        self.receiver = None;
        if waiting.get(&self.job).is_some_and(|sender| sender.receiver_count() == 0) {
            waiting.remove(&self.job);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn change(job: JobNumber, first: Lsn, last: Lsn) -> Change {
        Change { job: Some(job), first, last }
    }

    #[test]
    fn announcements_out_of_order_claim_nothing_that_did_not_come() {
        let hub = Hub::new(10);
        hub.changed(change(1, 13, 14));
        assert_eq!(hub.take().unwrap().up_to, 10);
        hub.changed(change(2, 11, 11));
        assert_eq!(hub.take().unwrap().up_to, 11);
        hub.changed(change(1, 12, 12));
        let taken = hub.take().unwrap();
        assert_eq!((taken.up_to, taken.jobs), (14, vec![(1, 12)]));
        hub.stop();
        assert!(hub.take().is_none());
    }

    #[tokio::test]
    async fn who_waits_is_woken_and_forgotten_when_gone() {
        let hub = Arc::new(Hub::new(0));
        let mut first = hub.wait_for(7);
        let mut second = hub.wait_for(7);
        hub.printed(7, Stream::Stdout);
        first.changed().await;
        second.changed().await;
        drop(first);
        assert_eq!(hub.watched(), 1);
        drop(second);
        assert_eq!(hub.watched(), 0);
        hub.printed(7, Stream::Stdout);
    }
}
