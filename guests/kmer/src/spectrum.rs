//! The artifacts: the spectrum as it is streamed out, the histogram and the summary.
//!
//! Knows nothing of where the k-mers come from; they come in rising order.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use crate::{Error, run::Growing, state::MAX_K};

/// What the spectrum is in four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// K-mers that differ.
    pub distinct: u64,
    /// K-mers that occur once.
    pub unique: u64,
    /// K-mers in all, repetitions counted.
    pub total: u64,
    /// The count of the k-mer that occurs most often.
    pub highest_count: u64,
}

/// The spectrum's file, and what is known of it so far.
pub struct SpectrumWriter {
    file: Growing,
    k: u32,
    /// Count to number of k-mers. Its length is at most the square root of twice the genome's.
    histogram: BTreeMap<u64, u64>,
}

impl SpectrumWriter {
    /// Begins the file, or goes on where it was `length_bytes` long.
    pub fn resume(
        path: &Path,
        k: u32,
        length_bytes: u64,
        histogram: BTreeMap<u64, u64>,
    ) -> Result<Self, Error> {
        Ok(Self { file: Growing::resume(path, length_bytes)?, k, histogram })
    }

    /// Adds a line.
    pub fn put(&mut self, kmer: u64, count: u64) -> Result<(), Error> {
        *self.histogram.entry(count).or_default() += 1;
        let mut line = [0; MAX_K as usize + 22];
        let mut length = put_text(&mut line, kmer, self.k);
        line[length] = b' ';
        length += 1;
        length += put_decimal(&mut line[length..], count);
        line[length] = b'\n';
        self.file.write(&line[..=length])
    }

    /// Hands everything to the host and gives back the file's length in bytes.
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.file.flush()
    }

    /// Count to number of k-mers, of what was put so far.
    pub fn histogram(&self) -> &BTreeMap<u64, u64> {
        &self.histogram
    }

    /// `COUNT HOW-MANY`, counts rising.
    pub fn histogram_text(&self) -> String {
        self.histogram.iter().fold(String::new(), |mut text, (count, kmers)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{count} {kmers}");
            text
        })
    }

    /// The four numbers.
    pub fn summary(&self) -> Summary {
        Summary {
            distinct: self.histogram.values().sum(),
            unique: self.histogram.get(&1).copied().unwrap_or_default(),
            total: self.histogram.iter().map(|(count, kmers)| count * kmers).sum(),
            highest_count: self.histogram.keys().next_back().copied().unwrap_or_default(),
        }
    }
}

/// The letters of a k-mer.
#[cfg(test)]
pub fn text(kmer: u64, k: u32) -> Vec<u8> {
    let mut line = [0; MAX_K as usize];
    let length = put_text(&mut line, kmer, k);
    line[..length].to_vec()
}

#[inline]
fn put_text(line: &mut [u8], kmer: u64, k: u32) -> usize {
    let length = k as usize;
    for (at, letter) in line[..length].iter_mut().enumerate() {
        *letter = b"ACGT"[(kmer >> (2 * (length - 1 - at)) & 3) as usize];
    }
    length
}

/// Writes `value` in decimal and gives back its length. Most counts have one digit, for which
/// the formatting machinery would cost more than everything else together.
#[inline]
fn put_decimal(line: &mut [u8], value: u64) -> usize {
    let digits = value.checked_ilog10().unwrap_or_default() as usize + 1;
    let mut rest = value;
    for place in line[..digits].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_formatting_machinery_writes_them() {
        for value in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut line = [0; 20];
            let length = put_decimal(&mut line, value);
            assert_eq!(line[..length], *value.to_string().as_bytes());
        }
    }

    #[test]
    fn words_are_written_first_letter_first() {
        assert_eq!(text(0b00_01_10_11, 4), b"ACGT");
        assert_eq!(text(0, 31), [b'A'; 31]);
    }
}
