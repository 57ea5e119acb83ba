//! How the bytes that a job owns are kept in the ledger.
//!
//! A content is a table of chunks; a chunk is either in the record itself (*inline*) or a range
//! of a blob that holds the changed chunks of one checkpoint (*packed*). A checkpoint's record
//! holds only a [`Delta`]: applied to what the checkpoint before it held, it gives the whole.
//!
//! Invariant: [`Holdings::apply`] either applies a delta whole or changes nothing.

// The derived archives of enums with named fields have no place for documentation.
#![allow(missing_docs)]

use std::{cmp::Ordering, collections::BTreeMap};

use crate::{
    Digest,
    capture::{CHUNK_BYTES, ContentId, NameTree, Node, chunk_count, chunk_len},
    job::BlobRef,
};

/// One chunk, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Chunk {
    /// In the record.
    Inline(Vec<u8>),
    /// In a blob.
    Packed {
        /// Digest of the chunk's bytes.
        digest: Digest,
        /// The blob.
        pack: Digest,
        /// Where in the blob the chunk starts.
        offset: u64,
        /// Bytes in the chunk.
        len: u32,
    },
}

impl Chunk {
    /// Bytes in the chunk.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Packed { len, .. } => *len as usize,
        }
    }

    /// Whether the chunk has no bytes; none that is stored has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest of the chunk's bytes.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Inline(bytes) => Digest::of(bytes),
            Self::Packed { digest, .. } => *digest,
        }
    }
}

/// Bytes that are kept in a record or, where they are many, as a blob.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Kept {
    /// In the record.
    Inline(Vec<u8>),
    /// As a blob of their own.
    Blob(BlobRef),
}

/// One content, whole.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Content {
    /// Length in bytes.
    pub len_bytes: u64,
    /// Its chunks, in order.
    pub chunks: Vec<Chunk>,
}

/// What happens to one chunk.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ChunkChange {
    /// It is this now.
    Set {
        /// Position in the table.
        index: u32,
        /// The chunk.
        chunk: Chunk,
    },
    /// It is inline, keeps its first `keep` bytes, and these follow. What a line of output costs.
    Extend {
        /// Position in the table.
        index: u32,
        /// Bytes kept.
        keep: u32,
        /// Bytes that follow them.
        bytes: Vec<u8>,
    },
}

/// What happens to one content.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ContentChange {
    /// Which one; a new one starts empty.
    pub id: ContentId,
    /// Its length afterwards; chunks beyond are dropped.
    pub len_bytes: u64,
    /// Its changed chunks, in order of index.
    pub chunks: Vec<ChunkChange>,
}

/// What changed from one checkpoint to the next.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Delta {
    /// Whether it starts from nothing: the attempt did not restore.
    pub fresh: bool,
    /// Contents that are gone.
    pub removed: Vec<ContentId>,
    /// Contents that are new or changed.
    pub changed: Vec<ContentChange>,
    /// Paths that are gone.
    pub names_removed: Vec<String>,
    /// Paths that are new or changed.
    pub names_set: Vec<(String, Node)>,
}

/// Everything that a job's newest checkpoint, or its ending, holds.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Holdings {
    /// The contents.
    pub contents: BTreeMap<ContentId, Content>,
    /// The paths below `/job` and `/out`.
    pub names: NameTree,
}

/// A delta that does not fit what it is applied to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("content {id} cannot be {how}: the delta belongs to another checkpoint", id = id.0)]
pub struct DeltaMismatch {
    /// Which content.
    pub id: ContentId,
    /// What was tried.
    pub how: &'static str,
}

impl Holdings {
    /// Applies what changed.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), DeltaMismatch> {
        let mut staged = BTreeMap::new();
        for change in &delta.changed {
            let before = if delta.fresh { None } else { self.contents.get(&change.id) };
            staged.insert(change.id, changed(before, change)?);
        }
        if delta.fresh {
            *self = Self::default();
        }
        for id in &delta.removed {
            self.contents.remove(id);
        }
        self.contents.append(&mut staged);
        for path in &delta.names_removed {
            self.names.remove(path);
        }
        self.names.extend(delta.names_set.iter().map(|(path, node)| (path.clone(), *node)));
        Ok(())
    }

    /// A content, if there is one.
    pub fn content(&self, id: ContentId) -> Option<&Content> {
        self.contents.get(&id)
    }

    /// Bytes that are kept in records rather than in blobs.
    pub fn inline_bytes(&self) -> usize {
        let chunks = self.contents.values().flat_map(|content| &content.chunks);
        chunks.filter(|chunk| matches!(chunk, Chunk::Inline(_))).map(Chunk::len).sum()
    }

    /// How many bytes of each blob are in use.
    pub fn packs(&self) -> BTreeMap<Digest, u64> {
        let mut packs = BTreeMap::new();
        for chunk in self.contents.values().flat_map(|content| &content.chunks) {
            if let Chunk::Packed { pack, len, .. } = chunk {
                *packs.entry(*pack).or_default() += u64::from(*len);
            }
        }
        packs
    }

    /// Adds everything a repetition must reproduce to a hash: ids, lengths, chunk digests, paths
    /// and times of change.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&(self.contents.len() as u64).to_le_bytes());
        for (id, content) in &self.contents {
            hasher.update(&id.0.to_le_bytes());
            hasher.update(&content.len_bytes.to_le_bytes());
            content.chunks.iter().for_each(|chunk| {
                hasher.update(&chunk.digest().0);
            });
        }
        hasher.update(&(self.names.len() as u64).to_le_bytes());
        for (path, node) in &self.names {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            let content = match node.kind {
                crate::capture::NodeKind::Directory => u64::MAX,
                crate::capture::NodeKind::File(id) => id.0,
            };
            hasher.update(&content.to_le_bytes());
            hasher.update(&node.modified_ns.to_le_bytes());
        }
    }
}

/// The content after a change. `O(chunks)` at most when the table is copied.
fn changed(before: Option<&Content>, change: &ContentChange) -> Result<Content, DeltaMismatch> {
    let mismatch = |how| DeltaMismatch { id: change.id, how };
    let mut content = before.cloned().unwrap_or_default();
    content.len_bytes = change.len_bytes;
    let count = chunk_count(change.len_bytes) as usize;
    content.chunks.truncate(count);
    for chunk_change in &change.chunks {
        match chunk_change {
            ChunkChange::Set { index, chunk } => {
                let index = *index as usize;
                match index.cmp(&content.chunks.len()) {
                    Ordering::Less => content.chunks[index] = chunk.clone(),
                    Ordering::Equal => content.chunks.push(chunk.clone()),
                    Ordering::Greater => return Err(mismatch("extended with a gap")),
                }
            }
            ChunkChange::Extend { index, keep, bytes } => {
                let Some(Chunk::Inline(kept)) = content.chunks.get_mut(*index as usize) else {
                    return Err(mismatch("extended where it is not inline"));
                };
                if kept.len() < *keep as usize
                    || *keep as usize + bytes.len() > CHUNK_BYTES as usize
                {
                    return Err(mismatch("extended at that length"));
                }
                kept.truncate(*keep as usize);
                kept.extend_from_slice(bytes);
            }
        }
    }
    if content.chunks.len() != count {
        return Err(mismatch("left with missing chunks"));
    }
    let fits = |(index, chunk): (usize, &Chunk)| {
        u32::try_from(index).is_ok_and(|i| chunk_len(change.len_bytes, i) as usize == chunk.len())
    };
    // Only the chunks that changed and the last one can have a wrong length.
    if !content.chunks.iter().enumerate().all(fits) {
        return Err(mismatch("given chunks of another length"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn set(id: u64, len: u64, chunks: Vec<ChunkChange>) -> ContentChange {
        ContentChange { id: ContentId(id), len_bytes: len, chunks }
    }

    fn inline(index: u32, bytes: &[u8]) -> ChunkChange {
        ChunkChange::Set { index, chunk: Chunk::Inline(bytes.to_vec()) }
    }

    #[test]
    fn a_line_of_output_extends_the_last_chunk() {
        let mut holdings = Holdings::default();
        let first =
            Delta { changed: vec![set(1, 4, vec![inline(0, b"one\n")])], ..Delta::default() };
        holdings.apply(&first).unwrap();
        let extend = ChunkChange::Extend { index: 0, keep: 4, bytes: b"two\n".to_vec() };
        holdings
            .apply(&Delta { changed: vec![set(1, 8, vec![extend])], ..Delta::default() })
            .unwrap();
        assert_eq!(
            holdings.content(ContentId::STDOUT).unwrap().chunks,
            [Chunk::Inline(b"one\ntwo\n".to_vec())]
        );
    }

    #[test]
    fn a_fresh_delta_forgets_what_was_there() {
        let mut holdings = Holdings::default();
        let first = Delta { changed: vec![set(1, 1, vec![inline(0, b"a")])], ..Delta::default() };
        holdings.apply(&first).unwrap();
        holdings.apply(&Delta { fresh: true, ..Delta::default() }).unwrap();
        assert_eq!(holdings, Holdings::default());
    }

    #[test]
    fn a_delta_that_does_not_fit_changes_nothing() {
        let mut holdings = Holdings::default();
        let good = Delta { changed: vec![set(1, 1, vec![inline(0, b"a")])], ..Delta::default() };
        holdings.apply(&good).unwrap();
        let before = holdings.clone();
        for bad in [
            set(1, 2, vec![]),
            set(1, 2, vec![inline(1, b"b")]),
            set(1, 3, vec![ChunkChange::Extend { index: 0, keep: 2, bytes: b"b".to_vec() }]),
            set(2, 1, vec![ChunkChange::Extend { index: 0, keep: 0, bytes: b"b".to_vec() }]),
            set(1, u64::from(CHUNK_BYTES) * 3, vec![inline(2, b"b")]),
        ] {
            let delta =
                Delta { removed: vec![ContentId(1)], changed: vec![bad], ..Delta::default() };
            assert!(holdings.apply(&delta).is_err());
            assert_eq!(holdings, before);
        }
    }
}
