//! Random numbers that a repetition draws again.
//!
//! Owns: two streams of bytes and one constant, all determined by the job's seed. Each stream is
//! `ChaCha` with 20 rounds (RFC 8439's block function) keyed by the seed, told apart by the stream
//! number, and addressed by the position of a byte, so that a position is all that a checkpoint
//! must keep.
//!
//! Invariant: the bytes drawn depend on seed and position only, not on how they were asked for.

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use wasmtime::component::HasData;
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use crate::{abort::Abort, pulse::Pulse};

/// The most that one call may draw: some 20 ms of work, in which a cancellation waits.
pub(crate) const MAX_BYTES_A_CALL: u64 = 16 << 20;

const WORD_BYTES: usize = 4;

/// One stream of random bytes.
pub(crate) struct ByteStream {
    generator: ChaCha20Rng,
    position: u64,
    /// The word that `position` lies in, where that is not its first byte.
    word: [u8; WORD_BYTES],
}

impl ByteStream {
    fn new(seed: [u8; 32], number: u64) -> Self {
        let mut generator = ChaCha20Rng::from_seed(seed);
        generator.set_stream(number);
        Self { generator, position: 0, word: [0; WORD_BYTES] }
    }

    /// Bytes drawn so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Goes to any position.
    pub(crate) fn seek(&mut self, position: u64) {
        self.position = position;
        self.generator.set_word_pos(u128::from(position / WORD_BYTES as u64));
        if self.offset() > 0 {
            self.word = self.generator.next_u32().to_le_bytes();
        }
    }

    fn offset(&self) -> usize {
        usize::try_from(self.position % WORD_BYTES as u64).expect("less than a word")
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        let offset = self.offset();
        let begun_len = if offset == 0 { 0 } else { bytes.len().min(WORD_BYTES - offset) };
        let (begun, rest) = bytes.split_at_mut(begun_len);
        begun.copy_from_slice(&self.word[offset..offset + begun_len]);
        let tail_len = rest.len() % WORD_BYTES;
        let (whole, tail) = rest.split_at_mut(rest.len() - tail_len);
        self.generator.fill_bytes(whole);
        if !tail.is_empty() {
            self.word = self.generator.next_u32().to_le_bytes();
            tail.copy_from_slice(&self.word[..tail_len]);
        }
        self.position += bytes.len() as u64;
    }

    fn bytes(&mut self, len: u64, pulse: &Pulse) -> wasmtime::Result<Vec<u8>> {
        pulse.check()?;
        if len > MAX_BYTES_A_CALL {
            let message = format!(
                "{len} random bytes asked for in one call, at most {MAX_BYTES_A_CALL} are given: ask several times"
            );
            return Err(Abort::Contract(message).into());
        }
        let mut bytes = vec![0; usize::try_from(len)?];
        self.fill(&mut bytes);
        Ok(bytes)
    }

    fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The random numbers of one job.
pub(crate) struct Random {
    pub(crate) secure: ByteStream,
    pub(crate) insecure: ByteStream,
    constant: (u64, u64),
    pulse: Pulse,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32], pulse: Pulse) -> Self {
        let mut third = ByteStream::new(seed, 2);
        Self {
            secure: ByteStream::new(seed, 0),
            insecure: ByteStream::new(seed, 1),
            constant: (third.u64(), third.u64()),
            pulse,
        }
    }
}

pub(crate) struct HasRandom;

impl HasData for HasRandom {
    type Data<'a> = &'a mut Random;
}

impl random::Host for Random {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.secure.bytes(len, &self.pulse)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.secure.u64())
    }
}

impl insecure::Host for Random {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.insecure.bytes(len, &self.pulse)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.insecure.u64())
    }
}

impl insecure_seed::Host for Random {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok(self.constant)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn whole(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        ByteStream::new([7; 32], 0).fill(&mut bytes);
        bytes
    }

    #[test]
    fn bytes_depend_on_their_position_and_not_on_how_they_are_asked_for() {
        let expected = whole(1000);
        let mut stream = ByteStream::new([7; 32], 0);
        let mut found = Vec::new();
        for len in (0..20).cycle().take_while({
            let mut total = 0;
            move |len| {
                total += len;
                total <= 1000
            }
        }) {
            let mut part = vec![0; len];
            stream.fill(&mut part);
            found.extend(part);
        }
        assert_eq!(found[..], expected[..found.len()]);
        assert!(found.len() > 900);
    }

    #[test]
    fn a_stream_goes_on_from_any_position() {
        let expected = whole(400);
        for position in 0..300 {
            let mut stream = ByteStream::new([7; 32], 0);
            stream.seek(position);
            let mut part = [0; 77];
            stream.fill(&mut part);
            let start = usize::try_from(position).unwrap();
            assert_eq!(part[..], expected[start..start + 77], "position {position}");
            assert_eq!(stream.position(), position + 77);
        }
    }

    #[test]
    fn the_streams_of_one_seed_and_the_same_stream_of_two_seeds_differ() {
        let mut drawn = [([1; 32], 0), ([1; 32], 1), ([1; 32], 2), ([2; 32], 0)]
            .map(|(seed, number)| ByteStream::new(seed, number).u64());
        drawn.sort_unstable();
        assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
