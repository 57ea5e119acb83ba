//! The genome as a stream of bytes, inflated where it is compressed.
//!
//! Knows nothing of what the bytes mean. Whether a file is compressed is told from its first two
//! bytes, not from its name, which the host chooses. After a restart a plain file is entered at
//! the checkpoint's position; a compressed one is inflated once more up to it, which costs a
//! small part of what counting costs.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

use crate::Error;

/// RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The open genome.
pub struct Input {
    path: String,
    bytes: Bytes,
    /// Bytes read so far, after inflation.
    at: u64,
}

enum Bytes {
    Plain {
        file: File,
        length_bytes: u64,
    },
    /// Several members one after another are one file, as `bgzip` and `cat` make them.
    Gzip(MultiGzDecoder<BufReader<File>>),
}

impl Input {
    /// Opens the file and finds out what it is.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let no_input = |source| Error::NoInput { path: path.display().to_string(), source };
        let mut file = File::open(path).map_err(no_input)?;
        let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
        file.by_ref().take(2).read_to_end(&mut magic).map_err(no_input)?;
        file.seek(SeekFrom::Start(0)).map_err(no_input)?;
        let bytes = if magic == GZIP_MAGIC {
            Bytes::Gzip(MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, file)))
        } else {
            let length_bytes = file.metadata().map_err(no_input)?.len();
            Bytes::Plain { file, length_bytes }
        };
        Ok(Self { path: path.display().to_string(), bytes, at: 0 })
    }

    /// How long it is, where that can be told beforehand.
    pub fn length_bytes(&self) -> Option<u64> {
        match &self.bytes {
            Bytes::Plain { length_bytes, .. } => Some(*length_bytes),
            Bytes::Gzip(_) => None,
        }
    }

    /// Goes on to byte `to`, from the beginning.
    pub fn skip(&mut self, to: u64) -> Result<(), Error> {
        let reached = match &mut self.bytes {
            Bytes::Plain { file, length_bytes } => {
                file.seek(SeekFrom::Start(to)).map(|at| at.min(*length_bytes))
            }
            Bytes::Gzip(decoder) => io::copy(&mut decoder.take(to), &mut io::sink()),
        };
        self.at = reached.map_err(|source| self.unreadable(source))?;
        if self.at == to {
            return Ok(());
        }
        Err(Error::InputChanged { path: self.path.clone(), expected: to, found: self.at })
    }

    /// Fills the block, unless the file ends before; gives back how far.
    pub fn fill(&mut self, block: &mut [u8]) -> Result<usize, Error> {
        let mut length = 0;
        while length < block.len() {
            let read = match &mut self.bytes {
                Bytes::Plain { file, .. } => file.read(&mut block[length..]),
                Bytes::Gzip(decoder) => decoder.read(&mut block[length..]),
            };
            match read {
                Ok(0) => break,
                Ok(read) => {
                    length += read;
                    self.at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.unreadable(source)),
            }
        }
        Ok(length)
    }

    fn unreadable(&self, source: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let (path, at) = (self.path.clone(), self.at);
        match (&self.bytes, source.kind()) {
            (Bytes::Gzip(_), InvalidData | InvalidInput | UnexpectedEof) => {
                Error::BadGzip { path, at, source }
            }
            _ => Error::Unreadable { path, at, source },
        }
    }
}
