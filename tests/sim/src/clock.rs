//! The time of a simulated world.

use std::sync::atomic::{AtomicU64, Ordering};

use hb_host::Clock;

/// Stands still unless it is set.
#[derive(Debug)]
pub struct SimulatedClock(AtomicU64);

impl SimulatedClock {
    /// Shows this time, in nanoseconds since the Unix epoch.
    pub const fn new(now_ns: u64) -> Self {
        Self(AtomicU64::new(now_ns))
    }

    /// Goes forward.
    pub fn advance(&self, by_ns: u64) {
        self.0.fetch_add(by_ns, Ordering::Relaxed);
    }

    /// Goes back, as a clock does that is set.
    pub fn turn_back(&self, by_ns: u64) {
        self.0.fetch_sub(by_ns, Ordering::Relaxed);
    }
}

impl Clock for SimulatedClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
