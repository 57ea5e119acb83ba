//! The proof that the checker can fail: hosts that are wrong on purpose are caught, each within a
//! bounded number of histories.
#![allow(clippy::unwrap_used)]

use hb_sim::{Mutation, run_spoiled};

/// Histories within which every one of them must be caught.
const HISTORIES_MAX: u64 = 400;

#[test]
fn every_deliberate_fault_is_caught_within_a_bounded_number_of_histories() {
    // Panics of a host that is wrong count as caught and need not be printed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        let caught = (1..=HISTORIES_MAX)
            .find_map(|seed| Some((seed, run_spoiled(seed, Some(mutation)).err()?)));
        match caught {
            Some((seed, violation)) => {
                let what: String = violation.what.chars().take(150).collect();
                println!("{mutation:?}: history {seed}: {what}");
            }
            None => missed.push(mutation),
        }
    }
    assert!(missed.is_empty(), "{missed:?} went unnoticed in {HISTORIES_MAX} histories");
}
