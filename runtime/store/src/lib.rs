//! Content-addressed blobs.
//!
//! Owns: the files below `blob/` of a [`Storage`]: whole blobs named by the BLAKE3 digest of their
//! bytes (`blob/ab/ab…`), and half-written ones (`blob/ab/tmp`, `blob/tmp/…`).
//! Knows nothing of: jobs, the log, what a blob means, who needs it. The ledger says which blobs
//! are needed: [`Store::sweep`] asks for it, and no count is kept here.
//!
//! Invariants:
//! - A file under a digest's name was complete and flushed before it got that name, so a crash
//!   leaves the whole blob or nothing.
//! - When [`Store::put`] or [`BlobWriter::finish`] returns, the bytes and the name are durable.
//! - A blob never changes. Reading checks the bytes against the name, except where a function says
//!   that it does not.
//! - One process at a time has a store open; the host's lock on the data directory sees to that.

mod audit;
mod error;
mod gate;
mod names;
mod reader;
mod store;
mod sweep;
mod writer;

pub use audit::{Audit, DamagedBlob};
pub use error::StoreError;
pub use gate::Hold;
pub use hb_disk::Storage;
pub use names::Blobs;
pub use reader::{Blob, BlobCursor};
pub use store::Store;
pub use sweep::{SweepReport, WhileHeld};
pub use writer::BlobWriter;
