//! What a host is told to do to itself: an ambush, handed over as JSON on its command line.
//!
//! Owns the shapes; `disk.rs` carries it out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How a host is set up for an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ambush {
    /// Length of the log's segments: small, so that they change often.
    pub segment_bytes: u64,
    /// Bytes of log between snapshots: few, so that there are many.
    pub snapshot_every_bytes: u64,
    /// Decides which sectors and names a strike leaves.
    pub seed: u64,
    /// The strike, if there is one.
    #[serde(default)]
    pub trap: Option<Trap>,
}

/// A strike, and where it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trap {
    /// Where.
    pub at: Point,
    /// At which such place since the start of the process, from 1.
    pub nth: u64,
    /// What is done there.
    pub strike: Strike,
    /// A file, outside of the data directory, that is written when it was done.
    pub told: PathBuf,
}

/// A place in what a host does to its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// The log was written and not yet flushed.
    BetweenWriteAndFlush,
    /// The log was flushed and nobody was answered yet.
    BetweenFlushAndAnswer,
    /// A blob is about to be flushed.
    Blob,
    /// A file is about to get its name.
    BeforeRename,
    /// A file has just got its name, which is not yet durable.
    AfterRename,
    /// A snapshot is being written.
    Snapshot,
    /// A new segment is being made.
    SegmentChange,
    /// A file is about to be removed.
    Removal,
    /// Any operation, counted from the very first: a small number is in the middle of recovery.
    Recovery,
    /// Any write to the log.
    LogWrite,
}

impl Point {
    /// The places at which a process is killed.
    pub const CHOSEN: [Self; 9] = [
        Self::BetweenWriteAndFlush,
        Self::BetweenFlushAndAnswer,
        Self::Blob,
        Self::BeforeRename,
        Self::AfterRename,
        Self::Snapshot,
        Self::SegmentChange,
        Self::Removal,
        Self::Recovery,
    ];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BetweenWriteAndFlush => "between write and flush",
            Self::BetweenFlushAndAnswer => "between flush and answer",
            Self::Blob => "before the flush of a blob",
            Self::BeforeRename => "before a rename",
            Self::AfterRename => "after a rename",
            Self::Snapshot => "during a snapshot",
            Self::SegmentChange => "during a segment change",
            Self::Removal => "before a removal",
            Self::Recovery => "during recovery",
            Self::LogWrite => "during a write to the log",
        }
    }
}

/// What is done at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strike {
    /// The process kills itself.
    Kill,
    /// Only some sectors of the write reach the disk, then the process kills itself.
    Tear,
    /// Some of what was not flushed is undone, then the process kills itself.
    PowerCut,
    /// From now on there is no space.
    Full,
    /// The flush fails and loses some of what it should have kept; so do all later ones.
    FailFlush,
    /// Flushes keep nothing from the start, and at the place the power fails. No promise holds on
    /// such a disk but that the loss is noticed.
    LyingFlushes,
}

impl Strike {
    /// Whether what is not flushed has to be remembered from the start.
    pub const fn remembers(self) -> bool {
        matches!(self, Self::PowerCut | Self::FailFlush | Self::LyingFlushes)
    }
}
