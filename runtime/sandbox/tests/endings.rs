//! Every way in which a guest can end, and the name that each has.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use common::{Bench, Ledger, launch, launch_with, program::program};
use hb_sandbox::{Control, Ended, Ending, HostFault, Saved, Session, Stream};
use hb_types::{
    capture::{Capture, Progress, Restored},
    limits::{Limit, LimitReached, Limits},
    outcome::{Outcome, TrapKind},
};

fn limit(limit: Limit, value: u64, wanted: u64) -> Outcome {
    Outcome::Limit { reached: LimitReached { limit, value, wanted } }
}

fn trap(trap: TrapKind) -> Outcome {
    Outcome::Trap { trap }
}

#[test]
fn exit_codes_of_preview_1_are_kept_and_no_failure_becomes_success() {
    let bench = Bench::new();
    for (code, outcome) in [
        (0, Outcome::Success),
        (1, Outcome::Exit { code: 1 }),
        (42, Outcome::Exit { code: 42 }),
        (255, Outcome::Exit { code: 255 }),
        (256, Outcome::Exit { code: 1 }),
        (300, Outcome::Exit { code: 44 }),
    ] {
        let source = program("", &format!("(call $exit (i32.const {code}))"));
        assert_eq!(bench.end_of(&source).0.outcome, outcome, "code {code}");
    }
    assert_eq!(bench.end_of(&program("", "")).0.outcome, Outcome::Success);
}

/// A component whose `run` answers as told, through the interface of WASI 0.2.
fn component(core_body: &str) -> String {
    format!(
        r#"(component
            (import "wasi:cli/exit@0.2.12" (instance $exit
                (export "exit" (func (param "status" (result))))
                (export "exit-with-code" (func (param "status-code" u8)))))
            (core func $exit (canon lower (func $exit "exit")))
            (core func $exit_with_code (canon lower (func $exit "exit-with-code")))
            (core module $main
                (import "exit" "exit" (func $exit (param i32)))
                (import "exit" "exit-with-code" (func $exit_with_code (param i32)))
                (func (export "run") (result i32) {core_body}))
            (core instance $main (instantiate $main (with "exit" (instance
                (export "exit" (func $exit))
                (export "exit-with-code" (func $exit_with_code))))))
            (func $run (result (result)) (canon lift (core func $main "run")))
            (instance (export "wasi:cli/run@0.2.3") (export "run" (func $run))))"#
    )
}

#[test]
fn a_component_ends_by_its_result_by_exit_and_by_exit_with_code() {
    let bench = Bench::new();
    for (body, outcome) in [
        ("(i32.const 0)", Outcome::Success),
        ("(i32.const 1)", Outcome::Exit { code: 1 }),
        ("(call $exit (i32.const 0)) (i32.const 1)", Outcome::Success),
        ("(call $exit (i32.const 1)) (i32.const 0)", Outcome::Exit { code: 1 }),
        ("(call $exit_with_code (i32.const 42)) (i32.const 0)", Outcome::Exit { code: 42 }),
        ("(call $exit_with_code (i32.const 0)) (i32.const 1)", Outcome::Success),
        ("(i32.const 7)", trap(TrapKind::ContractBroken)),
    ] {
        assert_eq!(bench.end_of(&component(body)).0.outcome, outcome, "{body}");
    }
}

#[test]
fn each_trap_has_its_name() {
    let bench = Bench::new();
    let items = r"(table 2 funcref) (type $void (func)) (type $number (func (result i32)))
        (elem (i32.const 0) $number) (func $number (result i32) (i32.const 1))
        (func $deep (param i64) (result i64)
            (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    for (body, kind) in [
        ("unreachable", TrapKind::Unreachable),
        ("(drop (i32.load (i32.const -1)))", TrapKind::MemoryOutOfBounds),
        ("(call_indirect (type $void) (i32.const 5))", TrapKind::TableOutOfBounds),
        ("(call_indirect (type $void) (i32.const 1))", TrapKind::IndirectCallToNull),
        ("(call_indirect (type $void) (i32.const 0))", TrapKind::BadSignature),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", TrapKind::DivisionByZero),
        ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", TrapKind::IntegerOverflow),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", TrapKind::BadConversionToInteger),
        ("(drop (call $deep (i64.const 0)))", TrapKind::StackOverflow),
    ] {
        let (ending, _) = bench.end_of(&program(items, body));
        assert_eq!(ending.outcome, trap(kind), "{body}");
        assert!(!ending.explanation.backtrace.is_empty(), "{body}");
        assert!(ending.explanation.backtrace.len() <= 64, "{body}");
    }
}

#[test]
fn what_a_contract_forbids_traps_and_says_why() {
    let bench = Bench::new();
    let save = "(drop (call $save (i64.const 3) (i32.const 0) (i32.const 0)))";
    for (body, expected) in [
        ("(call $restore (i32.const 256)) (call $restore (i32.const 256))".to_owned(), "restore"),
        (format!("{save} (call $restore (i32.const 256))"), "restore"),
        (
            "(drop (call $due (i64.const 5))) (drop (call $due (i64.const 4)))".to_owned(),
            "falls from 5 to 4",
        ),
        (
            "(drop (call $due (i64.const 5)))
             (drop (call $save (i64.const 4) (i32.const 0) (i32.const 0)))"
                .to_owned(),
            "falls from 5 to 4",
        ),
        ("(drop (call $random_get (i32.const 0) (i32.const 16777217)))".to_owned(), "16777217"),
        // The list of a checkpoint's state leaves memory.
        (
            "(drop (call $save (i64.const 1) (i32.const 2621400) (i32.const 73)))".to_owned(),
            "out of bounds",
        ),
        // A name that is no UTF-8.
        (
            "(i32.store (i32.const 512) (i32.const -1))
             (call $note (i32.const 512) (i32.const 4))"
                .to_owned(),
            "utf-8",
        ),
    ] {
        let (ending, _) = bench.end_of(&program("", &body));
        assert_eq!(ending.outcome, trap(TrapKind::ContractBroken), "{body}");
        let message = &ending.explanation.message;
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn fuel_ends_at_the_same_count_every_time() {
    let bench = Bench::new();
    let source = program("", "(loop $forever (br $forever))");
    for fuel in [1, 1_000, 100_000, 100_001, 5_000_000] {
        let (ending, _) = bench.end_with(&source, launch_with(|limits| limits.fuel = fuel));
        assert_eq!(ending.outcome, limit(Limit::Fuel, fuel, 0));
        assert_eq!(ending.counters.fuel_used, fuel);
    }
    let used = |_| bench.end_of(&program("", "(call $hex (i64.const 1))")).0.counters.fuel_used;
    let [first, second] = [0, 1].map(used);
    assert_eq!(first, second);
    let with = |fuel| {
        let source = program("", "(call $hex (i64.const 1))");
        bench.end_with(&source, launch_with(|limits| limits.fuel = fuel)).0.outcome
    };
    assert_eq!(with(first), Outcome::Success);
    // The budget is looked at where functions begin and loops turn, not at every operator.
    assert_eq!(with(first - 100), limit(Limit::Fuel, first - 100, 0));
}

#[test]
fn memory_over_all_growth_has_one_limit_and_what_the_module_forbids_itself_is_minus_one() {
    let bench = Bench::new();
    let grow = |pages: u64| {
        let source = program("", &format!("(drop (memory.grow (i32.const {pages})))"));
        bench.end_with(&source, launch_with(|limits| limits.memory_bytes = 8 << 20)).0
    };
    let ending = grow(10);
    assert_eq!(ending.outcome, Outcome::Success);
    assert!(ending.peak_memory_bytes >= 50 << 16);
    let ending = grow(1_000);
    let Outcome::Limit { reached } = ending.outcome else { panic!("{:?}", ending.outcome) };
    assert_eq!((reached.limit, reached.value), (Limit::Memory, 8 << 20));
    assert!(reached.wanted > 1_000 << 16);

    let bounded = r#"(module (memory (export "memory") 1 2) (func (export "_start")
        (if (i32.ne (memory.grow (i32.const 5)) (i32.const -1)) (then unreachable))))"#;
    assert_eq!(bench.end_of(bounded).0.outcome, Outcome::Success);

    let large = r#"(module (memory (export "memory") 30000) (func (export "_start")))"#;
    let ending = bench.end_of(large).0;
    assert!(matches!(ending.outcome, Outcome::Limit { reached } if reached.limit == Limit::Memory));
}

#[test]
fn tables_have_a_limit() {
    let bench = Bench::new();
    let source = program(
        "(table $t 1 funcref)",
        "(drop (table.grow $t (ref.null func) (i32.const 200000)))",
    );
    let outcome = bench.end_of(&source).0.outcome;
    let Outcome::Limit { reached } = outcome else { panic!("{outcome:?}") };
    assert_eq!((reached.limit, reached.value), (Limit::TableElements, 100_000));
}

#[test]
fn instances_have_a_limit() {
    let bench = Bench::new();
    let (ending, _) = bench.end_with(&program("", ""), launch_with(|limits| limits.instances = 2));
    assert_eq!(ending.outcome, limit(Limit::Instances, 2, 0));
}

#[test]
fn an_output_stream_ends_at_its_limit_and_keeps_what_fitted() {
    let bench = Bench::new();
    for (stream, which) in [(1, Limit::Stdout), (2, Limit::Stderr)] {
        let body = format!(
            "(memory.fill (i32.const 1024) (i32.const 120) (i32.const 100))
             (loop $more (call $write (i32.const {stream}) (i32.const 1024) (i32.const 100))
                (br $more))"
        );
        let launch = launch_with(|limits| limits.set(which, 100_050));
        let (ending, ledger) = bench.end_with(&program("", &body), launch);
        assert_eq!(ending.outcome, limit(which, 100_050, 100_100));
        let id = hb_types::capture::ContentId(stream);
        assert_eq!(ledger.end().bytes(id), vec![b'x'; 100_050]);
        let shown: usize = ledger.live.iter().map(|(_, bytes)| bytes.len()).sum();
        assert_eq!(shown, 100_050);
        let expected = if stream == 1 { Stream::Stdout } else { Stream::Stderr };
        assert!(ledger.live.iter().all(|(found, _)| *found == expected));
    }
}

#[test]
fn checkpoints_have_a_size_and_a_number() {
    let bench = Bench::new();
    let source = program(
        "",
        "(drop (call $save (i64.const 1) (i32.const 0) (i32.const 10)))
         (drop (call $save (i64.const 2) (i32.const 0) (i32.const 11)))",
    );
    let (ending, ledger) =
        bench.end_with(&source, launch_with(|limits| limits.checkpoint_bytes = 10));
    assert_eq!(ending.outcome, limit(Limit::CheckpointBytes, 10, 11));
    assert_eq!(ledger.points.len(), 1);
    let (ending, ledger) = bench.end_with(&source, launch_with(|limits| limits.checkpoints = 1));
    assert_eq!(ending.outcome, limit(Limit::Checkpoints, 1, 2));
    assert_eq!(ledger.points.len(), 1);
}

#[test]
fn one_host_call_copies_only_so_much() {
    let bench = Bench::new();
    let source = program("", "(call $note (i32.const 0) (i32.const 5000))");
    let (ending, _) = bench.end_with(&source, launch_with(|limits| limits.hostcall_bytes = 4_999));
    assert_eq!(ending.outcome, limit(Limit::HostcallBytes, 4_999, 0));
}

#[test]
fn handles_have_a_limit() {
    let bench = Bench::new();
    let source = r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $pollable (eq $p)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (core func $subscribe (canon lower (func $clock "subscribe-duration")))
        (core module $main
            (import "clock" "subscribe" (func $subscribe (param i64) (result i32)))
            (func (export "run") (result i32)
                (loop $more (drop (call $subscribe (i64.const 5))) (br $more)) (i32.const 0)))
        (core instance $main (instantiate $main
            (with "clock" (instance (export "subscribe" (func $subscribe))))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;
    let (ending, _) = bench.end_with(source, launch_with(|limits| limits.handles = 50));
    assert_eq!(ending.outcome, limit(Limit::Handles, 50, 0));
    let (ending, _) = bench.end_of(source);
    assert_eq!(ending.outcome, limit(Limit::Handles, 10_000, 0));
}

#[test]
fn a_cancellation_and_a_deadline_stop_an_endless_loop_whatever_it_calls() {
    let bench = Bench::new();
    for body in [
        "(loop $forever (br $forever))",
        "(loop $forever (drop (call $due (i64.const 1))) (br $forever))",
        "(loop $forever (drop (call $random_get (i32.const 0) (i32.const 100000))) (br $forever))",
        "(loop $forever (call $sleep (i64.const 1000000000000000)) (br $forever))",
        "(loop $forever (call $print (i32.const 0) (i32.const 0)) (br $forever))",
    ] {
        let prepared = bench.prepare_text(&program("", body)).unwrap();
        let control = Control {
            deadline: Some(Instant::now() + Duration::from_millis(30)),
            ..Control::default()
        };
        let mut launch = launch();
        launch.limits.deadline_ms = 30;
        launch.limits.fuel = u64::MAX;
        let ended = bench.sandbox.run(&prepared, launch, &mut Ledger::default(), &control).unwrap();
        let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
        assert_eq!(ending.outcome, limit(Limit::Deadline, 30, 0), "{body}");

        let control = Control::default();
        let ended = thread::scope(|scope| {
            let running = scope.spawn(|| {
                let launch = launch_with(|limits| limits.fuel = u64::MAX);
                bench.sandbox.run(&prepared, launch, &mut Ledger::default(), &control)
            });
            control.cancel.store(true, Ordering::Relaxed);
            running.join().unwrap().unwrap()
        });
        let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
        assert_eq!(ending.outcome, Outcome::Cancelled, "{body}");
    }
}

#[test]
fn names_of_functions_cannot_forge_a_line_or_move_a_cursor() {
    let bench = Bench::new();
    let long = "n".repeat(100_000);
    let items = format!(
        r#"(func $a (@name "evil\1b[2J\nERROR forged \e2\80\ae") (call $b))
           (func $b (@name "{long}") unreachable)"#
    );
    let (ending, _) = bench.end_of(&program(&items, "(call $a)"));
    assert_eq!(ending.outcome, trap(TrapKind::Unreachable));
    let shown = ending.explanation.backtrace.join("|");
    assert!(shown.contains("evil\\u{1b}[2J\\u{a}ERROR forged"), "{shown}");
    assert!(!shown.contains(['\n', '\u{1b}', '\u{202e}']), "{shown}");
    assert!(ending.explanation.backtrace.iter().all(|line| line.len() < 300));
}

/// A session whose every call that can fail fails.
struct Broken;

impl Session for Broken {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        Err(HostFault::new("the ledger is gone", std::io::Error::other("no disk")))
    }
    fn due(&mut self, _step: u64) -> bool {
        true
    }
    fn save(&mut self, _capture: &Capture<'_>) -> Result<Saved, HostFault> {
        Err(HostFault::message("the disk is full"))
    }
    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}
    fn progress(&mut self, _progress: &Progress) {}
    fn finish(&mut self, _ending: &Ending, _capture: &Capture<'_>) -> Result<(), HostFault> {
        Err(HostFault::message("nothing can be finished"))
    }
}

#[test]
fn a_fault_of_the_host_is_no_outcome_of_the_job() {
    let bench = Bench::new();
    for (body, expected) in [
        ("(call $restore (i32.const 256))", "the ledger is gone"),
        ("(drop (call $save (i64.const 1) (i32.const 0) (i32.const 0)))", "the disk is full"),
        ("", "nothing can be finished"),
    ] {
        let prepared = bench.prepare_text(&program("", body)).unwrap();
        let fault = bench
            .sandbox
            .run(&prepared, launch(), &mut Broken, &Control::default())
            .expect_err("the session is broken");
        assert_eq!(fault.to_string(), expected);
    }
}

/// A session with a bug.
struct Panics;

impl Session for Panics {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        Ok(None)
    }
    fn due(&mut self, _step: u64) -> bool {
        panic!("a bug in the host")
    }
    fn save(&mut self, _capture: &Capture<'_>) -> Result<Saved, HostFault> {
        unreachable!("nothing is saved")
    }
    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}
    fn progress(&mut self, _progress: &Progress) {}
    fn finish(&mut self, _ending: &Ending, _capture: &Capture<'_>) -> Result<(), HostFault> {
        unreachable!("nothing is finished")
    }
}

#[test]
fn a_panic_below_a_guest_is_a_fault_and_the_sandbox_goes_on() {
    let bench = Bench::new();
    let prepared = bench.prepare_text(&program("", "(drop (call $due (i64.const 1)))")).unwrap();
    let fault = bench
        .sandbox
        .run(&prepared, launch(), &mut Panics, &Control::default())
        .expect_err("the session panics");
    assert!(fault.to_string().contains("a bug in the host"), "{fault}");
    let mut ledger = Ledger::default();
    let ended = bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    assert!(matches!(ended, Ended::Finished(_)));
}

#[test]
fn limits_of_a_job_are_within_the_ceilings_that_the_engine_was_built_for() {
    assert_eq!(Limit::Stack.spec().ceiling, 512 * 1024);
    assert!(Limits::default().check(&Limits::ceilings()).is_ok());
}
