//! A checkpoint that lies in a file without a name, outside of ledger and store.
//!
//! Owns: its bytes between the run that made them and whoever goes on from there. Knows nothing of
//! why it was made.
//!
//! Invariants: it is whole, whatever the job saved before; nothing of it is left when it is dropped
//! or when the process dies.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

use hb_sandbox::HostFault;
use hb_store::Store;
use hb_types::{
    Digest,
    capture::{
        CHUNK_BYTES, Capture, ChunkSource, ContentCapture, ContentId, Counters, DirtyChunk,
        NameTree, Progress, Restored, chunk_count, chunk_len,
    },
    content::{Chunk, Content, Holdings},
};

use crate::delta;

/// One checkpoint.
pub(crate) struct Spooled {
    /// Its step.
    pub step: u64,
    /// Digest of everything it holds, fuel apart.
    pub digest: Digest,
    /// Fuel, clock and random positions.
    pub counters: Counters,
    /// What the job said of itself, without its remarks: they are the trace of the job that made them.
    pub progress: Progress,
    state: Vec<u8>,
    names: NameTree,
    contents: BTreeMap<ContentId, Place>,
    file: File,
}

/// Where a content lies in the file.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    len_bytes: u64,
}

impl Spooled {
    /// Writes all that a capture holds, changed or not, into an empty file.
    pub(crate) fn of(capture: &Capture<'_>, file: File) -> io::Result<Self> {
        let mut holdings = Holdings { names: capture.names.clone(), ..Holdings::default() };
        let state = capture.state.chunks(CHUNK_BYTES as usize).map(name_of);
        let state = Content { len_bytes: capture.state.len() as u64, chunks: state.collect() };
        holdings.contents.insert(ContentId::STATE, state);
        let (mut offset, mut contents) = (0, BTreeMap::new());
        for &ContentCapture { id, len_bytes, .. } in &capture.contents {
            contents.insert(id, Place { offset, len_bytes });
            let mut chunks = Vec::new();
            for index in 0..chunk_count(len_bytes) {
                let bytes = capture.source.read_chunk(id, index)?;
                file.write_all_at(&bytes, offset)?;
                offset += bytes.len() as u64;
                chunks.push(name_of(&bytes));
            }
            holdings.contents.insert(id, Content { len_bytes, chunks });
        }
        let (step, counters) = (capture.step, capture.counters);
        let progress = Progress { notes: Vec::new(), ..capture.progress.clone() };
        Ok(Self {
            step,
            digest: delta::checkpoint_digest(step, &counters, &progress, &holdings),
            counters,
            progress,
            state: capture.state.to_vec(),
            names: holdings.names,
            contents,
            file,
        })
    }

    /// The form in which the sandbox takes it back, as the first checkpoint of a job.
    pub(crate) fn restored(&self) -> Restored<'_> {
        Restored {
            sequence: 1,
            step: self.step,
            state: self.state.clone(),
            counters: self.counters,
            contents: self.contents.iter().map(|(id, place)| (*id, place.len_bytes)).collect(),
            names: self.names.clone(),
            progress: self.progress.clone(),
            source: Box::new(Reader(self)),
        }
    }

    /// Puts it into a store, as what the first checkpoint of a job changes.
    pub(crate) fn build(&self, store: &Store) -> Result<delta::Built, HostFault> {
        let all = |(&id, &Place { len_bytes, .. }): (&ContentId, &Place)| {
            let dirty = |index| DirtyChunk { index, clean_prefix_bytes: 0 };
            ContentCapture {
                id,
                len_bytes,
                dirty: (0..chunk_count(len_bytes)).map(dirty).collect(),
            }
        };
        let capture = Capture {
            step: self.step,
            state: &self.state,
            counters: self.counters,
            contents: self.contents.iter().map(all).collect(),
            names: self.names.clone(),
            progress: self.progress.clone(),
            source: &Reader(self),
        };
        let nothing = Holdings::default();
        let built = delta::build(store, &nothing, true, &capture, delta::Kind::Checkpoint)?;
        let (step, counters) = (self.step, &self.counters);
        let found = delta::checkpoint_digest(step, counters, &self.progress, &built.holdings);
        if found != self.digest {
            // The scratch file's disk gave back other bytes than it was given.
            return Err(HostFault::message("a checkpoint changed while it was put into the store"));
        }
        Ok(built)
    }
}

/// A chunk as far as its digest goes.
fn name_of(bytes: &[u8]) -> Chunk {
    let len = u32::try_from(bytes.len()).expect("a chunk is small");
    Chunk::Packed { digest: Digest::of(bytes), pack: Digest::default(), offset: 0, len }
}

struct Reader<'a>(&'a Spooled);

impl ChunkSource for Reader<'_> {
    fn read_chunk(&self, id: ContentId, index: u32) -> io::Result<Vec<u8>> {
        let Some(place) = self.0.contents.get(&id) else {
            let message = format!("the checkpoint holds no content {}", id.0);
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        };
        let mut bytes = vec![0; chunk_len(place.len_bytes, index) as usize];
        let offset = place.offset + u64::from(index) * u64::from(CHUNK_BYTES);
        self.0.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}
