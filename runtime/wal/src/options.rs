//! What can be chosen when a log is opened, and what it tells of itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Lsn;
use crate::error::OpenError;
use crate::frame::len_for_body;
use crate::layout::BLOCK_U64;

/// Choices for [`crate::Wal::open`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of new segments, in bytes; a multiple of 4096. Segments that exist keep theirs.
    pub segment_bytes: u64,
    /// Length of the first segment of a new log, in bytes, at most `segment_bytes`: small, so that
    /// a new log is ready at once.
    pub first_segment_bytes: u64,
    /// How many empty segments are kept ready, at least 1, once the current one has begun to fill.
    pub spare_segments: usize,
    /// The most that one batch, and all that is staged behind one flush, may take: records with
    /// 32 bytes of header each, in bytes. Who finds it full waits for the flush.
    pub max_frame_bytes: usize,
    /// What only [`crate::Wal::append_reserved`] may still use when no segment can be made, in
    /// bytes.
    pub reserve_bytes: u64,
    /// How long nothing must be appended until the log is sealed.
    pub idle_seal: Duration,
    /// How often the high-water mark is made durable while appends go on.
    pub mark_flush: Duration,
    /// Whether threads write, seal and prepare segments. Without them all of it happens in the
    /// callers' threads, in the same order each time: [`crate::Wal::settle`] then does what
    /// idleness would.
    pub background: bool,
    /// Makes the identity of a new log follow from this number: for simulations.
    pub seed: Option<u64>,
    /// Nanoseconds since 1970; kept in the log for people, never compared.
    pub clock_ns: fn() -> u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 8 << 20,
            spare_segments: 1,
            max_frame_bytes: 4 << 20,
            reserve_bytes: 1 << 20,
            idle_seal: Duration::from_millis(10),
            mark_flush: Duration::from_millis(100),
            background: true,
            seed: None,
            clock_ns: wall_clock_ns,
        }
    }
}

fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Options {
    /// The length of a new log's first segment.
    pub(crate) fn first_len(&self) -> u64 {
        self.first_segment_bytes.min(self.segment_bytes)
    }

    /// What a segment must hold between its headers: the largest frame and the reserve.
    pub(crate) fn needed_room(&self) -> u64 {
        len_for_body(self.max_frame_bytes).saturating_add(self.reserve_bytes)
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let bad = |text: String| Err(OpenError::Options(text));
        let whole = |bytes: u64| bytes.is_multiple_of(BLOCK_U64);
        if !whole(self.segment_bytes) || !whole(self.first_segment_bytes) {
            return bad(format!(
                "segment_bytes {} or first_segment_bytes {} is not a multiple of 4096",
                self.segment_bytes, self.first_segment_bytes
            ));
        }
        if self.spare_segments == 0 {
            return bad("spare_segments must be at least 1".to_owned());
        }
        if self.max_frame_bytes == 0 || self.max_frame_bytes > 1 << 30 {
            return bad(format!("max_frame_bytes {} is not in 1..=1 GiB", self.max_frame_bytes));
        }
        let needed = self.needed_room().saturating_add(2 * BLOCK_U64);
        let smallest = self.first_len();
        if needed > smallest {
            return bad(format!(
                "a segment of {smallest} bytes does not hold max_frame_bytes {} and reserve_bytes \
                 {}: at least {needed} expected",
                self.max_frame_bytes, self.reserve_bytes
            ));
        }
        Ok(())
    }
}

/// Figures of an open log since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The last record that is durable.
    pub durable_lsn: Lsn,
    /// Bytes that are staged and not yet written.
    pub staged_bytes: u64,
    /// Frames written, seals included.
    pub frames: u64,
    /// Seals among them.
    pub seals: u64,
    /// Records written.
    pub records: u64,
    /// Bytes of frames written.
    pub bytes: u64,
    /// Flushes of a segment; flushes of the mark are counted apart.
    pub flushes: u64,
    /// Flushes of the high-water mark.
    pub mark_flushes: u64,
    /// Segments with records.
    pub segments: u64,
    /// Empty segments that stand ready.
    pub spares: u64,
    /// The newest snapshot.
    pub snapshot_lsn: Option<Lsn>,
    /// Needed and free bytes, while no segment can be made.
    pub full: Option<(u64, u64)>,
    /// Why the log takes no more records, if it does not.
    pub poisoned: Option<String>,
}
