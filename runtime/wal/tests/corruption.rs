//! Every single bit and every length of a small log: refused, healed and said, or cut as a torn
//! tail without losing anything acknowledged. Never silently accepted.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{Told, check_history, segments, state};
use hb_disk::SimulatedDisk;
use hb_wal::{Notice, OpenError, Options, ProblemKind, Recovery, Wal, check};

/// Segments of two frames of one block each.
fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        max_frame_bytes: 3500,
        reserve_bytes: 4 << 10,
        ..common::options()
    }
}

fn open(disk: &SimulatedDisk) -> Result<(Wal, Recovery), OpenError> {
    Wal::open(Arc::new(disk.clone()), options())
}

/// Two used segments, a spare, two snapshots, and a last record that is acknowledged.
fn small_log() -> (SimulatedDisk, Told) {
    let disk = SimulatedDisk::new();
    let mut told = Told::default();
    let (wal, _) = open(&disk).unwrap();
    told.append_wait(&wal, 1).unwrap();
    wal.snapshot(1, &state(1)).unwrap();
    told.append_wait(&wal, 2).unwrap();
    wal.snapshot(2, &state(2)).unwrap();
    told.append_wait(&wal, 2).unwrap();
    // The process dies here: nothing is sealed, so the last frame's only witness is the mark.
    let died = disk.fork();
    // Opening prepares the spare and changes nothing else.
    drop(wal);
    let files: Vec<String> = died.contents().into_keys().collect();
    assert_eq!(segments(&died).len(), 2, "{files:?}");
    (died, told)
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Refused,
    Said,
    OnlyCheckSays,
}

/// Opens a changed log and holds it to the rule.
fn judge(image: &SimulatedDisk, told: &Told, file: &str, what: &str) -> Outcome {
    match open(image) {
        Err(OpenError::Refused(problem)) => {
            let text = problem.to_string();
            assert!(text.contains("hb ledger check"), "{what}: {text}");
            Outcome::Refused
        }
        Err(OpenError::Format { file: named, .. }) => {
            assert_eq!(named, file, "{what}");
            Outcome::Refused
        }
        Err(error) => panic!("{what}: {error}"),
        Ok((wal, recovery)) => {
            if let Err(wrong) = check_history(&recovery, told) {
                panic!("{what}: opened, and {wrong}");
            }
            drop(wal);
            if recovery.notices.is_empty() { Outcome::OnlyCheckSays } else { Outcome::Said }
        }
    }
}

/// Flips every bit of `file` and counts what became of it.
fn flip_every_bit(file: &str) -> (u64, u64, u64) {
    let (disk, told) = small_log();
    let len = disk.contents()[file].len();
    let mut counts = (0, 0, 0);
    for bit in 0..len * 8 {
        let image = disk.fork();
        assert!(image.tamper(file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)));
        match judge(&image, &told, file, &format!("{file}, bit {bit}")) {
            Outcome::Refused => counts.0 += 1,
            Outcome::Said => counts.1 += 1,
            Outcome::OnlyCheckSays => {
                let image = disk.fork();
                image.tamper(file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                let report = check(&image, false).unwrap();
                assert!(
                    !report.problems.is_empty() || !report.notices.is_empty(),
                    "{file}, bit {bit}: silently accepted"
                );
                counts.2 += 1;
            }
        }
    }
    println!(
        "{file}: {} refused, {} healed and said, {} said by check",
        counts.0, counts.1, counts.2
    );
    counts
}

#[test]
fn every_flipped_bit_of_the_first_segment_is_refused_or_healed() {
    let (refused, said, only_check) = flip_every_bit("wal/000001.seg");
    // The two frames are refused, the header and its copy heal each other.
    assert_eq!((refused, said, only_check), (2 * 4096 * 8, 2 * 4096 * 8, 0));
}

#[test]
fn every_flipped_bit_of_the_last_segment_is_refused_or_healed() {
    let (refused, said, only_check) = flip_every_bit("wal/000002.seg");
    // The frame is refused, the headers are healed. In the free block, what stands where the next
    // frame's header would is refused, because a tear leaves no half sector; the rest is cut.
    let refused_there = 512 * 8;
    assert_eq!(refused, 4096 * 8 + refused_there);
    assert_eq!((said, only_check), (3 * 4096 * 8 - refused_there, 0));
}

#[test]
fn every_flipped_bit_of_the_mark_is_healed_and_said() {
    assert_eq!(flip_every_bit("mark/high-water"), (0, 2 * 4096 * 8, 0));
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_said() {
    let newer = flip_every_bit("wal/snap/00000000000000000002.snap");
    assert_eq!((newer.0, newer.2), (0, 0), "the newest is read, and the older one used instead");
    let older = flip_every_bit("wal/snap/00000000000000000001.snap");
    assert_eq!((older.0, older.1), (0, 0), "the older is not read, and check names it");
}

/// A flip in a prepared segment is healed before the segment is used.
#[test]
fn a_spare_that_is_not_empty_is_prepared_anew() {
    let (disk, told) = small_log();
    let (wal, _) = open(&disk).unwrap();
    assert_eq!(wal.append_wait(&common::batch(told.acked + 1, 1)).unwrap(), 6);
    let spare = "wal/000003.seg";
    let told = Told { acked: 6, attempted: 10, batch_ends: (5..10).collect() };
    // The log went on to its third segment when it was sealed; what follows is prepared by hand.
    assert_eq!(wal.append_wait(&common::batch(7, 1)).unwrap(), 7);
    drop(wal);
    let files = disk.contents();
    assert!(files.contains_key(spare), "{:?}", files.keys());
    let (wal, _) = open(&disk).unwrap();
    drop(wal);
    let last = segments(&disk).pop();
    let last = last.unwrap();
    for at in (4096..8192).step_by(37) {
        let image = disk.fork();
        image.tamper(&last, |bytes| bytes[at] ^= 4);
        judge(&image, &told, &last, &format!("{last}, byte {at}"));
    }
}

#[test]
fn every_length_of_every_file_is_noticed() {
    let (disk, told) = small_log();
    for (file, bytes) in disk.contents() {
        for len in 0..bytes.len() {
            let image = disk.fork();
            image.tamper(&file, |bytes| bytes.truncate(len));
            let what = format!("{file} cut to {len} bytes");
            let outcome = judge(&image, &told, &file, &what);
            if segments(&disk).contains(&file) {
                assert_eq!(outcome, Outcome::Refused, "{what}");
            }
            if outcome == Outcome::OnlyCheckSays {
                let image = disk.fork();
                image.tamper(&file, |bytes| bytes.truncate(len));
                assert!(!check(&image, false).unwrap().notices.is_empty(), "{what}");
            }
        }
        let image = disk.fork();
        image.tamper(&file, |bytes| bytes.push(0));
        let what = format!("{file} with a byte too many");
        if judge(&image, &told, &file, &what) == Outcome::OnlyCheckSays {
            let image = disk.fork();
            image.tamper(&file, |bytes| bytes.push(0));
            assert!(!check(&image, false).unwrap().notices.is_empty(), "{what}");
        }
    }
}

/// Cut at a frame's border and filled up with zeros, as a restore from a sparse copy would: every
/// byte verifies, and records are missing.
#[test]
fn a_log_that_lost_whole_frames_is_refused_and_the_range_named() {
    let (disk, _) = small_log();
    for (file, from, missing) in [
        ("wal/000002.seg", 4096, "LSN 4 to 5 were acknowledged and are missing"),
        ("wal/000001.seg", 8192, "segment 000001"),
        ("wal/000001.seg", 4096, "segment 000001"),
    ] {
        let image = disk.fork();
        image.tamper(file, |bytes| bytes[from..12288].fill(0));
        let error = open(&image).unwrap_err().to_string();
        assert!(error.contains(missing) || error.contains("LSN"), "{file} {from}: {error}");
        if file.ends_with("2.seg") {
            assert!(error.contains(missing), "{error}");
        }
    }
}

#[test]
fn lost_sectors_of_an_acknowledged_frame_are_refused() {
    let (disk, told) = small_log();
    for file in ["wal/000001.seg", "wal/000002.seg"] {
        let whole = disk.contents()[file].clone();
        for mask in 1..256_u32 {
            let image = disk.fork();
            image.tamper(file, |bytes| {
                for sector in (0..8).filter(|sector| mask >> sector & 1 == 1) {
                    bytes[4096 + sector * 512..4096 + (sector + 1) * 512].fill(0);
                }
            });
            if image.contents()[file] == whole {
                continue;
            }
            let outcome = judge(&image, &told, file, &format!("{file}, lost sectors {mask:b}"));
            assert_eq!(outcome, Outcome::Refused, "{file}, lost sectors {mask:b}");
        }
    }
}

#[test]
fn files_that_are_missing_or_come_from_elsewhere_are_noticed() {
    let (disk, _) = small_log();
    let kind = |image: &SimulatedDisk| match open(image) {
        Err(OpenError::Refused(problem)) => problem.kind,
        other => panic!("{other:?}"),
    };
    let without = |file: &str| {
        let image = disk.fork();
        hb_disk::Storage::remove(&image, file).unwrap();
        image
    };
    assert_eq!(kind(&without("wal/000002.seg")), ProblemKind::BehindMark);
    assert_eq!(kind(&without("wal/000001.seg")), ProblemKind::SegmentMissing);
    let error = open(&without("mark/high-water")).unwrap_err().to_string();
    assert!(error.contains("mark/high-water") && error.contains("repair --to 5"), "{error}");

    // Another log's mark, or another log's segment.
    let other = SimulatedDisk::new();
    let foreign = Options { seed: Some(2), ..options() };
    let (wal, _) = Wal::open(Arc::new(other.clone()), foreign).unwrap();
    wal.append_wait(&common::batch(1, 1)).unwrap();
    drop(wal);
    for file in ["mark/high-water", "wal/000001.seg"] {
        let image = disk.fork();
        let theirs = other.contents()[file].clone();
        image.tamper(file, |bytes| *bytes = theirs);
        assert_eq!(kind(&image), ProblemKind::Foreign, "{file}");
    }
}

/// The whole `wal/` directory put back from a copy that was made earlier.
#[test]
fn an_older_copy_of_the_log_is_refused() {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    wal.append_wait(&common::batch(1, 1)).unwrap();
    let old = disk.contents();
    wal.append_wait(&common::batch(2, 1)).unwrap();
    let image = disk.fork();
    for (file, bytes) in old.iter().filter(|(file, _)| file.starts_with("wal/")) {
        image.tamper(file, |now| now.clone_from(bytes));
    }
    let error = open(&image).unwrap_err().to_string();
    assert!(error.contains("LSN 2 to 2 were acknowledged and are missing"), "{error}");
    // And a copy that then went another way, as far as the first did.
    let (fork, _) = {
        let fork = disk.fork();
        for (file, bytes) in &old {
            fork.tamper(file, |now| now.clone_from(bytes));
        }
        let (wal, _) = open(&fork).unwrap();
        wal.append_wait(&common::batch(9, 1)).unwrap();
        (fork, wal)
    };
    let theirs = fork.contents()["wal/000001.seg"].clone();
    let image = disk.fork();
    image.tamper("wal/000001.seg", |now| *now = theirs);
    let Err(OpenError::Refused(problem)) = open(&image) else { panic!("opened") };
    assert_eq!(problem.kind, ProblemKind::MarkDisagrees);
}

/// Somebody who rewrites a record and mends all checksums still breaks the chain.
#[test]
fn a_frame_that_was_exchanged_breaks_the_chain() {
    let disk = SimulatedDisk::new();
    let (wal, _) = open(&disk).unwrap();
    wal.append_wait(&common::batch(1, 1)).unwrap();
    let base = disk.contents();
    wal.append_wait(&common::batch(2, 1)).unwrap();
    wal.append_wait(&common::batch(3, 1)).unwrap();
    // The same first half, then another record: a valid frame of the same log for that place.
    let other = SimulatedDisk::new();
    for dir in ["wal", "wal/snap", "mark"] {
        hb_disk::Storage::create_dir(&other, dir).unwrap();
    }
    for (file, bytes) in &base {
        let made = hb_disk::Storage::open(&other, file, hb_disk::Open::Create).unwrap();
        made.write_at(0, bytes).unwrap();
    }
    let (theirs, _) = open(&other).unwrap();
    theirs.append_wait(&common::batch(30, 1)).unwrap();
    let forged = other.contents()["wal/000001.seg"][8192..12288].to_vec();
    let image = disk.fork();
    image.tamper("wal/000001.seg", |bytes| bytes[8192..12288].copy_from_slice(&forged));
    let Err(OpenError::Refused(problem)) = open(&image) else { panic!("opened") };
    assert_eq!(problem.kind, ProblemKind::Chain);
    assert_eq!(problem.segment, Some(2));
}

#[test]
fn check_names_every_problem_and_changes_nothing() {
    let (disk, _) = small_log();
    let image = disk.fork();
    image.tamper("wal/000001.seg", |bytes| bytes[4096 + 520] ^= 1);
    image.tamper("wal/000002.seg", |bytes| bytes[4096 + 700] ^= 1);
    let before = image.contents();
    let report = check(&image, false).unwrap();
    assert_eq!(image.contents(), before);
    let places: Vec<_> = report
        .problems
        .iter()
        .map(|problem| (problem.segment, problem.offset, problem.kind))
        .collect();
    assert!(places.contains(&(Some(1), 4608, ProblemKind::Sector)), "{places:?}");
    assert!(places.contains(&(Some(2), 4608, ProblemKind::Sector)), "{places:?}");
    let healthy = check(&disk, false).unwrap();
    assert!(healthy.healthy(), "{:?}", healthy.problems);
    assert_eq!((healthy.last_good_lsn, healthy.acknowledged_lsn), (5, Some(5)));
    assert_eq!(healthy.segments.iter().map(|segment| segment.records).sum::<u64>(), 5);
    let torn = |notice: &Notice| matches!(notice, Notice::TornTail { .. });
    assert!(!healthy.notices.iter().any(torn));
}
