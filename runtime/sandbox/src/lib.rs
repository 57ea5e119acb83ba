//! Runs one component in bounds.
//!
//! Owns: what a stranger's bytes go through before they run (scan, adaptation, compilation in a
//! child process, cache), the deterministic world that the guest sees, every limit, and the
//! translation of every way of ending into one closed vocabulary.
//! Knows nothing of: ledgers, jobs' histories, networks, terminals. What a checkpoint is kept in
//! is the affair of the [`Session`] that the host passes in.
//!
//! Invariant: nothing that a component contains or does makes this library panic, abort or wait
//! without end.

mod abort;
mod adapt;
mod cache;
mod compile;
mod drive;
mod engine;
mod error;
mod exit_code;
mod guest;
mod job;
mod lease;
mod limiter;
mod load;
mod outcome;
mod preview1;
mod pulse;
mod run;
mod sandbox;
mod scan;
mod type_depth;
mod wasi;

use hb_session as session;

pub use abort::HostFault;
pub use compile::{Compiler, child::compiler_main};
pub use engine::ENGINE_VERSION;
pub use error::{PrepareError, Rejection, SandboxError};
pub use hb_session::{Control, Ended, Ending, Input, Launch, Saved, Session, Stream};
pub use sandbox::{Prepared, Sandbox, SandboxOptions};
