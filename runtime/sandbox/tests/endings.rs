//! Every way in which a guest can end.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::Bench;
use hb_types::outcome::Outcome;

fn exits_with(code: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const {code}))))"#
    )
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
        assert_eq!(bench.end_of(&exits_with(code)).0.outcome, outcome, "code {code}");
    }
}
