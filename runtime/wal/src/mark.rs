//! The high-water mark: what was acknowledged, kept apart from the log.
//!
//! Owns: the two slots of the mark's file, reading and writing them.
//! Knows nothing of: segments, recovery's decisions.
//!
//! Invariants: slots are written in turn, so a torn write leaves the other; a mark is written
//! after the flush of the frame that it names and before anyone is told, so it is never ahead of
//! a healthy log and, unless power is lost, never behind what was acknowledged.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use hb_disk::{Open, Storage, StorageFile};

use crate::Lsn;
use crate::layout::{
    BLOCK, BLOCK_U64, FORMAT, Link, LogId, MARK_DIR, MARK_FILE, TEMPORARY, array, crc32c, is_zero,
    put, put_u32, put_u64, u32_at, u64_at,
};

const MAGIC: &[u8; 8] = b"HBMARK01";
/// The content stands in one sector, the slots in blocks of their own.
const CRC_AT: usize = 508;
const SLOTS: u64 = 2;

/// How far the log was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) id: LogId,
    pub(crate) acked_lsn: Lsn,
    pub(crate) frame_seq: u64,
    pub(crate) link: Link,
}

fn encode(mark: &Mark, generation: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    put(&mut block, 0, MAGIC);
    put_u32(&mut block, 8, FORMAT);
    put_u64(&mut block, 16, generation);
    put(&mut block, 24, &mark.id.uuid);
    put(&mut block, 40, &mark.id.salt);
    put_u64(&mut block, 72, mark.acked_lsn);
    put_u64(&mut block, 80, mark.frame_seq);
    put(&mut block, 88, &mark.link);
    let crc = crc32c(&block[..CRC_AT]);
    put_u32(&mut block, CRC_AT, crc);
    block
}

/// A slot's generation and mark, `None` where it does not verify.
fn decode(block: &[u8]) -> Option<(u64, Mark)> {
    let whole = u32_at(block, CRC_AT) == crc32c(&block[..CRC_AT])
        && is_zero(&block[CRC_AT + 4..])
        && block[..8] == *MAGIC
        && u32_at(block, 8) == FORMAT;
    whole.then(|| {
        let id = LogId { uuid: array(block, 24), salt: array(block, 40) };
        let mark = Mark {
            id,
            acked_lsn: u64_at(block, 72),
            frame_seq: u64_at(block, 80),
            link: array(block, 88),
        };
        (u64_at(block, 16), mark)
    })
}

/// What the mark's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MarkState {
    Missing,
    /// Neither slot verifies; the text says why.
    Damaged(String),
    Found {
        mark: Mark,
        generation: u64,
        /// The other slot does not verify and is written anew.
        other_damaged: bool,
    },
}

/// Reads the mark and changes nothing.
pub(crate) fn read(disk: &dyn Storage) -> io::Result<MarkState> {
    let file = match disk.open(MARK_FILE, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(MarkState::Missing),
        result => result?,
    };
    let mut bytes = vec![0; BLOCK * 3];
    let len = file.read_at(0, &mut bytes)?;
    if len as u64 > SLOTS * BLOCK_U64 {
        let detail = format!("{} bytes expected, more found", SLOTS * BLOCK_U64);
        return Ok(MarkState::Damaged(detail));
    }
    let slots: Vec<Option<(u64, Mark)>> = bytes[..BLOCK * 2].chunks(BLOCK).map(decode).collect();
    // A short file is told apart from a damaged slot only by its length; its slots still serve.
    let short = (len as u64) < SLOTS * BLOCK_U64;
    let valid = slots.iter().flatten().count();
    let newest = slots.into_iter().flatten().max_by_key(|(generation, _)| *generation);
    Ok(match newest {
        Some((generation, mark)) => {
            MarkState::Found { mark, generation, other_damaged: valid < 2 || short }
        }
        None => MarkState::Damaged(format!("neither of its two slots verifies ({len} bytes)")),
    })
}

/// The open mark.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: Box<dyn StorageFile>,
    generation: AtomicU64,
}

impl MarkFile {
    /// Makes the mark's file, replacing what has its name.
    ///
    /// Crash windows: the file is complete and flushed before it gets its name, and its name is
    /// durable before anything relies on it.
    pub(crate) fn create(disk: &dyn Storage, mark: &Mark) -> io::Result<Self> {
        let temporary = format!("{MARK_FILE}{TEMPORARY}");
        let file = match disk.open(&temporary, Open::Create) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&temporary)?;
                disk.open(&temporary, Open::Create)?
            }
            result => result?,
        };
        let mut bytes = encode(mark, 1);
        bytes.extend_from_slice(&encode(mark, 2));
        file.write_at(0, &bytes)?;
        file.flush()?;
        disk.rename(&temporary, MARK_FILE)?;
        disk.sync_dir(MARK_DIR)?;
        Ok(Self { file, generation: AtomicU64::new(2) })
    }

    pub(crate) fn open(disk: &dyn Storage, generation: u64) -> io::Result<Self> {
        let file = disk.open(MARK_FILE, Open::Write)?;
        Ok(Self { file, generation: AtomicU64::new(generation) })
    }

    /// Writes the next slot without a flush: enough for the death of the process. Only the one
    /// writer of frames calls this.
    pub(crate) fn write(&self, mark: &Mark) -> io::Result<()> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let slot = (generation + 1) % SLOTS;
        self.file.write_at(slot * BLOCK_U64, &encode(mark, generation))
    }

    /// Makes what was written durable: enough for a loss of power.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }
}
