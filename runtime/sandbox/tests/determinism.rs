//! The same job twice is the same job: clocks, random numbers, waiting, fuel.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{io::Write, thread};

use common::{
    Bench, Ledger, launch,
    program::{program, stepper},
};
use hb_sandbox::{Control, Ended, Launch};
use hb_types::outcome::Outcome;

const START_NS: u64 = 1_700_000_000_000_000_000;
const DAY_NS: u64 = 86_400_000_000_000;

/// The numbers that a guest printed.
fn numbers(ledger: &Ledger) -> Vec<u64> {
    ledger.end().stdout().lines().map(|line| u64::from_str_radix(line, 16).unwrap()).collect()
}

#[test]
fn two_runs_of_a_job_are_equal_in_everything_that_is_kept() {
    let bench = Bench::new();
    let source = stepper(20);
    let (first, first_ledger) = bench.end_of(&source);
    let (second, second_ledger) = bench.end_of(&source);
    assert_eq!(first, second);
    assert_eq!(first_ledger.finished, second_ledger.finished);
    assert_eq!(first_ledger.points, second_ledger.points);
    assert_eq!(first.outcome, Outcome::Success);
    assert_eq!(numbers(&first_ledger).len(), 21);
}

#[test]
fn runs_at_the_same_time_do_not_see_each_other() {
    let bench = Bench::new();
    let prepared = bench.prepare_text(&stepper(50)).unwrap();
    let run = || {
        let mut ledger = Ledger::default();
        bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
        ledger.finished
    };
    let alone = run();
    thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        for together in runs {
            assert_eq!(together.join().unwrap(), alone);
        }
    });
}

#[test]
fn both_clocks_start_as_told_and_a_reading_costs_a_microsecond() {
    let bench = Bench::new();
    let body = "(call $hex (call $now (i32.const 0))) (call $hex (call $now (i32.const 1)))
                (call $hex (call $now (i32.const 1))) (call $hex (call $now (i32.const 0)))";
    let (ending, ledger) = bench.end_of(&program("", body));
    assert_eq!(numbers(&ledger), [START_NS, 1_000, 2_000, START_NS + 3_000]);
    assert_eq!(ending.counters.clock_ns, 4_000);
    let mut late = launch();
    late.start_ns = u64::MAX - 1_500;
    let (_, ledger) = bench.end_with(&program("", body), late);
    assert_eq!(numbers(&ledger)[0], u64::MAX - 1_500);
    assert_eq!(numbers(&ledger)[3], u64::MAX, "the end of time stands still");
}

#[test]
fn a_sleep_of_a_day_returns_at_once_and_a_day_has_passed() {
    let bench = Bench::new();
    let body = format!("(call $sleep (i64.const {DAY_NS})) (call $hex (call $now (i32.const 1)))");
    let (ending, ledger) = bench.end_of(&program("", &body));
    assert_eq!(numbers(&ledger), [DAY_NS]);
    assert_eq!(ending.counters.clock_ns, DAY_NS + 1_000);
}

/// A component that asks `wasi:io/poll` in ways that preview 1 cannot.
fn poller(core: &str) -> String {
    format!(
        r#"(component
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))
            (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:io/streams@0.2.0" (instance $streams
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $pollable (eq $p)))
            (export "output-stream" (type $out (sub resource)))
            (export "[method]output-stream.subscribe"
                (func (param "self" (borrow $out)) (result (own $pollable))))))
        (alias export $streams "output-stream" (type $output))
        (import "wasi:cli/stdout@0.2.0" (instance $stdout
            (alias outer 1 $output (type $o))
            (export "output-stream" (type $out (eq $o)))
            (export "get-stdout" (func (result (own $out))))))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p))
            (export "pollable" (type $pollable (eq $p)))
            (export "now" (func (result u64)))
            (export "subscribe-instant" (func (param "when" u64) (result (own $pollable))))
            (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
        (core module $libc (memory (export "memory") 1) (global $free (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (global.get $free)
                (global.set $free (i32.add (global.get $free) (local.get 3)))))
        (core instance $libc (instantiate $libc))
        (core func $ready (canon lower (func $poll "[method]pollable.ready")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core func $poll (canon lower (func $poll "poll")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core func $writable (canon lower (func $streams "[method]output-stream.subscribe")))
        (core func $stdout (canon lower (func $stdout "get-stdout")))
        (core func $now (canon lower (func $clock "now")))
        (core func $at (canon lower (func $clock "subscribe-instant")))
        (core func $after (canon lower (func $clock "subscribe-duration")))
        (core module $main
            (import "libc" "memory" (memory 1))
            (import "host" "ready" (func $ready (param i32) (result i32)))
            (import "host" "block" (func $block (param i32)))
            (import "host" "poll" (func $poll (param i32 i32 i32)))
            (import "host" "writable" (func $writable (param i32) (result i32)))
            (import "host" "stdout" (func $stdout (result i32)))
            (import "host" "now" (func $now (result i64)))
            (import "host" "at" (func $at (param i64) (result i32)))
            (import "host" "after" (func $after (param i64) (result i32)))
            (func $check (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
            (func (export "run") (result i32) (local $a i32) (local $b i32) (local $c i32)
                {core} (i32.const 0)))
        (core instance $main (instantiate $main (with "libc" (instance $libc))
            (with "host" (instance (export "ready" (func $ready)) (export "block" (func $block))
                (export "poll" (func $poll)) (export "writable" (func $writable))
                (export "stdout" (func $stdout)) (export "now" (func $now))
                (export "at" (func $at)) (export "after" (func $after))))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#
    )
}

/// Stores the three pollables as a list and polls it; the answer's length and pointer are at 100.
const POLL: &str = "(i32.store (i32.const 0) (local.get $a)) (i32.store (i32.const 4) (local.get $b))
    (i32.store (i32.const 8) (local.get $c)) (call $poll (i32.const 0) (i32.const 3) (i32.const 100))";

#[test]
fn waiting_advances_the_clock_to_the_nearest_deadline_and_only_if_nothing_else_is_ready() {
    let bench = Bench::new();
    let three = |a: u64, b: u64, c: u64| {
        format!(
            "(local.set $a (call $after (i64.const {a}))) (local.set $b (call $after (i64.const {b})))
             (local.set $c (call $after (i64.const {c}))) {POLL}"
        )
    };
    let answer = |len: u32, first: u32, now: u64| {
        format!(
            "(call $check (i32.eq (i32.load (i32.const 104)) (i32.const {len})))
             (call $check (i32.eq (i32.load (i32.load (i32.const 100))) (i32.const {first})))
             (call $check (i64.eq (call $now) (i64.const {now})))"
        )
    };
    let cases = [
        // The nearest of three, and no other, whatever their order.
        format!("{} {}", three(3_000_000, 1_000_000, 2_000_000), answer(1, 1, 1_000_000)),
        // Two at the same time are both ready.
        format!("{} {}", three(5_000, 9_000, 5_000), answer(2, 0, 5_000)),
        // A deadline that was only asked about does not shorten or lengthen another wait.
        "(local.set $a (call $after (i64.const 100)))
             (call $check (i32.eqz (call $ready (local.get $a))))
             (call $block (call $after (i64.const 7_000)))
             (call $check (call $ready (local.get $a)))
             (call $check (i64.eq (call $now) (i64.const 7_000)))"
            .to_owned(),
        // What is ready wins over what would make time pass.
        format!(
            "(local.set $a (call $after (i64.const 1_000_000)))
             (local.set $b (call $writable (call $stdout)))
             (local.set $c (call $after (i64.const 2_000_000))) {POLL} {}",
            answer(1, 1, 0)
        ),
        // A moment in the past is ready; the end of time can be waited for.
        "(call $check (call $ready (call $at (i64.const 0))))
         (call $block (call $at (i64.const -1)))
         (call $check (i64.eq (call $now) (i64.const -2)))"
            .to_owned(),
        // The largest duration does not overflow.
        "(drop (call $now)) (call $block (call $after (i64.const -1)))
         (call $check (i64.eq (call $now) (i64.const -2)))"
            .to_owned(),
    ];
    for core in cases {
        let (ending, _) = bench.end_of(&poller(&core));
        assert_eq!(ending.outcome, Outcome::Success, "{core}: {:?}", ending.explanation);
    }
}

#[test]
fn an_empty_poll_breaks_the_contract() {
    let bench = Bench::new();
    let core = "(call $poll (i32.const 0) (i32.const 0) (i32.const 100))";
    let (ending, _) = bench.end_of(&poller(core));
    assert!(matches!(ending.outcome, Outcome::Trap { .. }), "{:?}", ending.outcome);
    assert!(ending.explanation.message.contains("empty"), "{}", ending.explanation.message);
}

#[test]
fn random_numbers_follow_from_the_seed_and_the_position() {
    let bench = Bench::new();
    let source = program("", "(call $hex (call $random)) (call $hex (call $random))");
    let drawn = |seed: [u8; 32]| {
        let (ending, ledger) = bench.end_with(&source, Launch { seed, ..launch() });
        assert_eq!(ending.counters.secure_random_bytes, 16);
        numbers(&ledger)
    };
    let first = drawn([1; 32]);
    assert_eq!(first, drawn([1; 32]));
    assert_ne!(first, drawn([2; 32]));
    assert_ne!(first[0], first[1]);
}

#[test]
fn the_bits_of_a_nan_are_the_same_whatever_made_it() {
    let bench = Bench::new();
    let body = "
        (call $hex (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.const 0))))
        (call $hex (i64.reinterpret_f64 (f64.sqrt (f64.const -1))))
        (call $hex (i64.reinterpret_f64 (f64.sub (f64.const inf) (f64.const inf))))
        (call $hex (i64.reinterpret_f64 (f64.mul (f64.const -nan:0xfffffffffffff) (f64.const 1))))
        (call $hex (i64.extend_i32_u (i32.reinterpret_f32 (f32.div (f32.const 0) (f32.const 0)))))";
    let (_, ledger) = bench.end_of(&program("", body));
    assert_eq!(numbers(&ledger), [[0x7ff8_0000_0000_0000; 4].as_slice(), &[0x7fc0_0000]].concat());
}

#[test]
fn standard_input_is_read_from_its_position_to_its_end_and_is_empty_without_a_file() {
    let bench = Bench::new();
    let source = program(
        "",
        "(i32.store (i32.const 512) (i32.const 2000)) (i32.store (i32.const 516) (i32.const 5))
         (loop $more
            (if (call $fd_read (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 520))
                (then unreachable))
            (call $print (i32.const 2000) (i32.load (i32.const 520)))
            (br_if $more (i32.load (i32.const 520))))",
    );
    let (ending, ledger) = bench.end_of(&source);
    assert_eq!((ending.outcome, ledger.end().stdout()), (Outcome::Success, String::new()));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"skipped the rest is read").unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(8)).unwrap();
    let (ending, ledger) = bench.end_with(&source, Launch { stdin: Some(file), ..launch() });
    assert_eq!(ending.outcome, Outcome::Success);
    assert_eq!(ledger.end().stdout(), "the rest is read");
}

#[test]
fn arguments_and_environment_are_what_was_given_and_nothing_more() {
    let bench = Bench::new();
    let source = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get"
            (func $args_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "environ_sizes_get"
            (func $environ_sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func $print (param i32 i32) (i32.store (i32.const 0) (local.get 0))
            (i32.store (i32.const 4) (local.get 1))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start")
            (drop (call $args_sizes (i32.const 16) (i32.const 20)))
            (drop (call $args (i32.const 100) (i32.const 1000)))
            (call $print (i32.const 1000) (i32.load (i32.const 20)))
            (drop (call $environ_sizes (i32.const 16) (i32.const 20)))
            (drop (call $environ (i32.const 100) (i32.const 1000)))
            (call $print (i32.const 1000) (i32.load (i32.const 20)))))"#;
    let given = Launch {
        arguments: vec!["name".to_owned(), "-k".to_owned(), "21".to_owned()],
        environment: vec![("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())],
        ..launch()
    };
    let (_, ledger) = bench.end_with(source, given);
    assert_eq!(ledger.end().stdout(), "name\0-k\u{0}21\0B=2\0A=1\0");
}

#[test]
fn no_socket_is_made_and_no_name_looked_up() {
    let bench = Bench::new();
    let source = r#"(component
        (import "wasi:sockets/network@0.2.0" (instance $network
            (export "network" (type (sub resource)))
            (type $code (enum "unknown" "access-denied" "not-supported" "invalid-argument"
                "out-of-memory" "timeout" "concurrency-conflict" "not-in-progress" "would-block"
                "invalid-state" "new-socket-limit" "address-not-bindable" "address-in-use"
                "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
                "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
                "permanent-resolver-failure"))
            (export "error-code" (type (eq $code)))
            (type $family (enum "ipv4" "ipv6"))
            (export "ip-address-family" (type (eq $family)))))
        (alias export $network "error-code" (type $code))
        (alias export $network "ip-address-family" (type $family))
        (import "wasi:sockets/tcp@0.2.0" (instance $tcp
            (export "tcp-socket" (type (sub resource)))))
        (alias export $tcp "tcp-socket" (type $socket))
        (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
            (alias outer 1 $code (type $c)) (export "error-code" (type $code (eq $c)))
            (alias outer 1 $family (type $f)) (export "ip-address-family" (type $family (eq $f)))
            (alias outer 1 $socket (type $s)) (export "tcp-socket" (type $socket (eq $s)))
            (export "create-tcp-socket" (func (param "address-family" $family)
                (result (result (own $socket) (error $code)))))))
        (core module $libc (memory (export "memory") 1))
        (core instance $libc (instantiate $libc))
        (core func $create (canon lower (func $create "create-tcp-socket") (memory (core memory $libc "memory"))))
        (core module $main
            (import "libc" "memory" (memory 1))
            (import "host" "create" (func $create (param i32 i32)))
            (func (export "run") (result i32)
                (call $create (i32.const 0) (i32.const 0))
                (if (i32.ne (i32.load8_u (i32.const 0)) (i32.const 1)) (then unreachable))
                (if (i32.ne (i32.load8_u (i32.const 4)) (i32.const 1)) (then unreachable))
                (i32.const 0)))
        (core instance $main (instantiate $main (with "libc" (instance $libc))
            (with "host" (instance (export "create" (func $create))))))
        (func $run (result (result)) (canon lift (core func $main "run")))
        (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;
    let (ending, _) = bench.end_of(source);
    assert_eq!(ending.outcome, Outcome::Success, "access was denied: {:?}", ending.explanation);
}

#[test]
fn a_watcher_sees_output_and_progress_as_they_come() {
    let bench = Bench::new();
    let prepared = bench.prepare_text(&stepper(3)).unwrap();
    let mut ledger = Ledger::default();
    let ended = bench.sandbox.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    assert!(matches!(ended, Ended::Finished(_)));
    let live: Vec<u8> = ledger.live.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert_eq!(live, ledger.end().stdout().into_bytes());
    assert_eq!(ledger.told, [(0, Some(3)), (1, Some(3)), (2, Some(3))]);
}
