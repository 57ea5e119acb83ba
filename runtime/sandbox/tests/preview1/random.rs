//! Arguments at random: whatever a guest passes, the host answers.

use std::fmt::Write as _;

use hb_types::outcome::Outcome;

use crate::{
    common::{Bench, launch_with},
    script::{FUNCTIONS, module, wasm_type},
};

/// Random numbers that are often small (descriptors, flags, lengths), often an address, sometimes
/// the greatest there are, and otherwise anything.
const PICK: &str = r"
    (global $state (mut i64) (i64.const SEED))
    (func $next (result i64)
        (global.set $state (i64.xor (global.get $state)
            (i64.shl (global.get $state) (i64.const 13))))
        (global.set $state (i64.xor (global.get $state)
            (i64.shr_u (global.get $state) (i64.const 7))))
        (global.set $state (i64.xor (global.get $state)
            (i64.shl (global.get $state) (i64.const 17))))
        (global.get $state))
    (func $i64 (result i64)
        (local $value i64) (local $how i32)
        (local.set $value (call $next))
        (local.set $how (i32.and (i32.wrap_i64 (call $next)) (i32.const 15)))
        (if (i32.lt_u (local.get $how) (i32.const 7))
            (then (return (i64.and (local.get $value) (i64.const 15)))))
        (if (i32.lt_u (local.get $how) (i32.const 12))
            (then (return (i64.and (local.get $value) (i64.const 4095)))))
        (if (i32.eq (local.get $how) (i32.const 12))
            (then (return (i64.sub (i64.const 0) (i64.and (local.get $value) (i64.const 15))))))
        (if (i32.eq (local.get $how) (i32.const 13))
            (then (return (i64.sub (i64.const 65536)
                (i64.and (local.get $value) (i64.const 63))))))
        (if (i32.eq (local.get $how) (i32.const 14))
            (then (return (i64.shr_u (i64.const -1) (i64.and (local.get $value) (i64.const 63))))))
        (local.get $value))
    (func $i32 (result i32) (i32.wrap_i64 (call $i64)))";

fn call(name: &str, parameters: &str) -> String {
    let arguments: Vec<String> =
        parameters.chars().map(|letter| format!("(call ${})", wasm_type(letter))).collect();
    format!("(drop (call ${name} {}))", arguments.join(" "))
}

/// A loop around `body`, with small random numbers in the memory at each turn.
fn turns(count: u32, seed: u64, body: &str) -> String {
    let body = format!(
        "(local $turn i32) (local $at i32)
        (loop $again
            (local.set $at (i32.and (i32.wrap_i64 (call $next)) (i32.const 4088)))
            (i64.store (local.get $at) (call $i64))
            (i32.store (i32.xor (local.get $at) (i32.const 8)) (call $i32))
            (i32.store (i32.xor (local.get $at) (i32.const 20)) (call $i32))
            {body}
            (local.set $turn (i32.add (local.get $turn) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $turn) (i32.const {count}))))"
    );
    module(&PICK.replace("SEED", &seed.to_string()), &body)
}

fn check(bench: &Bench, source: &str) {
    // Not the output should end it, but the last turn.
    let launch = launch_with(|limits| limits.stdout_bytes = 4 << 30);
    let launch = hb_sandbox::Launch {
        limits: hb_types::limits::Limits { stderr_bytes: 4 << 30, ..launch.limits.clone() },
        ..launch
    };
    let (ending, _) = bench.end_with(source, launch);
    assert_eq!(ending.outcome, Outcome::Success, "{:?}", ending.explanation);
}

#[test]
fn each_function_bears_ten_thousand_random_calls() {
    let bench = Bench::new();
    for (seed, (name, parameters)) in (1..).zip(FUNCTIONS) {
        check(&bench, &turns(10_000, seed, &call(name, parameters)));
    }
}

/// Opening, closing, renaming and renumbering in any order, with descriptors that exist.
#[test]
fn all_functions_together_bear_random_calls_in_any_order() {
    let bench = Bench::new();
    let mut arms = String::new();
    for (number, (name, parameters)) in FUNCTIONS.iter().enumerate() {
        let call = call(name, parameters);
        write!(arms, "(if (i32.eq (local.get $which) (i32.const {number})) (then {call}))")
            .unwrap();
    }
    let body = format!(
        "(local.set $which (i32.rem_u (i32.wrap_i64 (call $next)) (i32.const {})))
        ;; A good name in a good place, and a descriptor that is open.
        (i32.store8 (i32.const 3) (i32.add (i32.const 97)
            (i32.and (i32.wrap_i64 (call $next)) (i32.const 3))))
        (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 3) (i32.const 1)
            (i32.const 1) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 4200)))
        {arms}
        (if (i32.gt_u (i32.load (i32.const 4200)) (i32.const 12))
            (then (drop (call $fd_close (i32.load (i32.const 4200))))))",
        FUNCTIONS.len()
    );
    for seed in 1..=4 {
        let source = turns(50_000, seed * 0x9e37_79b9, &body)
            .replace("(local $turn i32)", "(local $turn i32) (local $which i32)");
        check(&bench, &source);
    }
}
