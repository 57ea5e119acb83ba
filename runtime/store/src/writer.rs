//! Writing a blob piece by piece.

use std::io::Read;

use hb_disk::StorageFile;
use hb_types::Digest;

use crate::{
    StoreError,
    reader::STEP_BYTES,
    store::{Store, Temp},
};

/// A blob that is being written. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    temp: Temp,
    hasher: blake3::Hasher,
    /// What was given but not yet written: small pieces are gathered.
    pending: Vec<u8>,
    written_bytes: u64,
}

impl BlobWriter {
    pub(crate) fn new(store: Store) -> Result<Self, StoreError> {
        let temp = store.create_temp(store.next_temp_path(), 0)?;
        let (hasher, pending) = (blake3::Hasher::new(), Vec::new());
        Ok(Self { store, temp, hasher, pending, written_bytes: 0 })
    }

    /// Appends bytes. After an error the writer is of no more use: drop it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        if self.pending.len() + bytes.len() <= STEP_BYTES {
            self.pending.extend_from_slice(bytes);
            return Ok(());
        }
        self.write_pending()?;
        if bytes.len() > STEP_BYTES {
            self.write_through(bytes)
        } else {
            self.pending.extend_from_slice(bytes);
            Ok(())
        }
    }

    /// Appends everything that `source` has; returns how many bytes that were.
    pub fn copy_from(&mut self, source: &mut dyn Read) -> Result<u64, StoreError> {
        let mut buffer = vec![0; STEP_BYTES];
        let mut copied_bytes = 0;
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(copied_bytes),
                Ok(read) => {
                    self.write(&buffer[..read])?;
                    copied_bytes += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::Source { source }),
            }
        }
    }

    /// Bytes given so far.
    pub fn len(&self) -> u64 {
        self.written_bytes + self.pending.len() as u64
    }

    /// Whether nothing was given yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the blob durable under its digest; returns that and its length in bytes.
    pub fn finish(mut self) -> Result<(Digest, u64), StoreError> {
        let digest = Digest::from(self.hasher.finalize());
        self.write_pending()?;
        self.store.flush(&self.temp, self.written_bytes)?;
        let mut shard = self.store.lock(digest);
        if !self.store.has_durably(&mut shard, digest, self.written_bytes)? {
            self.store.publish(&mut shard, &mut self.temp, digest, self.written_bytes)?;
        }
        drop(shard);
        Ok((digest, self.written_bytes))
    }

    fn write_pending(&mut self) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut self.pending);
        self.write_through(&pending)?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn write_through(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let file: &dyn StorageFile = self.temp.file();
        file.write_at(self.written_bytes, bytes).map_err(|error| {
            let needed_bytes = self.written_bytes + bytes.len() as u64;
            self.store.write_error("write", self.temp.path(), needed_bytes, error)
        })?;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}
