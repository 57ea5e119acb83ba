//! Owns a ledger and runs jobs.
//!
//! Owns: every decision about jobs, in the order receive, decide, append, then act; recovery; the
//! way from an ending to a seal; verification by re-execution.
//! Knows nothing of: terminals, HTTP, JSON on the wire, wasmtime.
//!
//! Invariants: nothing is announced before it is durable; every change of a job goes through
//! `hb_types::state::apply`, live and in replay; a data directory has one host at a time.

mod attempt;
pub mod care;
mod clock;
mod conclusion;
mod contents;
mod delta;
mod error;
mod host;
pub mod journal;
mod layout;
mod observer;
mod ownership;
mod submit;
mod verify;
mod view;

pub use error::{DecideError, OpenHostError, RunError, SubmitError, is_disk_full};
pub use host::{Ground, Host, HostOptions, SNAPSHOT_EVERY_BYTES};
pub use layout::Layout;
pub use observer::{Notice, Observer};
pub use ownership::{Ownership, is_dying, ownership};
pub use submit::{AddError, Submission, Submitted};
pub use verify::{Difference, Expected, Verdict, Verifier, VerifyError};
pub use view::{ExportError, LedgerView, public_key};
