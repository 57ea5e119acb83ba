//! The last k letters of a sequence, and their reverse complement, in two bits a letter.
//!
//! A, C, G, T are 0, 1, 2, 3 with the first letter in the highest bits, so that the order of
//! values is the order of words, and a letter's complement is three minus the letter.

/// The last letters, at most k of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    k: u32,
    mask: u64,
    pub(crate) forward: u64,
    pub(crate) reverse: u64,
    /// Letters in it; a k-mer is complete at k.
    pub(crate) filled: u32,
}

impl Window {
    /// An empty window; `k` is 1 to 31.
    pub fn new(k: u32) -> Self {
        Self { k, mask: (1 << (2 * k)) - 1, forward: 0, reverse: 0, filled: 0 }
    }

    /// Takes one letter in and gives back the canonical k-mer that it completes.
    #[inline]
    pub fn push(&mut self, code: u64) -> Option<u64> {
        self.forward = (self.forward << 2 | code) & self.mask;
        self.reverse = self.reverse >> 2 | (3 - code) << (2 * (self.k - 1));
        if self.filled < self.k {
            self.filled += 1;
            if self.filled < self.k {
                return None;
            }
        }
        Some(self.forward.min(self.reverse))
    }

    /// Forgets the letters: the sequence is interrupted.
    pub fn clear(&mut self) {
        (self.forward, self.reverse, self.filled) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(word: &[u8]) -> Vec<u8> {
        let complement: Vec<u8> = word
            .iter()
            .rev()
            .map(|letter| match letter {
                b'A' => b'T',
                b'C' => b'G',
                b'G' => b'C',
                _ => b'A',
            })
            .collect();
        complement.min(word.to_vec())
    }

    #[test]
    fn every_word_of_up_to_six_letters_becomes_its_canonical_form() {
        for k in 1..=6_u32 {
            for value in 0..1_u64 << (2 * k) {
                let codes: Vec<u64> = (0..k).rev().map(|at| value >> (2 * at) & 3).collect();
                let word: Vec<u8> = codes
                    .iter()
                    .map(|&code| b"ACGT"[usize::try_from(code).expect("2 bits")])
                    .collect();
                let mut window = Window::new(k);
                // Letters before must leave no trace.
                window.push(3);
                window.clear();
                let mut last = None;
                for code in codes {
                    assert_eq!(last, None, "complete before k letters");
                    last = window.push(code);
                }
                let text = crate::spectrum::text(last.expect("k letters are complete"), k);
                assert_eq!(text, canonical(&word));
            }
        }
    }

    #[test]
    fn the_longest_window_keeps_all_its_letters() {
        let mut window = Window::new(31);
        let last = (0..62).filter_map(|at| window.push(u64::from(at % 31 == 0))).last();
        // C and then thirty A: its reverse complement begins with T.
        assert_eq!(last, Some(1 << 60));
    }
}
