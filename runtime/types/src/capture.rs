//! What passes between the sandbox and the host at a checkpoint.
//!
//! Every byte string a job owns (its state, stdout, stderr, each file below `/job` and `/out`)
//! is a *content*: a table of chunks of [`CHUNK_BYTES`]. The sandbox says which chunks changed
//! since the last durable checkpoint; the host decides how they are kept.
//!
//! Invariant: only the last chunk of a content is shorter than [`CHUNK_BYTES`]; a content of
//! length zero has no chunks.

use std::{collections::BTreeMap, io};

/// Bytes in a chunk.
pub const CHUNK_BYTES: u32 = 64 * 1024;

/// Which content of a job: fixed numbers for the streams, then one for each file ever created.
///
/// Files get theirs in the order of creation, so that two runs of a job number them alike; a
/// number is not used again within a job. Renaming a file keeps its number.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
pub struct ContentId(pub u64);

impl ContentId {
    /// The state bytes of the newest checkpoint.
    pub const STATE: Self = Self(0);
    /// Standard output.
    pub const STDOUT: Self = Self(1);
    /// Standard error.
    pub const STDERR: Self = Self(2);
    /// The first number a file may have.
    pub const FIRST_FILE: Self = Self(16);
}

/// A chunk that changed since the last durable checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtyChunk {
    /// Position in the content's chunk table.
    pub index: u32,
    /// Bytes at the chunk's start that are certainly unchanged.
    pub clean_prefix_bytes: u32,
}

/// One content at a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentCapture {
    /// Which one.
    pub id: ContentId,
    /// Its whole length in bytes.
    pub len_bytes: u64,
    /// The chunks that changed, in order of index.
    pub dirty: Vec<DirtyChunk>,
}

/// What a path below `/job` or `/out` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A file, and where its bytes are.
    File(ContentId),
}

/// One path below `/job` or `/out`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Last change of its data, in nanoseconds of virtual time since the Unix epoch.
    pub modified_ns: u64,
    /// When it was made, or what the job set since, likewise. Reading does not change it.
    pub accessed_ns: u64,
}

/// The names below `/job` and `/out`: `"job/run-0001"`, `"out/a/b.txt"`. No leading slash, no
/// `.` or `..`; parents are listed too, except the two roots.
pub type NameTree = BTreeMap<String, Node>;

/// Where the counters of the deterministic world stand.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Counters {
    /// Fuel used so far by the job, over all attempts.
    pub fuel_used: u64,
    /// Virtual time since the job's start, in nanoseconds.
    pub clock_ns: u64,
    /// Bytes drawn from the secure random stream.
    pub secure_random_bytes: u64,
    /// Bytes drawn from the insecure random stream.
    pub insecure_random_bytes: u64,
    /// Bytes read from standard input.
    pub stdin_bytes: u64,
    /// The number that the next new file gets.
    pub next_content: u64,
}

/// What a job last said of itself.
#[derive(
    Clone,
    PartialEq,
    Debug,
    Default,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, where known.
    pub total: Option<u64>,
    /// Newest value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// Remarks since the last checkpoint.
    pub notes: Vec<String>,
}

/// Reads the bytes behind chunk numbers.
pub trait ChunkSource {
    /// The bytes of one chunk of one content; its length follows from the content's length.
    fn read_chunk(&self, id: ContentId, index: u32) -> io::Result<Vec<u8>>;
}

/// Everything a checkpoint or an ending holds, as the sandbox sees it.
pub struct Capture<'a> {
    /// The step that the guest named.
    pub step: u64,
    /// The guest's own state bytes; empty at an ending.
    pub state: &'a [u8],
    /// Fuel, clock and random positions.
    pub counters: Counters,
    /// Stdout, stderr and every file, in order of id, changed or not. Not the state.
    pub contents: Vec<ContentCapture>,
    /// The names of the files.
    pub names: NameTree,
    /// What the guest said of itself.
    pub progress: Progress,
    /// Reads any chunk of `contents`, changed or not.
    pub source: &'a dyn ChunkSource,
}

/// A checkpoint as the host gives it back. Chunks are read one by one through the source.
pub struct Restored<'a> {
    /// The number that `save` returned.
    pub sequence: u64,
    /// The step that the guest named.
    pub step: u64,
    /// The guest's state bytes.
    pub state: Vec<u8>,
    /// Fuel, clock and random positions.
    pub counters: Counters,
    /// Stdout, stderr and every file: which, and how long.
    pub contents: Vec<(ContentId, u64)>,
    /// The names of the files.
    pub names: NameTree,
    /// What the guest had said of itself.
    pub progress: Progress,
    /// Reads the chunks of `contents`.
    pub source: Box<dyn ChunkSource + 'a>,
}

/// Chunks in a content of `len_bytes`; `u32::MAX` for any length that no job can have.
pub fn chunk_count(len_bytes: u64) -> u32 {
    u32::try_from(len_bytes.div_ceil(u64::from(CHUNK_BYTES))).unwrap_or(u32::MAX)
}

/// The length of chunk `index` in a content of `len_bytes`.
pub fn chunk_len(len_bytes: u64, index: u32) -> u32 {
    let start = u64::from(index) * u64::from(CHUNK_BYTES);
    let rest = len_bytes.saturating_sub(start).min(u64::from(CHUNK_BYTES));
    u32::try_from(rest).expect("at most CHUNK_BYTES")
}
