//! Reading blobs, whole or in parts.

use std::{fs, io};

use hb_disk::StorageFile;
use hb_types::Digest;

use crate::{StoreError, names::blob_path};

/// Bytes read or hashed at once.
pub(crate) const STEP_BYTES: usize = 256 * 1024;

/// An open blob. It stays readable when the blob is collected meanwhile.
#[derive(Debug)]
pub struct Blob {
    digest: Digest,
    len_bytes: u64,
    file: Box<dyn StorageFile>,
}

impl Blob {
    pub(crate) fn new(digest: Digest, file: Box<dyn StorageFile>) -> Result<Self, StoreError> {
        let len_bytes = file.len().map_err(StoreError::io("measure", &blob_path(digest)))?;
        Ok(Self { digest, len_bytes, file })
    }

    /// The digest it was opened by.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len_bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Reads until `buffer` is full or the blob ends; returns the bytes read.
    pub fn read_at(&self, offset_bytes: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset_bytes, buffer)
    }

    /// Exactly `len_bytes` from `offset_bytes`. Not verified by itself: the bytes are as good as
    /// the opening ([`Store::open_verified`](crate::Store::open_verified) or not), or the caller
    /// has a digest of the part.
    pub fn read_range(&self, offset_bytes: u64, len_bytes: usize) -> Result<Vec<u8>, StoreError> {
        let wanted_bytes = len_bytes as u64;
        let out_of_range = |found_len_bytes| StoreError::OutOfRange {
            digest: self.digest,
            offset_bytes,
            len_bytes: wanted_bytes,
            found_len_bytes,
        };
        // Checked before allocating: the length may come from a damaged reference.
        if offset_bytes.checked_add(wanted_bytes).is_none_or(|end| end > self.len_bytes) {
            return Err(out_of_range(self.len_bytes));
        }
        let mut bytes = vec![0; len_bytes];
        let read = self
            .file
            .read_at(offset_bytes, &mut bytes)
            .map_err(StoreError::io("read", &blob_path(self.digest)))?;
        if read < len_bytes {
            return Err(out_of_range(offset_bytes + read as u64));
        }
        Ok(bytes)
    }

    /// The operating system's handle on this very file, where the disk has one: for readers that
    /// need a file, as the sandbox does for `/in/NAME`. Its position is unspecified and may be
    /// shared with other handles on this blob: read by offset.
    pub fn host_file(&self) -> Result<Option<fs::File>, StoreError> {
        self.file.host_file().map_err(StoreError::io("open", &blob_path(self.digest)))
    }

    /// A reader from the start.
    pub fn cursor(&self) -> BlobCursor<'_> {
        BlobCursor { blob: self, position_bytes: 0 }
    }

    /// Reads everything and compares it with the name. `each` sees the bytes in order.
    pub(crate) fn verify(&self, mut each: impl FnMut(&[u8])) -> Result<(), StoreError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer =
            vec![0; STEP_BYTES.min(usize::try_from(self.len_bytes).unwrap_or(STEP_BYTES)).max(1)];
        let mut position_bytes = 0;
        loop {
            let read = self
                .file
                .read_at(position_bytes, &mut buffer)
                .map_err(StoreError::io("read", &blob_path(self.digest)))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            each(&buffer[..read]);
            position_bytes += read as u64;
        }
        let found = Digest::from(hasher.finalize());
        if found == self.digest {
            Ok(())
        } else {
            Err(StoreError::Damaged { digest: self.digest, found, found_len_bytes: position_bytes })
        }
    }
}

/// Reads a [`Blob`] from start to end.
#[derive(Debug)]
pub struct BlobCursor<'a> {
    blob: &'a Blob,
    position_bytes: u64,
}

impl io::Read for BlobCursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read_at(self.position_bytes, buffer)?;
        self.position_bytes += read as u64;
        Ok(read)
    }
}
