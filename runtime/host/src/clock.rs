//! Real time, for circumstances and for when a job may start: nothing that is hashed or sealed comes
//! from here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. It may jump, in both directions.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the Unix epoch.
    fn now_ns(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now_ns(&self) -> u64 {
        now_ns()
    }
}

/// Nanoseconds since the Unix epoch; zero if the machine's clock stands before it.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
