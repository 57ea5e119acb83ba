//! Bad input gets a clear error of one line with the right exit code, and loses nothing.

use std::fs;

use crate::{
    guests::guest,
    support::{Running, World, wait_until},
};

fn file(world: &World, name: &str, bytes: &[u8]) -> String {
    let path = world.path(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_component_that_cannot_be_run_is_refused_before_there_is_a_job() {
    let world = World::new();
    let whole = fs::read(guest("hello")).unwrap();
    let cases = [
        ("text", b"#!/bin/sh".to_vec(), &["not WebAssembly", ".wasm or .wat"][..]),
        ("empty", Vec::new(), &["WebAssembly"]),
        ("cut", whole[..whole.len() / 2].to_vec(), &["cut off"]),
        ("library.wat", b"(module (func (export \"f\")))".to_vec(), &["_start"]),
        ("component.wat", b"(component)".to_vec(), &["wasi:cli/run"]),
        (
            "greedy.wat",
            b"(module (import \"env\" \"gpu\" (func)) (func (export \"_start\")))".to_vec(),
            &["gpu"],
        ),
        ("wrong.wat", b"(module (func $x".to_vec(), &["text"]),
    ];
    for (name, bytes, words) in cases {
        let path = file(&world, name, &bytes);
        let ran = world.run(["run", &path]).exits(126);
        ran.complains(words);
        assert!(ran.stdout.is_empty());
    }
    let mut damaged = whole;
    for byte in damaged.iter_mut().skip(100).step_by(97) {
        *byte ^= 0xa5;
    }
    world.run(["run", &file(&world, "damaged.wasm", &damaged)]).exits(126).complains(&[]);
    assert_eq!(world.run(["jobs", "--json"]).ok().text().trim(), "[]");
}

#[test]
fn files_that_are_not_there_and_jobs_that_are_not_there_are_127() {
    let world = World::new();
    let hello = guest("hello");
    world.run(["run", "no-such.wasm"]).exits(127).complains(&["no-such.wasm", "does not exist"]);
    world.run(["run", "/"]).exits(127).complains(&["directory"]);
    world
        .run(["run", "--input", "g=/no/such/file", &hello])
        .exits(127)
        .complains(&["/no/such/file", "does not exist"]);
    world.run(["run", "--stdin", "/no/such", &hello]).exits(127).complains(&["/no/such"]);
    world.run(["run", "--input", "g=/dev/zero", &hello]).exits(2).complains(&["is a device"]);
    world.run(["run", &hello]).ok();
    world.run(["jobs", "--state", "nonsense"]).exits(2);
    for command in ["show", "logs", "trace", "artifacts", "seal"] {
        world.run([command, "nobody"]).exits(127).complains(&["nobody", "hb jobs"]);
    }
    world.run(["verify", "nobody"]).exits(2).complains(&["nobody"]);
    let empty = World::new();
    empty.run(["show", "x"]).exits(127).complains(&["no ledger", "--data"]);
    empty.run(["ledger", "check"]).exits(127).complains(&["no ledger", "--data"]);
    empty.run(["ledger", "stats"]).exits(127).complains(&["no ledger", "--data"]);
}

#[test]
fn what_makes_no_sense_on_the_command_line_is_2() {
    let world = World::new();
    let hello = guest("hello");
    for arguments in [
        &["run", "--no-such-flag", &hello][..],
        &["run"],
        &["nonsense"],
        &["run", "--max-memory", "much", &hello],
        &["run", "--input", "noequals", &hello],
    ] {
        let ran = world.run(arguments).exits(2);
        assert!(ran.stderr.contains("error"), "{}", ran.stderr);
    }
    let refused =
        |arguments: &[&str], words: &[&str]| world.run(arguments).exits(2).complains(words);
    refused(&["run", "--dir", ".", &hello], &["--input"]);
    refused(&["run", "--invoke", "f", &hello], &["wasi:cli/run"]);
    refused(&["run", "-W", "simd=n", &hello], &["max-memory-size"]);
    refused(&["run", "--max-memory", "1000GiB", &hello], &["--max-memory", "at most"]);
    refused(&["run", "--job-id", "../x", &hello], &["job id"]);
    let input = format!("../x={hello}");
    refused(&["run", "--input", &input, &hello], &["input"]);
}

#[test]
fn every_limit_has_its_outcome_its_exit_code_and_its_advice() {
    let world = World::new();
    let greedy = guest("greedy");
    let cases = [
        (&["--fuel", "50_000_000"][..], "loop", 152, "limit fuel", "--fuel"),
        (&["--timeout", "1s"], "loop", 124, "limit deadline_ms", "--timeout"),
        (&["--max-memory", "32MiB"], "grow", 137, "limit memory_bytes", "--max-memory"),
        (&["--max-stdout", "1MiB"], "flood-stdout", 137, "limit stdout_bytes", "--max-stdout"),
        (&["--max-stderr", "1MiB"], "flood-stderr", 137, "limit stderr_bytes", "--max-stderr"),
        (
            &["--max-checkpoint", "1MiB"],
            "big-checkpoint 2000000",
            137,
            "limit checkpoint_bytes",
            "--max-checkpoint",
        ),
        (
            &["--max-checkpoints", "50"],
            "many-checkpoints",
            137,
            "limit checkpoints",
            "--max-checkpoints",
        ),
        (&[], "recurse", 134, "trap stack-overflow", ""),
        (&[], "unreachable", 134, "trap unreachable", ""),
        (&[], "divide", 134, "trap division-by-zero", ""),
        (&[], "oob", 134, "trap memory-out-of-bounds", ""),
        (&[], "null-call", 134, "trap indirect-call-to-null", ""),
        (&[], "restore-twice", 134, "trap contract-broken", ""),
    ];
    for (index, (flags, command, code, outcome, advice)) in cases.into_iter().enumerate() {
        let id = format!("job-{index}");
        let run = ["run", "--job-id", &id].into_iter().chain(flags.iter().copied());
        let command = command.split(' ');
        let ran = world.run(run.chain([greedy.as_str(), "--"]).chain(command)).exits(code);
        assert!(ran.stderr.contains(advice), "{outcome}: {}", ran.stderr);
        let shown = world.show(&id);
        assert_eq!(shown["outcome"], outcome);
        assert_eq!(shown["state"], "FAILED");
        assert!(shown["seal"].is_string());
    }
    // Limits on files are errors that the guest sees and can handle: exit code 1, not a trap.
    for (flags, command) in [
        (&["--max-files-bytes", "1MiB"], "fill-files"),
        (&["--max-files", "50"], "many-files"),
        (&["--max-open-files", "20"], "open-files"),
    ] {
        let run = ["run"].into_iter().chain(flags.iter().copied());
        world.run(run.chain([greedy.as_str(), "--", command])).exits(1);
    }
}

#[test]
fn a_stranger_finds_no_way_out_and_cannot_forge_what_is_shown() {
    let world = World::new();
    let greedy = guest("greedy");
    let ran = world.run(["run", &greedy, "--", "escape"]).ok();
    assert!(!ran.text().contains("ALLOWED"), "{}", ran.text());
    let ran = world.run(["run", "--job-id", "h", &greedy, "--", "hostile-name"]).exits(134);
    let own_lines = ran.stderr.lines().filter(|line| line.starts_with("hb: "));
    for line in own_lines {
        assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line:?}");
    }
    let shown = world.run(["show", "h"]).ok().text();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn exit_codes_of_programs_are_their_own() {
    let world = World::new();
    let greedy = guest("greedy");
    for code in [0, 1, 7, 42, 255] {
        world.run(["run", &greedy, "--", "exit", &code.to_string()]).exits(code);
    }
    if !hb_guests::SIEVE.is_skipped() {
        let sieve = guest("sieve");
        world.run(["run", &sieve, "--", "1000", "42"]).exits(42);
        assert_eq!(
            world.run(["run", &sieve, "--", "1000", "0"]).ok().text(),
            "168 primes below 1000\n"
        );
    }
}

#[test]
fn a_second_process_on_the_same_ledger_is_told_who_has_it() {
    let world = World::new();
    let counter = guest("counter");
    let run = ["run", "--job-id", "c", &counter, "--", "--steps", "100000", "--work", "50"];
    let mut running = Running::start(&mut world.hb(run));
    wait_until("the first one runs", || world.run(["show", "c"]).code == Some(0));
    let pid = running.pid().to_string();
    world.run(["run", &guest("hello")]).exits(125).complains(&[
        "in use by process",
        &pid,
        "--data",
    ]);
    assert!(running.kill());
    world.run(["run", &guest("hello")]).ok();
}

#[test]
fn a_job_that_takes_its_host_down_again_and_again_is_set_aside_with_the_evidence() {
    let world = World::new();
    let greedy = guest("greedy");
    let run = ["run", "--job-id", "p", "--max-crashes", "3", &greedy, "--", "loop"];
    for crashes in 1..=3 {
        let mut running = Running::start(&mut world.hb(run));
        wait_until("the attempt has begun", || {
            let ran = world.run(["show", "p", "--json"]);
            ran.code == Some(0) && ran.json()["attempts"] == crashes
        });
        assert!(running.kill());
    }
    world.run(run).exits(125);
    let shown = world.show("p");
    assert_eq!((&shown["state"], &shown["outcome"]), (&"FAILED".into(), &"poisoned".into()));
    assert_eq!(shown["crashes"], 3);
    let trace = world.run(["trace", "p"]).ok().text();
    assert_eq!(trace.matches("crashed with its host").count(), 3, "{trace}");
}

#[test]
fn ctrl_c_cancels_a_job_cleanly() {
    let world = World::new();
    let greedy = guest("greedy");
    let run = ["run", "--job-id", "x", &greedy, "--", "loop"];
    let running = Running::start(&mut world.hb(run));
    wait_until("the job runs", || {
        let ran = world.run(["show", "x", "--json"]);
        ran.code == Some(0) && ran.json()["state"] == "RUNNING"
    });
    running.signal("INT");
    running.finish().exits(130);
    assert_eq!(world.show("x")["state"], "CANCELLED");
}
