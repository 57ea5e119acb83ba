//! Guests in WebAssembly text: core modules for preview 1 with the functions that tests need.

/// A core module whose `_start` is `body`, with `items` beside it.
///
/// Memory: 40 pages; 0..1024 is scratch for `$print` and results, 1024.. is free for `items`, and
/// from 1 MiB on `cabi_realloc` gives away what is never returned.
pub fn program(items: &str, body: &str) -> String {
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "fd_write"
            (func $fd_write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read"
            (func $fd_read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "clock_time_get"
            (func $clock_time_get (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get"
            (func $random_get (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
        (import "hackbrain:job/checkpoint@0.1.0" "restore" (func $restore (param i32)))
        (import "hackbrain:job/checkpoint@0.1.0" "due" (func $due (param i64) (result i32)))
        (import "hackbrain:job/checkpoint@0.1.0" "save"
            (func $save (param i64 i32 i32) (result i64)))
        (import "hackbrain:job/progress@0.1.0" "report"
            (func $report (param i64 i32 i64)))
        (import "hackbrain:job/progress@0.1.0" "metric"
            (func $metric (param i32 i32 f64)))
        (import "hackbrain:job/progress@0.1.0" "note" (func $note (param i32 i32)))
        (memory (export "memory") 40)
        (global $free (mut i32) (i32.const 1048576))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (local $at i32)
            (global.set $free (i32.and
                (i32.add (global.get $free) (i32.sub (local.get 2) (i32.const 1)))
                (i32.sub (i32.const 0) (local.get 2))))
            (local.set $at (global.get $free))
            (global.set $free (i32.add (global.get $free) (local.get 3)))
            (local.get $at))
        (func $write (param $stream i32) (param $at i32) (param $len i32)
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (local.get $len))
            (if (call $fd_write (local.get $stream) (i32.const 0) (i32.const 1) (i32.const 8))
                (then unreachable)))
        (func $print (param $at i32) (param $len i32)
            (call $write (i32.const 1) (local.get $at) (local.get $len)))
        (func $hex (param $value i64)
            (local $at i32) (local $digit i32)
            (i32.store8 (i32.const 80) (i32.const 10))
            (local.set $at (i32.const 79))
            (loop $next
                (local.set $digit (i32.wrap_i64 (i64.and (local.get $value) (i64.const 15))))
                (i32.store8 (local.get $at) (i32.add (local.get $digit)
                    (select (i32.const 48) (i32.const 87)
                        (i32.lt_u (local.get $digit) (i32.const 10)))))
                (local.set $value (i64.shr_u (local.get $value) (i64.const 4)))
                (local.set $at (i32.sub (local.get $at) (i32.const 1)))
                (br_if $next (i32.ge_u (local.get $at) (i32.const 64))))
            (call $print (i32.const 64) (i32.const 17)))
        (func $now (param $clock i32) (result i64)
            (if (call $clock_time_get (local.get $clock) (i64.const 1) (i32.const 96))
                (then unreachable))
            (i64.load (i32.const 96)))
        (func $random (result i64)
            (if (call $random_get (i32.const 104) (i32.const 8)) (then unreachable))
            (i64.load (i32.const 104)))
        (func $sleep (param $ns i64)
            (memory.fill (i32.const 128) (i32.const 0) (i32.const 96))
            (i32.store (i32.const 144) (i32.const 1))
            (i64.store (i32.const 152) (local.get $ns))
            (if (call $poll_oneoff (i32.const 128) (i32.const 192) (i32.const 1) (i32.const 224))
                (then unreachable)))
        {items}
        (func (export "_start") {body}))"#
    )
}

/// A job of `steps` steps. Each prints what clock and random stream say and folds it into its
/// state; it saves where that is due, and restores first.
pub fn stepper(steps: u32) -> String {
    program(
        "(global $step (mut i64) (i64.const 0)) (global $sum (mut i64) (i64.const 0))",
        &format!(
            r"
            (local $at i32)
            (call $restore (i32.const 256))
            (if (i32.load8_u (i32.const 256)) (then
                (local.set $at (i32.load (i32.const 280)))
                (if (i32.ne (i32.load (i32.const 284)) (i32.const 16)) (then unreachable))
                (global.set $step (i64.load (local.get $at)))
                (global.set $sum (i64.load offset=8 (local.get $at)))
                ;; The cost of rebuilding: not to be seen in anything.
                (drop (call $random)) (drop (call $now (i32.const 0)))))
            (loop $next
                (if (call $due (global.get $step)) (then
                    (i64.store (i32.const 300) (global.get $step))
                    (i64.store (i32.const 308) (global.get $sum))
                    (drop (call $save (global.get $step) (i32.const 300) (i32.const 16)))))
                (global.set $sum (i64.add (i64.mul (global.get $sum) (i64.const 31))
                    (i64.xor (call $random) (call $now (i32.const 1)))))
                (call $report (global.get $step) (i32.const 1) (i64.const {steps}))
                (call $sleep (i64.const 1000000007))
                (call $hex (global.get $sum))
                (global.set $step (i64.add (global.get $step) (i64.const 1)))
                (br_if $next (i64.lt_u (global.get $step) (i64.const {steps}))))
            (call $hex (call $now (i32.const 0)))"
        ),
    )
}
