//! Waiting.
//!
//! Streams and files are always ready, so only a wait for clocks alone is one: virtual time then
//! jumps to the nearest deadline, and nothing ever waits in real time. The answer names what is
//! ready in the order in which it was asked about.

use super::{
    Call,
    clocks::Clock,
    descriptors::{Descriptors, Fd, Object},
    errno::{Answer, Errno},
    memory::{u16_at, u32_at, u64_at},
};
use crate::wasi::clocks::VirtualClock;

/// Subscriptions of one call: more than there can be descriptors to wait for.
const MAX_SUBSCRIPTIONS: u32 = 1 << 16;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// Set in the flags of a clock's subscription where its time is not a distance.
const ABSOLUTE: u16 = 1;
/// Set in an event where a file has nothing more to read.
const HANGUP: u16 = 1;

/// What is waited for.
struct Subscription {
    user_data: u64,
    what: What,
}

enum What {
    /// A time since the job's start.
    Deadline {
        elapsed_ns: u64,
    },
    Read(Fd),
    Write(Fd),
}

impl Call<'_> {
    pub(super) fn poll_oneoff(
        &mut self,
        subscriptions: u32,
        events: u32,
        count: u32,
        out: u32,
    ) -> Answer {
        if count == 0 || count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        let list = self.memory.parts(subscriptions, count, SUBSCRIPTION_BYTES)?;
        let events = self.memory.parts(events, count, EVENT_BYTES)?;
        let out = self.memory.part(out, 4)?;
        let clock = &self.guest.clock;
        // All are read before the first event is written, which may be in the same place.
        let subscriptions = self
            .memory
            .bytes(list)
            .chunks_exact(SUBSCRIPTION_BYTES as usize)
            .map(|record| Subscription::read(record, clock))
            .collect::<Result<Vec<_>, Errno>>()?;
        wait(&subscriptions, clock);
        let mut ready = 0_u32;
        for subscription in &subscriptions {
            if let Some(event) = subscription.event(&self.guest.preview1.descriptors, clock)? {
                let start = events.start + ready as usize * EVENT_BYTES as usize;
                self.memory.put(&(start..start + event.len()), &event);
                ready += 1;
            }
        }
        self.memory.put(&out, &ready.to_le_bytes());
        Ok(())
    }
}

/// Lets time pass if there is nothing but time to wait for.
fn wait(subscriptions: &[Subscription], clock: &VirtualClock) {
    let deadlines = subscriptions.iter().map(|subscription| match subscription.what {
        What::Deadline { elapsed_ns } => elapsed_ns,
        // Ready now.
        What::Read(_) | What::Write(_) => 0,
    });
    clock.wait_until(deadlines.min().unwrap_or(0));
}

impl Subscription {
    fn read(record: &[u8], clock: &VirtualClock) -> Result<Self, Errno> {
        let what = match record[8] {
            CLOCK => What::Deadline { elapsed_ns: deadline(record, clock)? },
            FD_READ => What::Read(u32_at(record, 16)),
            FD_WRITE => What::Write(u32_at(record, 16)),
            _ => return Err(Errno::Inval),
        };
        Ok(Self { user_data: u64_at(record, 0), what })
    }

    /// What the guest is told, if there is anything.
    fn event(
        &self,
        descriptors: &Descriptors,
        clock: &VirtualClock,
    ) -> Answer<Option<[u8; EVENT_BYTES as usize]>> {
        let (event_type, result) = match self.what {
            What::Deadline { elapsed_ns } if elapsed_ns > clock.elapsed_ns() => return Ok(None),
            What::Deadline { .. } => (CLOCK, Ok((0, 0))),
            What::Read(fd) => (FD_READ, readable(descriptors, fd)?),
            What::Write(fd) => (FD_WRITE, writable(descriptors, fd)),
        };
        let (error, bytes, flags) = match result {
            Ok((bytes, flags)) => (0, bytes, flags),
            Err(errno) => (errno.number(), 0, 0),
        };
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&self.user_data.to_le_bytes());
        event[8..10].copy_from_slice(&error.to_le_bytes());
        event[10] = event_type;
        event[16..24].copy_from_slice(&u64::to_le_bytes(bytes));
        event[24..26].copy_from_slice(&u16::to_le_bytes(flags));
        Ok(Some(event))
    }
}

/// When a clock's subscription is due, in time since the job's start.
fn deadline(record: &[u8], clock: &VirtualClock) -> Result<u64, Errno> {
    let timeout_ns = u64_at(record, 24);
    let flags = u16_at(record, 40);
    if flags & !ABSOLUTE != 0 {
        return Err(Errno::Inval);
    }
    Ok(match Clock::numbered(u32_at(record, 16)).map_err(|_| Errno::Inval)? {
        _ if flags & ABSOLUTE == 0 => clock.elapsed_ns().saturating_add(timeout_ns),
        Clock::Monotonic => timeout_ns,
        Clock::Wall => timeout_ns.saturating_sub(clock.start_ns()),
    })
}

/// How many bytes can be read at least, and flags; or that there is nothing to read from.
fn readable(descriptors: &Descriptors, fd: Fd) -> Answer<Result<(u64, u16), Errno>> {
    let descriptor = match descriptors.get(fd) {
        Ok(descriptor) => descriptor,
        Err(errno) => return Ok(Err(errno)),
    };
    Ok(match &descriptor.object {
        Object::Stdin => Ok((1, 0)),
        Object::File(file) if file.can_read => {
            let size_bytes = file.node.world().stat(file.node.handle())?.size_bytes;
            let rest_bytes = size_bytes.saturating_sub(file.position);
            Ok((rest_bytes, if rest_bytes == 0 { HANGUP } else { 0 }))
        }
        Object::File(_) | Object::Output(_) | Object::Directory(_) => Err(Errno::Badf),
    })
}

fn writable(descriptors: &Descriptors, fd: Fd) -> Result<(u64, u16), Errno> {
    match &descriptors.get(fd)?.object {
        Object::Output(_) => Ok((1, 0)),
        Object::File(file) if file.can_write => Ok((1, 0)),
        Object::File(_) | Object::Stdin | Object::Directory(_) => Err(Errno::Badf),
    }
}
