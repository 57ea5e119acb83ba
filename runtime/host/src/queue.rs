//! Which job starts next: one pure value.
//!
//! Owns: the order between waiting jobs, what the running ones take of the machine, and the answer to
//! "why is it not running?". Knows nothing of threads, clocks or the ledger: time is an argument.
//!
//! The order: higher priority first; among equals, queues take turns by how much they were given;
//! within a queue, first come, first served. A job whose concurrency key is used up is passed over
//! with all that wait behind it for the same key. A job that does not fit into what is free is
//! passed over too, but not for ever: after [`PATIENCE_NS`] nothing that is not more urgent starts
//! before it.
//!
//! Invariants: what is in use is the sum of what the running jobs need, and never exceeds the
//! machine; a job is waiting, delayed, or running, and only one of these.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use hb_types::{event::JobNumber, ledger::Job, limits::Limit};

/// How long a large job lets smaller ones pass.
pub const PATIENCE_NS: u64 = 30_000_000_000;

/// Thousandths of a processor and bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Thousandths of a processor.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Capacity {
    /// Whether this much fits into that much.
    pub fn fits(&self, room: &Self) -> bool {
        self.cpu_milli <= room.cpu_milli && self.memory_bytes <= room.memory_bytes
    }

    fn plus(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli + other.cpu_milli,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    fn minus(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }
}

/// What the queue knows of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub number: JobNumber,
    /// Higher goes first.
    pub priority: i32,
    /// Which queue it is in.
    pub queue: String,
    /// The key that it shares with others, and how many of them may run.
    pub concurrency: Option<(String, u32)>,
    /// What it needs.
    pub needs: Capacity,
    /// It does not start before this time.
    pub not_before_ns: u64,
}

impl Candidate {
    /// What the queue needs to know of `job`.
    pub fn of(job: &Job) -> Self {
        let terms = &job.terms;
        let memory_bytes = match terms.resources.memory_bytes {
            0 => job.spec.limits.get(Limit::Memory),
            bytes => bytes,
        };
        Self {
            number: job.number,
            priority: terms.priority,
            queue: terms.queue.clone(),
            concurrency: terms.concurrency.as_ref().map(|bound| (bound.key.clone(), bound.limit)),
            needs: Capacity { cpu_milli: u64::from(terms.resources.cpu_milli), memory_bytes },
            not_before_ns: job.not_before_ns,
        }
    }

    fn lane(&self) -> Lane {
        let key = self.concurrency.as_ref().map(|(key, _)| key.clone());
        Lane { queue: self.queue.clone(), key }
    }
}

/// Why a job is not running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Its time has not come.
    Until {
        /// When it does, in nanoseconds since the Unix epoch.
        not_before_ns: u64,
    },
    /// As many jobs with its key run as may.
    Concurrency {
        /// The key.
        key: String,
        /// How many run.
        running: u32,
        /// How many may.
        limit: u32,
    },
    /// It does not fit into what is free.
    Resources {
        /// What it needs.
        needs: Capacity,
        /// What is free.
        free: Capacity,
    },
    /// Others go first.
    Turn {
        /// Jobs before it in its own queue.
        ahead: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lane {
    queue: String,
    key: Option<String>,
}

#[derive(Clone, Debug)]
struct Waiter {
    candidate: Candidate,
    /// When it was first passed over because it did not fit.
    passed_over_ns: Option<u64>,
}

#[derive(Debug, Default)]
struct Level {
    lanes: BTreeMap<Lane, BTreeMap<JobNumber, Waiter>>,
}

/// All jobs that wait or run.
#[derive(Debug, Default)]
pub struct Queue {
    machine: Capacity,
    used: Capacity,
    levels: BTreeMap<Reverse<i32>, Level>,
    delayed: BTreeSet<(u64, JobNumber)>,
    /// Those that are delayed, by number.
    later: HashMap<JobNumber, Candidate>,
    /// Where those that wait are.
    places: HashMap<JobNumber, (Reverse<i32>, Lane)>,
    /// How many of them each queue has.
    waiting_by_name: HashMap<String, usize>,
    running: HashMap<JobNumber, Candidate>,
    running_by_key: HashMap<String, u32>,
    /// How much each queue was given, as far as it matters for whose turn it is.
    given: HashMap<String, u64>,
    /// What the queue that was last served had been given: who comes back after a pause starts
    /// from here, and does not make up for the time in which it wanted nothing.
    turn: u64,
}

impl Queue {
    /// For a machine of this size.
    pub fn new(machine: Capacity) -> Self {
        Self { machine, ..Self::default() }
    }

    /// The machine.
    pub fn machine(&self) -> Capacity {
        self.machine
    }

    /// What the running jobs take.
    pub fn used(&self) -> Capacity {
        self.used
    }

    /// Jobs that wait, delayed ones included.
    pub fn waiting(&self) -> usize {
        self.places.len() + self.later.len()
    }

    /// Jobs that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes a job in. One that is here already stays as it is.
    pub fn offer(&mut self, candidate: Candidate, now_ns: u64) {
        let number = candidate.number;
        if self.running.contains_key(&number)
            || self.places.contains_key(&number)
            || self.later.contains_key(&number)
        {
            return;
        }
        if candidate.not_before_ns > now_ns {
            self.delayed.insert((candidate.not_before_ns, number));
            self.later.insert(number, candidate);
            return;
        }
        let (level, lane) = (Reverse(candidate.priority), candidate.lane());
        let waiting = self.waiting_by_name.entry(lane.queue.clone()).or_default();
        if *waiting == 0 {
            let given = self.given.entry(lane.queue.clone()).or_default();
            *given = (*given).max(self.turn);
        }
        *waiting += 1;
        self.places.insert(number, (level, lane.clone()));
        let lanes = &mut self.levels.entry(level).or_default().lanes;
        let waiter = Waiter { candidate, passed_over_ns: None };
        lanes.entry(lane).or_default().insert(number, waiter);
    }

    /// Takes a waiting job out. Says whether it was there.
    pub fn withdraw(&mut self, number: JobNumber) -> bool {
        if let Some(candidate) = self.later.remove(&number) {
            self.delayed.remove(&(candidate.not_before_ns, number));
            return true;
        }
        self.take(number).is_some()
    }

    fn take(&mut self, number: JobNumber) -> Option<Candidate> {
        let (level, lane) = self.places.remove(&number)?;
        let lanes = &mut self.levels.get_mut(&level)?.lanes;
        let waiters = lanes.get_mut(&lane)?;
        let waiter = waiters.remove(&number)?;
        if let Some(count) = self.waiting_by_name.get_mut(&lane.queue) {
            *count -= 1;
            if *count == 0 {
                self.waiting_by_name.remove(&lane.queue);
            }
        }
        if waiters.is_empty() {
            lanes.remove(&lane);
            if lanes.is_empty() {
                self.levels.remove(&level);
            }
        }
        Some(waiter.candidate)
    }

    /// The job that starts now, if one does; it counts as running from here on.
    pub fn start_next(&mut self, now_ns: u64) -> Option<JobNumber> {
        self.wake_delayed(now_ns);
        let number = self.choose(now_ns)?;
        let candidate = self.take(number)?;
        self.turn = self.given.get(&candidate.queue).copied().unwrap_or(self.turn);
        let given = self.given.entry(candidate.queue.clone()).or_default();
        *given += candidate.needs.cpu_milli.max(1);
        if self.given.len() > 2 * self.waiting_by_name.len() + 1024 {
            self.forget_idle_queues();
        }
        self.used = self.used.plus(&candidate.needs);
        if let Some((key, _)) = &candidate.concurrency {
            *self.running_by_key.entry(key.clone()).or_default() += 1;
        }
        self.running.insert(number, candidate);
        Some(number)
    }

    /// What a queue was given matters only while it wants something.
    fn forget_idle_queues(&mut self) {
        let waiting = &self.waiting_by_name;
        self.given.retain(|queue, _| waiting.contains_key(queue));
    }

    fn wake_delayed(&mut self, now_ns: u64) {
        while let Some((not_before_ns, number)) = self.delayed.first().copied()
            && not_before_ns <= now_ns
        {
            self.delayed.pop_first();
            if let Some(candidate) = self.later.remove(&number) {
                self.offer(candidate, now_ns);
            }
        }
    }

    fn choose(&mut self, now_ns: u64) -> Option<JobNumber> {
        let free = self.machine.minus(&self.used);
        for level in self.levels.values_mut() {
            let mut lanes: Vec<(u64, JobNumber, &Lane)> = level
                .lanes
                .iter()
                .filter_map(|(lane, waiters)| {
                    let first = *waiters.first_key_value()?.0;
                    Some((self.given.get(&lane.queue).copied().unwrap_or(0), first, lane))
                })
                .collect();
            lanes.sort_unstable();
            let order: Vec<Lane> = lanes.into_iter().map(|(_, _, lane)| lane.clone()).collect();
            for lane in order {
                let (number, waiter) = level.lanes.get_mut(&lane)?.iter_mut().next()?;
                if is_used_up(&self.running_by_key, &waiter.candidate) {
                    continue;
                }
                if waiter.candidate.needs.fits(&free) {
                    return Some(*number);
                }
                let since = *waiter.passed_over_ns.get_or_insert(now_ns);
                if now_ns.saturating_sub(since) >= PATIENCE_NS {
                    // What becomes free is kept for it.
                    return None;
                }
            }
        }
        None
    }

    /// A running job gives back what it took.
    pub fn finished(&mut self, number: JobNumber) {
        let Some(candidate) = self.running.remove(&number) else { return };
        self.used = self.used.minus(&candidate.needs);
        if let Some((key, _)) = &candidate.concurrency
            && let Some(count) = self.running_by_key.get_mut(key)
        {
            *count -= 1;
            if *count == 0 {
                self.running_by_key.remove(key);
            }
        }
    }

    /// When the next delayed job may start.
    pub fn next_wake_ns(&self) -> Option<u64> {
        self.delayed.first().map(|(not_before_ns, _)| *not_before_ns)
    }

    /// Why a job waits; `None` where it does not.
    pub fn why(&self, number: JobNumber) -> Option<Waiting> {
        if let Some(candidate) = self.later.get(&number) {
            return Some(Waiting::Until { not_before_ns: candidate.not_before_ns });
        }
        let (level, lane) = self.places.get(&number)?;
        let waiters = self.levels.get(level)?.lanes.get(lane)?;
        let candidate = &waiters.get(&number)?.candidate;
        if let Some((key, limit)) = &candidate.concurrency
            && is_used_up(&self.running_by_key, candidate)
        {
            let running = self.running_by_key.get(key).copied().unwrap_or(0);
            return Some(Waiting::Concurrency { key: key.clone(), running, limit: *limit });
        }
        let ahead = waiters.range(..number).count();
        let free = self.machine.minus(&self.used);
        if ahead == 0 && !candidate.needs.fits(&free) {
            return Some(Waiting::Resources { needs: candidate.needs, free });
        }
        Some(Waiting::Turn { ahead })
    }
}

fn is_used_up(running_by_key: &HashMap<String, u32>, candidate: &Candidate) -> bool {
    candidate
        .concurrency
        .as_ref()
        .is_some_and(|(key, limit)| running_by_key.get(key).is_some_and(|running| running >= limit))
}

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
