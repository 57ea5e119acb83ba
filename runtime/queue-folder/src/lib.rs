//! A folder as a queue: drop a manifest, it runs, its outcome lands beside it.
//!
//! ```text
//! queue/       manifests that wait or run; the only folder that others write
//! telemetry/   NAME: how it is, replaced atomically, never half-written
//! archive/     manifests whose jobs are over
//! rejected/    manifests that make no sense; telemetry/NAME says why
//! ```
//!
//! Owns: the folder. Knows nothing of how jobs run: whoever does is a [`Desk`].
//!
//! Invariants: a manifest leaves `queue/` only when its outcome is in `telemetry/`, both durably; what
//! a file says is decided by its bytes alone, so that after a crash the same folder and the same
//! ledger lead to the same jobs, each once.

mod desk;
mod folder;
mod manifest;
mod report;
mod watch;

pub use desk::{Desk, HandError, Handed, HostDesk};
pub use folder::{Folder, FolderError};
pub use report::{Report, State};
pub use watch::{QueueFolder, SCAN_EVERY};
