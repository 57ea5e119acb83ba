//! The test that no log at hand passed on both sides: a tear of what was never acknowledged must
//! open, rot of what was must not pass.
//!
//! Frames are large enough to have tables of checksums of their own, and payloads have long runs
//! of zeros, so that a lost sector may well look like content.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use hb_disk::{CrashChoice, SimulatedDisk};
use hb_wal::{Lsn, OpenError, Options, Record, Recovery, Wal};

const TRIALS: u64 = 1_500;

fn options() -> Options {
    Options {
        segment_bytes: 512 << 10,
        max_frame_bytes: 200 << 10,
        reserve_bytes: 64 << 10,
        ..common::options()
    }
}

fn open(disk: &SimulatedDisk) -> Result<(Wal, Recovery), OpenError> {
    Wal::open(Arc::new(disk.clone()), options())
}

/// `SplitMix64`.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn record(lsn: Lsn, len: usize) -> Record {
    let byte = |at: usize| {
        if (at / 700).is_multiple_of(4) { (at as u64 ^ lsn).to_le_bytes()[0] } else { 0 }
    };
    Record { kind: 1, schema: 1, payload: (0..len).map(byte).collect() }
}

/// Three acknowledged frames of one to a hundred and more sectors.
fn acknowledged(disk: &SimulatedDisk) -> (Wal, [usize; 4]) {
    let lens = [300, 90_000, 5_000, 120_000];
    let (wal, _) = open(disk).unwrap();
    for (lsn, len) in (1..=3).zip(lens) {
        wal.append_wait(&[record(lsn, len)]).unwrap();
    }
    (wal, lens)
}

fn lsns(recovery: &Recovery) -> Vec<(Lsn, usize)> {
    let mut found = Vec::new();
    recovery
        .replay(|record| {
            found.push((record.lsn, record.payload.len()));
            Ok::<(), std::fmt::Error>(())
        })
        .unwrap();
    found
}

#[test]
fn every_legal_tear_opens_with_all_that_was_acknowledged() {
    let disk = SimulatedDisk::new();
    let (wal, lens) = acknowledged(&disk);
    // Power ends while the fourth frame is being flushed.
    disk.crash_at(disk.operations() + 2);
    wal.append_wait(&[record(4, lens[3])]).unwrap_err();
    let (mut torn, mut whole, mut none) = (0, 0, 0);
    for seed in 0..TRIALS {
        let image = disk.crash_image(CrashChoice::Seeded(seed));
        let (_wal, recovery) = open(&image).unwrap_or_else(|error| panic!("{seed}: {error}"));
        let found = lsns(&recovery);
        assert_eq!(found[..3], [(1, lens[0]), (2, lens[1]), (3, lens[2])], "{seed}");
        match (recovery.last_lsn, recovery.notices.is_empty()) {
            (4, _) => whole += 1,
            (3, true) => none += 1,
            (3, false) => torn += 1,
            other => panic!("{seed}: {other:?}"),
        }
    }
    println!("{torn} torn, {whole} whole, {none} without a trace");
    assert!(torn > TRIALS / 3 && whole > TRIALS / 10 && none > TRIALS / 10);
}

#[test]
fn every_flip_is_refused_or_healed_and_said() {
    let disk = SimulatedDisk::new();
    let (wal, lens) = acknowledged(&disk);
    drop(wal);
    let used = 4096 + 4096 + 94_208 + 8192;
    for trial in 0..TRIALS {
        let mut seed = trial;
        let image = disk.fork();
        let flips = 1 + draw(&mut seed) % 8;
        image.tamper("wal/000001.seg", |bytes| {
            for _ in 0..flips {
                let bit = usize::try_from(draw(&mut seed)).unwrap() % (used * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        });
        if let Ok((_wal, recovery)) = open(&image) {
            assert!(!recovery.notices.is_empty(), "trial {trial} was silent");
            let found = lsns(&recovery);
            assert_eq!(found, [(1, lens[0]), (2, lens[1]), (3, lens[2])], "trial {trial}");
        }
    }
}

/// Sectors of acknowledged frames that revert to zeros, the last frame included, whose loss only
/// the mark or the seal tells from a tear.
#[test]
fn lost_sectors_are_refused_unless_zeros_were_the_content() {
    for sealed in [false, true] {
        let disk = SimulatedDisk::new();
        let (wal, lens) = acknowledged(&disk);
        let died = disk.fork();
        drop(wal);
        let disk = if sealed { disk } else { died };
        let mut refused = 0;
        for trial in 0..TRIALS / 3 {
            let mut seed = trial;
            let image = disk.fork();
            let (first, count) = (draw(&mut seed) % 212, 1 + draw(&mut seed) % 8);
            image.tamper("wal/000001.seg", |bytes| {
                let from = 4096 + usize::try_from(first).unwrap() * 512;
                bytes[from..from + usize::try_from(count).unwrap() * 512].fill(0);
            });
            match open(&image) {
                Err(OpenError::Refused(_)) => refused += 1,
                Err(error) => panic!("{error}"),
                Ok((_wal, recovery)) => {
                    let found = lsns(&recovery);
                    assert_eq!(found, [(1, lens[0]), (2, lens[1]), (3, lens[2])], "{trial}");
                }
            }
        }
        assert!(refused > TRIALS / 20, "{refused}");
    }
}
