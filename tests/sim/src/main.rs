//! Runs simulated histories and says what came of them.
//!
//! `HB_SIM_HISTORIES` says how many, `HB_SIM_SEED` from which seed on; with a seed and no number it
//! runs that one history and prints all of it.

use std::{env, process::ExitCode, time::Instant};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn main() -> ExitCode {
    let (histories, seed) = (number("HB_SIM_HISTORIES"), number("HB_SIM_SEED"));
    let first = seed.unwrap_or(1);
    let alone = histories.is_none() && seed.is_some();
    let histories = histories.unwrap_or(if alone { 1 } else { 1000 });
    let begun = Instant::now();
    let (mut violations, mut opened, mut operations) = (0, 0, 0);
    let mut sum = hb_sim::Seen::default();
    for seed in (first..).take(usize::try_from(histories).unwrap_or(usize::MAX)) {
        let trace = match hb_sim::run(seed) {
            Ok(trace) => trace,
            Err(violation) => {
                println!("{violation}");
                violations += 1;
                violation.trace
            }
        };
        if alone {
            trace.lines.iter().for_each(|line| println!("{line}"));
        }
        opened += trace.opened;
        operations += trace.operations;
        sum.add(&trace.seen);
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{histories} histories from seed {first}: {violations} violations, {opened} hosts opened, \
         {operations} disk operations, {seconds:.1} s"
    );
    println!("{sum:?}");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
