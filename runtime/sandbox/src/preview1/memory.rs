//! The guest's memory, as a call sees it.
//!
//! Owns: the check of every pointer that a guest passes, and the bounds on lists of buffers.
//! Knows nothing of: what the bytes mean.
//!
//! Invariants: no pointer, length or count makes anything here panic; what lies outside of the
//! memory is [`Errno::Fault`]. Memory cannot grow during a call, so a range that was checked
//! stays good until its end, and a call that answers `fault` has changed nothing. Pointers need
//! no alignment.

use std::ops::Range;

use hb_files::MAX_PATH_BYTES;

use super::errno::Errno;

/// Buffers in one list, as on most systems (`IOV_MAX`).
const MAX_VECTORS: u32 = 1024;
const VECTOR_BYTES: u32 = 8;

/// A checked part of the guest's memory.
pub(super) type Part = Range<usize>;

/// All of the guest's memory; empty where it exports none.
pub(super) struct Memory<'a>(&'a mut [u8]);

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Checks that `len_bytes` bytes from `at` on are memory.
    pub(super) fn part(&self, at: u32, len_bytes: u32) -> Result<Part, Errno> {
        let start = at as usize;
        let end = start.checked_add(len_bytes as usize).ok_or(Errno::Fault)?;
        if end > self.0.len() {
            return Err(Errno::Fault);
        }
        Ok(start..end)
    }

    /// The same for `count` records of `record_bytes` each.
    pub(super) fn parts(&self, at: u32, count: u32, record_bytes: u32) -> Result<Part, Errno> {
        self.part(at, count.checked_mul(record_bytes).ok_or(Errno::Fault)?)
    }

    pub(super) fn bytes(&self, part: Part) -> &[u8] {
        &self.0[part]
    }

    pub(super) fn bytes_mut(&mut self, part: Part) -> &mut [u8] {
        &mut self.0[part]
    }

    /// Writes to the start of a part that is at least as long.
    pub(super) fn put(&mut self, part: &Part, bytes: &[u8]) {
        self.0[part.clone()][..bytes.len()].copy_from_slice(bytes);
    }

    /// A path: at most as long as any path may be, in UTF-8.
    pub(super) fn path(&self, at: u32, len_bytes: u32) -> Result<&str, Errno> {
        let part = self.part(at, len_bytes)?;
        if part.len() > MAX_PATH_BYTES {
            return Err(Errno::Nametoolong);
        }
        std::str::from_utf8(self.bytes(part)).map_err(|_| Errno::Ilseq)
    }

    /// A list of buffers. All of them together are shorter than 4 GiB, so that a count of their
    /// bytes fits the answer.
    pub(super) fn vectors(&self, at: u32, count: u32) -> Result<Vec<Part>, Errno> {
        if count > MAX_VECTORS {
            return Err(Errno::Inval);
        }
        let list = self.parts(at, count, VECTOR_BYTES)?;
        let mut total_bytes = 0_u32;
        self.bytes(list)
            .chunks_exact(VECTOR_BYTES as usize)
            .map(|vector| {
                let len_bytes = u32_at(vector, 4);
                total_bytes = total_bytes.checked_add(len_bytes).ok_or(Errno::Inval)?;
                self.part(u32_at(vector, 0), len_bytes)
            })
            .collect()
    }
}

/// # Panics
///
/// Where the record is too short: records have the sizes of `typenames.witx`.
pub(super) fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*record[at..].first_chunk().expect("the record has this field"))
}

/// As [`u16_at`].
pub(super) fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*record[at..].first_chunk().expect("the record has this field"))
}

/// As [`u16_at`].
pub(super) fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*record[at..].first_chunk().expect("the record has this field"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_at_the_last_byte_is_memory_and_one_more_is_not() {
        let mut bytes = [0; 100];
        let memory = Memory::new(&mut bytes);
        assert_eq!(memory.part(100, 0), Ok(100..100));
        assert_eq!(memory.part(90, 10), Ok(90..100));
        for (at, len_bytes) in [(90, 11), (101, 0), (u32::MAX, 1), (1, u32::MAX), (0, 101)] {
            assert_eq!(memory.part(at, len_bytes), Err(Errno::Fault), "{at} {len_bytes}");
        }
        assert_eq!(memory.parts(0, u32::MAX, 48), Err(Errno::Fault));
        assert_eq!(Memory::new(&mut []).part(0, 1), Err(Errno::Fault));
    }

    #[test]
    fn lists_of_buffers_are_bounded_in_number_and_in_length() {
        let mut bytes = vec![0; 70_000];
        bytes[..16].copy_from_slice(&[9, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0]);
        let memory = Memory::new(&mut bytes);
        assert_eq!(memory.vectors(0, 2).unwrap(), [9..10, 7..9]);
        assert_eq!(memory.vectors(0, 1025), Err(Errno::Inval));
        assert_eq!(memory.vectors(69_992, 2), Err(Errno::Fault));
        assert_eq!(memory.vectors(0, 1024).unwrap().len(), 1024);
        let mut bytes = [0xff; 16];
        bytes[..4].copy_from_slice(&[0; 4]);
        bytes[4] = 4;
        bytes[5..8].copy_from_slice(&[0; 3]);
        assert_eq!(Memory::new(&mut bytes).vectors(0, 2), Err(Errno::Inval), "together 4 GiB");
    }

    #[test]
    fn a_path_is_utf_8_and_not_too_long() {
        let mut bytes = vec![b'x'; 3000];
        bytes[0] = 0xff;
        let memory = Memory::new(&mut bytes);
        assert_eq!(memory.path(1, 3), Ok("xxx"));
        assert_eq!(memory.path(0, 3), Err(Errno::Ilseq));
        assert_eq!(memory.path(1, 1025), Err(Errno::Nametoolong));
        assert_eq!(memory.path(1, 3000), Err(Errno::Fault));
    }
}
