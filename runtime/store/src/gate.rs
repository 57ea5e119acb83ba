//! Keeps collecting away from those who are about to refer to a blob.
//!
//! A blob is put first and referred to afterwards; between the two nothing needs it. A [`Hold`]
//! covers that gap: no blob is collected while one is out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
struct State {
    holds: usize,
    collecting: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    // The state is two plain values that are always consistent, so a panic elsewhere while the
    // lock was held says nothing about them.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        let mut state = self.lock();
        while state.collecting {
            state = self.wait(state);
        }
        state.holds += 1;
        Hold { gate: Arc::clone(self) }
    }

    /// Waits until no hold is out; none is given out while the result lives.
    pub(crate) fn collect(&self) -> Collecting<'_> {
        let mut state = self.lock();
        while state.collecting {
            state = self.wait(state);
        }
        // Set before waiting, so that a stream of new holds cannot keep a collector out for ever.
        state.collecting = true;
        while state.holds > 0 {
            state = self.wait(state);
        }
        drop(state);
        Collecting { gate: self }
    }

    /// As [`Gate::collect`], but `None` instead of waiting.
    pub(crate) fn try_collect(&self) -> Option<Collecting<'_>> {
        let mut state = self.lock();
        if state.collecting || state.holds > 0 {
            return None;
        }
        state.collecting = true;
        Some(Collecting { gate: self })
    }
}

/// While this lives, nothing is collected. Take it before putting a blob and drop it once the
/// record that refers to the blob is in the ledger's state.
///
/// Never take a second one while holding one in the same thread: a collector that waits for the
/// first keeps the second from being given out.
#[derive(Debug)]
pub struct Hold {
    gate: Arc<Gate>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.lock().holds -= 1;
        self.gate.changed.notify_all();
    }
}

pub(crate) struct Collecting<'a> {
    gate: &'a Gate,
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.gate.lock().collecting = false;
        self.gate.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn a_collector_waits_for_a_hold_and_keeps_new_ones_waiting() {
        let gate = Arc::new(Gate::default());
        let hold = gate.hold();
        let (collected, released) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let collecting = gate.collect();
                assert!(released.load(Ordering::SeqCst), "collected under a hold");
                collected.store(true, Ordering::SeqCst);
                drop(collecting);
            });
            while !gate.lock().collecting {
                thread::yield_now();
            }
            scope.spawn(|| {
                let _late = gate.hold();
                assert!(collected.load(Ordering::SeqCst), "held while a collector waited");
            });
            released.store(true, Ordering::SeqCst);
            drop(hold);
        });
        assert_eq!(gate.lock().holds, 0);
    }

    #[test]
    fn a_collector_that_does_not_wait_stays_out_while_a_hold_is_out() {
        let gate = Arc::new(Gate::default());
        let hold = gate.hold();
        assert!(gate.try_collect().is_none());
        drop(hold);
        let collecting = gate.try_collect().expect("nobody holds anything");
        assert!(gate.try_collect().is_none());
        drop(collecting);
        drop(gate.hold());
    }
}
