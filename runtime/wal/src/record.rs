//! One record inside a frame.
//!
//! Owns: the 32-byte record header and the walk over the records of a frame's body.
//! Knows nothing of: what a payload means, files.
//!
//! Invariants: records start at multiples of 16 bytes and so do their payloads; a payload that
//! was read is aligned to 16 bytes in memory, as rkyv needs it.

use crate::Lsn;
use crate::layout::{array, crc32c, put, put_u32, put_u64, to_u32, u16_at, u32_at, u64_at};

/// Bytes before a payload.
pub(crate) const RECORD_HEADER: usize = 32;
/// What records and payloads are aligned to, in bytes.
pub const PAYLOAD_ALIGN: usize = 16;

/// What a caller appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the payload is; the caller's vocabulary, whose numbers are never reused.
    pub kind: u16,
    /// The version of the payload's layout.
    pub schema: u16,
    /// Opaque bytes.
    pub payload: Vec<u8>,
}

/// A record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its position.
    pub lsn: Lsn,
    /// What the payload is.
    pub kind: u16,
    /// The version of the payload's layout.
    pub schema: u16,
    /// The bytes, aligned to 16.
    pub payload: &'a [u8],
}

impl Record {
    /// The bytes that this record takes in a frame.
    pub(crate) fn encoded_len(&self) -> usize {
        RECORD_HEADER + self.payload.len().next_multiple_of(PAYLOAD_ALIGN)
    }

    /// Appends the record to the body of a frame.
    pub(crate) fn encode(&self, lsn: Lsn, body: &mut Vec<u8>) {
        let start = body.len();
        let mut header = [0; RECORD_HEADER];
        put_u32(&mut header, 0, to_u32(self.payload.len()));
        put_u64(&mut header, 8, lsn);
        put(&mut header, 16, &self.kind.to_le_bytes());
        put(&mut header, 18, &self.schema.to_le_bytes());
        body.extend_from_slice(&header);
        body.extend_from_slice(&self.payload);
        let crc = crc32c(&body[start + 8..]);
        put_u32(&mut body[start..], 4, crc);
        body.resize(start + self.encoded_len(), 0);
    }
}

/// Why a body does not hold the records that its frame claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRecord {
    /// Bytes from the start of the body.
    pub(crate) at: usize,
    pub(crate) lsn: Lsn,
    pub(crate) detail: String,
}

/// Visits the records of a body that a frame says to hold `count` records from `first_lsn` on.
pub(crate) fn decode<'a>(
    body: &'a [u8],
    first_lsn: Lsn,
    count: u32,
    mut visit: impl FnMut(RecordRef<'a>),
) -> Result<(), BadRecord> {
    let mut at = 0;
    for lsn in first_lsn..first_lsn + u64::from(count) {
        let bad = |detail: String| BadRecord { at, lsn, detail };
        let rest = &body[at..];
        if rest.len() < RECORD_HEADER {
            return Err(bad(format!("a record header expected, {} bytes left", rest.len())));
        }
        let len = u32_at(rest, 0) as usize;
        let padded = len.next_multiple_of(PAYLOAD_ALIGN);
        if rest.len() - RECORD_HEADER < padded {
            return Err(bad(format!("a payload of {len} bytes leaves the frame")));
        }
        let expected = u32_at(rest, 4);
        let found = crc32c(&rest[8..RECORD_HEADER + len]);
        if expected != found {
            return Err(bad(format!("checksum {expected:08x} expected, {found:08x} found")));
        }
        if u64_at(rest, 8) != lsn {
            return Err(bad(format!("LSN {lsn} expected, {} found", u64_at(rest, 8))));
        }
        let unused: [u8; 12] = array(rest, 20);
        let padding = &rest[RECORD_HEADER + len..RECORD_HEADER + padded];
        if unused != [0; 12] || padding.iter().any(|byte| *byte != 0) {
            return Err(bad("unused bytes are not zero".to_owned()));
        }
        let payload = &rest[RECORD_HEADER..RECORD_HEADER + len];
        visit(RecordRef { lsn, kind: u16_at(rest, 16), schema: u16_at(rest, 18), payload });
        at += RECORD_HEADER + padded;
    }
    if at == body.len() {
        return Ok(());
    }
    let lsn = first_lsn + u64::from(count);
    Err(BadRecord { at, lsn, detail: format!("{} bytes after the last record", body.len() - at) })
}
