//! What a host hands to whatever runs a job, and what it gets back.
//!
//! Owns the shapes at the boundary between a host and what runs one attempt: the sandbox of
//! components, or a container. Knows nothing of either, and nothing of ledgers: the host implements
//! [`Session`] over whatever keeps its checkpoints.

mod fault;

use std::{
    fs::File,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

pub use hb_files::Input;
use hb_types::{
    capture::{Capture, Counters, Progress, Restored},
    limits::Limits,
    outcome::{Explanation, Outcome},
};

pub use fault::HostFault;

/// Bytes of a metric's name that are kept.
pub const METRIC_NAME_BYTES: usize = 128;
/// Bytes of a remark that are kept.
pub const NOTE_BYTES: usize = 4096;
/// Remarks between two checkpoints, and names of metrics in all, that are kept.
pub const SAID_MAX: usize = 1_000;

/// One attempt at a job: everything that decides what the guest sees.
pub struct Launch {
    /// Arguments, the program's name first.
    pub arguments: Vec<String>,
    /// Environment variables in the order in which the guest sees them.
    pub environment: Vec<(String, String)>,
    /// Standard input; empty where none is given. Read from its present position.
    pub stdin: Option<File>,
    /// The read-only files below `/in`.
    pub inputs: Vec<Input>,
    /// Every bound of the run.
    pub limits: Limits,
    /// What all random streams are made of.
    pub seed: [u8; 32],
    /// Where the wall clock starts, in nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// An empty file, open for reading and writing, for contents that exceed memory.
    pub scratch: File,
}

/// What a checkpoint led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is durable under this sequence number; the guest goes on.
    Continue(u64),
    /// It is durable; end the attempt here, without an outcome.
    Stop,
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The host's side of a run. All calls come from the thread that called `run`, on a
/// stack of at least 1 MiB, and may block; while they do, the guest stands still.
pub trait Session: Send {
    /// The newest durable checkpoint of the job, if there is one.
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault>;

    /// Whether a checkpoint is wanted at this step. Called often; must be cheap.
    fn due(&mut self, step: u64) -> bool;

    /// Makes a checkpoint durable before it returns.
    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault>;

    /// Bytes that the guest just wrote: for live views, not durable, and possibly rolled back.
    fn output(&mut self, stream: Stream, bytes: &[u8]);

    /// What the guest just said of itself: for live views, not durable.
    fn progress(&mut self, progress: &Progress);

    /// The final condition of stdout, stderr and the files. Called once for every ending that has
    /// an outcome, after the guest is gone; not after [`Saved::Stop`] and not after a fault.
    fn finish(&mut self, ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault>;
}

/// How a run is ended from outside. All are looked at after at most some milliseconds of guest
/// time, and ignored while a call into the [`Session`] is under way.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Set it to end the job with [`Outcome::Cancelled`].
    pub cancel: Arc<AtomicBool>,
    /// Set it to end the attempt without an outcome, as [`Ended::Stopped`].
    pub stop: Arc<AtomicBool>,
    /// When it passes, the job ends with the limit `deadline_ms`.
    pub deadline: Option<Instant>,
}

/// How a job ended, and where its counters stood.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// The outcome, of the closed vocabulary.
    pub outcome: Outcome,
    /// What helps a person to understand it; printable.
    pub explanation: Explanation,
    /// Fuel, clock and random positions at the end. After a trap the fuel is that of the last
    /// host call or yield before it.
    pub counters: Counters,
    /// The most linear memory that the guest held at once in this attempt.
    pub peak_memory_bytes: u64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The job has an outcome.
    Finished(Ending),
    /// The session answered a checkpoint with [`Saved::Stop`], or [`Control::stop`] was set.
    Stopped,
}
