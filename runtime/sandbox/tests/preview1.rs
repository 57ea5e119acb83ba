//! Core modules for WASI preview 1, which run as they are.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Bench, Ledger, launch};
use hb_sandbox::{Control, Ended};
use hb_types::outcome::Outcome;

/// The adapter to WASI 0.2 keeps its state in memory that it takes from the module. The allocator
/// of this program takes all memory up to the present end at its first `malloc`, so that with
/// 1,000,000 numbers it wrote over that state, and the adapter stopped itself.
#[test]
fn a_program_whose_allocator_takes_all_memory_computes_what_it_should() {
    if hb_guests::SIEVE.is_skipped() {
        return;
    }
    let bench = Bench::new();
    let prepared = bench.prepare(&fs::read(hb_guests::SIEVE.path()).unwrap()).unwrap();
    for (limit, primes) in [("1000000", 78_498), ("20000000", 1_270_607)] {
        let mut launch = launch();
        launch.arguments.extend([limit.to_owned(), "42".to_owned()]);
        let mut ledger = Ledger::default();
        let ended = bench.sandbox.run(&prepared, launch, &mut ledger, &Control::default()).unwrap();
        let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
        let stdout = ledger.end().stdout();
        assert_eq!(ending.outcome, Outcome::Exit { code: 42 }, "{stdout}{:?}", ending.explanation);
        assert_eq!(stdout, format!("{primes} primes below {limit}\n"));
    }
}
