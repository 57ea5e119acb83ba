//! Drives a guest on the calling thread.
//!
//! Owns: what happens when the guest's future is pending. Either it used up a share of its fuel,
//! then cancellation and deadline are looked at; or it waits, then virtual time jumps to what it
//! waits for; or it waits for something that can never happen. Knows nothing of stores.
//!
//! Invariant: no branch waits in real time.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::{abort::Abort, pulse::Pulse, wasi::clocks::VirtualClock};

/// Set by whoever can go on at once; a wait for virtual time does not set it.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `guest` to its end, or ends it.
pub(crate) fn drive<T>(
    guest: impl Future<Output = wasmtime::Result<T>>,
    clock: &VirtualClock,
    pulse: &Pulse,
) -> wasmtime::Result<T> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut guest = pin!(guest);
    loop {
        if let Poll::Ready(result) = guest.as_mut().poll(&mut context) {
            return result;
        }
        pulse.check()?;
        let goes_on = woken.0.swap(false, Ordering::Relaxed) || clock.jump();
        if !goes_on {
            let message = "it waits for something that can never happen";
            return Err(Abort::Contract(message.to_owned()).into());
        }
    }
}
