//! What a manifest asks for beyond the result: when, where in the queue, with how much of the
//! machine, and how often again.
//!
//! Invariant: nothing here may change what a job computes, so none of it is part of the job hash
//! or of the seal.

use serde::{Deserialize, Serialize};

use crate::{
    Lsn,
    job::{InvalidSpec, check_name},
    outcome::Outcome,
};

/// The queue of a job whose manifest names none.
pub const DEFAULT_QUEUE: &str = "default";
/// Priorities lie between minus this and this.
pub const PRIORITY_MAX: i32 = 1000;
/// The most retries that a manifest may ask for.
pub const RETRIES_MAX: u32 = 1000;
/// The longest pause between two tries: a week.
pub const BACKOFF_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// A bound on how many jobs with one key run at once.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// What the bound is about: a licence, a device, a customer.
    pub key: String,
    /// How many jobs with this key may run at once. Where jobs disagree, each is started only if
    /// its own number allows it.
    pub limit: u32,
}

/// What kind of ending is tried again.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// The program ended with an exit code other than 0.
    Exit,
    /// It trapped.
    Trap,
    /// It reached a limit other than its time limit.
    Limit,
    /// It reached its time limit.
    Deadline,
}

impl RetryOn {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exit, Self::Trap, Self::Limit, Self::Deadline];

    /// What kind an outcome is; `None` where trying again makes no sense.
    pub const fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Exit { .. } => Some(Self::Exit),
            Outcome::Trap { .. } => Some(Self::Trap),
            Outcome::Limit { reached } => match reached.limit {
                crate::limits::Limit::Deadline => Some(Self::Deadline),
                _ => Some(Self::Limit),
            },
            Outcome::Success | Outcome::Cancelled | Outcome::Poisoned | Outcome::NotRunnable => {
                None
            }
        }
    }
}

/// How often a job that failed is tried again, and after which pause.
///
/// Crashes of the host are no failures and are not counted here. A retry goes on from the newest
/// checkpoint.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often at most, after the first try.
    pub max_retries: u32,
    /// The pause before the first retry, in milliseconds; it doubles each time.
    pub backoff_ms: u64,
    /// The longest pause, in milliseconds.
    pub max_backoff_ms: u64,
    /// Whether each pause is shortened by a random part of up to one half, so that jobs that
    /// failed together do not come back together.
    pub jitter: bool,
    /// What is tried again.
    pub on: Vec<RetryOn>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: 0,
            backoff_ms: 1000,
            max_backoff_ms: 300_000,
            jitter: true,
            on: RetryOn::ALL.to_vec(),
        }
    }
}

impl Retry {
    /// The pause before retry number `retry`, counted from 1, in milliseconds. `random` is any
    /// number; it decides the jitter.
    pub fn pause_ms(&self, retry: u32, random: u64) -> u64 {
        let doublings = retry.saturating_sub(1).min(63);
        let pause = self.backoff_ms.saturating_mul(1 << doublings).min(self.max_backoff_ms);
        if !self.jitter || pause < 2 {
            return pause;
        }
        pause - random % (pause / 2 + 1)
    }
}

/// What a job needs of the machine while it runs.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a processor. A component uses one processor at most.
    pub cpu_milli: u32,
    /// Bytes of memory. Zero stands for the job's memory limit.
    pub memory_bytes: u64,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu_milli: 1000, memory_bytes: 0 }
    }
}

/// Everything that a manifest asks for beyond the result.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Terms {
    /// Jobs of higher priority start first.
    pub priority: i32,
    /// Jobs of equal priority share the machine fairly between queues.
    pub queue: String,
    /// A bound on jobs with a common key.
    pub concurrency: Option<Concurrency>,
    /// What happens after a failure.
    pub retry: Retry,
    /// What the job needs while it runs.
    pub resources: Resources,
    /// The job does not start before this time, in nanoseconds since the Unix epoch; zero for at
    /// once.
    pub not_before_ns: u64,
    /// A job that has not ended by this time, in nanoseconds since the Unix epoch, is ended at its
    /// time limit; zero for never.
    pub finish_by_ns: u64,
    /// The W3C trace context of whoever asked.
    pub traceparent: Option<String>,
    /// Who asked, where requests are authenticated.
    pub submitted_by: Option<String>,
    /// The job that this one repeats or goes on from.
    pub successor_of: Option<Lsn>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            priority: 0,
            queue: DEFAULT_QUEUE.to_owned(),
            concurrency: None,
            retry: Retry::default(),
            resources: Resources::default(),
            not_before_ns: 0,
            finish_by_ns: 0,
            traceparent: None,
            submitted_by: None,
            successor_of: None,
        }
    }
}

impl Terms {
    /// Checks names and numbers.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        check_name("queue", &self.queue)?;
        let within = |what, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(InvalidSpec::OutOfRange { what, value, min, max })
        };
        if self.priority.unsigned_abs() > PRIORITY_MAX.unsigned_abs() {
            let value = i64::from(self.priority);
            return Err(InvalidSpec::Priority { value, max: PRIORITY_MAX });
        }
        if let Some(concurrency) = &self.concurrency {
            check_name("concurrency key", &concurrency.key)?;
            within("concurrency limit", u64::from(concurrency.limit), 1, 1_000_000)?;
        }
        within("max_retries", u64::from(self.retry.max_retries), 0, u64::from(RETRIES_MAX))?;
        within("backoff_ms", self.retry.backoff_ms, 0, BACKOFF_MAX_MS)?;
        within("max_backoff_ms", self.retry.max_backoff_ms, 0, BACKOFF_MAX_MS)?;
        within("cpu_milli", u64::from(self.resources.cpu_milli), 1, 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_jitter_shortens_them_by_at_most_half() {
        let steady = Retry { jitter: false, max_backoff_ms: 5000, ..Retry::default() };
        let pauses: Vec<u64> = (1..=5).map(|retry| steady.pause_ms(retry, 7)).collect();
        assert_eq!(pauses, [1000, 2000, 4000, 5000, 5000]);
        assert_eq!(steady.pause_ms(u32::MAX, 0), 5000);
        let jittery = Retry { jitter: true, ..steady };
        for random in 0..10_000 {
            assert!((500..=1000).contains(&jittery.pause_ms(1, random)));
        }
    }

    #[test]
    fn numbers_outside_of_their_range_are_refused_by_name() {
        type Change = fn(&mut Terms);
        Terms::default().check().unwrap();
        let cases: [(&str, Change); 4] = [
            ("priority", |t| t.priority = -1001),
            ("concurrency limit", |t| {
                t.concurrency = Some(Concurrency { key: "k".into(), limit: 0 });
            }),
            ("max_retries", |t| t.retry.max_retries = 5000),
            ("cpu_milli", |t| t.resources.cpu_milli = 0),
        ];
        for (what, change) in cases {
            let mut terms = Terms::default();
            change(&mut terms);
            let error = terms.check().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
