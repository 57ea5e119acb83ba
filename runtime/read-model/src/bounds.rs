//! Every bound of the read model, with its unit and where the number comes from.

use std::time::Duration;

/// The most jobs or events that one answer holds. A page of a thousand rows is about 300 KB.
pub const MAX_PAGE: usize = 1_000;

/// Where counting stops and says "at least": a person needs no more, and it costs milliseconds.
pub const MAX_COUNT: u64 = 10_000;

/// The most labels that one filter may name.
pub const MAX_LABELS: usize = 16;

/// The least bytes that a search within names takes: three make an entry of the index.
pub const MIN_CONTAINS_BYTES: usize = 3;

/// How much of a job's name can be searched, in bytes: as much as the longest valid name has.
pub const SEARCHED_ID_BYTES: usize = hb_types::job::NAME_MAX_BYTES;

/// Connections that read at once; further readers wait for one.
pub const READERS: usize = 4;

/// How long a question may take, waiting included. A page takes milliseconds; whatever takes
/// seconds is either hostile or waits for a disk that is lost.
pub const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Steps of `SQLite`'s machine between two looks at the clock: about a tenth of a millisecond.
pub(crate) const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Page cache of each reading connection, in KiB.
pub(crate) const READER_CACHE_KIB: i64 = 8 << 10;

/// Page cache of the writing connection, in KiB: the newest pages of every index fit.
pub(crate) const WRITER_CACHE_KIB: i64 = 32 << 10;

/// Postings that are held between two writes of them, about 600 B each.
pub(crate) const MAX_HELD_POSTINGS: usize = 16 << 10;

/// Where `SQLite`'s own log is cut by force, in bytes. It comes to this only when readers overlap
/// without a pause, since none of them waits for more than [`ANSWER_TIME`].
pub const MAX_SIDE_LOG_BYTES: u64 = 256 << 20;

/// Prepared statements that a connection keeps; there are about thirty different ones.
pub(crate) const MAX_STATEMENTS: usize = 64;
