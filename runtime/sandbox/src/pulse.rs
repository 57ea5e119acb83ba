//! Whether a run may go on.
//!
//! Owns: the ways to end a run from outside, and when they are looked at: whenever the guest
//! has used `YIELD_INTERVAL_FUEL`, and in every host call whose work grows with what the guest
//! asks for, because host calls use no fuel. Knows nothing of futures or stores.

use std::{sync::atomic::Ordering, time::Instant};

use hb_types::limits::{Limit, Limits};

use crate::{abort::Abort, session::Control};

/// Looks at cancellation and deadline. Cheap to clone, cheap to ask.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    control: Control,
    deadline_ms: u64,
}

impl Pulse {
    pub(crate) fn new(control: &Control, limits: &Limits) -> Self {
        Self { control: control.clone(), deadline_ms: limits.get(Limit::Deadline) }
    }

    /// Fails when the job was cancelled, its time is over, or the attempt is to stop. What ends the
    /// job wins.
    pub(crate) fn check(&self) -> Result<(), Abort> {
        if self.control.cancel.load(Ordering::Relaxed) {
            return Err(Abort::Cancelled);
        }
        if self.control.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Abort::Limit(hb_types::limits::LimitReached {
                limit: Limit::Deadline,
                value: self.deadline_ms,
                wanted: 0,
            }));
        }
        if self.control.stop.load(Ordering::Relaxed) {
            return Err(Abort::Stopped);
        }
        Ok(())
    }
}
