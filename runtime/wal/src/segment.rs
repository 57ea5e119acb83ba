//! Segment files: fixed length, zero-filled ahead of use.
//!
//! Owns: the segment header and its copy in the last block, the preparation of a segment, the
//! list of segments in the log's directory.
//! Knows nothing of: frames.
//!
//! Invariants: a file with a segment's name has its full length, its header twice, and had zeros
//! between them when it got that name; names go up by one without gaps. Zero-filled, not
//! allocated: an unwritten extent would turn the flush of a commit into a flush of metadata.

use std::io;

use hb_disk::{Open, Storage, StorageFile};

use crate::layout::{
    BLOCK, BLOCK_U64, FORMAT, LOG_DIR, LogId, TEMPORARY, array, crc32c, is_zero,
    parse_segment_name, put, put_u32, put_u64, segment_path, to_usize, u32_at, u64_at, used_len,
};

const MAGIC: &[u8; 8] = b"HBWALSG1";
const CRC_AT: usize = BLOCK - 4;
/// Zeros are written in pieces of this many bytes.
const FILL_BYTES: usize = 1 << 20;

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) id: LogId,
    pub(crate) seq: u64,
    pub(crate) len: u64,
    pub(crate) created_ns: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        put(&mut block, 0, MAGIC);
        put_u32(&mut block, 8, FORMAT);
        put(&mut block, 16, &self.id.uuid);
        put_u64(&mut block, 32, self.seq);
        put_u64(&mut block, 40, self.len);
        put_u64(&mut block, 48, self.created_ns);
        put(&mut block, 64, &self.id.salt);
        let crc = crc32c(&block[..CRC_AT]);
        put_u32(&mut block, CRC_AT, crc);
        block
    }

    fn decode(block: &[u8]) -> Result<Self, HeaderFault> {
        let (expected, found) = (u32_at(block, CRC_AT), crc32c(&block[..CRC_AT]));
        if expected != found {
            let detail = format!("checksum {expected:08x} expected, {found:08x} found");
            return Err(HeaderFault::Damaged(detail));
        }
        if block[..8] != *MAGIC {
            return Err(HeaderFault::Damaged("not a segment of a log".to_owned()));
        }
        if u32_at(block, 8) != FORMAT {
            return Err(HeaderFault::Format(u32_at(block, 8)));
        }
        Ok(Self {
            id: LogId { uuid: array(block, 16), salt: array(block, 64) },
            seq: u64_at(block, 32),
            len: u64_at(block, 40),
            created_ns: u64_at(block, 48),
        })
    }
}

/// Why a segment's header cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged(String),
    /// Intact, and of another version of the format.
    Format(u32),
}

/// Which of a segment's two headers is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Healing {
    None,
    First,
    Last,
}

/// An opened segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) seq: u64,
    pub(crate) header: SegmentHeader,
    pub(crate) healing: Healing,
    pub(crate) file: Box<dyn StorageFile>,
}

/// Why a segment could not be opened.
#[derive(Debug)]
pub(crate) enum OpenFault {
    Io(io::Error),
    /// Byte offset and what is wrong there.
    Damaged(u64, String),
    Format(u32),
}

impl From<io::Error> for OpenFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Segment {
    /// Where the last frame must end.
    pub(crate) fn end(&self) -> u64 {
        self.header.len - BLOCK_U64
    }

    /// Opens segment `seq` and checks its length and headers.
    pub(crate) fn open(disk: &dyn Storage, seq: u64, how: Open) -> Result<Self, OpenFault> {
        let file = disk.open(&segment_path(seq), how)?;
        let file_len = file.len()?;
        if file_len < 2 * BLOCK_U64 {
            let detail = format!("the file has only {file_len} bytes");
            return Err(OpenFault::Damaged(file_len, detail));
        }
        let read = |offset: u64| -> io::Result<Result<SegmentHeader, HeaderFault>> {
            let mut block = vec![0; BLOCK];
            read_exact(file.as_ref(), offset, &mut block)?;
            Ok(SegmentHeader::decode(&block))
        };
        let first = read(0)?;
        // The copy lies where the header says the file ends; without a header, where it does end.
        let len = first.as_ref().map_or(file_len, |header| header.len);
        if len != file_len {
            let detail = format!("{len} bytes expected, {file_len} found");
            return Err(OpenFault::Damaged(file_len.min(len), detail));
        }
        let (header, healing) = match (first, read(file_len - BLOCK_U64)?) {
            (Err(HeaderFault::Format(format)), _) | (_, Err(HeaderFault::Format(format))) => {
                return Err(OpenFault::Format(format));
            }
            (Ok(first), Ok(last)) if first == last => (first, Healing::None),
            (Ok(_), Ok(_)) => {
                let detail = "the header and its copy say different things".to_owned();
                return Err(OpenFault::Damaged(file_len - BLOCK_U64, detail));
            }
            (Ok(first), Err(_)) => (first, Healing::Last),
            (Err(_), Ok(last)) => (last, Healing::First),
            (Err(HeaderFault::Damaged(detail)), Err(_)) => {
                let detail = format!("segment header: {detail}; its copy is damaged too");
                return Err(OpenFault::Damaged(0, detail));
            }
        };
        if (header.seq, header.len) != (seq, file_len) {
            let detail = format!(
                "segment header: segment {seq:06} of {file_len} bytes expected, {:06} of {} found",
                header.seq, header.len
            );
            return Err(OpenFault::Damaged(0, detail));
        }
        Ok(Self { seq, header, healing, file })
    }

    /// Writes the damaged header anew from the intact one.
    pub(crate) fn heal(&self) -> io::Result<()> {
        let offset = match self.healing {
            Healing::None => return Ok(()),
            Healing::First => 0,
            Healing::Last => self.end(),
        };
        self.file.write_at(offset, &self.header.encode())?;
        self.file.flush()
    }

    /// A buffer for reading from `offset` to the end in pieces.
    fn buffer_for(&self, offset: u64) -> Vec<u8> {
        vec![0; to_usize(self.end().saturating_sub(offset).min(FILL_BYTES as u64))]
    }

    /// Where the last byte between the headers that is not zero ends; `from` where there is none.
    pub(crate) fn used_until(&self, from: u64) -> io::Result<u64> {
        let mut buffer = self.buffer_for(from);
        let (mut at, mut until) = (from, from);
        while at < self.end() {
            let len = to_usize((self.end() - at).min(buffer.len() as u64));
            read_exact(self.file.as_ref(), at, &mut buffer[..len])?;
            let used = used_len(&buffer[..len]);
            if used > 0 {
                until = at + used as u64;
            }
            at += len as u64;
        }
        Ok(until)
    }

    /// The first byte between the headers that is not zero, from `offset` on.
    pub(crate) fn first_dirty(&self, offset: u64) -> io::Result<Option<u64>> {
        let mut buffer = self.buffer_for(offset);
        let mut at = offset;
        while at < self.end() {
            let len = to_usize((self.end() - at).min(buffer.len() as u64));
            read_exact(self.file.as_ref(), at, &mut buffer[..len])?;
            if !is_zero(&buffer[..len]) {
                let dirty = buffer.iter().position(|byte| *byte != 0);
                return Ok(dirty.map(|within| at + within as u64));
            }
            at += len as u64;
        }
        Ok(None)
    }
}

/// Reads all of `buffer` or says where the file ended.
pub(crate) fn read_exact(file: &dyn StorageFile, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let found = file.read_at(offset, buffer)?;
    if found == buffer.len() {
        return Ok(());
    }
    let detail = format!("{} bytes expected at byte {offset}, {found} found", buffer.len());
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, detail))
}

/// Writes zeros; the caller flushes.
pub(crate) fn write_zeros(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; to_usize((to - from).min(FILL_BYTES as u64))];
    let mut at = from;
    while at < to {
        let len = to_usize((to - at).min(zeros.len() as u64));
        file.write_at(at, &zeros[..len])?;
        at += len as u64;
    }
    Ok(())
}

/// Why a segment could not be prepared.
#[derive(Debug)]
pub(crate) enum PrepareFault {
    /// There is no room for it; nothing is left behind and it may be tried again.
    Full { needed_bytes: u64, free_bytes: u64 },
    /// The disk failed; whether the segment exists is not known.
    Io(io::Error),
    /// Nobody needs it any more; nothing is left behind.
    Stopped,
}

/// Prepares a segment: filled with zeros, flushed, and only then given its name. `needed` is asked
/// now and then whether to go on.
///
/// Crash windows: until the rename there is only a temporary file, which recovery removes; until
/// the directory is synced the name may be lost, and nothing has been written to the segment yet.
pub(crate) fn prepare(
    disk: &dyn Storage,
    header: &SegmentHeader,
    needed: &dyn Fn() -> bool,
) -> Result<Box<dyn StorageFile>, PrepareFault> {
    let needed_bytes = header.len;
    let free_bytes = disk.free_bytes().map_err(PrepareFault::Io)?;
    if free_bytes < needed_bytes {
        return Err(PrepareFault::Full { needed_bytes, free_bytes });
    }
    let path = segment_path(header.seq);
    let temporary = format!("{path}{TEMPORARY}");
    // The space goes back; where even that fails, the next start removes the file.
    let give_back = || {
        let removed = disk.remove(&temporary).and_then(|()| disk.sync_dir(LOG_DIR));
        if let Err(error) = removed {
            tracing::warn!(%error, file = temporary, "could not remove an unfinished segment");
        }
    };
    let file = match fill(disk, header, &temporary, needed) {
        Ok(Some(file)) => file,
        Ok(None) => {
            give_back();
            return Err(PrepareFault::Stopped);
        }
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            give_back();
            let free_bytes = disk.free_bytes().map_err(PrepareFault::Io)?;
            return Err(PrepareFault::Full { needed_bytes, free_bytes });
        }
        Err(error) => return Err(PrepareFault::Io(error)),
    };
    disk.rename(&temporary, &path).map_err(PrepareFault::Io)?;
    disk.sync_dir(LOG_DIR).map_err(PrepareFault::Io)?;
    Ok(file)
}

fn fill(
    disk: &dyn Storage,
    header: &SegmentHeader,
    temporary: &str,
    needed: &dyn Fn() -> bool,
) -> io::Result<Option<Box<dyn StorageFile>>> {
    let file = match disk.open(temporary, Open::Create) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(temporary)?;
            disk.open(temporary, Open::Create)?
        }
        result => result?,
    };
    let block = header.encode();
    file.write_at(0, &block)?;
    let end = header.len - BLOCK_U64;
    let mut at = BLOCK_U64;
    while at < end {
        if !needed() {
            return Ok(None);
        }
        let until = end.min(at + FILL_BYTES as u64);
        write_zeros(file.as_ref(), at, until)?;
        at = until;
    }
    file.write_at(end, &block)?;
    file.flush()?;
    Ok(Some(file))
}

/// The numbers of the segments in the log's directory, ascending; temporary files apart.
pub(crate) fn list(disk: &dyn Storage) -> io::Result<Vec<u64>> {
    let mut found: Vec<u64> =
        disk.list(LOG_DIR)?.iter().filter_map(|name| parse_segment_name(name)).collect();
    found.sort_unstable();
    Ok(found)
}
