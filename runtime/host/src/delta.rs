//! What a checkpoint costs: only what changed since the one before it.
//!
//! Owns the decision which bytes go into the record itself and which into a pack, the blob of all
//! changed chunks of one checkpoint. Knows nothing of the log, of jobs, or of when to save.
//!
//! Invariants: applied to the holdings it was built on, the delta gives the captured condition;
//! the pack is durable before the delta is returned.

use std::collections::{BTreeMap, BTreeSet};

use hb_sandbox::HostFault;
use hb_store::Store;
use hb_types::{
    Digest,
    capture::{CHUNK_BYTES, Capture, ContentId, Counters, Progress, chunk_count, chunk_len},
    content::{Chunk, ChunkChange, Content, ContentChange, Delta, Holdings},
};

/// The most bytes that one record carries inline; larger changes go to a pack. A blob of its own
/// costs two more flushes than its bytes, a record shares one with whatever else waits: measured
/// in `docs/decisions/0002-log.md`.
const RECORD_INLINE_MAX_BYTES: usize = 64 * 1024;

/// The most bytes that a job's holdings keep inline. They lie in the host's memory and in every
/// snapshot of the ledger, so what is more is moved to a pack.
const HELD_INLINE_MAX_BYTES: usize = 256 * 1024;

/// Inline bytes that an ended job may keep, for the same reason and for ever.
const ENDED_INLINE_MAX_BYTES: usize = 4 * 1024;

/// A pack that is used for less than one part in this many is emptied into the next one.
const SPARSE_PACK: u64 = 4;

/// The most bytes that one checkpoint carries forward out of sparse packs.
const CARRY_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// What a capture came to.
pub(crate) struct Built {
    /// What changed.
    pub delta: Delta,
    /// What is held afterwards.
    pub holdings: Holdings,
    /// Bytes that were written for it, in the record or in a pack.
    pub written_bytes: u64,
}

/// Whether the job goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A checkpoint.
    Checkpoint,
    /// The ending: the state bytes are dropped, and little stays inline.
    Ending,
}

/// Builds what changed from `base` to `capture` and makes its pack durable.
///
/// `base` is empty when the attempt started from nothing.
pub(crate) fn build(
    store: &Store,
    base: &Holdings,
    fresh: bool,
    capture: &Capture<'_>,
    kind: Kind,
) -> Result<Built, HostFault> {
    let changes = Changes::find(store, base, capture, kind)?;
    let (record_max, held_max) = match kind {
        Kind::Checkpoint => (RECORD_INLINE_MAX_BYTES, HELD_INLINE_MAX_BYTES),
        Kind::Ending => (ENDED_INLINE_MAX_BYTES, ENDED_INLINE_MAX_BYTES),
    };
    let inline = changes.bytes() <= record_max as u64
        && base.inline_bytes() + usize::try_from(changes.bytes()).unwrap_or(usize::MAX) <= held_max;
    let mut writer = Writer { store, base, capture };
    let (chunks, written_bytes) =
        if inline { writer.inline(&changes)? } else { writer.packed(&changes)? };
    let delta = assemble(base, fresh, capture, kind, chunks);
    let mut holdings = if fresh { Holdings::default() } else { base.clone() };
    holdings.apply(&delta).map_err(|source| {
        HostFault::new("a checkpoint does not follow the one before it", source)
    })?;
    Ok(Built { delta, holdings, written_bytes })
}

/// The digest of everything that a repetition of the job must reproduce at a checkpoint: the
/// step, the deterministic counters without fuel, progress without remarks, and all holdings.
pub(crate) fn checkpoint_digest(
    step: u64,
    counters: &Counters,
    progress: &Progress,
    holdings: &Holdings,
) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"hackbrain checkpoint v1");
    let numbers = [
        step,
        counters.clock_ns,
        counters.secure_random_bytes,
        counters.insecure_random_bytes,
        progress.done,
        u64::from(progress.total.is_some()),
        progress.total.unwrap_or(0),
        progress.metrics.len() as u64,
    ];
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    for (name, value) in &progress.metrics {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&value.to_bits().to_le_bytes());
    }
    holdings.digest_into(&mut hasher);
    Digest::from(hasher.finalize())
}

/// The chunks that have to be written, and how much of each is known to be there already.
struct Changes(BTreeMap<(ContentId, u32), Change>);

struct Change {
    clean_prefix_bytes: u32,
    len: u32,
    source: Source,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The guest's state.
    State,
    /// The sandbox.
    Capture,
    /// What is held already.
    Base,
}

impl Changes {
    fn find(
        store: &Store,
        base: &Holdings,
        capture: &Capture<'_>,
        kind: Kind,
    ) -> Result<Self, HostFault> {
        let mut changes = Self(BTreeMap::new());
        if kind == Kind::Checkpoint {
            changes.find_in_state(base.content(ContentId::STATE), capture.state);
        }
        for content in &capture.contents {
            for dirty in &content.dirty {
                let change = Change {
                    clean_prefix_bytes: dirty.clean_prefix_bytes,
                    len: chunk_len(content.len_bytes, dirty.index),
                    source: Source::Capture,
                };
                changes.0.insert((content.id, dirty.index), change);
            }
        }
        changes.carry_sparse(store, base, capture)?;
        Ok(changes)
    }

    /// The sandbox does not know which parts of the state changed; digests tell.
    fn find_in_state(&mut self, before: Option<&Content>, state: &[u8]) {
        for (index, bytes) in (0u32..).zip(state.chunks(CHUNK_BYTES as usize)) {
            let held = before.and_then(|content| content.chunks.get(index as usize));
            let same = match held {
                Some(Chunk::Inline(held)) => held == bytes,
                Some(Chunk::Packed { digest, .. }) => *digest == Digest::of(bytes),
                None => false,
            };
            if !same {
                let len = u32::try_from(bytes.len()).expect("a chunk is small");
                let change = Change { clean_prefix_bytes: 0, len, source: Source::State };
                self.0.insert((ContentId::STATE, index), change);
            }
        }
    }

    /// Moves what is left of packs that hold mostly what nobody needs.
    fn carry_sparse(
        &mut self,
        store: &Store,
        base: &Holdings,
        capture: &Capture<'_>,
    ) -> Result<(), HostFault> {
        let mut sparse = BTreeSet::new();
        let mut carried_bytes = 0;
        for (pack, used_bytes) in base.packs() {
            let len_bytes = store.len(pack).map_err(failed("measure a pack"))?.unwrap_or(0);
            if used_bytes * SPARSE_PACK < len_bytes && carried_bytes + used_bytes <= CARRY_MAX_BYTES
            {
                carried_bytes += used_bytes;
                sparse.insert(pack);
            }
        }
        if !sparse.is_empty() {
            let is_sparse = |chunk: &Chunk| matches!(chunk, Chunk::Packed { pack, .. } if sparse.contains(pack));
            self.carry(base, capture, is_sparse);
        }
        Ok(())
    }

    /// Adds the chunks of `base` that `wanted` names and that are still part of the capture.
    fn carry(&mut self, base: &Holdings, capture: &Capture<'_>, wanted: impl Fn(&Chunk) -> bool) {
        for (id, content) in &base.contents {
            let Some(len_bytes) = captured_len(capture, *id) else { continue };
            for (index, chunk) in (0u32..).zip(&content.chunks) {
                let stays = index < chunk_count(len_bytes) && wanted(chunk);
                if stays && !self.0.contains_key(&(*id, index)) {
                    let len = u32::try_from(chunk.len()).expect("a chunk is small");
                    let change = Change { clean_prefix_bytes: 0, len, source: Source::Base };
                    self.0.insert((*id, index), change);
                }
            }
        }
    }

    /// Bytes to write when chunks that only grew are extended.
    fn bytes(&self) -> u64 {
        let new = |change: &Change| u64::from(change.len.saturating_sub(change.clean_prefix_bytes));
        self.0.values().map(new).sum()
    }
}

/// The length of a content in the capture; `None` where it is gone.
fn captured_len(capture: &Capture<'_>, id: ContentId) -> Option<u64> {
    if id == ContentId::STATE {
        return Some(capture.state.len() as u64);
    }
    capture.contents.iter().find(|content| content.id == id).map(|content| content.len_bytes)
}

type ChunkChanges = BTreeMap<ContentId, Vec<ChunkChange>>;

struct Writer<'a> {
    store: &'a Store,
    base: &'a Holdings,
    capture: &'a Capture<'a>,
}

impl Writer<'_> {
    fn inline(&mut self, changes: &Changes) -> Result<(ChunkChanges, u64), HostFault> {
        let mut chunks = ChunkChanges::new();
        let mut written_bytes = 0;
        for (&(id, index), change) in &changes.0 {
            let mut bytes = self.read(id, index, change)?;
            let held = self.base.content(id).and_then(|c| c.chunks.get(index as usize));
            let keep = match held {
                Some(Chunk::Inline(held)) => (change.clean_prefix_bytes as usize).min(held.len()),
                Some(Chunk::Packed { .. }) | None => 0,
            };
            let made = if keep > 0 {
                let bytes = bytes.split_off(keep.min(bytes.len()));
                written_bytes += bytes.len() as u64;
                let keep = u32::try_from(keep).expect("a chunk is small");
                ChunkChange::Extend { index, keep, bytes }
            } else {
                written_bytes += bytes.len() as u64;
                ChunkChange::Set { index, chunk: Chunk::Inline(bytes) }
            };
            chunks.entry(id).or_default().push(made);
        }
        Ok((chunks, written_bytes))
    }

    /// Writes all changed chunks, and with them everything that was inline, into one blob.
    fn packed(&mut self, changes: &Changes) -> Result<(ChunkChanges, u64), HostFault> {
        let mut all = Changes(BTreeMap::new());
        all.carry(self.base, self.capture, |chunk| matches!(chunk, Chunk::Inline(_)));
        let mut pack = self.store.writer().map_err(failed("start a pack"))?;
        let mut placed = Vec::new();
        let mut offset = 0u64;
        let carried = all.0.iter().filter(|(at, _)| !changes.0.contains_key(at));
        for (&(id, index), change) in changes.0.iter().chain(carried) {
            let bytes = self.read(id, index, change)?;
            pack.write(&bytes).map_err(failed("write a pack"))?;
            let len = u32::try_from(bytes.len()).expect("a chunk is small");
            placed.push((id, index, Digest::of(&bytes), offset, len));
            offset += u64::from(len);
        }
        let (pack, written_bytes) = pack.finish().map_err(failed("make a pack durable"))?;
        placed.sort_unstable_by_key(|(id, index, ..)| (*id, *index));
        let mut chunks = ChunkChanges::new();
        for (id, index, digest, offset, len) in placed {
            let chunk = Chunk::Packed { digest, pack, offset, len };
            chunks.entry(id).or_default().push(ChunkChange::Set { index, chunk });
        }
        Ok((chunks, written_bytes))
    }

    fn read(&self, id: ContentId, index: u32, change: &Change) -> Result<Vec<u8>, HostFault> {
        match change.source {
            Source::State => {
                let start = index as usize * CHUNK_BYTES as usize;
                Ok(self.capture.state[start..start + change.len as usize].to_vec())
            }
            Source::Capture => self.capture.source.read_chunk(id, index),
            Source::Base => crate::contents::read_chunk(self.store, self.base, id, index),
        }
        .map_err(failed("read what changed"))
    }
}

fn assemble(
    base: &Holdings,
    fresh: bool,
    capture: &Capture<'_>,
    kind: Kind,
    mut chunks: ChunkChanges,
) -> Delta {
    let none = Holdings::default();
    let before = if fresh { &none } else { base };
    let mut delta = Delta { fresh, ..Delta::default() };
    let mut present: BTreeMap<ContentId, u64> =
        capture.contents.iter().map(|content| (content.id, content.len_bytes)).collect();
    if kind == Kind::Checkpoint {
        present.insert(ContentId::STATE, capture.state.len() as u64);
    }
    delta.removed =
        before.contents.keys().filter(|id| !present.contains_key(id)).copied().collect();
    for (id, len_bytes) in present {
        let changed = chunks.remove(&id).unwrap_or_default();
        let same_length = before.content(id).is_some_and(|held| held.len_bytes == len_bytes);
        if !changed.is_empty() || !same_length {
            delta.changed.push(ContentChange { id, len_bytes, chunks: changed });
        }
    }
    let gone = before.names.keys().filter(|path| !capture.names.contains_key(*path));
    delta.names_removed = gone.cloned().collect();
    let new = capture.names.iter().filter(|(path, node)| before.names.get(*path) != Some(node));
    delta.names_set = new.map(|(path, node)| (path.clone(), *node)).collect();
    delta
}

fn failed<E>(what: &'static str) -> impl FnOnce(E) -> HostFault
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| HostFault::new(format!("cannot {what}"), source)
}
