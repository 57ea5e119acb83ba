//! A person gives up what follows a position.
#![allow(clippy::unwrap_used)]

mod common;

use common::{batch, open, options, segments};
use hb_disk::{CrashChoice, SimulatedDisk, Storage as _};
use hb_wal::{Lsn, Notice, ProblemKind, RepairError, check, repair};

/// Batches that end at 2, 5, 6 and 9 and so on, over several segments, the last sealed.
fn log() -> (SimulatedDisk, Vec<Lsn>) {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    let mut ends = Vec::new();
    for count in [2, 3, 1, 3, 7, 7, 7, 7, 7, 2, 1] {
        let first = ends.last().copied().unwrap_or(0) + 1;
        ends.push(wal.append_wait(&batch(first, count)).unwrap());
    }
    drop(wal);
    (disk, ends)
}

fn positions(disk: &SimulatedDisk) -> Vec<Lsn> {
    let (_wal, recovery) = open(disk).unwrap();
    let mut found = Vec::new();
    recovery
        .replay(|record| {
            found.push(record.lsn);
            Ok::<(), std::fmt::Error>(())
        })
        .unwrap();
    found
}

/// Flips a bit in the second frame, which holds LSN 3 to 5.
fn damaged() -> (SimulatedDisk, Vec<Lsn>) {
    let (disk, ends) = log();
    let frame = disk.contents()["wal/000001.seg"]
        .windows(8)
        .enumerate()
        .filter(|(_, window)| *window == b"HBFRAME1")
        .nth(1)
        .unwrap()
        .0;
    disk.tamper("wal/000001.seg", |bytes| bytes[frame + 600] ^= 1);
    (disk, ends)
}

#[test]
fn a_repaired_log_keeps_what_was_asked_for_and_never_uses_a_position_twice() {
    let (disk, ends) = damaged();
    let last = *ends.last().unwrap();
    let text = open(&disk).unwrap_err().to_string();
    assert!(
        text.contains("segment 000001 is corrupt at byte") && text.contains("--to 2"),
        "{text}"
    );
    let before = disk.contents();
    let report = repair(&disk, 2, &options()).unwrap();
    assert_eq!((report.kept_to, report.resumed_at), (2, Some(last + 1)));
    // What was given up lies aside, byte for byte.
    let dir = report.removed_dir.unwrap();
    let after = disk.contents();
    for name in &report.moved {
        assert_eq!(after[&format!("{dir}/{name}")], before[&format!("wal/{name}")], "{name}");
    }
    assert!(report.moved.len() >= 2, "{:?}", report.moved);
    let (wal, recovery) = open(&disk).unwrap();
    assert!(recovery.notices.iter().any(|notice| matches!(notice, Notice::Repaired(repaired)
        if repaired.kept_to == 2 && repaired.resumed_at == last + 1)));
    assert_eq!(wal.append_wait(&batch(last + 1, 1)).unwrap(), last + 1);
    drop(wal);
    assert_eq!(positions(&disk), [1, 2, last + 1]);
    assert!(check(&disk, false).unwrap().healthy());
}

#[test]
fn a_repair_that_is_cut_short_anywhere_is_done_again() {
    let (disk, _) = damaged();
    let probe = disk.fork();
    repair(&probe, 2, &options()).unwrap();
    for at in 1..=probe.operations() {
        for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seeded(at)] {
            let image = disk.fork();
            image.crash_at(at);
            assert!(repair(&image, 2, &options()).is_err());
            let left = image.crash_image(choice);
            if open(&left).is_err() {
                let again = repair(&left, 2, &options());
                again.unwrap_or_else(|error| panic!("{at}, {choice:?}: {error}"));
            }
            assert_eq!(positions(&left), [1, 2], "{at}, {choice:?}");
        }
    }
}

#[test]
fn a_lost_tail_is_refused_until_a_person_accepts_it() {
    let (disk, ends) = log();
    let last_segment = segments(&disk).pop().unwrap();
    // Spares may follow the last used segment: remove from the end until records are missing.
    disk.remove(&last_segment).unwrap();
    while open(&disk.fork()).is_ok() {
        let next = segments(&disk).pop().unwrap();
        disk.remove(&next).unwrap();
    }
    let text = open(&disk).unwrap_err().to_string();
    let last = ends.last().unwrap();
    assert!(text.contains(&format!("to {last} were acknowledged and are missing")), "{text}");
    let keep = check(&disk, false).unwrap().last_good_lsn;
    assert!(text.contains(&format!("--to {keep}")), "{text}");
    repair(&disk, keep, &options()).unwrap();
    assert_eq!(positions(&disk), (1..=keep).collect::<Vec<_>>());
}

#[test]
fn a_missing_mark_is_made_again_by_a_repair_only() {
    let (disk, ends) = log();
    disk.remove("mark/high-water").unwrap();
    let report = check(&disk, false).unwrap();
    assert_eq!(report.problems[0].kind, ProblemKind::MarkMissing);
    let last = *ends.last().unwrap();
    let text = open(&disk).unwrap_err().to_string();
    assert!(text.contains(&format!("--to {last}")), "{text}");
    let report = repair(&disk, last, &options()).unwrap();
    assert_eq!((report.moved.len(), report.resumed_at), (0, Some(last + 1)));
    assert_eq!(positions(&disk), (1..=last).collect::<Vec<_>>());
}

#[test]
fn positions_inside_a_batch_or_beyond_what_can_be_read_are_refused() {
    let (disk, _) = damaged();
    let before = disk.contents();
    let inside = repair(&disk, 1, &options()).unwrap_err();
    assert!(matches!(inside, RepairError::InsideBatch { to: 1, below: 0, above: 2 }), "{inside}");
    let beyond = repair(&disk, 9, &options()).unwrap_err();
    assert!(matches!(beyond, RepairError::Unreachable { to: 9, reached: 2 }), "{beyond}");
    assert!(matches!(
        repair(&SimulatedDisk::new(), 0, &options()).unwrap_err(),
        RepairError::NoLog
    ));
    assert_eq!(disk.contents(), before);
}

#[test]
fn a_sound_log_is_left_alone() {
    let (disk, ends) = log();
    let before = disk.contents();
    let report = repair(&disk, *ends.last().unwrap(), &options()).unwrap();
    assert_eq!(report.resumed_at, None);
    assert_eq!(disk.contents(), before);
}

#[test]
fn a_log_whose_frames_are_all_lost_goes_on_from_its_snapshot() {
    let (disk, ends) = log();
    let last = *ends.last().unwrap();
    let (wal, _) = open(&disk).unwrap();
    wal.snapshot(last, &common::state(last)).unwrap();
    drop(wal);
    for file in segments(&disk) {
        disk.remove(&file).unwrap();
    }
    assert!(open(&disk).is_err());
    repair(&disk, last, &options()).unwrap();
    let (wal, recovery) = open(&disk).unwrap();
    assert_eq!(recovery.snapshot.unwrap().lsn, last);
    assert_eq!(wal.append_wait(&batch(last + 1, 1)).unwrap(), last + 1);
    drop(wal);
    assert_eq!(positions(&disk), [last + 1]);
}

#[test]
fn everything_can_be_given_up() {
    let (disk, ends) = damaged();
    repair(&disk, 0, &options()).unwrap();
    assert_eq!(positions(&disk), Vec::<Lsn>::new());
    let (wal, _) = open(&disk).unwrap();
    let last = ends.last().unwrap();
    assert_eq!(wal.append_wait(&batch(last + 1, 1)).unwrap(), last + 1);
}
