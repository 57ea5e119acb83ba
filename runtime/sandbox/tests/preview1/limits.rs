//! Limits, ends and repetition.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use hb_sandbox::{Control, Ended, Stream};
use hb_types::{
    limits::{Limit, LimitReached},
    outcome::Outcome,
};

use crate::{
    common::{Bench, Ledger, launch, launch_with},
    errors::OPEN_F,
    script::{FUNCTIONS, Script, module, wasm_type},
};

const DQUOT: u64 = 19;
const NOSPC: u64 = 51;

fn limit(limit: Limit, value: u64, wanted: u64) -> Outcome {
    Outcome::Limit { reached: LimitReached { limit, value, wanted } }
}

#[test]
fn exit_codes_are_kept_and_no_failure_becomes_success() {
    let bench = Bench::new();
    for (code, expected) in [(0, 0), (1, 1), (42, 42), (126, 126), (255, 255), (256, 1), (300, 44)]
    {
        let source = module("", &format!("(call $exit (i32.const {code})) unreachable"));
        assert_eq!(bench.end_of(&source).0.outcome.exit_code(), expected, "code {code}");
    }
    assert_eq!(bench.end_of(&module("", "")).0.outcome, Outcome::Success);
    let trap = bench.end_of(&module("", "unreachable")).0.outcome;
    assert!(matches!(trap, Outcome::Trap { .. }), "{trap:?}");
}

#[test]
fn a_flood_of_output_ends_at_the_limit_and_keeps_what_fitted() {
    let bench = Bench::new();
    for (fd, which) in [(1, Limit::Stdout), (2, Limit::Stderr)] {
        let body = format!(
            "(i32.store (i32.const 4) (i32.const 30000)) (i32.store (i32.const 12) (i32.const 7))
             (loop $more
                (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 2) (i32.const 16)))
                (br $more))"
        );
        let launch = launch_with(|limits| limits.set(which, 100_050));
        let (ending, ledger) = bench.end_with(&module("", &body), launch);
        assert_eq!(ending.outcome, limit(which, 100_050, 120_021));
        let id = hb_types::capture::ContentId(fd);
        assert_eq!(ledger.end().bytes(id).len(), 100_050);
        let expected = if fd == 1 { Stream::Stdout } else { Stream::Stderr };
        assert!(ledger.live.iter().all(|(found, _)| *found == expected));
        assert_eq!(ledger.live.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 100_050);
    }
}

#[test]
fn quotas_of_files_are_errors_and_what_fitted_is_counted() {
    let bench = Bench::new();
    // 50,000 bytes and the same again, where 70,000 may be.
    let script = Script::new().bytes(0, b"fg").words(8, &[0, 50_000, 0, 50_000]).steps(&[
        (OPEN_F, 0),
        ("fd_write 6 8 2 60000", 0),
        ("load32 60000", 50_000),
        ("fd_write 6 8 1 60000", NOSPC),
        ("fd_allocate 6 0 70001", NOSPC),
        ("fd_filestat_set_size 6 70001", NOSPC),
        ("fd_allocate 6 0 70000", 0),
        ("path_open 3 0 1 1 1 66 0 0 1000", DQUOT),
    ]);
    script.run(
        &bench,
        launch_with(|limits| {
            limits.files_bytes = 70_000;
            limits.files = 1;
        }),
    );
    let script = Script::new().bytes(0, b"f").steps(&[
        (OPEN_F, 0),
        (OPEN_F, DQUOT),
        ("fd_close 5", 0),
        (OPEN_F, 0),
        ("load32 1000", 5),
    ]);
    script.run(&bench, launch_with(|limits| limits.open_files = 4));
}

#[test]
fn too_few_handles_or_files_for_the_start_end_the_job_by_their_limit() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"f").step(OPEN_F, 0);
    let (outcome, _) = script.outcome(&bench, launch_with(|limits| limits.open_files = 2));
    assert_eq!(outcome, limit(Limit::OpenFiles, 2, 3));
    for (handles, expected) in
        [(5, limit(Limit::Handles, 5, 6)), (6, limit(Limit::Handles, 6, 7)), (7, Outcome::Success)]
    {
        let (outcome, _) = script.outcome(&bench, launch_with(|limits| limits.handles = handles));
        assert_eq!(outcome, expected, "{handles} handles");
    }
}

#[test]
fn one_call_moves_only_so_much() {
    let bench = Bench::new();
    let few = || launch_with(|limits| limits.hostcall_bytes = 100);
    // Reads and writes can be cut short; random numbers and listings cannot.
    let script = Script::new().bytes(0, b"f").words(8, &[200, 60, 300, 60]).steps(&[
        (OPEN_F, 0),
        ("fd_write 6 8 2 1000", 0),
        ("load32 1000", 100),
        ("fd_pread 6 8 2 0 1000", 0),
        ("load32 1000", 100),
        ("random_get 200 100", 0),
    ]);
    script.run(&bench, few());
    let script = Script::new().step("random_get 200 101", 0);
    assert_eq!(script.outcome(&bench, few()).0, limit(Limit::HostcallBytes, 100, 101));
    let script = Script::new()
        .bytes(0, b"f")
        .step(OPEN_F, 0)
        .steps(&[("fd_readdir 3 200 51 0 1000", 0), ("fd_readdir 3 200 1000 0 1000", 0)]);
    script.run(&bench, few());
    let few = launch_with(|limits| limits.hostcall_bytes = 75);
    assert_eq!(script.outcome(&bench, few).0, limit(Limit::HostcallBytes, 75, 76));
    let none = launch_with(|limits| limits.hostcall_bytes = 0);
    let script = Script::new().words(8, &[200, 60]).step("fd_write 1 8 1 1000", 0);
    assert_eq!(script.outcome(&bench, none).0, limit(Limit::HostcallBytes, 0, 60));
}

#[test]
fn memory_and_fuel_have_their_limits() {
    let bench = Bench::new();
    let grow = module("", "(drop (memory.grow (i32.const 1000)))");
    let (ending, _) = bench.end_with(&grow, launch_with(|limits| limits.memory_bytes = 1 << 20));
    assert_eq!(ending.outcome, limit(Limit::Memory, 1 << 20, 1001 << 16));
    let spin = module("", "(loop $more (br $more))");
    let (ending, _) = bench.end_with(&spin, launch_with(|limits| limits.fuel = 1_000_000));
    assert_eq!(ending.outcome, limit(Limit::Fuel, 1_000_000, 0));
    assert_eq!(ending.counters.fuel_used, 1_000_000);
}

#[test]
fn a_cancellation_and_a_deadline_end_a_loop_of_calls() {
    let bench = Bench::new();
    let calls = [
        "(drop (call $sched_yield))",
        "(drop (call $fd_close (i32.const 99)))",
        "(drop (call $random_get (i32.const 0) (i32.const 65536)))",
        "(drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 0)))",
    ];
    for call in calls {
        let source = module("", &format!("(loop $more {call} (br $more))"));
        let prepared = bench.prepare_text(&source).unwrap();
        let end = |control: &Control| {
            let ended =
                bench.sandbox.run(&prepared, launch(), &mut Ledger::default(), control).unwrap();
            let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
            ending.outcome
        };
        let control = Control::default();
        control.cancel.store(true, Ordering::Relaxed);
        assert_eq!(end(&control), Outcome::Cancelled, "{call}");
        let deadline = Some(Instant::now() + Duration::from_millis(5));
        let outcome = end(&Control { deadline, ..Control::default() });
        assert!(
            matches!(outcome, Outcome::Limit { reached } if reached.limit == Limit::Deadline),
            "{call}: {outcome:?}"
        );
    }
}

/// So little fuel is used that nobody but the call itself can have looked.
#[test]
fn every_call_asks_whether_the_run_may_go_on() {
    let bench = Bench::new();
    let control = Control::default();
    control.cancel.store(true, Ordering::Relaxed);
    for (name, parameters) in FUNCTIONS {
        let zeros: Vec<String> =
            parameters.chars().map(|letter| format!("({}.const 0)", wasm_type(letter))).collect();
        let body = format!("(drop (call ${name} {})) (call $exit (i32.const 5))", zeros.join(" "));
        let prepared = bench.prepare_text(&module("", &body)).unwrap();
        let ended =
            bench.sandbox.run(&prepared, launch(), &mut Ledger::default(), &control).unwrap();
        let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
        assert_eq!(ending.outcome, Outcome::Cancelled, "{name}");
        assert!(ending.counters.fuel_used < 1_000);
    }
    // The one function that would have ended it otherwise.
    let prepared = bench.prepare_text(&module("", "(call $exit (i32.const 5))")).unwrap();
    let ended = bench.sandbox.run(&prepared, launch(), &mut Ledger::default(), &control).unwrap();
    let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
    assert_eq!(ending.outcome, Outcome::Cancelled);
}

/// Everything that could differ: clocks, random numbers, inode numbers, the order of listings.
#[test]
fn two_runs_are_the_same_and_another_seed_is_another_run() {
    let bench = Bench::new();
    let script = Script::new().bytes(0, b"fzya").words(8, &[8, 4096]).steps(&[
        (OPEN_F, 0),
        ("path_create_directory 4 1 1", 0),
        ("path_create_directory 4 2 1", 0),
        ("path_create_directory 4 3 1", 0),
        ("random_get 100 77", 0),
        ("clock_time_get 0 0 200", 0),
        ("clock_time_get 1 0 208", 0),
        ("fd_readdir 4 300 500 0 216", 0),
        ("fd_filestat_get 6 900", 0),
        ("fd_filestat_get 4 1000", 0),
        ("fd_fdstat_get 3 1100", 0),
        ("args_get 1200 1300", 0),
        ("fd_write 1 8 1 5000", 0),
        ("fd_write 6 8 1 5000", 0),
    ]);
    let run = |seed| {
        let launch = hb_sandbox::Launch { seed: [seed; 32], ..launch() };
        let (outcome, ledger) = script.outcome(&bench, launch);
        assert_eq!(outcome, Outcome::Success);
        ledger.end().clone()
    };
    let first = run(1);
    assert_eq!(first.bytes(hb_types::capture::ContentId::STDOUT).len(), 4096);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}
