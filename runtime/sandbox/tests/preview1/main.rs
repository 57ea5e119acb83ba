//! Core modules for WASI preview 1, which run as they are.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod errors;
mod files;
mod limits;
mod random;
mod script;

use std::fs;

use common::{Bench, Ledger, launch};
use hb_sandbox::{Control, Ended, PrepareError, Rejection};
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

/// The same without a compiler for C: all memory is the module's from the start, also what it
/// gets by growing, and every byte of it keeps its value through calls of all kinds.
#[test]
fn nothing_of_the_host_lies_in_a_modules_memory() {
    let bench = Bench::new();
    let body = "
        (local $at i32)
        (drop (memory.grow (i32.const 3)))
        (memory.fill (i32.const 256) (i32.const 0xa5) (i32.const 261888))
        (drop (call $args_sizes_get (i32.const 0) (i32.const 4)))
        (drop (call $random_get (i32.const 0) (i32.const 200)))
        (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 0)))
        (drop (call $fd_prestat_get (i32.const 3) (i32.const 0)))
        (drop (call $fd_fdstat_get (i32.const 1) (i32.const 0)))
        (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 5))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
        (drop (call $fd_readdir (i32.const 3) (i32.const 0) (i32.const 200) (i64.const 0)
            (i32.const 204)))
        (if (i32.ne (memory.size) (i32.const 4)) (then (call $exit (i32.const 1))))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const 4)) (then (call $exit (i32.const 2))))
        (local.set $at (i32.const 256))
        (loop $next
            (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 0xa5))
                (then (call $exit (i32.const 3))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 262144))))";
    assert_eq!(bench.end_of(&script::module("", body)).0.outcome, Outcome::Success);
}

#[test]
fn what_is_no_program_for_preview_1_is_refused_with_a_reason() {
    let bench = Bench::new();
    let refused = |source: &str| match bench.prepare_text(source) {
        Err(PrepareError::Rejected(rejection)) => rejection,
        other => panic!("{source}: {other:?}"),
    };
    for (module, name) in
        [("wasi_snapshot_preview1", "thread_spawn"), ("wasi_unstable", "fd_write"), ("env", "x")]
    {
        let source =
            format!(r#"(module (import "{module}" "{name}" (func)) (func (export "_start")))"#);
        let Rejection::UnknownImports { names, .. } = refused(&source) else { panic!("{name}") };
        assert_eq!(names, [format!("{module}.{name}")]);
    }
    let wrong = [
        (r#"(module (func (export "_start") (param i32)))"#, "_start"),
        (r#"(module (func (export "_start") (result i32) (i32.const 0)))"#, "_start"),
        (
            r#"(module (import "wasi_snapshot_preview1" "fd_close" (func (param i64)))
                (func (export "_start")))"#,
            "fd_close",
        ),
    ];
    for (source, what) in wrong {
        let Rejection::Invalid { message, advice } = refused(source) else { panic!("{source}") };
        assert!(message.contains(what), "{message}");
        assert_eq!(advice, "build it as a command for wasm32-wasip1");
    }
}

/// With other interfaces beside preview 1 a module still goes through the adapter, which must not
/// take memory behind the back of the module's allocator.
#[test]
fn a_module_with_other_interfaces_must_have_memory_to_give() {
    let bench = Bench::new();
    let source = |realloc: &str| {
        format!(
            r#"(module
            (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (import "hackbrain:job/progress@0.1.0" "report" (func (param i64 i32 i64)))
            (memory (export "memory") 2) {realloc}
            (func (export "_start") (drop (call $yield))))"#
        )
    };
    let Err(PrepareError::Rejected(Rejection::Invalid { message, .. })) =
        bench.prepare_text(&source(""))
    else {
        panic!("it was not refused")
    };
    assert!(message.contains("cabi_realloc"), "{message}");
    let realloc = r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (i32.const 65536))"#;
    assert_eq!(bench.end_of(&source(realloc)).0.outcome, Outcome::Success);
}
