//! Files as byte streams.
//!
//! Owns: the position of a stream. Knows nothing of: paths, rights (the descriptor checked
//! them).
//!
//! Invariants: a stream is always ready, so that polling is the same in every run; it keeps its
//! file open; after an error or the end it is closed for good.

use std::sync::Arc;

use wasmtime_wasi_io::{
    async_trait,
    bytes::Bytes,
    poll::Pollable,
    streams::{InputStream, OutputStream, StreamError, StreamResult},
};

use super::{MAX_TRANSFER_BYTES, Now, descriptor::OpenNode, error::FilesystemError};
use crate::{abort::Abort, pulse::Pulse};

/// Reads a file from a position on.
pub(super) struct Reader {
    pub(super) node: Arc<OpenNode>,
    pub(super) pulse: Pulse,
    /// None once it is closed.
    pub(super) offset: Option<u64>,
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.pulse.check().map_err(FilesystemError::from)?;
        let offset = self.offset.ok_or(StreamError::Closed)?;
        if size == 0 {
            return Ok(Bytes::new());
        }
        // Closed unless the reading goes well.
        self.offset = None;
        let bytes = self.node.read(offset, size as u64)?;
        if bytes.is_empty() {
            return Err(StreamError::Closed);
        }
        self.offset = Some(offset + bytes.len() as u64);
        Ok(bytes.into())
    }
}

/// Where the next bytes of a [`Writer`] go.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// There, and then on from there.
    At(u64),
    /// To wherever the end is.
    End,
    /// Nowhere: it is closed.
    Closed,
}

/// Writes a file.
pub(super) struct Writer {
    pub(super) node: Arc<OpenNode>,
    pub(super) clock: Arc<dyn Now>,
    pub(super) pulse: Pulse,
    pub(super) place: Place,
}

impl Writer {
    fn write_bytes(&mut self, bytes: &[u8]) -> StreamResult<()> {
        self.pulse.check().map_err(FilesystemError::from)?;
        let place = std::mem::replace(&mut self.place, Place::Closed);
        let now_ns = self.clock.now_ns();
        self.place = match place {
            Place::Closed => return Err(StreamError::Closed),
            Place::End => {
                self.node.append(bytes, now_ns)?;
                Place::End
            }
            Place::At(offset) => {
                self.node.write(offset, bytes, now_ns)?;
                Place::At(offset + bytes.len() as u64)
            }
        };
        Ok(())
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > MAX_TRANSFER_BYTES {
            let message = format!(
                "it writes {} bytes at once where check-write allowed {MAX_TRANSFER_BYTES}",
                bytes.len()
            );
            return Err(StreamError::Trap(Abort::Contract(message).into()));
        }
        self.write_bytes(&bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Nothing is buffered, and durability comes from checkpoints only.
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.place {
            Place::Closed => Err(StreamError::Closed),
            Place::At(_) | Place::End => Ok(MAX_TRANSFER_BYTES),
        }
    }
}

impl OpenNode {
    fn append(&self, bytes: &[u8], now_ns: u64) -> Result<(), FilesystemError> {
        Ok(self.world().append(self.handle(), bytes, now_ns)?)
    }
}
