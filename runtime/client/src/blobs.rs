//! Files on their way to a host.
//!
//! Owns: that only what the host lacks is sent, in pieces, and that an upload goes on where it broke
//! off. Knows nothing of what the bytes are for.
//!
//! Invariant: a blob is named by the digest of what was read first; where a file changes in between,
//! the host finds out and refuses it.

use std::{
    io::{self, Read, Seek, SeekFrom},
    thread,
};

use hb_types::Digest;
use ureq::http::{HeaderName, Method, StatusCode};

use crate::{
    Client, ClientError,
    exchange::{Call, header_text},
    retry::Tries,
};

/// Bytes that are sent in one request, and held in memory while they are.
pub const PIECE_BYTES: usize = 16 * 1024 * 1024;

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");

/// What can be uploaded: read once for its digest, and again from where the host wants it.
pub trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// What came of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The digest of the bytes.
    pub digest: Digest,
    /// How many there are.
    pub len_bytes: u64,
    /// How many of them were sent.
    pub sent_bytes: u64,
}

/// What a host has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Here {
    All,
    First(u64),
}

impl Client {
    /// Brings bytes to the host. `tell` is told how many are there, and of how many.
    pub fn upload(
        &self,
        source: &mut dyn Source,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<Uploaded, ClientError> {
        let (digest, len_bytes) = digest_of(source).map_err(ClientError::Source)?;
        let mut uploaded = Uploaded { digest, len_bytes, sent_bytes: 0 };
        let mut tries = Tries::new(self.patience);
        let mut reached = 0;
        let mut takes_no_pieces = false;
        loop {
            let offset = match self.look(digest)? {
                Here::All => {
                    tell(len_bytes, len_bytes);
                    return Ok(uploaded);
                }
                Here::First(offset) => offset,
            };
            if offset > len_bytes {
                let why = format!("it has {offset} of the {len_bytes} bytes of {digest}");
                return Err(ClientError::Garbage { server: self.server(), why });
            }
            if offset > reached {
                tries.succeeded();
                reached = offset;
            }
            tell(offset, len_bytes);
            // What is short goes whole: there is little to take up again.
            let whole = takes_no_pieces || (offset == 0 && len_bytes <= PIECE_BYTES as u64);
            let sent = if whole {
                self.send_whole(source, &mut uploaded, tell)
            } else {
                self.append_from(source, offset, &mut uploaded, tell)
            };
            let error = match sent {
                Ok(()) => return Ok(uploaded),
                Err(error) => error,
            };
            if !whole && error.is("method-not-allowed") {
                takes_no_pieces = true;
                continue;
            }
            // Where the connection broke, or somebody else uploads the same, the host says how far
            // it is.
            let is_passing = match &error {
                ClientError::Broken { .. } | ClientError::Unreachable { .. } => true,
                ClientError::Refused(problem) => {
                    matches!(problem.status, 429 | 502 | 503 | 504)
                        || problem.code == "upload-offset-mismatch"
                }
                _ => false,
            };
            match tries.next_pause(None).filter(|_| is_passing) {
                Some(pause) => thread::sleep(pause),
                None => return Err(error),
            }
        }
    }

    /// Whether the host has a blob, all of it.
    pub fn has_blob(&self, digest: Digest) -> Result<bool, ClientError> {
        Ok(self.look(digest)? == Here::All)
    }

    fn look(&self, digest: Digest) -> Result<Here, ClientError> {
        let head = Call::new(Method::HEAD, path(digest));
        let response = match self.send_expecting(&head, &[StatusCode::NOT_FOUND]) {
            Ok(response) => response,
            // An answer to HEAD has no body that could say why.
            Err(ClientError::Refused(problem)) => {
                return match self.send(&Call::get(path(digest))) {
                    Ok(_) => Err(ClientError::Refused(problem)),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        if response.status().is_success() {
            return Ok(Here::All);
        }
        let offset = header_text(&response, UPLOAD_OFFSET);
        Ok(Here::First(offset.and_then(|text| text.trim().parse().ok()).unwrap_or(0)))
    }

    /// Sends everything in one request.
    fn send_whole(
        &self,
        source: &mut dyn Source,
        uploaded: &mut Uploaded,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ClientError> {
        source.rewind().map_err(ClientError::Source)?;
        let mut told = Told { source, done: 0, of: uploaded.len_bytes, tell };
        let path = path(uploaded.digest);
        self.put_stream(&path, &mut told, uploaded.len_bytes)?;
        uploaded.sent_bytes += uploaded.len_bytes;
        tell(uploaded.len_bytes, uploaded.len_bytes);
        Ok(())
    }

    /// Sends everything from `offset` on.
    fn append_from(
        &self,
        source: &mut dyn Source,
        mut offset: u64,
        uploaded: &mut Uploaded,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<(), ClientError> {
        source.seek(SeekFrom::Start(offset)).map_err(ClientError::Source)?;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            source.take(PIECE_BYTES as u64).read_to_end(&mut piece).map_err(ClientError::Source)?;
            let end = offset + piece.len() as u64;
            let is_last = end >= uploaded.len_bytes || piece.is_empty();
            let complete = if is_last { "?1" } else { "?0" };
            let mut call = Call::new(Method::PATCH, path(uploaded.digest))
                .header(UPLOAD_OFFSET, offset.to_string())
                .header(UPLOAD_COMPLETE, complete)
                .header(ureq::http::header::CONTENT_TYPE, "application/partial-upload")
                .once();
            call.body = Some(&piece);
            self.send(&call)?;
            uploaded.sent_bytes += piece.len() as u64;
            offset = end;
            tell(offset.min(uploaded.len_bytes), uploaded.len_bytes);
            if is_last {
                return Ok(());
            }
        }
    }
}

/// A file that tells how far it was read, and is no longer than it was.
struct Told<'a> {
    source: &'a mut dyn Source,
    done: u64,
    of: u64,
    tell: &'a mut dyn FnMut(u64, u64),
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.of - self.done).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let count = self.source.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            // The host would wait for bytes that do not come.
            return Err(io::Error::other("the file became shorter while it was sent"));
        }
        self.done += count as u64;
        if count > 0 {
            (self.tell)(self.done, self.of);
        }
        Ok(count)
    }
}

fn path(digest: Digest) -> String {
    format!("/v1/blobs/{digest}")
}

fn digest_of(source: &mut dyn Source) -> io::Result<(Digest, u64)> {
    source.rewind()?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
    }
    Ok((hasher.finalize().into(), hasher.count()))
}
