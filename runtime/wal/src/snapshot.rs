//! Snapshots of the caller's state.
//!
//! Owns: the snapshot file, finding the newest that verifies, which ones are kept.
//! Knows nothing of: what the state is, segments.
//!
//! Invariants: a file with a snapshot's name is complete and was flushed before it got the name;
//! every byte is covered by a checksum or the hash of the state; two are kept, so one that rots
//! costs time and not data.

use std::io;

use hb_disk::{Open, Storage};
use rkyv::util::AlignedVec;

use crate::Lsn;
use crate::layout::{
    FORMAT, LogId, SECTOR, SNAPSHOT_DIR, TEMPORARY, array, crc32c, is_zero, parse_snapshot_name,
    put, put_u32, put_u64, snapshot_path, to_usize, u32_at, u64_at,
};
use crate::segment::read_exact;

const MAGIC: &[u8; 8] = b"HBSNAP01";
const CRC_AT: usize = SECTOR - 4;
/// How many are kept.
pub(crate) const KEPT: usize = 2;

/// The state as of one position.
#[derive(Debug)]
pub struct Snapshot {
    /// The last record that the state contains.
    pub lsn: Lsn,
    /// The bytes that the caller gave, aligned to 16.
    pub state: AlignedVec<16>,
}

fn header(id: &LogId, lsn: Lsn, state: &[u8], created_ns: u64) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    put(&mut sector, 0, MAGIC);
    put_u32(&mut sector, 8, FORMAT);
    put(&mut sector, 16, &id.uuid);
    put_u64(&mut sector, 32, lsn);
    put_u64(&mut sector, 40, state.len() as u64);
    put_u64(&mut sector, 48, created_ns);
    put(&mut sector, 64, blake3::hash(state).as_bytes());
    let crc = crc32c(&sector[..CRC_AT]);
    put_u32(&mut sector, CRC_AT, crc);
    sector
}

/// Writes a snapshot; on return it is durable.
pub(crate) fn write(
    disk: &dyn Storage,
    id: &LogId,
    lsn: Lsn,
    state: &[u8],
    created_ns: u64,
) -> io::Result<()> {
    let path = snapshot_path(lsn);
    let temporary = format!("{path}{TEMPORARY}");
    let file = match disk.open(&temporary, Open::Create) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove(&temporary)?;
            disk.open(&temporary, Open::Create)?
        }
        result => result?,
    };
    file.write_at(0, &header(id, lsn, state, created_ns))?;
    file.write_at(SECTOR as u64, state)?;
    file.flush()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(SNAPSHOT_DIR)
}

/// The positions of the snapshots, ascending.
pub(crate) fn list(disk: &dyn Storage) -> io::Result<Vec<Lsn>> {
    let mut found: Vec<Lsn> =
        disk.list(SNAPSHOT_DIR)?.iter().filter_map(|name| parse_snapshot_name(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// Reads one snapshot; the inner error says why it does not verify.
pub(crate) fn read(
    disk: &dyn Storage,
    id: Option<&LogId>,
    lsn: Lsn,
) -> io::Result<Result<Snapshot, String>> {
    let file = disk.open(&snapshot_path(lsn), Open::Read)?;
    let len = file.len()?;
    if len < SECTOR as u64 {
        return Ok(Err(format!("the file has only {len} bytes")));
    }
    let mut sector = [0; SECTOR];
    read_exact(file.as_ref(), 0, &mut sector)?;
    let (expected, found) = (u32_at(&sector, CRC_AT), crc32c(&sector[..CRC_AT]));
    if expected != found {
        return Ok(Err(format!("header: checksum {expected:08x} expected, {found:08x} found")));
    }
    if sector[..8] != *MAGIC || u32_at(&sector, 8) != FORMAT || !is_zero(&sector[96..CRC_AT]) {
        return Ok(Err("not a snapshot of this format".to_owned()));
    }
    if id.is_some_and(|id| id.uuid != array::<16>(&sector, 16)) {
        return Ok(Err("it belongs to another log".to_owned()));
    }
    if u64_at(&sector, 32) != lsn {
        return Ok(Err(format!("LSN {lsn} expected, {} found", u64_at(&sector, 32))));
    }
    let state_len = u64_at(&sector, 40);
    if len - SECTOR as u64 != state_len {
        let found = len - SECTOR as u64;
        return Ok(Err(format!("a state of {state_len} bytes expected, {found} found")));
    }
    let mut state = AlignedVec::new();
    state.resize(to_usize(state_len), 0);
    read_exact(file.as_ref(), SECTOR as u64, &mut state)?;
    if blake3::hash(&state).as_bytes() != &array::<32>(&sector, 64) {
        return Ok(Err("the hash of the state is not the one in the header".to_owned()));
    }
    Ok(Ok(Snapshot { lsn, state }))
}
