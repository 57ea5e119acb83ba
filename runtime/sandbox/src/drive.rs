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

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use hb_types::limits::Limits;

    use super::*;
    use crate::session::Control;

    fn drive_with(
        control: &Control,
        guest: impl Future<Output = wasmtime::Result<()>>,
    ) -> wasmtime::Result<()> {
        drive(guest, &VirtualClock::new(0), &Pulse::new(control, &Limits::default()))
    }

    #[test]
    fn a_wait_for_nothing_is_noticed() {
        let error = drive_with(&Control::default(), pending()).expect_err("it waits for ever");
        assert!(matches!(error.downcast_ref(), Some(Abort::Contract(_))), "{error}");
    }

    #[test]
    fn who_woke_itself_is_asked_again_until_a_cancellation() {
        let control = Control::default();
        let mut turns = 0;
        let guest = poll_fn(|context| {
            turns += 1;
            control.cancel.store(turns == 5, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let error = drive_with(&control, guest).expect_err("it was cancelled");
        assert!(matches!(error.downcast_ref(), Some(Abort::Cancelled)), "{error}");
        assert_eq!(turns, 5);
    }
}
