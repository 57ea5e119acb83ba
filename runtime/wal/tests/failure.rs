//! Disks that fill up and fail.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{SEGMENT_BYTES, Told, batch, check_history, history, open, verify};
use hb_disk::{CrashChoice, SimulatedDisk};
use hb_wal::{AppendError, OpenError, Options, Wal};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_full_disk_refuses_new_records_keeps_the_old_and_goes_on_when_there_is_room() {
    let mut full_somewhere = 0;
    for capacity in (0..2_000_000).step_by(7_000) {
        let disk = SimulatedDisk::new();
        disk.set_capacity(Some(capacity));
        let mut told = Told::default();
        let (wal, _) = match open(&disk) {
            Ok(opened) => opened,
            Err(OpenError::Full { needed_bytes, .. }) => {
                assert_eq!(needed_bytes, SEGMENT_BYTES);
                disk.set_capacity(None);
                open(&disk).unwrap()
            }
            // The mark itself found no room.
            Err(OpenError::Io { source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
                disk.set_capacity(None);
                open(&disk).unwrap()
            }
            Err(error) => panic!("{capacity}: {error}"),
        };
        for _ in 0..60 {
            let first = told.attempted + 1;
            match wal.append_wait(&batch(first, 3)) {
                Ok(last) => {
                    told.attempted = last;
                    told.acked = last;
                    told.batch_ends.insert(last);
                }
                Err(AppendError::Full { needed_bytes, free_bytes }) => {
                    full_somewhere += 1;
                    assert!(needed_bytes == SEGMENT_BYTES && free_bytes < needed_bytes);
                    // The reserve is for what must be recorded all the same.
                    let last = wal.append_reserved_wait(&batch(first, 1)).unwrap();
                    told.attempted = last;
                    told.acked = last;
                    told.batch_ends.insert(last);
                    disk.set_capacity(None);
                    told.append_wait(&wal, 2).unwrap();
                }
                Err(error) => panic!("{capacity}: {error}"),
            }
        }
        drop(wal);
        disk.set_capacity(None);
        verify(&disk, &told).unwrap_or_else(|what| panic!("capacity {capacity}: {what}"));
    }
    assert!(full_somewhere > 5, "{full_somewhere}");
}

#[test]
fn a_disk_that_stays_full_uses_up_the_reserve_and_no_more() {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    disk.set_capacity(Some(0));
    let mut told = Told::default();
    while told.append_wait(&wal, 2).is_some() {}
    told.attempted = told.acked;
    let mut reserved = 0;
    while let Ok(last) = wal.append_reserved_wait(&batch(told.acked + 1, 1)) {
        reserved += 1;
        (told.acked, told.attempted) = (last, last);
        told.batch_ends.insert(last);
    }
    // 8 KiB of reserve: two frames of one block, or one of two.
    assert!((1..=2).contains(&reserved), "{reserved}");
    let error = wal.append_reserved_wait(&batch(told.acked + 1, 1)).unwrap_err();
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    assert!(wal.stats().full.is_some() && wal.stats().poisoned.is_none());
    drop(wal);
    // A full disk is no reason not to open.
    let (_wal, recovery) = open(&disk).unwrap();
    check_history(&recovery, &told).unwrap();
}

/// `errno` at every operation: what was acknowledged is found after the process dies, and after
/// power is lost too.
fn fail_everywhere(errno: i32) {
    let whole = SimulatedDisk::new();
    history(&whole, &mut Told::default()).unwrap();
    for at in 1..=whole.operations() {
        let disk = SimulatedDisk::new();
        disk.set_seed(at);
        disk.fail_at(at, errno);
        let mut told = Told::default();
        history(&disk, &mut told);
        for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seeded(at)] {
            let left = disk.crash_image(choice);
            if let Err(what) = verify(&left, &told) {
                panic!("operation {at} failed with {errno}, then {choice:?}: {what}");
            }
        }
        if let Err(what) = verify(&disk, &told) {
            panic!("operation {at} failed with {errno}, opened again: {what}");
        }
    }
}

#[test]
fn an_input_output_error_at_any_operation_loses_nothing_acknowledged() {
    fail_everywhere(EIO);
}

#[test]
fn a_full_disk_at_any_operation_loses_nothing_acknowledged() {
    fail_everywhere(ENOSPC);
}

#[test]
fn after_a_failed_write_or_flush_nothing_is_acknowledged_until_reopened() {
    let probe = SimulatedDisk::new();
    let (wal, _) = open(&probe).unwrap();
    wal.append_wait(&batch(1, 1)).unwrap();
    let before = probe.operations();
    wal.append_wait(&batch(2, 1)).unwrap();
    let operations = probe.operation_log()[usize::try_from(before).unwrap()..].to_vec();
    assert_eq!(operations.len(), 3, "write, flush, mark: {operations:?}");
    for failing in 1..=3 {
        let disk = SimulatedDisk::new();
        let (wal, _) = open(&disk).unwrap();
        wal.append_wait(&batch(1, 1)).unwrap();
        disk.fail_at(before + failing, EIO);
        let staged = wal.append(&batch(2, 1)).unwrap();
        let error = staged.wait().unwrap_err();
        assert!(
            matches!(error, AppendError::Unknown { first_lsn: 2, last_lsn: 2, .. }),
            "{failing}: {error}"
        );
        let operations = disk.operations();
        for _ in 0..3 {
            let error = wal.append_wait(&batch(3, 1)).unwrap_err();
            assert!(matches!(error, AppendError::Poisoned { .. }), "{failing}: {error}");
        }
        assert!(matches!(staged.wait(), Err(AppendError::Unknown { .. })));
        assert!(matches!(wal.snapshot(1, b"s"), Err(hb_wal::SnapshotError::Log(_))));
        assert!(wal.settle().is_err() && wal.close().is_err());
        assert_eq!(disk.operations(), operations, "nothing is written or flushed again");
        assert_eq!(wal.durable_lsn(), 1);
        assert!(wal.stats().poisoned.is_some());
        drop(wal);
        let (wal, recovery) = open(&disk).unwrap();
        assert!((1..=2).contains(&recovery.last_lsn));
        wal.append_wait(&batch(recovery.last_lsn + 1, 1)).unwrap();
    }
}

#[test]
fn batches_that_cannot_be_are_refused_before_they_are_staged() {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    assert_eq!(wal.append_wait(&[]), Err(AppendError::Empty));
    let mut large = common::record(1);
    large.payload = vec![1; 12 << 10];
    let error = wal.append_wait(&[large]).unwrap_err();
    assert_eq!(error, AppendError::TooLarge { bytes: 12320, limit_bytes: 12288 });
    assert_eq!(wal.append_wait(&batch(1, 1)), Ok(1));
    wal.close().unwrap();
    assert_eq!(wal.append_wait(&batch(2, 1)), Err(AppendError::Closed));
    wal.close().unwrap();
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let disk = SimulatedDisk::new();
    for options in [
        Options { segment_bytes: 5000, ..common::options() },
        Options { segment_bytes: 8192, ..common::options() },
        Options { spare_segments: 0, ..common::options() },
        Options { max_frame_bytes: 0, ..common::options() },
    ] {
        let error = Wal::open(Arc::new(disk.clone()), options).unwrap_err();
        assert!(matches!(error, OpenError::Options(_)), "{error}");
    }
    assert_eq!(disk.operations(), 0);
}

#[test]
fn snapshots_ahead_of_the_log_or_behind_the_newest_are_refused() {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    wal.append_wait(&batch(1, 4)).unwrap();
    assert!(matches!(wal.snapshot(5, b""), Err(hb_wal::SnapshotError::Ahead { .. })));
    wal.snapshot(3, &common::state(3)).unwrap();
    assert!(matches!(wal.snapshot(3, b""), Err(hb_wal::SnapshotError::NotNewer { .. })));
    drop(wal);
    let (_wal, recovery) = open(&disk).unwrap();
    let snapshot = recovery.snapshot.as_ref().unwrap();
    assert_eq!((snapshot.lsn, snapshot.state.as_slice()), (3, &common::state(3)[..]));
    assert_eq!(snapshot.state.as_ptr().addr() % 16, 0);
    let mut seen = Vec::new();
    recovery
        .replay(|record| {
            seen.push(record.lsn);
            Ok::<(), std::fmt::Error>(())
        })
        .unwrap();
    assert_eq!(seen, [4]);
}

#[test]
fn snapshots_let_go_of_segments_and_the_log_stays_bounded() {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    let mut told = Told::default();
    for round in 0..40 {
        for _ in 0..6 {
            told.append_wait(&wal, 3).unwrap();
        }
        wal.snapshot(told.acked, &common::state(told.acked)).unwrap();
        let stats = wal.stats();
        assert!(stats.segments <= 4, "round {round}: {stats:?}");
        assert_eq!(stats.snapshot_lsn, Some(told.acked));
    }
    drop(wal);
    let files = disk.contents();
    assert!(!files.contains_key("wal/000001.seg"));
    assert_eq!(files.keys().filter(|file| file.starts_with("wal/snap/")).count(), 2);
    verify(&disk, &told).unwrap();
}

/// Segments that were made for smaller frames are used up to their end, and never for a frame
/// that they cannot hold.
#[test]
fn a_log_goes_on_with_larger_frames_than_its_segments_were_made_for() {
    let disk = SimulatedDisk::new();
    let small = Options {
        segment_bytes: 16 << 10,
        max_frame_bytes: 3500,
        reserve_bytes: 4 << 10,
        background: true,
        ..common::options()
    };
    let (wal, _) = Wal::open(Arc::new(disk.clone()), small).unwrap();
    let mut told = Told::default();
    told.append_wait(&wal, 2).unwrap();
    while wal.stats().spares == 0 {
        std::thread::yield_now();
    }
    drop(wal);
    let (wal, recovery) = open(&disk).unwrap();
    check_history(&recovery, &told).unwrap();
    for _ in 0..20 {
        told.append_wait(&wal, 14).unwrap();
    }
    drop(wal);
    verify(&disk, &told).unwrap();
}
