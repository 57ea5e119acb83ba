//! What can go wrong, in words that name the place and the way out.
//!
//! Owns: [`Problem`] (something in the log that does not verify) and the error of each operation.
//! Knows nothing of: how problems are found.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::Lsn;

/// What kind of thing does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// A segment's header and its copy are damaged.
    SegmentHeader,
    /// A segment does not have its length.
    SegmentLength,
    /// A segment between others, or the first ones, are not there.
    SegmentMissing,
    /// A file belongs to another log.
    Foreign,
    /// A frame's header is damaged.
    FrameHeader,
    /// A sector of a frame is damaged.
    Sector,
    /// Everything has its checksum and the chain does not hold: somebody changed the log.
    Chain,
    /// A frame is not the one that must follow.
    Sequence,
    /// A frame's records are not what its header says.
    Record,
    /// Bytes that were never written are not zero.
    NotZero,
    /// The high-water mark is not there.
    MarkMissing,
    /// No slot of the high-water mark verifies.
    MarkDamaged,
    /// The log ends before what was acknowledged.
    BehindMark,
    /// The log holds another frame than the one that was acknowledged.
    MarkDisagrees,
    /// A snapshot does not verify.
    Snapshot,
}

/// Something in a log that does not verify, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing.
    pub kind: ProblemKind,
    /// The file, relative to the ledger's directory.
    pub file: String,
    /// The segment's number, where it is one.
    pub segment: Option<u64>,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// The last record before it that was read and verified; 0 for none.
    pub last_good_lsn: Lsn,
    /// What was expected and what was found.
    pub detail: String,
}

impl Problem {
    fn name(&self) -> String {
        self.segment.map_or_else(|| self.file.clone(), |seq| format!("segment {seq:06}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, detail, last_good_lsn: lsn, offset, .. } = self;
        let name = self.name();
        match kind {
            ProblemKind::SegmentMissing
            | ProblemKind::Foreign
            | ProblemKind::MarkMissing
            | ProblemKind::MarkDamaged
            | ProblemKind::BehindMark
            | ProblemKind::MarkDisagrees => write!(f, "{name}: {detail}")?,
            _ => write!(f, "{name} is corrupt at byte {offset}: {detail}")?,
        }
        if *lsn == 0 {
            // What follows nothing is everything: that is no advice to give unasked.
            return write!(
                f,
                "; nothing was read; put the file right from a copy, or see with \
                 `hb ledger check` what is left"
            );
        }
        write!(
            f,
            "; nothing after LSN {lsn} was read; run `hb ledger check`, and \
             `hb ledger repair --to {lsn}` to give up what follows"
        )
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something does not verify. Nothing was changed.
    #[error("{0}")]
    Refused(Problem),
    /// The files were written by another version.
    #[error(
        "{file} has format {found}, this program reads format 1: use the version that wrote it"
    )]
    Format {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// There is no room for the first segment.
    #[error(
        "the disk is full: a segment needs {needed_bytes} bytes, {free_bytes} are free; \
         free some space and start again"
    )]
    Full {
        /// What a segment needs.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The options contradict each other.
    #[error("log options: {0}")]
    Options(String),
    /// The disk failed.
    #[error("could not {what}: check the disk and the permissions of the data directory")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Names what was tried when an I/O error arises.
pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let what = what.into();
    move |source| OpenError::Io { what, source }
}

/// Why records were not appended, or are not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no room for another segment. Nothing was appended; it goes on by itself when
    /// there is room again.
    #[error(
        "the disk is full: the log needs {needed_bytes} bytes for its next segment, {free_bytes} \
         are free; nothing was appended; free some space and try again"
    )]
    Full {
        /// What a segment needs.
        needed_bytes: u64,
        /// What there was when it was last tried.
        free_bytes: u64,
    },
    /// One batch is larger than a frame may be. Nothing was appended.
    #[error(
        "a batch of {bytes} bytes is larger than the log's frame of at most {limit_bytes}; \
         nothing was appended; store large payloads as blobs"
    )]
    TooLarge {
        /// What the batch takes.
        bytes: u64,
        /// What a frame holds.
        limit_bytes: u64,
    },
    /// A write or a flush failed after the records were staged. They may or may not be in the
    /// log; only opening it again tells.
    #[error(
        "whether LSN {first_lsn} to {last_lsn} are durable is unknown until the log is opened \
         again: {cause}"
    )]
    Unknown {
        /// First record in doubt.
        first_lsn: Lsn,
        /// Last record in doubt.
        last_lsn: Lsn,
        /// What failed.
        cause: Arc<str>,
    },
    /// An earlier write or flush failed. Nothing was appended.
    #[error("the log takes no more records until it is opened again: {cause}")]
    Poisoned {
        /// What failed.
        cause: Arc<str>,
    },
    /// The log was closed. Nothing was appended.
    #[error("the log is closed")]
    Closed,
    /// A batch without records was given.
    #[error("a batch must hold at least one record")]
    Empty,
}

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The state must not be ahead of the log.
    #[error("a snapshot at LSN {at} is ahead of the log, which is durable up to {durable}")]
    Ahead {
        /// The snapshot's position.
        at: Lsn,
        /// The last durable record.
        durable: Lsn,
    },
    /// There is one at this position or after it.
    #[error("a snapshot at LSN {at} is not newer than the one at {newest}")]
    NotNewer {
        /// The snapshot's position.
        at: Lsn,
        /// The newest that exists.
        newest: Lsn,
    },
    /// The log is poisoned or closed.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// The disk failed. The log and the older snapshots are as before.
    #[error("could not write the snapshot at LSN {at}")]
    Io {
        /// The snapshot's position.
        at: Lsn,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError<E> {
    /// What was verified when the log was opened does not verify any more.
    #[error("{0}")]
    Refused(Problem),
    /// The disk failed.
    #[error("could not read segment {segment:06}")]
    Io {
        /// The segment.
        segment: u64,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The visitor said so.
    #[error("replay was stopped at LSN {lsn}")]
    Visitor {
        /// The record that it stopped at.
        lsn: Lsn,
        /// Its error.
        #[source]
        source: E,
    },
}
