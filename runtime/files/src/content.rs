//! One byte string that can be changed anywhere: the data of a file.
//!
//! Owns: its length, the slot of each chunk, and which chunks changed since they were last
//! called clean. Knows nothing of: names, quotas, time.
//!
//! Invariants: there are `chunk_count(len)` entries in `slots`; a chunk without a slot is all
//! zeros; the bytes of a slot beyond the end of the content are unknown and never read. A dirty
//! mark says how many bytes at the chunk's start are still those of the clean condition; a chunk
//! whose length changed is dirty. Every cost is in proportion to the bytes or chunks touched.

use std::collections::BTreeMap;

use hb_types::capture::{CHUNK_BYTES, DirtyChunk, chunk_count, chunk_len};

use crate::{
    refused::HostFault,
    scratch::{Scratch, Slot},
};

/// The data of a file.
#[derive(Debug, Default)]
pub(crate) struct Content {
    len_bytes: u64,
    slots: Vec<Option<Slot>>,
    /// Chunk index to clean prefix.
    dirty: BTreeMap<u32, u32>,
}

impl Content {
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Reads from `offset` on; fewer bytes than asked for only at the end.
    pub(crate) fn read_at(
        &self,
        scratch: &Scratch,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize, HostFault> {
        let rest = self.len_bytes.saturating_sub(offset);
        let len = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
        let mut done = 0;
        while done < len {
            let (index, at) = position(offset + done as u64);
            let part_len = (len - done).min((CHUNK_BYTES - at) as usize);
            let part = &mut bytes[done..done + part_len];
            match self.slots[index as usize] {
                Some(slot) => scratch.read(slot, at, part)?,
                None => part.fill(0),
            }
            done += part_len;
        }
        Ok(len)
    }

    /// Writes at `offset`; a gap between the end and `offset` becomes zeros.
    pub(crate) fn write_at(
        &mut self,
        scratch: &mut Scratch,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), HostFault> {
        if bytes.is_empty() {
            return Ok(());
        }
        if offset > self.len_bytes {
            self.extend(scratch, offset)?;
        }
        let mut done = 0;
        while done < bytes.len() {
            let (index, at) = position(offset + done as u64);
            let part_len = (bytes.len() - done).min((CHUNK_BYTES - at) as usize);
            self.write_part(scratch, index, at, &bytes[done..done + part_len])?;
            done += part_len;
        }
        self.len_bytes = self.len_bytes.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn write_part(
        &mut self,
        scratch: &mut Scratch,
        index: u32,
        at: u32,
        part: &[u8],
    ) -> Result<(), HostFault> {
        if index as usize == self.slots.len() {
            self.slots.push(None);
        }
        self.mark(index, at);
        if let Some(slot) = self.slots[index as usize] {
            return scratch.write(slot, at, part);
        }
        // The chunk was zeros so far: the slot's old bytes around the part are overwritten.
        let slot = scratch.allocate();
        self.slots[index as usize] = Some(slot);
        let known_len = chunk_len(self.len_bytes, index) as usize;
        let part_end = at as usize + part.len();
        if at == 0 && part_end >= known_len {
            return scratch.write(slot, 0, part);
        }
        let mut whole = vec![0; known_len.max(part_end)];
        whole[at as usize..part_end].copy_from_slice(part);
        scratch.write(slot, 0, &whole)
    }

    /// Cuts the content or fills it up with zeros.
    pub(crate) fn set_len(
        &mut self,
        scratch: &mut Scratch,
        len_bytes: u64,
    ) -> Result<(), HostFault> {
        if len_bytes > self.len_bytes {
            self.extend(scratch, len_bytes)
        } else {
            self.cut(scratch, len_bytes);
            Ok(())
        }
    }

    fn extend(&mut self, scratch: &mut Scratch, len_bytes: u64) -> Result<(), HostFault> {
        let (tail, tail_len) = position(self.len_bytes);
        if tail_len > 0 {
            if let Some(slot) = self.slots[tail as usize] {
                let zeros = chunk_len(len_bytes, tail) - tail_len;
                scratch.write(slot, tail_len, &vec![0; zeros as usize])?;
            }
            self.mark(tail, tail_len);
        }
        let old_count = chunk_count(self.len_bytes);
        let new_count = chunk_count(len_bytes);
        self.slots.resize(new_count as usize, None);
        self.dirty.extend((old_count..new_count).map(|index| (index, 0)));
        self.len_bytes = len_bytes;
        Ok(())
    }

    fn cut(&mut self, scratch: &mut Scratch, len_bytes: u64) {
        if len_bytes == self.len_bytes {
            return;
        }
        let count = chunk_count(len_bytes);
        for slot in self.slots.drain(count as usize..).flatten() {
            scratch.release(slot);
        }
        self.dirty.split_off(&count);
        let (tail, tail_len) = position(len_bytes);
        if tail_len > 0 {
            self.mark(tail, tail_len);
        }
        self.len_bytes = len_bytes;
    }

    fn mark(&mut self, index: u32, clean_prefix_bytes: u32) {
        let clean = self.dirty.entry(index).or_insert(clean_prefix_bytes);
        *clean = (*clean).min(clean_prefix_bytes);
    }

    /// The chunks that changed, in order.
    pub(crate) fn dirty(&self) -> Vec<DirtyChunk> {
        self.dirty
            .iter()
            .map(|(&index, &clean_prefix_bytes)| DirtyChunk { index, clean_prefix_bytes })
            .collect()
    }

    pub(crate) fn mark_clean(&mut self) {
        self.dirty.clear();
    }

    /// The bytes of one chunk, or `None` where there is no such chunk.
    pub(crate) fn chunk(
        &self,
        scratch: &Scratch,
        index: u32,
    ) -> Result<Option<Vec<u8>>, HostFault> {
        let Some(slot) = self.slots.get(index as usize) else { return Ok(None) };
        let mut bytes = vec![0; chunk_len(self.len_bytes, index) as usize];
        if let Some(slot) = *slot {
            scratch.read(slot, 0, &mut bytes)?;
        }
        Ok(Some(bytes))
    }

    /// Appends the next chunk of a content that is being put back, clean.
    ///
    /// # Panics
    ///
    /// Where the content does not end with a whole chunk.
    pub(crate) fn push_clean(
        &mut self,
        scratch: &mut Scratch,
        bytes: &[u8],
    ) -> Result<(), HostFault> {
        assert_eq!(position(self.len_bytes).1, 0, "only the last chunk is short");
        let slot = if bytes.iter().all(|byte| *byte == 0) {
            None
        } else {
            let slot = scratch.allocate();
            scratch.write(slot, 0, bytes)?;
            Some(slot)
        };
        self.slots.push(slot);
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives the slots back.
    pub(crate) fn release(self, scratch: &mut Scratch) {
        for slot in self.slots.into_iter().flatten() {
            scratch.release(slot);
        }
    }
}

/// Chunk index and offset inside the chunk.
fn position(offset: u64) -> (u32, u32) {
    let chunk = u64::from(CHUNK_BYTES);
    let index = u32::try_from(offset / chunk).expect("quotas keep contents below 2^48 bytes");
    (index, u32::try_from(offset % chunk).expect("less than a chunk"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CHUNK: u64 = CHUNK_BYTES as u64;
    const CHUNK_LEN: usize = CHUNK_BYTES as usize;

    fn fixture() -> (Scratch, Content) {
        (Scratch::new(tempfile::tempfile().unwrap()), Content::default())
    }

    fn marks(content: &Content) -> Vec<(u32, u32)> {
        content.dirty().iter().map(|chunk| (chunk.index, chunk.clean_prefix_bytes)).collect()
    }

    #[test]
    fn an_append_leaves_a_clean_prefix_and_an_overwrite_moves_it_down() {
        let (mut scratch, mut content) = fixture();
        content.write_at(&mut scratch, 0, &[7; 1000]).unwrap();
        assert_eq!(marks(&content), [(0, 0)]);
        content.mark_clean();
        content.write_at(&mut scratch, 1000, &[8; 10]).unwrap();
        assert_eq!(marks(&content), [(0, 1000)]);
        content.write_at(&mut scratch, 1005, &[8; 10]).unwrap();
        assert_eq!(marks(&content), [(0, 1000)]);
        content.write_at(&mut scratch, 30, &[9]).unwrap();
        assert_eq!(marks(&content), [(0, 30)]);
        content.write_at(&mut scratch, CHUNK + 5, &[9]).unwrap();
        assert_eq!(marks(&content), [(0, 30), (1, 0)]);
    }

    #[test]
    fn a_write_beyond_the_end_dirties_the_gap_too() {
        let (mut scratch, mut content) = fixture();
        content.write_at(&mut scratch, 0, &[7; 100]).unwrap();
        content.mark_clean();
        content.write_at(&mut scratch, 3 * CHUNK + 1, &[1]).unwrap();
        assert_eq!(marks(&content), [(0, 100), (1, 0), (2, 0), (3, 0)]);
        assert_eq!(scratch.used(), 2, "zeros take no slot");
        let mut bytes = vec![9; 4 * CHUNK_LEN];
        let len = content.read_at(&scratch, 0, &mut bytes).unwrap();
        assert_eq!(len as u64, 3 * CHUNK + 2);
        assert!(bytes[..100].iter().all(|byte| *byte == 7));
        assert!(bytes[100..len - 1].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[len - 1], 1);
    }

    #[test]
    fn a_cut_dirties_the_chunk_that_became_shorter_and_frees_the_slots_behind_it() {
        let (mut scratch, mut content) = fixture();
        content.write_at(&mut scratch, 0, &vec![7; 4 * CHUNK_LEN]).unwrap();
        assert_eq!(scratch.used(), 4);
        content.mark_clean();
        content.set_len(&mut scratch, CHUNK + 10).unwrap();
        assert_eq!(marks(&content), [(1, 10)]);
        assert_eq!(scratch.used(), 2);
        content.mark_clean();
        content.set_len(&mut scratch, CHUNK).unwrap();
        assert_eq!(marks(&content), [], "the chunk that is left did not change");
        assert_eq!(scratch.used(), 1);
    }

    #[test]
    fn bytes_that_were_cut_off_or_left_in_a_slot_never_come_back() {
        let (mut scratch, mut content) = fixture();
        content.write_at(&mut scratch, 0, &[7; 5000]).unwrap();
        content.set_len(&mut scratch, 10).unwrap();
        content.set_len(&mut scratch, 5000).unwrap();
        let mut bytes = [9; 5000];
        content.read_at(&scratch, 0, &mut bytes).unwrap();
        assert!(bytes[10..].iter().all(|byte| *byte == 0));

        // The slot goes back full of sevens and is taken for one byte in a hole.
        content.write_at(&mut scratch, 0, &vec![7; CHUNK_LEN]).unwrap();
        content.set_len(&mut scratch, 0).unwrap();
        content.set_len(&mut scratch, CHUNK).unwrap();
        content.write_at(&mut scratch, 100, &[1]).unwrap();
        assert_eq!(scratch.used(), 1);
        let chunk = content.chunk(&scratch, 0).unwrap().unwrap();
        assert_eq!(chunk.iter().filter(|byte| **byte != 0).count(), 1);
        content.release(&mut scratch);
        assert_eq!(scratch.used(), 0);
    }
}
