//! What a job written for HackBrain says to its host: `wit/job.wit` for Rust.
//!
//! The functions in [`checkpoint`], [`progress`] and [`process`] are the interfaces as they
//! stand. [`Host`] is the same as a trait, so that the logic of a job can be run natively
//! against [`Rehearsal`], a stand-in that kills it and starts it again. It knows nothing of how
//! the host keeps what it is given.
//!
//! The loop that makes a job survive anything:
//!
#![doc = concat!("```no_run\n", include_str!("../examples/loop.rs"), "```")]

mod bindings;
mod flags;
mod host;
#[cfg(not(target_family = "wasm"))]
mod rehearsal;

pub use flags::{FlagError, Flags};
pub use host::{Host, Live};
#[cfg(not(target_family = "wasm"))]
pub use rehearsal::{Killed, Rehearsal};

/// Durable points inside a job.
pub mod checkpoint {
    use std::io::Write;

    use crate::bindings::hackbrain::job::checkpoint as imported;
    pub use imported::Snapshot;

    /// The newest durable checkpoint, or none when there is none yet.
    ///
    /// Call it once and before anything is printed or written: the host puts files, output,
    /// clocks and random streams back to where they stood. A second call traps.
    pub fn restore() -> Option<Snapshot> {
        imported::restore()
    }

    /// Whether a checkpoint is wanted now. `step` counts in units of the job's choice and never
    /// falls; the first call after [`restore`] names the restored step.
    pub fn due(step: u64) -> bool {
        imported::due(step)
    }

    /// Makes the job's present condition durable and returns the checkpoint's number, which
    /// counts from 1. It returns only when the checkpoint survives a power cut.
    ///
    /// What Rust still holds of a line that was begun on standard output goes out first, since
    /// the checkpoint records how far the output has come. Writers of the job's own must be
    /// flushed by the job.
    pub fn save(step: u64, state: &[u8]) -> u64 {
        // An output that cannot be written is the concern of the next print, not of this call.
        let _ = std::io::stdout().flush();
        imported::save(step, state)
    }
}

/// What a job tells those who watch it.
pub mod progress {
    use crate::bindings::hackbrain::job::progress as imported;

    /// How much is done, in units of the job's choice, and of how much if that is known.
    pub fn report(done: u64, total: Option<u64>) {
        imported::report(done, total);
    }

    /// The present value of a named quantity; a name has at most 128 bytes.
    pub fn metric(name: &str, value: f64) {
        imported::metric(name, value);
    }

    /// A short remark for the job's trace, at most 4 KiB.
    pub fn note(text: &str) {
        imported::note(text);
    }
}

/// Ending with a number.
pub mod process {
    use std::io::Write;

    use crate::bindings::hackbrain::job::process as imported;

    /// Ends the job at once with this exit code; 0 is success. What was begun on standard output
    /// goes out first; destructors do not run.
    pub fn exit(code: u8) -> ! {
        // As above: there is nobody left to tell.
        let _ = std::io::stdout().flush();
        imported::exit(u32::from(code));
        unreachable!("the host ends the job in the call above");
    }
}
