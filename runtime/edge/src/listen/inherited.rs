//! Sockets that a service manager opened and handed over (`sd_listen_fds(3)`).
//!
//! This file contains unsafe code, because a descriptor that was inherited is a bare number. What makes
//! it sound: the numbers are taken once in the life of the process, and the environment says that they are meant for it.
#![allow(unsafe_code)]

use std::{
    env,
    os::fd::{FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    process::getpid,
};

/// The first one; 0, 1 and 2 are the standard streams.
const FIRST: RawFd = 3;
/// More than any unit has.
const MAX_SOCKETS: RawFd = 64;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The descriptors, in the order of the unit; none when there are none, or at a second call.
///
/// The environment is left as it is: changing it is not safe while threads run, and a child process has another id
/// than the one in it.
pub(crate) fn take() -> Vec<OwnedFd> {
    let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == getpid().to_string());
    let count = env::var("LISTEN_FDS").ok().and_then(|count| count.parse::<RawFd>().ok());
    let Some(count) = count.filter(|count| ours && (1..=MAX_SOCKETS).contains(count)) else {
        return Vec::new();
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    (FIRST..FIRST + count).filter_map(own).collect()
}

fn own(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: only looked at, for the length of this statement.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    fcntl_getfd(borrowed).ok()?;
    // SAFETY: it is open, the service manager gave it to this process, and nothing else takes it, because this
    // runs once.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    // The compiler of guests is a child process, and has no business with it.
    fcntl_setfd(&owned, FdFlags::CLOEXEC).ok()?;
    Some(owned)
}
