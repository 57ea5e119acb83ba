//! Power is lost at every single operation of a scripted history.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Told, check_history, history, open, verify};
use hb_disk::{CrashChoice, FlushMode, SimulatedDisk};
use hb_wal::check;

/// What exploring a history found.
#[derive(Debug, Default)]
struct Explored {
    states: u64,
    violations: Vec<String>,
}

/// The images that a power cut may leave: each subset where few, a sample where many.
fn choices(disk: &SimulatedDisk, seeds: u64, at: u64) -> Vec<CrashChoice> {
    let mut choices = vec![CrashChoice::Nothing, CrashChoice::Everything];
    let writes = disk.pending_units(false);
    let sectors = disk.pending_units(true);
    if writes <= 5 {
        choices.extend((0..1_u128 << writes).map(CrashChoice::Writes));
    }
    if sectors <= 6 {
        choices.extend((0..1_u128 << sectors).map(CrashChoice::Sectors));
    } else {
        choices.extend((0..seeds).map(|seed| CrashChoice::Seeded(at * 1_000 + seed)));
    }
    choices
}

/// Runs the history on a disk that `configure` may spoil, with power lost at every operation.
fn explore(configure: impl Fn(&SimulatedDisk), seeds: u64) -> Explored {
    let whole = SimulatedDisk::new();
    configure(&whole);
    history(&whole, &mut Told::default()).expect("the history runs to its end");
    let mut explored = Explored::default();
    for at in 1..=whole.operations() + 1 {
        let disk = SimulatedDisk::new();
        configure(&disk);
        disk.crash_at(at);
        let mut told = Told::default();
        let ended = history(&disk, &mut told);
        assert_eq!(ended.is_some(), at > whole.operations(), "operation {at}");
        for choice in choices(&disk, seeds, at) {
            let image = disk.crash_image(choice);
            explored.states += 1;
            if let Err(what) = verify(&image, &told) {
                let operation = disk.operation_log().last().cloned().unwrap_or_default();
                explored.violations.push(format!("{at} ({operation}), {choice:?}: {what}"));
            }
        }
    }
    explored
}

#[test]
fn nothing_acknowledged_is_lost_wherever_power_ends() {
    let explored = explore(|_| {}, 12);
    assert!(explored.states > 2_000, "{} states", explored.states);
    assert_eq!(explored.violations, Vec::<String>::new());
}

/// The same exploration must see through each of the mistakes that a log could make.
#[test]
fn the_exploration_catches_logs_that_are_wrong() {
    let late = explore(|disk| disk.set_flush_mode(FlushMode::Late), 2);
    let lying = explore(|disk| disk.set_flush_mode(FlushMode::Lying), 2);
    let names = explore(|disk| disk.set_sync_dir_lies(true), 2);
    let all = [("answer before flush", &late), ("no flush", &lying), ("no dir sync", &names)];
    for (what, explored) in all {
        let wrong = explored.violations.len();
        println!("{what}: {wrong} of {} states lose or miss something", explored.states);
        // Lost records that the mark still knows are refused, which is caught here all the same.
        assert!(wrong > 100, "{what} went unnoticed: {wrong} of {} states", explored.states);
    }
}

/// A second crash, during recovery from the first, at every operation of that recovery.
#[test]
fn recovery_can_be_cut_short_anywhere() {
    let whole = SimulatedDisk::new();
    history(&whole, &mut Told::default()).unwrap();
    let mut states = 0;
    for at in (1..=whole.operations()).filter(|at| at % 3 == 0) {
        let disk = SimulatedDisk::new();
        disk.crash_at(at);
        let mut told = Told::default();
        history(&disk, &mut told);
        for first in [CrashChoice::Everything, CrashChoice::Seeded(at), CrashChoice::Seeded(!at)] {
            let probe = disk.crash_image(first);
            open(&probe).unwrap();
            for again in 1..=probe.operations() {
                let image = disk.crash_image(first);
                image.crash_at(again);
                // What recovery makes of it before power ends again is not our concern.
                drop(open(&image));
                for second in [CrashChoice::Nothing, CrashChoice::Seeded(again)] {
                    states += 1;
                    let left = image.crash_image(second);
                    if let Err(what) = verify(&left, &told) {
                        panic!("{at} {first:?}, then {again} {second:?}: {what}");
                    }
                }
            }
        }
    }
    assert!(states > 1_000, "{states} states");
}

/// A process that dies leaves the page cache: recovery must not build on what is only there.
#[test]
fn a_killed_process_and_then_a_power_cut_lose_nothing_that_was_shown() {
    let whole = SimulatedDisk::new();
    history(&whole, &mut Told::default()).unwrap();
    for at in 1..=whole.operations() {
        let disk = SimulatedDisk::new();
        disk.fail_at(at, 5);
        let mut told = Told::default();
        history(&disk, &mut told);
        // The operation failed, the process died; the next one opens, reads, and acts on it.
        let Ok((wal, recovery)) = open(&disk) else { continue };
        check_history(&recovery, &told).unwrap_or_else(|what| panic!("{at}: {what}"));
        told.acked = recovery.last_lsn;
        drop((wal, recovery));
        for choice in [CrashChoice::Nothing, CrashChoice::Seeded(at), CrashChoice::Seeded(!at)] {
            let left = disk.crash_image(choice);
            if let Err(what) = verify(&left, &told) {
                panic!("operation {at} failed, reopened, {choice:?}: {what}");
            }
        }
    }
}

/// A disk that flushes nothing and then loses power: what the mark still knows is missed.
#[test]
fn a_lying_flush_is_noticed_through_the_mark() {
    let mut noticed = 0;
    let whole = SimulatedDisk::new();
    history(&whole, &mut Told::default()).unwrap();
    for at in 1..=whole.operations() {
        let disk = SimulatedDisk::new();
        disk.set_flush_mode(FlushMode::Lying);
        disk.crash_at(at);
        let mut told = Told::default();
        history(&disk, &mut told);
        for seed in 0..8 {
            let image = disk.crash_image(CrashChoice::Seeded(at * 100 + seed));
            let marked = check(&image, false).unwrap().acknowledged_lsn;
            match open(&image) {
                Ok((_, recovery)) => {
                    let marked = marked.unwrap_or(0);
                    assert!(recovery.last_lsn >= marked, "{at}/{seed}: lost {marked} silently");
                }
                Err(error) => {
                    noticed += u64::from(error.to_string().contains("were acknowledged"));
                }
            }
        }
    }
    assert!(noticed > 0);
}

#[test]
fn the_same_seed_twice_is_the_same_bytes() {
    let run = || {
        let disk = SimulatedDisk::new();
        history(&disk, &mut Told::default()).unwrap();
        (disk.operation_log(), disk.contents())
    };
    assert_eq!(run(), run());
}
