//! One byte string that only grows: standard output or standard error.
//!
//! Owns: its bytes (whole chunks in slots, the last partial one in memory, so that a line costs
//! no system call) and how many of them are clean. Knows nothing of: who reads it.
//!
//! Invariant: what is dirty is always a suffix.

use hb_types::{
    capture::{CHUNK_BYTES, DirtyChunk, chunk_count},
    limits::{Limit, LimitReached, Limits},
};

use crate::{
    refused::{HostFault, Refused},
    scratch::{Scratch, Slot},
};

const CHUNK: usize = CHUNK_BYTES as usize;

/// An output stream.
#[derive(Debug)]
pub(crate) struct Output {
    limit: Limit,
    limit_bytes: u64,
    full: Vec<Slot>,
    tail: Vec<u8>,
    clean_bytes: u64,
}

impl Output {
    pub(crate) fn new(limit: Limit, limits: &Limits) -> Self {
        Self {
            limit,
            limit_bytes: limits.get(limit),
            full: Vec::new(),
            tail: Vec::new(),
            clean_bytes: 0,
        }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.full.len() as u64 * u64::from(CHUNK_BYTES) + self.tail.len() as u64
    }

    /// Appends what fits; refuses if that was not all.
    pub(crate) fn append(&mut self, scratch: &mut Scratch, bytes: &[u8]) -> Result<(), Refused> {
        let room = self.limit_bytes.saturating_sub(self.len_bytes());
        let fitting = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let wanted = self.len_bytes().saturating_add(bytes.len() as u64);
        self.push(scratch, &bytes[..fitting])?;
        if fitting < bytes.len() {
            return Err(Refused::OutputLimit(LimitReached {
                limit: self.limit,
                value: self.limit_bytes,
                wanted,
            }));
        }
        Ok(())
    }

    fn push(&mut self, scratch: &mut Scratch, mut bytes: &[u8]) -> Result<(), HostFault> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(CHUNK - self.tail.len()));
            self.tail.extend_from_slice(part);
            bytes = rest;
            if self.tail.len() == CHUNK {
                let slot = scratch.allocate();
                scratch.write(slot, 0, &self.tail)?;
                self.full.push(slot);
                self.tail.clear();
            }
        }
        Ok(())
    }

    /// The chunks that changed, in order.
    pub(crate) fn dirty(&self) -> Vec<DirtyChunk> {
        let len_bytes = self.len_bytes();
        if self.clean_bytes == len_bytes {
            return Vec::new();
        }
        let chunk = u64::from(CHUNK_BYTES);
        let first = u32::try_from(self.clean_bytes / chunk).expect("below the chunk count");
        let prefix = u32::try_from(self.clean_bytes % chunk).expect("less than a chunk");
        (first..chunk_count(len_bytes))
            .map(|index| DirtyChunk {
                index,
                clean_prefix_bytes: if index == first { prefix } else { 0 },
            })
            .collect()
    }

    pub(crate) fn mark_clean(&mut self) {
        self.clean_bytes = self.len_bytes();
    }

    /// The bytes of one chunk, or `None` where there is no such chunk.
    pub(crate) fn chunk(
        &self,
        scratch: &Scratch,
        index: u32,
    ) -> Result<Option<Vec<u8>>, HostFault> {
        if let Some(slot) = self.full.get(index as usize) {
            let mut bytes = vec![0; CHUNK];
            scratch.read(*slot, 0, &mut bytes)?;
            return Ok(Some(bytes));
        }
        let is_tail = index as usize == self.full.len() && !self.tail.is_empty();
        Ok(is_tail.then(|| self.tail.clone()))
    }

    /// Forgets everything; the slots must have been given up by the caller.
    pub(crate) fn forget(&mut self) {
        self.full.clear();
        self.tail.clear();
        self.clean_bytes = 0;
    }

    /// Appends bytes that are being put back, clean, whatever the limit is.
    pub(crate) fn push_clean(
        &mut self,
        scratch: &mut Scratch,
        bytes: &[u8],
    ) -> Result<(), HostFault> {
        self.push(scratch, bytes)?;
        self.mark_clean();
        Ok(())
    }
}
