//! Reads what a job holds, from records and blobs, verified.

use std::io;

use hb_store::Store;
use hb_types::{
    Digest,
    capture::{ChunkSource, ContentId},
    content::{Chunk, Holdings},
};

/// One chunk of one content.
pub(crate) fn read_chunk(
    store: &Store,
    holdings: &Holdings,
    id: ContentId,
    index: u32,
) -> io::Result<Vec<u8>> {
    let chunk = holdings.content(id).and_then(|content| content.chunks.get(index as usize));
    match chunk {
        Some(Chunk::Inline(bytes)) => Ok(bytes.clone()),
        Some(Chunk::Packed { digest, pack, offset, len }) => {
            let bytes =
                store.read_range(*pack, *offset, *len as usize).map_err(io::Error::other)?;
            let found = Digest::of(&bytes);
            if found != *digest {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "blob {pack} is damaged at byte {offset}: digest {digest} expected, {found} found; \
                         restore the blob from a copy, or run the job again with --rerun"
                    ),
                ));
            }
            Ok(bytes)
        }
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("content {} has no chunk {index}", id.0),
        )),
    }
}

/// All that a job holds, chunk by chunk.
pub(crate) struct HeldContents<'a> {
    /// Where packs are.
    pub store: &'a Store,
    /// What is held.
    pub holdings: &'a Holdings,
}

impl ChunkSource for HeldContents<'_> {
    fn read_chunk(&self, id: ContentId, index: u32) -> io::Result<Vec<u8>> {
        read_chunk(self.store, self.holdings, id, index)
    }
}

/// Writes one content to `sink`, whole and in order; returns its length in bytes.
pub(crate) fn copy(
    source: &dyn ChunkSource,
    id: ContentId,
    len_bytes: u64,
    sink: &mut dyn io::Write,
) -> io::Result<u64> {
    for index in 0..hb_types::capture::chunk_count(len_bytes) {
        sink.write_all(&source.read_chunk(id, index)?)?;
    }
    Ok(len_bytes)
}
