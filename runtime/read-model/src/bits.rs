//! A set of jobs within one block: a bit for each of its slots.
//!
//! Owns: the set and its stored form. Jobs get *slots* in the order of their numbers, without gaps;
//! a *block* is a run of [`BLOCK_SLOTS`] slots.

/// Slots of a block. A power of two. Larger blocks make questions cheaper and changes dearer: a
/// change of one job rewrites the sets it enters and leaves, at most an eighth of this in bytes.
pub const BLOCK_SLOTS: u64 = 4096;

const WORDS: usize = (BLOCK_SLOTS / 64) as usize;

/// Bytes of a set that is stored as a bitmap.
const BITMAP_BYTES: usize = WORDS * 8;

/// The block of a slot.
pub const fn block_of(slot: u64) -> u64 {
    slot / BLOCK_SLOTS
}

/// The place of a slot in its block.
#[allow(clippy::cast_possible_truncation)] // a block has 4096 slots
pub const fn offset_of(slot: u64) -> u16 {
    (slot % BLOCK_SLOTS) as u16
}

/// Bytes that are not the stored form of a set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len_bytes} bytes are not a set of slots")]
pub struct InvalidBits {
    /// How many there were.
    pub len_bytes: usize,
}

/// A set of the slots of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits([u64; WORDS]);

impl Bits {
    /// No slot.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Every slot.
    pub const FULL: Self = Self([u64::MAX; WORDS]);

    /// Adds a slot; whether it was not there.
    pub fn insert(&mut self, offset: u16) -> bool {
        let (word, bit) = place(offset);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    /// Removes a slot; whether it was there.
    pub fn remove(&mut self, offset: u16) -> bool {
        let (word, bit) = place(offset);
        let was_there = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        was_there
    }

    /// Removes every slot from `offset` on.
    pub fn keep_below(&mut self, offset: u16) {
        let (at, bit) = place(offset);
        self.0[at] &= bit - 1;
        self.0[at + 1..].fill(0);
    }

    /// Keeps what is in both.
    pub fn intersect(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine &= theirs);
    }

    /// Adds what is in the other.
    pub fn unite(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    /// How many slots there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The slots from the last to the first.
    pub fn descending(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().enumerate().rev().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.checked_ilog2()?;
                rest &= !(1 << bit);
                Some(offset_of(at as u64 * 64 + u64::from(bit)))
            })
        })
    }

    /// The stored form: ascending offsets of two bytes each where they are shorter than the
    /// bitmap, else the bitmap. The length tells which.
    pub fn encode(&self) -> Vec<u8> {
        if self.len() as usize * 2 >= BITMAP_BYTES {
            return self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        }
        let mut offsets: Vec<u16> = self.descending().collect();
        offsets.reverse();
        offsets.into_iter().flat_map(u16::to_le_bytes).collect()
    }

    /// The set behind a stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidBits> {
        let invalid = InvalidBits { len_bytes: bytes.len() };
        let mut bits = Self::EMPTY;
        if bytes.len() == BITMAP_BYTES {
            for (word, bytes) in bits.0.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            return Ok(bits);
        }
        let (offsets, rest) = bytes.as_chunks();
        if bytes.len() > BITMAP_BYTES || !rest.is_empty() {
            return Err(invalid);
        }
        for offset in offsets {
            let offset = u16::from_le_bytes(*offset);
            if u64::from(offset) >= BLOCK_SLOTS {
                return Err(invalid);
            }
            bits.insert(offset);
        }
        Ok(bits)
    }
}

fn place(offset: u16) -> (usize, u64) {
    assert!(u64::from(offset) < BLOCK_SLOTS, "offset {offset} lies outside of a block");
    (usize::from(offset / 64), 1 << (offset % 64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn bits(offsets: &BTreeSet<u16>) -> Bits {
        let mut bits = Bits::EMPTY;
        for offset in offsets {
            assert!(bits.insert(*offset));
        }
        bits
    }

    fn offsets() -> impl Strategy<Value = BTreeSet<u16>> {
        let sizes = prop_oneof![0..20_usize, 250..260_usize, 1000..2000_usize];
        let of_size = |size| proptest::sample::subsequence((0..4096).collect::<Vec<_>>(), size);
        sizes.prop_flat_map(of_size).prop_map(BTreeSet::from_iter)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_set_survives_its_stored_form_and_is_walked_from_its_end(offsets in offsets()) {
            let bits = bits(&offsets);
            prop_assert_eq!(Bits::decode(&bits.encode()).unwrap(), bits.clone());
            prop_assert!(bits.descending().eq(offsets.iter().rev().copied()));
            prop_assert_eq!(bits.len() as usize, offsets.len());
            prop_assert_eq!(bits.is_empty(), offsets.is_empty());
        }

        #[test]
        fn sets_meet_join_and_are_cut_as_sets_are(
            one in offsets(), other in offsets(), limit in 0_u16..4096,
        ) {
            let mut both = bits(&one);
            both.intersect(&bits(&other));
            prop_assert_eq!(both, bits(&one.intersection(&other).copied().collect()));
            let mut either = bits(&one);
            either.unite(&bits(&other));
            prop_assert_eq!(either, bits(&one.union(&other).copied().collect()));
            let mut below = bits(&one);
            below.keep_below(limit);
            prop_assert_eq!(below, bits(&one.range(..limit).copied().collect()));
        }
    }

    #[test]
    fn bytes_that_are_no_set_are_refused() {
        for bytes in [&[1][..], &[0; 513], &[0; 514], &4096_u16.to_le_bytes()] {
            assert_eq!(Bits::decode(bytes), Err(InvalidBits { len_bytes: bytes.len() }));
        }
    }

    #[test]
    fn a_slot_that_is_removed_twice_was_there_once() {
        let mut bits = Bits::FULL;
        assert!(bits.remove(4095));
        assert!(!bits.remove(4095));
        assert_eq!(bits.len(), 4095);
    }
}
