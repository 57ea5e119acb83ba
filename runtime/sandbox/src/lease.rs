//! A borrowed session inside a store.
//!
//! It may use `unsafe` because wasmtime's stores hold only data without borrows, while a session
//! borrows from its caller. A thread or a copy of each checkpoint's state would do without, at
//! the cost of two thread switches a call or of twice the memory of a large state.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};

use crate::session::Session;

type Slot = Arc<Mutex<Option<&'static mut dyn Session>>>;

/// Reaches a session for as long as [`lend`] is running; afterwards it reaches nothing.
#[derive(Clone)]
pub(crate) struct Lease(Slot);

impl Lease {
    /// Calls `body` with the session; `None` when it is over.
    ///
    /// Not to be called by `body` again: the session is held exclusively.
    pub(crate) fn with<R>(&self, body: impl FnOnce(&mut dyn Session) -> R) -> Option<R> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_mut().map(|session| body(&mut **session))
    }
}

/// Lends `session` to `body`.
pub(crate) fn lend<R>(session: &mut dyn Session, body: impl FnOnce(Lease) -> R) -> R {
    /// Takes the session back, also when `body` panics.
    struct TakeBack(Slot);
    impl Drop for TakeBack {
        fn drop(&mut self) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
    // SAFETY: only the lifetime changes. The reference lives in the slot alone, `Lease::with`
    // hands it out only for the time of a call under the slot's lock, and `TakeBack` empties the
    // slot under the same lock before this function returns or unwinds, which is before the
    // borrow of `session` ends.
    let session =
        unsafe { std::mem::transmute::<&mut dyn Session, &'static mut dyn Session>(session) };
    let slot: Slot = Arc::new(Mutex::new(Some(session)));
    let _take_back = TakeBack(Arc::clone(&slot));
    body(Lease(slot))
}
