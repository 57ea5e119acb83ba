//! Slots of one chunk each in one scratch file.
//!
//! Owns: which slots are free, and positioned reads and writes inside a slot.
//! Knows nothing of: what a slot holds. A slot that is handed out may hold old bytes; whoever
//! takes it writes every byte that it will read.
//!
//! Invariant: a slot is either free or owned by exactly one chunk. The lowest free slot is used
//! first, so that the file stays as short as the largest number of slots in use at once.

use std::{cmp::Reverse, collections::BinaryHeap, fs::File, os::unix::fs::FileExt};

use hb_types::capture::CHUNK_BYTES;

use crate::refused::HostFault;

/// Number of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

/// The scratch file and its free slots.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: File,
    free: BinaryHeap<Reverse<Slot>>,
    unused_from: u32,
}

impl Scratch {
    pub(crate) fn new(file: File) -> Self {
        Self { file, free: BinaryHeap::new(), unused_from: 0 }
    }

    /// A slot with unknown bytes in it.
    pub(crate) fn allocate(&mut self) -> Slot {
        if let Some(Reverse(slot)) = self.free.pop() {
            return slot;
        }
        let slot = Slot(self.unused_from);
        self.unused_from =
            self.unused_from.checked_add(1).expect("limits end far below 2^32 slots of 64 KiB");
        slot
    }

    pub(crate) fn release(&mut self, slot: Slot) {
        self.free.push(Reverse(slot));
    }

    /// Gives up every slot.
    pub(crate) fn release_all(&mut self) {
        self.free.clear();
        self.unused_from = 0;
    }

    pub(crate) fn read(&self, slot: Slot, at: u32, bytes: &mut [u8]) -> Result<(), HostFault> {
        self.file
            .read_exact_at(bytes, offset(slot, at, bytes.len()))
            .map_err(|source| HostFault { doing: "reading the scratch file", source })
    }

    pub(crate) fn write(&self, slot: Slot, at: u32, bytes: &[u8]) -> Result<(), HostFault> {
        self.file
            .write_all_at(bytes, offset(slot, at, bytes.len()))
            .map_err(|source| HostFault { doing: "writing the scratch file", source })
    }

    /// Slots that are in use.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.unused_from as usize - self.free.len()
    }
}

fn offset(slot: Slot, at: u32, len: usize) -> u64 {
    assert!(at as usize + len <= CHUNK_BYTES as usize, "an access stays inside its slot");
    u64::from(slot.0) * u64::from(CHUNK_BYTES) + u64::from(at)
}
