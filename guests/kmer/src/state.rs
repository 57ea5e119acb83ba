//! What a checkpoint holds of the job's memory, and its bytes.
//!
//! A header of fixed length, then the cursors, the histogram and the buffered k-mers, all as
//! little-endian numbers of eight bytes. While the input is read only k-mers follow the header,
//! in the order in which they came: from one checkpoint to the next the bytes change at their
//! beginning and grow at their end, and a host that keeps changed chunks keeps little. Runs and
//! artifacts are files; the host keeps those by itself.

use std::collections::BTreeMap;

use crate::{
    Settings,
    fasta::{Parser, Place},
    run::Cursor,
    window::Window,
};

/// The longest k-mer that two bits a letter leave room for, with one letter to spare.
pub const MAX_K: u32 = 31;

const MAGIC: u64 = u64::from_le_bytes(*b"HBKMER01");
/// Numbers in the header.
const HEADER: usize = 22;

/// What the job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the input.
    Count,
    /// Merging runs: into another run while there are too many, then into the spectrum.
    Merge,
}

/// Everything that the job knows, apart from its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    /// Bytes read and k-mers merged so far; it never falls.
    pub step: u64,
    /// Bytes of the inflated input read so far.
    pub input_bytes: u64,
    pub parser: Parser,
    pub window: Window,
    /// K-mers in the runs, repetitions counted.
    pub total: u64,
    /// The runs that are there have the numbers from this one,
    pub first_run: u64,
    /// up to and without this one.
    pub next_run: u64,
    /// Of `total`, how many are in the spectrum.
    pub written: u64,
    /// Bytes of the run or spectrum that a merge is writing.
    pub output_bytes: u64,
    /// The k-mer that was put last into the run that a merge is writing.
    pub last_kmer: u64,
    /// How far a merge has read its runs; empty at its beginning.
    pub cursors: Vec<Cursor>,
    /// Of the spectrum so far.
    pub histogram: BTreeMap<u64, u64>,
    /// K-mers in no run yet.
    pub buffer: Vec<u64>,
}

/// Bytes that are no state of this job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Other bytes.
    #[error("its {length} bytes are no state of this version of kmer: {what}")]
    Malformed {
        /// How many there are.
        length: usize,
        /// What is wrong with them.
        what: &'static str,
    },
    /// Another job's.
    #[error("it was made with {name} {found}, and this job has {name} {expected}")]
    OtherSettings {
        /// The flag.
        name: &'static str,
        /// This job's.
        expected: u64,
        /// The checkpoint's.
        found: u64,
    },
}

impl State {
    /// At the beginning.
    pub fn new(settings: &Settings) -> Self {
        Self {
            phase: Phase::Count,
            step: 0,
            input_bytes: 0,
            parser: Parser::new(),
            window: Window::new(settings.k),
            total: 0,
            first_run: 0,
            next_run: 0,
            written: 0,
            output_bytes: 0,
            last_kmer: 0,
            cursors: Vec::new(),
            histogram: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }

    /// How many runs there are.
    pub fn runs(&self) -> u64 {
        self.next_run - self.first_run
    }

    /// The next merge starts from its beginning.
    pub fn begin_merging(&mut self) {
        self.phase = Phase::Merge;
        (self.output_bytes, self.last_kmer) = (0, 0);
        self.cursors.clear();
    }

    /// The bytes of a checkpoint; `buffer` stands for the state's own, which is empty while the
    /// job counts.
    pub fn encode(&self, settings: &Settings, buffer: &[u64]) -> Vec<u8> {
        let header: [u64; HEADER] = [
            MAGIC,
            settings.k.into(),
            settings.buffer_kmers as u64,
            settings.fan_in as u64,
            match self.phase {
                Phase::Count => 0,
                Phase::Merge => 1,
            },
            self.step,
            self.input_bytes,
            match self.parser.place {
                Place::LineStart => 0,
                Place::Header => 1,
                Place::Sequence => 2,
            },
            self.parser.line,
            self.parser.records,
            self.window.forward,
            self.window.reverse,
            self.window.filled.into(),
            self.total,
            self.first_run,
            self.next_run,
            self.written,
            self.output_bytes,
            self.last_kmer,
            self.cursors.len() as u64,
            self.histogram.len() as u64,
            buffer.len() as u64,
        ];
        let numbers = HEADER + 3 * self.cursors.len() + 2 * self.histogram.len() + buffer.len();
        let mut bytes = Vec::with_capacity(8 * numbers);
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        header.into_iter().for_each(&mut put);
        for cursor in &self.cursors {
            [cursor.offset_bytes, cursor.kmer, cursor.count].into_iter().for_each(&mut put);
        }
        for (&count, &kmers) in &self.histogram {
            put(count);
            put(kmers);
        }
        buffer.iter().copied().for_each(&mut put);
        bytes
    }

    /// The state that was encoded with the same settings.
    pub fn decode(bytes: &[u8], settings: &Settings) -> Result<Self, StateError> {
        let malformed = |what| StateError::Malformed { length: bytes.len(), what };
        let (words, odd) = bytes.as_chunks::<8>();
        let mut numbers = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut take = || numbers.next().ok_or_else(|| malformed("they are too few"));
        if take()? != MAGIC {
            return Err(malformed("they begin with something else"));
        }
        for (name, expected) in [
            ("-k", settings.k.into()),
            ("--buffer", settings.buffer_kmers as u64),
            ("--fan-in", settings.fan_in as u64),
        ] {
            let found = take()?;
            if found != expected {
                return Err(StateError::OtherSettings { name, expected, found });
            }
        }
        let mut state = Self::new(settings);
        state.phase = match take()? {
            0 => Phase::Count,
            1 => Phase::Merge,
            _ => return Err(malformed("there is no such phase")),
        };
        (state.step, state.input_bytes) = (take()?, take()?);
        state.parser = Parser {
            place: match take()? {
                0 => Place::LineStart,
                1 => Place::Header,
                2 => Place::Sequence,
                _ => return Err(malformed("there is no such place in a file")),
            },
            line: take()?,
            records: take()?,
        };
        (state.window.forward, state.window.reverse) = (take()?, take()?);
        state.window.filled = u32::try_from(take()?)
            .ok()
            .filter(|&filled| filled <= settings.k)
            .ok_or_else(|| malformed("the window is too full"))?;
        (state.total, state.first_run, state.next_run) = (take()?, take()?, take()?);
        (state.written, state.output_bytes, state.last_kmer) = (take()?, take()?, take()?);
        let (cursors, histogram, buffer) = (take()?, take()?, take()?);
        let expected = u128::from(cursors) * 3 + u128::from(histogram) * 2 + u128::from(buffer);
        if !odd.is_empty() || expected != numbers.len() as u128 {
            return Err(malformed("their number is not the one that the header says"));
        }
        if state.first_run > state.next_run || buffer > settings.buffer_kmers as u64 {
            return Err(malformed("the header contradicts itself"));
        }
        // A merge has a cursor for each run that takes part in it, or has not begun.
        if cursors != 0 && cursors != state.runs().min(settings.fan_in as u64) {
            return Err(malformed("it has cursors for other runs than there are"));
        }
        let mut next = || numbers.next().expect("they were counted above");
        state.cursors = (0..cursors)
            .map(|_| Cursor { offset_bytes: next(), kmer: next(), count: next() })
            .collect();
        state.histogram = (0..histogram).map(|_| (next(), next())).collect();
        state.buffer = numbers.collect();
        Ok(state)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sample(settings: &Settings) -> State {
        let mut state = State::new(settings);
        state.phase = Phase::Merge;
        (state.step, state.input_bytes) = (1, 2);
        state.parser = Parser { place: Place::Sequence, line: 3, records: 4 };
        (state.window.forward, state.window.reverse, state.window.filled) = (5, 6, 7);
        (state.total, state.first_run, state.next_run, state.written) = (8, 9, 10, 11);
        (state.output_bytes, state.last_kmer) = (12, 13);
        state.cursors = vec![Cursor { offset_bytes: 14, kmer: 15, count: 16 }];
        state.histogram = BTreeMap::from([(17, 18), (19, 20)]);
        state.buffer = vec![21, 22, 23];
        state
    }

    #[test]
    fn a_state_reads_back_as_it_was_written() {
        let settings = Settings::default();
        let state = sample(&settings);
        let bytes = state.encode(&settings, &state.buffer);
        assert_eq!(State::decode(&bytes, &settings).unwrap(), state);
    }

    #[test]
    fn every_truncation_is_refused() {
        let settings = Settings::default();
        let state = sample(&settings);
        let bytes = state.encode(&settings, &state.buffer);
        for length in 0..bytes.len() {
            State::decode(&bytes[..length], &settings).unwrap_err();
        }
    }

    #[test]
    fn a_flipped_bit_is_refused_or_read_as_another_state() {
        let settings = Settings::default();
        let state = sample(&settings);
        let bytes = state.encode(&settings, &state.buffer);
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = State::decode(&flipped, &settings) {
                assert_ne!(other, state, "bit {bit} means nothing");
            }
        }
    }

    #[test]
    fn a_state_made_with_other_settings_is_refused_with_the_flag() {
        let settings = Settings::default();
        let bytes = State::new(&settings).encode(&settings, &[]);
        let error = State::decode(&bytes, &Settings { k: 31, ..settings }).unwrap_err();
        assert_eq!(error.to_string(), "it was made with -k 21, and this job has -k 31");
    }

    #[test]
    fn buffered_kmers_only_grow_at_the_end() {
        let settings = Settings::default();
        let state = State::new(&settings);
        let kmers: Vec<u64> = (0..100).collect();
        let (early, late) =
            (state.encode(&settings, &kmers[..50]), state.encode(&settings, &kmers));
        let header = 8 * HEADER;
        assert_eq!(early[header..], late[header..early.len()]);
    }
}
