//! The checkpoint contract: what is put back, and that a run which was stopped anywhere and taken
//! up again ends like one that was not.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::{Seek, Write};

use common::{
    Bench, Ledger, launch,
    program::{program, stepper},
};
use hb_sandbox::{Control, Ended, Ending};
use hb_types::outcome::Outcome;

/// Runs attempts, each ending after `saves` checkpoints, until the job ends.
fn run_in_pieces(bench: &Bench, source: &str, saves: u64) -> (Ending, Ledger, u64) {
    let prepared = bench.prepare_text(source).unwrap();
    let mut ledger = Ledger::default();
    for attempt in 1.. {
        ledger.new_attempt(Some(saves));
        let ended =
            bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
        match ended {
            Ended::Finished(ending) => return (ending, ledger, attempt),
            Ended::Stopped => assert!(ledger.finished.is_none(), "a stop has no ending"),
        }
    }
    unreachable!("every attempt makes progress")
}

#[test]
fn a_job_stopped_at_every_checkpoint_ends_like_one_that_never_was() {
    let bench = Bench::new();
    let source = stepper(12);
    let (whole, whole_ledger) = bench.end_of(&source);
    for saves in 1..=5 {
        let (pieces, ledger, attempts) = run_in_pieces(&bench, &source, saves);
        assert!(attempts > 1, "{saves} saves an attempt");
        assert_eq!(pieces.outcome, whole.outcome);
        // Fuel differs by the few operators around a restored checkpoint; nothing else may.
        let mut counters = pieces.counters;
        counters.fuel_used = whole.counters.fuel_used;
        assert_eq!(counters, whole.counters);
        assert_eq!(ledger.points.len(), whole_ledger.points.len());
        for (found, expected) in ledger.points.iter().zip(&whole_ledger.points) {
            assert_eq!((found.step, &found.state), (expected.step, &expected.state));
            assert_eq!(found.stdout(), expected.stdout());
            assert_eq!(found.counters.clock_ns, expected.counters.clock_ns);
        }
        assert_eq!(ledger.end().stdout(), whole_ledger.end().stdout());
        assert_eq!(ledger.end().progress, whole_ledger.end().progress);
    }
}

#[test]
fn what_fuel_drifts_by_over_a_restore_is_small_and_the_same_each_time() {
    let bench = Bench::new();
    let source = stepper(12);
    let (whole, _) = bench.end_of(&source);
    let (pieces, _, attempts) = run_in_pieces(&bench, &source, 1);
    let (again, ..) = run_in_pieces(&bench, &source, 1);
    assert_eq!(pieces.counters.fuel_used, again.counters.fuel_used);
    let drift = pieces.counters.fuel_used.abs_diff(whole.counters.fuel_used);
    // What a fresh instance initialises only after it has settled is paid by each attempt: here
    // the adapter's list of descriptors at the first print, some 11,000 units.
    assert!(drift <= 20_000 * attempts, "{drift} units over {attempts} attempts");
}

#[test]
fn the_first_due_after_restore_settles_the_cost_of_rebuilding_and_asks_nobody() {
    let bench = Bench::new();
    let source = program(
        "",
        "(call $restore (i32.const 256))
         (if (i32.load8_u (i32.const 256)) (then
            (drop (call $random)) (drop (call $now (i32.const 0))) (call $sleep (i64.const 99999))
            (if (call $due (i64.load (i32.const 272))) (then unreachable))))
         (call $hex (call $random)) (call $hex (call $now (i32.const 1)))
         (drop (call $save (i64.const 7) (i32.const 0) (i32.const 3)))",
    );
    let prepared = bench.prepare_text(&source).unwrap();
    let mut ledger = Ledger::default();
    let run = |ledger: &mut Ledger| {
        ledger.finished = None;
        bench.sandbox.run(&prepared, launch(), ledger, &Control::default()).unwrap()
    };
    run(&mut ledger);
    let first = ledger.points[0].clone();
    ledger.new_attempt(None);
    ledger.due_calls = 0;
    run(&mut ledger);
    assert_eq!(ledger.due_calls, 0, "settling is no question to the host");
    let second = &ledger.points[1];
    assert_eq!(second.sequence, 2);
    // The second run drew the next eight bytes and read the next microsecond, nothing between.
    assert_eq!(second.counters.secure_random_bytes, 2 * first.counters.secure_random_bytes);
    assert_eq!(second.counters.clock_ns, 2 * first.counters.clock_ns);
    assert!(second.stdout().starts_with(&first.stdout()));
    assert_eq!(second.stdout().lines().count(), 4);
}

#[test]
fn without_a_due_for_the_restored_step_rebuilding_is_charged() {
    let bench = Bench::new();
    let source = program(
        "",
        "(call $restore (i32.const 256)) (drop (call $now (i32.const 0)))
         (drop (call $due (i64.const 8)))
         (drop (call $save (i64.const 8) (i32.const 0) (i32.const 0)))",
    );
    let prepared = bench.prepare_text(&source).unwrap();
    let mut ledger = Ledger::default();
    bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    ledger.points[0].step = 7;
    ledger.finished = None;
    ledger.new_attempt(None);
    bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    assert_eq!(ledger.points[1].counters.clock_ns, 2 * ledger.points[0].counters.clock_ns);
}

#[test]
fn what_was_written_after_the_checkpoint_is_rolled_back() {
    let bench = Bench::new();
    // Prints, saves, prints more, and traps in the first attempt only.
    let source = program(
        "",
        "(call $restore (i32.const 256))
         (if (i32.load8_u (i32.const 256)) (then (call $hex (i64.const 3)))
          (else
            (call $hex (i64.const 1))
            (call $report (i64.const 5) (i32.const 0) (i64.const 0))
            (drop (call $save (i64.const 0) (i32.const 0) (i32.const 0)))
            (call $hex (i64.const 2))
            (call $report (i64.const 6) (i32.const 0) (i64.const 0))
            unreachable))",
    );
    let prepared = bench.prepare_text(&source).unwrap();
    let mut ledger = Ledger::default();
    bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    assert_eq!(ledger.end().stdout().lines().count(), 2);
    ledger.finished = None;
    ledger.new_attempt(None);
    let ended = bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
    assert_eq!(ending.outcome, Outcome::Success);
    let numbers: Vec<_> = ledger.end().stdout().lines().map(str::to_owned).collect();
    assert_eq!(numbers, ["0000000000000001", "0000000000000003"]);
    assert_eq!(ledger.end().progress.done, 5);
}

#[test]
fn fuel_is_not_refilled_by_another_attempt() {
    let bench = Bench::new();
    // Spins for a while between two saves, for ever.
    let source = program(
        "(global $step (mut i64) (i64.const 0))",
        "(local $spin i32)
         (call $restore (i32.const 256))
         (if (i32.load8_u (i32.const 256)) (then
            (global.set $step (i64.add (i64.load (i32.const 272)) (i64.const 1)))))
         (loop $steps
            (local.set $spin (i32.const 100000))
            (loop $spins
                (local.set $spin (i32.sub (local.get $spin) (i32.const 1)))
                (br_if $spins (local.get $spin)))
            (drop (call $save (global.get $step) (i32.const 0) (i32.const 0)))
            (global.set $step (i64.add (global.get $step) (i64.const 1)))
            (br $steps))",
    );
    let prepared = bench.prepare_text(&source).unwrap();
    let mut ledger = Ledger::default();
    let limits = hb_types::limits::Limits { fuel: 5_000_000, ..Default::default() };
    let mut attempts = 0;
    let ending = loop {
        attempts += 1;
        ledger.new_attempt(Some(1));
        let launch = hb_sandbox::Launch { limits: limits.clone(), ..launch() };
        let ended = bench.sandbox.run(&prepared, launch, &mut ledger, &Control::default()).unwrap();
        if let Ended::Finished(ending) = ended {
            break ending;
        }
        assert!(attempts < 100, "the fuel must end");
    };
    assert_eq!(ending.outcome.canonical(), "limit fuel");
    assert_eq!(ending.counters.fuel_used, 5_000_000);
    assert!(attempts > 3, "{attempts}");
}

#[test]
fn metrics_and_notes_are_kept_printable_and_counted() {
    let bench = Bench::new();
    let source = program(
        r#"(data (i32.const 2048) "loss\1b[1m") (global $n (mut i32) (i32.const 0))"#,
        r"(call $metric (i32.const 2048) (i32.const 8) (f64.const 1.5))
          (call $metric (i32.const 2048) (i32.const 8) (f64.const nan))
          (call $note (i32.const 2048) (i32.const 4))
          (drop (call $save (i64.const 1) (i32.const 0) (i32.const 0)))
          (memory.fill (i32.const 4096) (i32.const 97) (i32.const 5000))
          (call $note (i32.const 4096) (i32.const 5000))
          (loop $more
            (call $note (i32.const 2048) (i32.const 4))
            (i32.store (i32.const 3000) (global.get $n))
            (i32.store (i32.const 3000) (i32.add (i32.const 0x41414141)
                (i32.add (i32.and (global.get $n) (i32.const 15))
                (i32.add (i32.shl (i32.and (i32.shr_u (global.get $n) (i32.const 4)) (i32.const 15))
                    (i32.const 8))
                (i32.shl (i32.and (i32.shr_u (global.get $n) (i32.const 8)) (i32.const 15))
                    (i32.const 16))))))
            (call $metric (i32.const 3000) (i32.const 4) (f64.const 0))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $more (i32.lt_u (global.get $n) (i32.const 1500))))",
    );
    let (ending, ledger) = bench.end_of(&source);
    assert_eq!(ending.outcome, Outcome::Success);
    let point = &ledger.points[0].progress;
    assert_eq!(point.notes, ["loss"]);
    assert!(point.metrics["loss\\u{1b}[1m"].is_nan());
    let end = &ledger.end().progress;
    assert_eq!(end.metrics.len(), 1_000);
    assert_eq!(end.notes.len(), 1_002);
    assert!(end.notes[0].len() <= 4_100 && end.notes[0].ends_with('…'));
    assert!(end.notes[1_000].starts_with("501 further notes"), "{}", end.notes[1_000]);
    assert!(end.notes[1_001].starts_with("501 values"), "{}", end.notes[1_001]);
}

#[test]
fn standard_input_is_taken_up_where_the_checkpoint_left_it() {
    let bench = Bench::new();
    // Reads three bytes, prints them and saves, until nothing comes.
    let source = program(
        "(global $step (mut i64) (i64.const 0))",
        "(call $restore (i32.const 256))
         (if (i32.load8_u (i32.const 256)) (then
            (global.set $step (i64.load (i32.const 272)))))
         (i32.store (i32.const 512) (i32.const 2000)) (i32.store (i32.const 516) (i32.const 3))
         (loop $more
            (if (call $fd_read (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 520))
                (then unreachable))
            (call $print (i32.const 2000) (i32.load (i32.const 520)))
            (global.set $step (i64.add (global.get $step) (i64.const 1)))
            (drop (call $save (global.get $step) (i32.const 0) (i32.const 0)))
            (br_if $more (i32.load (i32.const 520))))",
    );
    let prepared = bench.prepare_text(&source).unwrap();
    let text = "what is read before a checkpoint is not read again";
    let mut ledger = Ledger::default();
    for attempt in 1.. {
        ledger.new_attempt(Some(2));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        let launch = hb_sandbox::Launch { stdin: Some(file), ..launch() };
        let ended = bench.sandbox.run(&prepared, launch, &mut ledger, &Control::default()).unwrap();
        if matches!(ended, Ended::Finished(_)) {
            assert!(attempt > 3);
            break;
        }
    }
    assert_eq!(ledger.end().stdout(), text);
    assert_eq!(ledger.end().counters.stdin_bytes, text.len() as u64);

    // Without the input that it had, the job cannot be taken up.
    ledger.new_attempt(None);
    let fault = bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default());
    assert!(fault.is_err_and(|fault| fault.to_string().contains("standard input")));
}
