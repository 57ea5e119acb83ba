//! What a job printed and left, piece by piece, wherever it is: durable in the ledger, or still in
//! memory.
//!
//! Owns: finding the piece. Knows nothing of who reads it and how fast.

use hb_sandbox::Stream;
use hb_store::{BlobWriter, StoreError};
use hb_types::{
    Digest, Lsn,
    capture::{CHUNK_BYTES, ContentId},
    content::{Chunk, Holdings, Kept},
    event::JobNumber,
    job::BlobRef,
    ledger::{Job, KeptSeal},
};

use crate::{
    Host, contents,
    error::{ReadOutputError, RunError},
};

/// Looks again this often when the blob of a piece has gone: a newer checkpoint moved it.
const LOOKS: u32 = 8;

/// What is there of a stream at some place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes, at least one.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether they are durable.
        durable: bool,
    },
    /// Nothing yet: the job has not printed so far, or what it printed left memory before it was
    /// durable and will be here when it is.
    NotYet,
    /// Nothing any more: the job is over and this is its end.
    End,
}

/// The content of a stream.
pub fn content_of(stream: Stream) -> ContentId {
    match stream {
        Stream::Stdout => ContentId::STDOUT,
        Stream::Stderr => ContentId::STDERR,
    }
}

struct Place {
    /// The chunk that holds it, where the ledger has it, and the chunk's position.
    chunk: Option<(Box<Holdings>, u32)>,
    over: bool,
    /// The last record about the job: once it is durable, so is all that the ledger says.
    last: Lsn,
}

impl Host {
    /// Bytes of a job's stream from number `offset` on, at most `max` and at most to the end of a
    /// chunk. With `durable_only`, nothing is given that a crash could take back.
    pub fn read_output(
        &self,
        job: JobNumber,
        stream: Stream,
        offset: u64,
        max: usize,
        durable_only: bool,
    ) -> Result<Piece, ReadOutputError> {
        let id = content_of(stream);
        let mut last = None;
        for _ in 0..LOOKS {
            let place =
                self.with_ledger(|ledger| Some(place_in(ledger.jobs.get(&job)?, id, offset)));
            let place = match place {
                Some(place) => place,
                None => match self.load(job)? {
                    Some(job) => place_in(&job, id, offset),
                    None => return Err(ReadOutputError::NoSuchJob { job }),
                },
            };
            let durable = self.durable_lsn() >= place.last;
            if durable_only && !durable {
                return Ok(Piece::NotYet);
            }
            let Some((holdings, index)) = place.chunk else {
                return Ok(match (place.over, durable, durable_only) {
                    (true, true, _) => Piece::End,
                    (true, false, _) | (false, _, true) => Piece::NotYet,
                    (false, _, false) => self
                        .live()
                        .read(job, stream, offset, max)
                        .map_or(Piece::NotYet, |bytes| Piece::Bytes { bytes, durable: false }),
                });
            };
            match contents::read_chunk(self.store(), &holdings, id, 0) {
                Ok(chunk) => {
                    let from = usize::try_from(offset - u64::from(index) * u64::from(CHUNK_BYTES))
                        .expect("a place in a chunk is small");
                    let to = chunk.len().min(from.saturating_add(max));
                    return Ok(Piece::Bytes { bytes: chunk[from..to].to_vec(), durable });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(ReadOutputError::Read(last.expect("there was at least one look")))
    }

    /// Bytes of one of the files that a job left below `/out`, from number `offset` on and at most
    /// to the end of a chunk; none at its end.
    pub fn read_artifact(
        &self,
        job: &Job,
        content: ContentId,
        offset: u64,
    ) -> Result<Vec<u8>, ReadOutputError> {
        let index = u32::try_from(offset / u64::from(CHUNK_BYTES)).unwrap_or(u32::MAX);
        let Some(chunk) = chunk_of(job, content, index) else { return Ok(Vec::new()) };
        let chunk = contents::read_chunk(self.store(), &alone(content, chunk), content, 0)
            .map_err(ReadOutputError::Read)?;
        let from = usize::try_from(offset % u64::from(CHUNK_BYTES)).expect("a remainder is small");
        Ok(chunk.get(from..).unwrap_or_default().to_vec())
    }

    /// Length of a blob in bytes; `None` where it is not here.
    pub fn blob_len(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.store().len(digest)
    }

    /// Begins a blob that is written piece by piece.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        self.store().writer()
    }

    /// A blob, verified, as an open file.
    pub fn blob_file(&self, blob: BlobRef) -> Result<std::fs::File, RunError> {
        crate::view::blob_file(self.store(), blob)
    }

    /// The signed envelope of a seal, as JSON.
    pub fn envelope(&self, kept: &KeptSeal) -> Result<Vec<u8>, StoreError> {
        match &kept.envelope {
            Kept::Inline(bytes) => Ok(bytes.clone()),
            Kept::Blob(blob) => self.store().get(blob.digest),
        }
    }
}

fn chunk_of(job: &Job, id: ContentId, index: u32) -> Option<Chunk> {
    job.holdings.content(id)?.chunks.get(index as usize).cloned()
}

/// Holdings of this one chunk: what is needed to read it without holding on to all of a job.
fn alone(id: ContentId, chunk: Chunk) -> Holdings {
    let content = hb_types::content::Content { len_bytes: chunk.len() as u64, chunks: vec![chunk] };
    Holdings { contents: [(id, content)].into(), ..Holdings::default() }
}

fn place_in(job: &Job, id: ContentId, offset: u64) -> Place {
    let index = u32::try_from(offset / u64::from(CHUNK_BYTES)).unwrap_or(u32::MAX);
    let within = offset < job.len_bytes(id);
    let chunk = chunk_of(job, id, index).filter(|_| within);
    let chunk = chunk.map(|chunk| (Box::new(alone(id, chunk)), index));
    Place { chunk, over: job.is_over(), last: job.last }
}
