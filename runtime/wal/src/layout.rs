//! Sizes, names and small codecs that the whole format shares.
//!
//! Owns: sector and block sizes, file names, the identity of a log, little-endian fields and
//! checksums. The byte tables stand in `docs/log-format.md`.
//! Knows nothing of: I/O, threads.

use crate::Lsn;

/// The unit of tearing and of checksums, in bytes.
pub(crate) const SECTOR: usize = 512;
/// The unit of writing, in bytes.
pub(crate) const BLOCK: usize = 4096;
/// [`BLOCK`] as a file offset.
pub(crate) const BLOCK_U64: u64 = BLOCK as u64;
/// The one version of the format.
pub(crate) const FORMAT: u32 = 1;

/// Holds the segments.
pub(crate) const LOG_DIR: &str = "wal";
/// Holds the snapshots.
pub(crate) const SNAPSHOT_DIR: &str = "wal/snap";
/// Holds the high-water mark, apart from the log: who loses or restores one keeps the other.
pub(crate) const MARK_DIR: &str = "mark";
/// The high-water mark.
pub(crate) const MARK_FILE: &str = "mark/high-water";
/// Ends the name of a file that is not complete; such a file means nothing.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A link of the chain.
pub(crate) type Link = [u8; 32];

/// Which log a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogId {
    pub(crate) uuid: [u8; 16],
    /// Keys the chain, so that nobody can prepare a forged tail without having read the log.
    pub(crate) salt: [u8; 32],
}

impl LogId {
    pub(crate) fn name(&self) -> String {
        uuid_text(&self.uuid)
    }
}

/// A log's uuid as people write it.
pub(crate) fn uuid_text(uuid: &[u8; 16]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

pub(crate) fn segment_name(seq: u64) -> String {
    format!("{seq:06}.seg")
}

pub(crate) fn segment_path(seq: u64) -> String {
    format!("{LOG_DIR}/{}", segment_name(seq))
}

pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let seq = name.strip_suffix(".seg")?.parse().ok()?;
    (segment_name(seq) == name).then_some(seq)
}

pub(crate) fn snapshot_name(lsn: Lsn) -> String {
    format!("{lsn:020}.snap")
}

pub(crate) fn snapshot_path(lsn: Lsn) -> String {
    format!("{SNAPSHOT_DIR}/{}", snapshot_name(lsn))
}

pub(crate) fn parse_snapshot_name(name: &str) -> Option<Lsn> {
    let lsn = name.strip_suffix(".snap")?.parse().ok()?;
    (snapshot_name(lsn) == name).then_some(lsn)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

pub(crate) fn put_u32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn array<const N: usize>(buffer: &[u8], at: usize) -> [u8; N] {
    buffer[at..at + N].try_into().expect("a slice of N bytes fills an array of N")
}

pub(crate) fn u16_at(buffer: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(buffer, at))
}

pub(crate) fn u32_at(buffer: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(buffer, at))
}

pub(crate) fn u64_at(buffer: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(buffer, at))
}

/// A length in memory as a file offset.
pub(crate) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("a length in memory fits in 64 bits")
}

/// A length that a bound has been checked for.
pub(crate) fn to_u32(value: usize) -> u32 {
    u32::try_from(value).expect("lengths are bounded far below 4 GiB")
}

/// A length of something that is held in memory.
pub(crate) fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("the length of a buffer fits in memory")
}

/// Whether all bytes are zero; by comparison with a zeroed block, which is one `memcmp`.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks(BLOCK).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// Where the last byte that is not zero ends.
pub(crate) fn used_len(bytes: &[u8]) -> usize {
    let mut dirty = bytes.chunks(BLOCK).enumerate().filter(|(_, chunk)| !is_zero(chunk));
    let Some((number, chunk)) = dirty.next_back() else { return 0 };
    let last = chunk.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    number * BLOCK + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_only_their_own_form_is() {
        assert_eq!(parse_segment_name(&segment_name(42)), Some(42));
        assert_eq!(parse_segment_name(&segment_name(12_345_678)), Some(12_345_678));
        assert_eq!(parse_snapshot_name(&snapshot_name(7)), Some(7));
        for name in ["42.seg", "000042.tmp", "+00042.seg", "000042.seg.tmp"] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn checksums_are_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn zeros_are_told_from_others() {
        let mut bytes = vec![0; 3 * BLOCK + 5];
        assert!(is_zero(&bytes));
        assert_eq!(used_len(&bytes), 0);
        bytes[BLOCK + 7] = 1;
        assert!(!is_zero(&bytes));
        assert_eq!(used_len(&bytes), BLOCK + 8);
    }
}
