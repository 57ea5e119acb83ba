//! The history of jobs, arranged for questions: by state, name, label, hash and time, newest first.
//!
//! Owns: one `SQLite` file, and every question that is put to it.
//! Knows nothing of: the log, blobs, how a job runs, HTTP. What it is told is derived from the log,
//! so the file may be lost at any time: [`ReadModel::open`] then says that it starts anew, and
//! whoever owns the log tells it everything again.
//!
//! Invariants:
//! - Nothing here is on the path of an acknowledgement.
//! - [`ReadModel::applied`] never goes back, except by [`ReadModel::clear`].
//! - A row on a page satisfied the whole filter in the one snapshot that the page was read from:
//!   every row is checked again by [`Filter::matches`] after the indexes found it.
//! - A question is answered within a bounded time or refused by name; readers wait neither for the
//!   writer nor for each other.
//!
//! How a page is found is said in `plan.rs`; what the file holds, in `schema.rs`.

mod bits;
mod blocks;
pub mod bounds;
mod change;
mod cursor;
mod error;
mod facet;
mod filter;
mod history;
mod meta;
mod model;
mod open;
mod plan;
mod postings;
mod query;
mod readers;
mod row;
mod schema;
mod stored;

pub use change::Changes;
pub use cursor::{Cursor, InvalidCursor};
pub use error::ReadModelError;
pub use filter::{Filter, HexPrefix, IdMatch, InvalidFilter, LabelMatch, TimeRange};
pub use history::{Ended, Totals};
pub use model::{Options, ReadModel};
pub use open::{FreshReason, Opened};
pub use query::{Count, Page};
pub use row::{EventRow, JobRow};
