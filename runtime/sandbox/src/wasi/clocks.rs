//! Virtual time.
//!
//! Owns: the one counter behind both clocks, and the pollables that wait for it. Nothing here
//! reads a real clock and nothing sleeps: time passes by one tick at each reading, and jumps to
//! the next deadline when the guest waits and nothing else can happen (`drive.rs` does that, like
//! a discrete-event simulation).
//!
//! Invariant: time never falls, except when a checkpoint is put back.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynPollable, Pollable,
    bindings::clocks::{
        monotonic_clock::{self, Duration, Instant},
        wall_clock::{self, Datetime},
    },
    subscribe,
};

use super::filesystem::Now;

/// What one reading of either clock costs in virtual time: 1 µs, about what it costs in real
/// time, so that a program that measures itself sees plausible, growing numbers.
pub(crate) const TICK_NS: u64 = 1_000;

const NS_PER_SECOND: u64 = 1_000_000_000;
const NOBODY_WAITS: u64 = u64::MAX;

/// The clocks of one job. Only one thread uses it; the atomics make it shareable with pollables.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the postfix is the unit")]
pub(crate) struct VirtualClock {
    start_ns: u64,
    elapsed_ns: AtomicU64,
    /// The earliest time that somebody waits for.
    wake_ns: AtomicU64,
}

impl VirtualClock {
    pub(crate) fn new(start_ns: u64) -> Arc<Self> {
        Arc::new(Self {
            start_ns,
            elapsed_ns: AtomicU64::new(0),
            wake_ns: AtomicU64::new(NOBODY_WAITS),
        })
    }

    /// Virtual time since the job's start, in nanoseconds.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        self.elapsed_ns.load(Ordering::Relaxed)
    }

    /// The wall clock without a tick, in nanoseconds since the Unix epoch: for time stamps.
    pub(crate) fn wall_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.elapsed_ns())
    }

    /// Puts the clock where a checkpoint left it.
    pub(crate) fn restore(&self, elapsed_ns: u64) {
        self.elapsed_ns.store(elapsed_ns, Ordering::Relaxed);
        self.wake_ns.store(NOBODY_WAITS, Ordering::Relaxed);
    }

    /// Where the wall clock started, in nanoseconds since the Unix epoch.
    pub(crate) fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// A reading of the monotonic clock: the present time, after which a tick passes.
    pub(crate) fn read(&self) -> u64 {
        let now = self.elapsed_ns();
        self.elapsed_ns.store(now.saturating_add(TICK_NS), Ordering::Relaxed);
        now
    }

    /// A reading of the wall clock, in nanoseconds since the Unix epoch.
    pub(crate) fn read_wall(&self) -> u64 {
        self.start_ns.saturating_add(self.read())
    }

    /// Jumps to `elapsed_ns`, unless that is past.
    pub(crate) fn wait_until(&self, elapsed_ns: u64) {
        self.elapsed_ns.fetch_max(elapsed_ns, Ordering::Relaxed);
    }

    /// Jumps to the earliest time that somebody waits for; `false` where nobody waits.
    ///
    /// A deadline that was only asked about and never waited for may make the jump shorter than
    /// necessary, never longer: whoever waits has named its own deadline too, and asks again.
    pub(crate) fn jump(&self) -> bool {
        let wake = self.wake_ns.swap(NOBODY_WAITS, Ordering::Relaxed);
        if wake == NOBODY_WAITS {
            return false;
        }
        self.elapsed_ns.fetch_max(wake, Ordering::Relaxed);
        true
    }

    fn subscribe(
        self: &Arc<Self>,
        table: &mut ResourceTable,
        when_ns: u64,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        // The largest number means "nobody waits"; one nanosecond less is as far away.
        let when_ns = when_ns.min(NOBODY_WAITS - 1);
        let alarm = table.push(Alarm { clock: Arc::clone(self), when_ns })?;
        subscribe(table, alarm)
    }
}

impl Now for VirtualClock {
    fn now_ns(&self) -> u64 {
        self.wall_ns()
    }
}

/// Ready when virtual time has reached `when_ns`.
struct Alarm {
    clock: Arc<VirtualClock>,
    when_ns: u64,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        poll_fn(|_| {
            if self.clock.elapsed_ns() >= self.when_ns {
                return Poll::Ready(());
            }
            // No waker: the driver asks again after it has moved the clock.
            self.clock.wake_ns.fetch_min(self.when_ns, Ordering::Relaxed);
            Poll::Pending
        })
        .await;
    }
}

/// The clocks as the generated bindings want them.
pub(crate) struct ClocksView<'a> {
    pub(crate) clock: &'a Arc<VirtualClock>,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasClocks;

impl HasData for HasClocks {
    type Data<'a> = ClocksView<'a>;
}

impl monotonic_clock::Host for ClocksView<'_> {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        Ok(TICK_NS)
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock.subscribe(self.table, when)
    }

    fn subscribe_duration(&mut self, when: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let when_ns = self.clock.elapsed_ns().saturating_add(when);
        self.clock.subscribe(self.table, when_ns)
    }
}

impl wall_clock::Host for ClocksView<'_> {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        Ok(datetime(self.clock.read_wall()))
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(datetime(TICK_NS))
    }
}

fn datetime(ns: u64) -> Datetime {
    let nanoseconds = u32::try_from(ns % NS_PER_SECOND).expect("less than a second");
    Datetime { seconds: ns / NS_PER_SECOND, nanoseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_by_a_tick_at_each_reading_and_not_at_a_look() {
        let clock = VirtualClock::new(5);
        assert_eq!([clock.read(), clock.read()], [0, TICK_NS]);
        assert_eq!([clock.wall_ns(), clock.wall_ns()], [2 * TICK_NS + 5; 2]);
    }

    #[test]
    fn nobody_waiting_means_no_jump_and_the_end_of_time_is_survived() {
        let clock = VirtualClock::new(u64::MAX);
        assert!(!clock.jump());
        clock.wake_ns.store(NOBODY_WAITS - 1, Ordering::Relaxed);
        assert!(clock.jump());
        clock.read();
        assert_eq!([clock.read(), clock.wall_ns()], [u64::MAX; 2]);
    }
}
