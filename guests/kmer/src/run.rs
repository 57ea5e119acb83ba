//! A run: k-mers in rising order with their counts, in a file that is never changed again.
//!
//! An entry is the distance from the k-mer before it (from zero for the first) and its count,
//! each as an unsigned LEB128 number. Half a million of 21 letters take 5 bytes each instead of
//! 16, and what is not written need not be kept by the host either. Knows nothing of how many
//! runs there are and what they become.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Read as _, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::Error;

/// Bytes of one number, at most.
const NUMBER_BYTES: usize = 10;
const READ_BYTES: usize = 32 * 1024;

/// A file that grows from a known length on: whatever a run or an artifact is written to.
pub struct Growing {
    path: PathBuf,
    file: BufWriter<File>,
    length_bytes: u64,
}

impl Growing {
    /// Opens a file that must be `length_bytes` long, or begins it where that is zero.
    pub fn resume(path: &Path, length_bytes: u64) -> Result<Self, Error> {
        let files = |source| Error::files(path, source);
        let mut options = OpenOptions::new();
        if length_bytes == 0 {
            options.write(true).create(true).truncate(true);
        } else {
            options.write(true);
        }
        let mut file = options.open(path).map_err(files)?;
        let found = file.seek(SeekFrom::End(0)).map_err(files)?;
        if found != length_bytes {
            return Err(Error::damaged(
                path,
                format!("it is {found} bytes long, and {length_bytes} were expected"),
            ));
        }
        let file = BufWriter::with_capacity(64 * 1024, file);
        Ok(Self { path: path.to_owned(), file, length_bytes })
    }

    /// Appends.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.length_bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| Error::files(&self.path, source))
    }

    /// Hands everything to the host and gives back the file's length in bytes.
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.file.flush().map_err(|source| Error::files(&self.path, source))?;
        Ok(self.length_bytes)
    }
}

/// A run that is being written.
pub struct RunWriter {
    file: Growing,
    last_kmer: u64,
}

impl RunWriter {
    /// Begins a run.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::resume(path, 0, 0)
    }

    /// Goes on with a run that was `length_bytes` long after `last_kmer`.
    pub fn resume(path: &Path, length_bytes: u64, last_kmer: u64) -> Result<Self, Error> {
        Ok(Self { file: Growing::resume(path, length_bytes)?, last_kmer })
    }

    /// Adds a k-mer above the last one.
    pub fn put(&mut self, kmer: u64, count: u64) -> Result<(), Error> {
        let mut entry = [0; 2 * NUMBER_BYTES];
        let length = put_number(&mut entry, 0, kmer - self.last_kmer);
        let length = put_number(&mut entry, length, count);
        self.last_kmer = kmer;
        self.file.write(&entry[..length])
    }

    /// Hands everything to the host and gives back the run's length in bytes.
    pub fn flush(&mut self) -> Result<u64, Error> {
        self.file.flush()
    }

    /// The k-mer that was put last, or zero.
    pub fn last_kmer(&self) -> u64 {
        self.last_kmer
    }
}

/// How far a run has been read: behind an entry that is held as its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Bytes read, the head's included.
    pub offset_bytes: u64,
    /// The head's k-mer.
    pub kmer: u64,
    /// The head's count; zero when the run is at its end.
    pub count: u64,
}

/// A run that is being read.
pub struct RunReader {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// What of the buffer is not yet read.
    start: usize,
    cursor: Cursor,
}

impl RunReader {
    /// Opens a run and reads its head, or goes on behind `cursor`.
    pub fn open(path: &Path, cursor: Option<Cursor>) -> Result<Self, Error> {
        let files = |source| Error::files(path, source);
        let mut file = File::open(path).map_err(files)?;
        let resumed = cursor.unwrap_or_default();
        file.seek(SeekFrom::Start(resumed.offset_bytes)).map_err(files)?;
        let buffer = Vec::with_capacity(READ_BYTES);
        let mut reader = Self { path: path.to_owned(), file, buffer, start: 0, cursor: resumed };
        if cursor.is_none() {
            reader.advance()?;
        }
        Ok(reader)
    }

    /// How far it has been read.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The entry that is next, none at the end.
    #[inline]
    pub fn head(&self) -> Option<(u64, u64)> {
        (self.cursor.count > 0).then_some((self.cursor.kmer, self.cursor.count))
    }

    /// Goes on to the next entry.
    pub fn advance(&mut self) -> Result<(), Error> {
        if self.buffer.len() - self.start < 2 * NUMBER_BYTES {
            self.refill()?;
        }
        let rest = &self.buffer[self.start..];
        if rest.is_empty() {
            self.cursor.count = 0;
            return Ok(());
        }
        let entry = number(rest).and_then(|(distance, first)| {
            let (count, second) = number(&rest[first..])?;
            let kmer = self.cursor.kmer.checked_add(distance)?;
            // Only the very first k-mer may lie at no distance from zero.
            let rises = distance > 0 || self.cursor.offset_bytes == 0;
            (rises && count > 0).then_some((kmer, count, first + second))
        });
        let Some((kmer, count, length)) = entry else {
            let at = self.cursor.offset_bytes;
            return Err(Error::damaged(&self.path, format!("no entry begins at byte {at}")));
        };
        self.start += length;
        let offset_bytes = self.cursor.offset_bytes + length as u64;
        self.cursor = Cursor { offset_bytes, kmer, count };
        Ok(())
    }

    fn refill(&mut self) -> Result<(), Error> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let room = (READ_BYTES - self.buffer.len()) as u64;
        let read = (&self.file).take(room).read_to_end(&mut self.buffer);
        read.map(drop).map_err(|source| Error::files(&self.path, source))
    }
}

/// Writes `value` at `at` and gives back where it ends.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "seven bits are taken at a time")]
fn put_number(into: &mut [u8], mut at: usize, mut value: u64) -> usize {
    while value >= 0x80 {
        into[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    into[at] = value as u8;
    at + 1
}

/// The number that the bytes begin with, and its length.
#[inline]
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(NUMBER_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * at);
        if shifted >> (7 * at) != bits {
            return None;
        }
        value |= shifted;
        if byte < 0x80 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<(u64, u64)>, Error> {
        let mut reader = RunReader::open(path, None)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.head() {
            entries.push(entry);
            reader.advance()?;
        }
        Ok(entries)
    }

    #[test]
    fn a_run_reads_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        // Long enough for several refills, with the largest numbers at its end.
        let mut entries: Vec<(u64, u64)> = (0..50_000).map(|at| (at * at, 1 + at % 300)).collect();
        entries.push(((1 << 62) - 1, u64::MAX));
        let mut writer = RunWriter::create(&path).unwrap();
        for &(kmer, count) in &entries {
            writer.put(kmer, count).unwrap();
        }
        writer.flush().unwrap();
        assert_eq!(read(&path).unwrap(), entries);
    }

    #[test]
    fn a_run_goes_on_where_it_was_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let mut writer = RunWriter::create(&path).unwrap();
        writer.put(5, 1).unwrap();
        let (length, last) = (writer.flush().unwrap(), writer.last_kmer());
        drop(writer);
        let mut writer = RunWriter::resume(&path, length, last).unwrap();
        writer.put(7, 2).unwrap();
        writer.flush().unwrap();
        assert_eq!(read(&path).unwrap(), [(5, 1), (7, 2)]);
        let error = RunWriter::resume(&path, length, last).err().unwrap().to_string();
        assert!(error.contains("it is 4 bytes long, and 2 were expected"), "{error}");
    }

    #[test]
    fn a_damaged_run_is_refused_with_its_position() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        // A number without an end, a count of zero, no distance, and a number above 64 bits.
        for damage in [
            &[5, 1, 0x80][..],
            &[5, 1, 1, 0],
            &[5, 1, 0, 1],
            &[5, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 1],
        ] {
            std::fs::write(&path, damage).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("no entry begins at byte 2"), "{error}");
        }
    }
}
