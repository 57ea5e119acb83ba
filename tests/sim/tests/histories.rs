//! Simulated histories: a fixed set of seeds and a fresh one, and the same seed twice.
#![allow(clippy::unwrap_used)]

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Histories of the fixed set.
const FIXED: u64 = 1_000;
/// Histories of the fresh set, unless `HB_SIM_HISTORIES` says otherwise.
const FRESH: u64 = 1_000;

/// Runs histories on all processors; fails with the first violations in full.
fn explore(first: u64, count: u64) {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (opened, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= count {
                        return;
                    }
                    match hb_sim::run(first.wrapping_add(number)) {
                        Ok(trace) => {
                            opened.fetch_add(trace.opened, Ordering::SeqCst);
                            operations.fetch_add(trace.operations, Ordering::SeqCst);
                        }
                        Err(violation) => found.lock().unwrap().push(violation.to_string()),
                    }
                }
            });
        }
    });
    println!("{count} histories from seed {first}: {opened:?} hosts, {operations:?} operations");
    let found = found.into_inner().unwrap();
    let shown: Vec<&String> = found.iter().take(5).collect();
    assert!(found.is_empty(), "{} of {count} histories break a promise: {shown:#?}", found.len());
}

#[test]
fn no_history_of_the_fixed_set_breaks_a_promise() {
    explore(1, FIXED);
}

#[test]
fn no_history_of_a_fresh_set_breaks_a_promise() {
    let number = |name| env::var(name).ok().and_then(|text: String| text.parse().ok());
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let fresh = u64::try_from(now_ns % (1 << 62)).unwrap();
    let first = number("HB_SIM_SEED").unwrap_or(fresh);
    println!("fresh seed {first}");
    explore(first, number("HB_SIM_HISTORIES").unwrap_or(FRESH));
}

#[test]
fn the_same_seed_twice_is_the_same_history_line_by_line() {
    for seed in 1..=60 {
        let run = || hb_sim::run(seed).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(run(), run(), "seed {seed}");
    }
}
