//! The write-ahead log.
//!
//! Owns: segments, frames, the chain, group commit, recovery, the high-water mark, snapshots of
//! derived state and the removal of what they cover; `check` and `repair`. The bytes are
//! described in `docs/log-format.md`.
//! Knows nothing of: what a record or a state means, jobs, locks between processes.
//!
//! Invariants: a record is durable before anyone is told; what was acknowledged is read back
//! after any crash, or the log refuses to open and says where; a log is opened only when every
//! byte of it has been accounted for.

mod check;
mod commit;
mod error;
mod frame;
mod layout;
mod log;
mod mark;
mod open;
mod options;
mod reader;
mod record;
mod recovery;
mod repair;
mod segment;
mod snapshot;
mod stage;
mod threads;
mod wal;
mod walk;

pub use hb_types::Lsn;

pub use check::{CheckReport, SegmentReport, check};
pub use error::{AppendError, OpenError, Problem, ProblemKind, ReplayError, SnapshotError};
pub use options::{Options, Stats};
pub use reader::{Reader, read_only};
pub use record::{PAYLOAD_ALIGN, Record, RecordRef};
pub use recovery::{Notice, ReadFigures};
pub use repair::{RepairError, RepairNotice, RepairReport, repair};
pub use snapshot::Snapshot;
pub use wal::{Recovery, Ticket, Wal};
