//! One frame: what one group commit writes.
//!
//! Owns: the frame header, the checksum of every 512-byte sector, the link of the chain, and the
//! judgement of which sectors of a frame are bad and whether they are zeros.
//! Knows nothing of: files, recovery's decisions, records inside.
//!
//! Invariants: a frame is whole 4 KiB blocks: a header sector, the body padded to sectors, table
//! sectors for what the header's table cannot hold, zeros. Every byte is covered: the header and
//! the tables by a checksum of their own, the body by the table and by the chain, the rest by
//! being zero. A header names its log, segment and offset, so a copy elsewhere is not valid.

use crate::Lsn;
use crate::layout::{
    BLOCK, Link, LogId, SECTOR, array, crc32c, is_zero, put, put_u32, put_u64, to_u32, to_u64,
    u32_at, u64_at,
};

const MAGIC: &[u8; 8] = b"HBFRAME1";
/// Where the header's own table of sector checksums starts.
const TABLE_AT: usize = 160;
/// Sectors whose checksums fit in the header.
const IN_HEADER: usize = (CRC_AT - TABLE_AT) / 4;
/// Sectors whose checksums fit in one table sector.
const IN_TABLE: usize = 126;
/// Where a table sector keeps its number.
const TABLE_NUMBER_AT: usize = 504;
/// Where the header's and a table sector's own checksum stands.
const CRC_AT: usize = SECTOR - 4;
/// How much of the header the chain covers; after it stand the links themselves.
const CHAINED: usize = 96;

/// Far beyond any log, and far from where sums would overflow.
const MAX_LSN: Lsn = 1 << 62;

/// Nothing but the claim that all before it is durable.
pub(crate) const FLAG_SEAL: u32 = 1;
/// The notice of a repair, see [`crate::repair`].
pub(crate) const FLAG_REPAIR: u32 = 2;

/// What a frame says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) frame_seq: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) count: u32,
    /// Everything up to this had been flushed when the frame was built.
    pub(crate) durable_lsn: Lsn,
    pub(crate) body_len: u32,
    pub(crate) flags: u32,
    pub(crate) time_ns: u64,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) previous: Link,
    pub(crate) link: Link,
}

/// Where the parts of a frame lie, from the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) data_sectors: usize,
    pub(crate) table_sectors: usize,
}

impl Geometry {
    pub(crate) fn new(body_len: usize) -> Self {
        let data_sectors = body_len.div_ceil(SECTOR);
        let table_sectors = data_sectors.saturating_sub(IN_HEADER).div_ceil(IN_TABLE);
        Self { data_sectors, table_sectors }
    }

    /// Bytes up to the zeros that fill the last block.
    fn used(self) -> usize {
        (1 + self.data_sectors + self.table_sectors) * SECTOR
    }

    /// The frame's length in bytes.
    pub(crate) fn len(self) -> usize {
        self.used().next_multiple_of(BLOCK)
    }
}

impl FrameHeader {
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry::new(self.body_len as usize)
    }

    /// The frame's length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.geometry().len()
    }

    /// The last record at or before the end of this frame.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.first_lsn + u64::from(self.count) - 1
    }

    pub(crate) fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn encode_chained(&self, id: &LogId, sector: &mut [u8]) {
        put(sector, 0, MAGIC);
        put_u64(sector, 8, self.frame_seq);
        put_u64(sector, 16, self.first_lsn);
        put_u32(sector, 24, self.count);
        put_u32(sector, 28, to_u32(self.len() / BLOCK));
        put_u64(sector, 32, self.durable_lsn);
        put_u32(sector, 40, self.body_len);
        put_u32(sector, 44, self.flags);
        put_u64(sector, 48, self.time_ns);
        put_u64(sector, 56, self.segment);
        put_u64(sector, 64, self.offset);
        put(sector, 72, &id.uuid);
    }
}

fn link(id: &LogId, previous: &Link, chained: &[u8], body: &[u8]) -> Link {
    let mut hasher = blake3::Hasher::new_keyed(&id.salt);
    hasher.update(previous);
    hasher.update(chained);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

/// Turns `buffer`, one free sector and a body after it, into a frame; returns its link. The
/// header's `body_len` and `link` are set here.
pub(crate) fn finish(buffer: &mut Vec<u8>, id: &LogId, header: &mut FrameHeader) -> Link {
    assert!(buffer.len() >= SECTOR, "a frame buffer starts with room for its header");
    let body_len = buffer.len() - SECTOR;
    header.body_len = to_u32(body_len);
    let geometry = header.geometry();
    let mut sector = [0; SECTOR];
    header.encode_chained(id, &mut sector);
    header.link = link(id, &header.previous, &sector[..CHAINED], &buffer[SECTOR..]);
    put(&mut sector, 96, &header.previous);
    put(&mut sector, 128, &header.link);
    buffer.resize((1 + geometry.data_sectors) * SECTOR, 0);
    for number in 0..geometry.table_sectors {
        let mut table = [0; SECTOR];
        let first = IN_HEADER + number * IN_TABLE;
        for index in first..geometry.data_sectors.min(first + IN_TABLE) {
            put_u32(&mut table, (index - first) * 4, crc32c(data_sector(buffer, index)));
        }
        put_u32(&mut table, TABLE_NUMBER_AT, to_u32(number));
        let crc = crc32c(&table[..CRC_AT]);
        put_u32(&mut table, CRC_AT, crc);
        buffer.extend_from_slice(&table);
    }
    for index in 0..geometry.data_sectors.min(IN_HEADER) {
        put_u32(&mut sector, TABLE_AT + index * 4, crc32c(data_sector(buffer, index)));
    }
    let crc = crc32c(&sector[..CRC_AT]);
    put_u32(&mut sector, CRC_AT, crc);
    buffer[..SECTOR].copy_from_slice(&sector);
    buffer.resize(geometry.len(), 0);
    header.link
}

fn data_sector(frame: &[u8], index: usize) -> &[u8] {
    &frame[(1 + index) * SECTOR..(2 + index) * SECTOR]
}

/// What stands where a frame could start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AtOffset {
    Zero,
    Valid(FrameHeader),
    Damaged(String),
}

/// Reads what stands at the start of a block of `segment`.
pub(crate) fn read_header(sector: &[u8], id: &LogId, segment: u64, offset: u64) -> AtOffset {
    let sector = &sector[..SECTOR];
    if is_zero(sector) {
        return AtOffset::Zero;
    }
    let (expected, found) = (u32_at(sector, CRC_AT), crc32c(&sector[..CRC_AT]));
    if expected != found {
        let detail = format!("checksum {expected:08x} expected, {found:08x} found");
        return AtOffset::Damaged(format!("frame header: {detail}"));
    }
    let header = FrameHeader {
        frame_seq: u64_at(sector, 8),
        first_lsn: u64_at(sector, 16),
        count: u32_at(sector, 24),
        durable_lsn: u64_at(sector, 32),
        body_len: u32_at(sector, 40),
        flags: u32_at(sector, 44),
        time_ns: u64_at(sector, 48),
        segment: u64_at(sector, 56),
        offset: u64_at(sector, 64),
        previous: array(sector, 96),
        link: array(sector, 128),
    };
    let problem = if sector[..8] != *MAGIC {
        "not a frame of this format"
    } else if array::<16>(sector, 72) != id.uuid {
        "a frame of another log"
    } else if (header.segment, header.offset) != (segment, offset) {
        "a frame that was written for another place"
    } else if u32_at(sector, 28) as usize * BLOCK != header.len()
        || header.first_lsn == 0
        || header.first_lsn > MAX_LSN
    {
        "lengths that contradict each other"
    } else {
        return AtOffset::Valid(header);
    };
    AtOffset::Damaged(format!("frame header: {problem}"))
}

/// A sector of a frame that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadSector {
    /// Bytes from the start of the frame.
    pub(crate) at: usize,
    /// It holds nothing but zeros, as before it was ever written.
    pub(crate) zero: bool,
    pub(crate) detail: String,
}

/// The sectors of `frame` that are bad; none for a frame that was written whole. Sectors whose
/// checksum stood in a table sector that is itself bad are not judged.
pub(crate) fn bad_sectors(frame: &[u8], header: &FrameHeader) -> Vec<BadSector> {
    let geometry = header.geometry();
    let mut bad = Vec::new();
    let mut judge = |at: usize, sector: &[u8], expected: u32, found: u32| {
        if expected != found {
            let detail = format!("checksum {expected:08x} expected, {found:08x} found");
            bad.push(BadSector { at, zero: is_zero(sector), detail });
        }
        expected == found
    };
    for index in 0..geometry.data_sectors.min(IN_HEADER) {
        let sector = data_sector(frame, index);
        let expected = u32_at(frame, TABLE_AT + index * 4);
        judge((1 + index) * SECTOR, sector, expected, crc32c(sector));
    }
    for number in 0..geometry.table_sectors {
        let at = (1 + geometry.data_sectors + number) * SECTOR;
        let table = &frame[at..at + SECTOR];
        // A table of zeros is bad too: CRC-32C of zeros is not zero. The number is compared so
        // that two tables cannot change places.
        let whole = judge(at, table, u32_at(table, CRC_AT), crc32c(&table[..CRC_AT]));
        if !whole || u32_at(table, TABLE_NUMBER_AT) as usize != number {
            if whole {
                judge(at, table, to_u32(number), u32_at(table, TABLE_NUMBER_AT));
            }
            continue;
        }
        let first = IN_HEADER + number * IN_TABLE;
        for index in first..geometry.data_sectors.min(first + IN_TABLE) {
            let sector = data_sector(frame, index);
            let expected = u32_at(table, (index - first) * 4);
            judge((1 + index) * SECTOR, sector, expected, crc32c(sector));
        }
    }
    for at in (geometry.used()..geometry.len()).step_by(SECTOR) {
        if !is_zero(&frame[at..at + SECTOR]) {
            let detail = "zeros expected after the end of the frame".to_owned();
            bad.push(BadSector { at, zero: false, detail });
        }
    }
    bad
}

/// The body of a frame.
pub(crate) fn body<'a>(frame: &'a [u8], header: &FrameHeader) -> &'a [u8] {
    &frame[SECTOR..SECTOR + header.body_len as usize]
}

/// Whether the frame's link follows from its content. The header's sector must be valid.
pub(crate) fn link_holds(frame: &[u8], id: &LogId, header: &FrameHeader) -> bool {
    link(id, &header.previous, &frame[..CHAINED], body(frame, header)) == header.link
}

/// The length of a frame with a body of so many bytes.
pub(crate) fn len_for_body(body_len: usize) -> u64 {
    to_u64(Geometry::new(body_len).len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
