//! A scripted history whose every record can be checked, and what a recovered log must hold.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeSet;
use std::sync::Arc;

use hb_disk::SimulatedDisk;
use hb_wal::{Lsn, OpenError, Options, Record, Wal};

pub const SEGMENT_BYTES: u64 = 48 << 10;

/// Small segments, no threads, a clock that stands still: the same calls give the same bytes.
pub fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        max_frame_bytes: 12 << 10,
        reserve_bytes: 8 << 10,
        background: false,
        seed: Some(1),
        clock_ns: || 1_700_000_000_000_000_000,
        ..Options::default()
    }
}

pub fn open(disk: &SimulatedDisk) -> Result<(Wal, hb_wal::Recovery), OpenError> {
    Wal::open(Arc::new(disk.clone()), options())
}

/// The paths of the segments, ascending.
pub fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let names = hb_disk::Storage::list(disk, "wal").unwrap();
    let segment = |name: &String| name.strip_suffix(".seg").is_some();
    names.into_iter().filter(segment).map(|name| format!("wal/{name}")).collect()
}

/// The record that the history has at `lsn`: runs of zeros, odd lengths, now and then a large one.
pub fn record(lsn: Lsn) -> Record {
    let len = if lsn.is_multiple_of(7) { 2500 } else { lsn * 131 % 400 };
    let byte = |at: u64| if at / 200 % 3 == 1 { 0 } else { (lsn * 31 + at).to_le_bytes()[0] };
    let kind = u16::try_from(lsn % 5).unwrap();
    Record { kind, schema: 1, payload: (0..len).map(byte).collect() }
}

pub fn batch(first: Lsn, count: u64) -> Vec<Record> {
    (first..first + count).map(record).collect()
}

/// The state that a snapshot at `lsn` holds.
pub fn state(lsn: Lsn) -> Vec<u8> {
    (0..700 + lsn * 3).map(|at| (at * lsn % 251).to_le_bytes()[0]).collect()
}

/// What a run of the history may and must have left.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The last LSN that was acknowledged.
    pub acked: Lsn,
    /// The last LSN that was staged or about to be.
    pub attempted: Lsn,
    /// Where batches end; a recovered log ends with one of them.
    pub batch_ends: BTreeSet<Lsn>,
}

impl Told {
    fn stage(&mut self, count: u64) -> Lsn {
        let first = self.attempted + 1;
        self.attempted += count;
        self.batch_ends.insert(self.attempted);
        first
    }

    pub fn append_wait(&mut self, wal: &Wal, count: u64) -> Option<()> {
        let first = self.stage(count);
        let last = wal.append_wait(&batch(first, count)).ok()?;
        assert_eq!(last, first + count - 1);
        self.acked = last;
        Some(())
    }

    pub fn append(&mut self, wal: &Wal, count: u64) -> Option<()> {
        let first = self.stage(count);
        let ticket = wal.append(&batch(first, count)).ok()?;
        assert_eq!((ticket.first_lsn, ticket.last_lsn), (first, first + count - 1));
        Some(())
    }

    pub fn settle(&mut self, wal: &Wal) -> Option<()> {
        wal.settle().ok()?;
        self.acked = wal.durable_lsn();
        Some(())
    }

    /// After a failure, records that were staged may still have been acknowledged to a waiter.
    pub fn note(&mut self, wal: &Wal) {
        self.acked = self.acked.max(wal.durable_lsn());
    }
}

/// The scripted history: commits of one and of several batches, seals, segment changes,
/// snapshots, removal of segments, closing and opening again. Ends at the first error.
pub fn history(disk: &SimulatedDisk, told: &mut Told) -> Option<()> {
    let (wal, _) = open(disk).ok()?;
    let done = first_life(&wal, told);
    told.note(&wal);
    done?;
    wal.close().ok()?;
    drop(wal);
    let (wal, recovery) = open(disk).ok()?;
    assert_eq!(recovery.last_lsn, told.acked);
    let done = second_life(&wal, told);
    told.note(&wal);
    done?;
    wal.close().ok()
}

fn first_life(wal: &Wal, told: &mut Told) -> Option<()> {
    told.append_wait(wal, 1)?;
    told.append_wait(wal, 3)?;
    told.append(wal, 2)?;
    told.append(wal, 1)?;
    told.settle(wal)?;
    for _ in 0..6 {
        told.append_wait(wal, 2)?;
        told.append(wal, 1)?;
        told.append_wait(wal, 2)?;
    }
    wal.snapshot(10, &state(10)).ok()?;
    told.append_wait(wal, 7)?;
    wal.snapshot(told.acked - 1, &state(told.acked - 1)).ok()?;
    told.append_wait(wal, 1)
}

fn second_life(wal: &Wal, told: &mut Told) -> Option<()> {
    for _ in 0..4 {
        told.append_wait(wal, 4)?;
        told.append_wait(wal, 1)?;
    }
    told.settle(wal)?;
    wal.snapshot(told.acked, &state(told.acked)).ok()?;
    told.append_wait(wal, 2)?;
    told.append_wait(wal, 5)?;
    wal.snapshot(told.acked, &state(told.acked)).ok()?;
    told.append_wait(wal, 1)
}

/// Opens what is left and compares it with what was told; says what is wrong.
pub fn verify(disk: &SimulatedDisk, told: &Told) -> Result<Lsn, String> {
    let (wal, recovery) = open(disk).map_err(|error| format!("refused: {error}"))?;
    let last = recovery.last_lsn;
    check_history(&recovery, told)?;
    // It goes on from there, and what it goes on with is found again.
    let more = wal.append_wait(&batch(last + 1, 2)).map_err(|error| format!("append: {error}"))?;
    drop(wal);
    let (_wal, recovery) = open(disk).map_err(|error| format!("refused after append: {error}"))?;
    if recovery.last_lsn != more {
        return Err(format!("LSN {more} appended, {} found", recovery.last_lsn));
    }
    Ok(last)
}

pub fn check_history(recovery: &hb_wal::Recovery, told: &Told) -> Result<(), String> {
    let last = recovery.last_lsn;
    if last < told.acked {
        return Err(format!("acknowledged up to {}, found up to {last}", told.acked));
    }
    if last > told.attempted || (last > 0 && !told.batch_ends.contains(&last)) {
        return Err(format!("ends at {last}, which is not the end of a batch that was appended"));
    }
    let mut next = 1;
    if let Some(snapshot) = &recovery.snapshot {
        if snapshot.state.as_slice() != state(snapshot.lsn) {
            return Err(format!("the snapshot at {} holds something else", snapshot.lsn));
        }
        next = snapshot.lsn + 1;
    }
    recovery
        .replay(|found| {
            let expected = record(next);
            let same = (found.lsn, found.kind, found.schema, found.payload)
                == (next, expected.kind, expected.schema, &expected.payload[..]);
            let aligned = found.payload.as_ptr().addr().is_multiple_of(16);
            next += 1;
            if same && aligned { Ok(()) } else { Err(std::fmt::Error) }
        })
        .map_err(|error| format!("replay: {error}"))?;
    if next == last + 1 { Ok(()) } else { Err(format!("replay ended before {next} of {last}")) }
}
