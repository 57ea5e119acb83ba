//! Owns a ledger and runs jobs.
//!
//! Owns: every decision about jobs, in the order receive, decide, append, then act; recovery; the
//! way from an ending to a seal; verification by re-execution.
//! Knows nothing of: terminals, HTTP, JSON on the wire, wasmtime, container engines.
//!
//! Invariants: nothing is announced before it is durable; every change of a job goes through
//! `hb_types::state::apply`, live and in replay; a data directory has one host at a time.

mod archive;
mod attempt;
pub mod care;
mod clock;
mod conclusion;
mod contents;
mod decide;
mod delta;
mod dispatch;
mod error;
mod execute;
mod executor;
mod fork;
mod host;
pub mod journal;
mod layout;
mod listen;
mod live;
mod materialise;
mod observer;
mod origin;
mod output;
mod ownership;
mod program;
mod queue;
mod retention;
mod retry;
mod schedules;
mod spool;
mod submit;
mod verify;
mod view;

pub use archive::ArchiveOptions;
pub use clock::{Clock, RealClock, now_ns};
pub use decide::Decided;
pub use dispatch::{
    AdoptTrace, DispatchFigures, DispatchOptions, Dispatcher, Mode, NotRunning, Taken,
};
pub use error::{
    ChangeError, DecideError, LoadError, LogFailure, OpenHostError, ReadOutputError, RunError,
    SubmitError, is_disk_full, log_failure,
};
pub use execute::{Executed, Orders};
pub use executor::{Executor, Program};
pub use fork::ForkError;
pub use hb_container::{AllowedMount, ContainerOptions, Containers, EngineError};
pub use hb_sandbox::Stream;
pub use hb_store::{BlobWriter, StoreError};
pub use host::{Ground, Host, HostOptions, SNAPSHOT_EVERY_BYTES, WrapDisk};
pub use layout::Layout;
pub use listen::{Change, Listener};
pub use live::{LiveJobs, LiveObserver, TAIL_BYTES};
pub use observer::{Notice, Observer};
pub use origin::{ORIGINS_MAX, OriginError};
pub use output::{Piece, content_of};
pub use ownership::{Ownership, is_dying, ownership};
pub use program::Programs;
pub use queue::{Candidate, Capacity, PATIENCE_NS, Queue, Waiting};
pub use retention::{
    ForgetReport, LeftReason, PLAN_MAX, Prunable, PrunePlan, PruneReason, RetentionPolicy,
};
pub use retry::{RetryError, RetryFrom};
pub use schedules::{ScheduleError, check_cron, next_moment_ns};
pub use submit::{AddError, Submission, Submitted};
pub use verify::{Difference, Expected, Verdict, Verifier, VerifyError};
pub use view::{ExportError, LedgerView, public_key};
