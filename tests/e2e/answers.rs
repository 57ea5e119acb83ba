//! `hb run` and the commands that tell what came of it.

use std::fs;

use crate::{
    guests::guest,
    support::{Running, World, data_file, wait_until},
};

#[test]
fn a_job_prints_is_sealed_and_is_answered_from_the_ledger_the_second_time() {
    let world = World::new();
    let hello = guest("hello");
    let first = world.run(["run", &hello, "--", "a", "b"]).ok();
    assert!(!first.stdout.is_empty());
    assert!(first.stderr.contains("SEALED success"), "{}", first.stderr);
    let again = world.run(["run", &hello, "--", "a", "b"]).ok();
    assert_eq!(again.stdout, first.stdout);
    assert!(again.stderr.contains("answered from the ledger"), "{}", again.stderr);
    let jobs = world.run(["jobs", "--json"]).ok().json();
    assert_eq!(jobs.as_array().unwrap().len(), 1);

    // Other arguments are another job, and --rerun is a new one with the same seal.
    world.run(["run", &hello, "--", "a"]).ok();
    world.run(["run", "--rerun", &hello, "--", "a", "b"]).ok();
    let jobs = world.run(["jobs", "--json"]).ok().json();
    let seals: Vec<&str> =
        jobs.as_array().unwrap().iter().map(|job| job["seal"].as_str().unwrap()).collect();
    assert_eq!(seals.len(), 3);
    assert_eq!(seals[0], seals[2]);
    assert_ne!(seals[0], seals[1]);
}

#[test]
fn a_job_has_the_fields_that_scripts_rely_on() {
    let world = World::new();
    world.run(["run", "--job-id", "c", &guest("counter"), "--", "--steps", "5"]).ok();
    let shown = world.show("c");
    assert_eq!(shown["job_id"], "c");
    assert_eq!(shown["state"], "SEALED");
    assert_eq!(shown["outcome"], "success");
    assert_eq!(shown["attempts"], 1);
    assert_eq!(shown["checkpoints"], 5);
    assert!(shown["fuel"].as_u64().unwrap() > 0);
    for digest in ["job_hash", "seal"] {
        assert_eq!(shown[digest].as_str().unwrap().len(), 64, "{digest}");
    }
    // The beginning of the hash or of the seal names the job too.
    for name in ["job_hash", "seal"] {
        let short = &shown[name].as_str().unwrap()[..12];
        assert_eq!(world.show(short)["job_id"], "c");
    }
    let trace = world.run(["trace", "c", "--json"]).ok().json();
    let events: Vec<&str> =
        trace.as_array().unwrap().iter().map(|entry| entry["event"].as_str().unwrap()).collect();
    let checkpoints = ["checkpoint"; 5];
    assert_eq!(events[..2], ["received", "started"]);
    assert_eq!(events[2..7], checkpoints);
    assert_eq!(events[7..], ["ended", "sealed"]);
    let logs = world.run(["logs", "c", "--json"]).ok().json();
    assert_eq!(logs["complete"], true);
    let listed = world.run(["artifacts", "c", "--json"]).ok().json();
    assert_eq!(listed[0]["name"], "steps.txt");
    // What people see: tables with a header, no JSON.
    for command in [&["jobs"][..], &["show", "c"], &["trace", "c"], &["artifacts", "c"]] {
        let text = world.run(command).ok().text();
        assert!(!text.contains('{') && !text.is_empty(), "{text}");
    }
}

#[test]
fn a_job_id_names_one_job_and_refuses_another() {
    let world = World::new();
    let hello = guest("hello");
    let first = world.run(["run", "--job-id", "mine", &hello, "--", "x"]).ok();
    let same = world.run(["run", "--job-id", "mine", &hello, "--", "x"]).ok();
    assert_eq!(same.stdout, first.stdout);
    world.run(["run", "--job-id", "mine", &hello, "--", "y"]).exits(2).complains(&[
        "mine",
        "another hash",
        "--job-id",
    ]);
    // A job id asks for a job of its own, also when the answer is known.
    world.run(["run", "--job-id", "yours", &hello, "--", "x"]).ok();
    assert_eq!(world.show("yours")["seal"], world.show("mine")["seal"]);
    assert_eq!(world.show("yours")["attempts"], 1);
}

#[test]
fn the_spectrum_of_the_lambda_phage_is_the_one_that_jellyfish_finds() {
    let world = World::new();
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    world.run(["run", "--job-id", "k", &guest("kmer"), "--input", &input, "--", "-k", "21"]).ok();
    let artifacts = world.artifacts("k");
    let names: Vec<&str> = artifacts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["histogram.txt", "spectrum.txt"]);
    assert_eq!(artifacts[0].1, b"1 48482\n");
    let spectrum = String::from_utf8(artifacts[1].1.clone()).unwrap();
    assert_eq!(spectrum.lines().count(), 48_482);
    assert_eq!(
        sha256(&artifacts[1].1),
        "5d58db49de9393a857dc2434f203297cf34e47ba8ebfeb54e6b194cecfdbc946"
    );
}

#[test]
fn the_spectrum_of_escherichia_coli_is_the_one_that_jellyfish_finds() {
    let world = World::new();
    let input = format!("genome={}", data_file("ecoli_536.fna.gz").display());
    // Checkpoints as often as can be, in a memory that holds a fifth of the k-mers.
    let flags = ["--checkpoint-every", "200ms", "--max-memory", "16MiB", "--input", &input];
    let run = ["run", "--job-id", "k"].into_iter().chain(flags);
    world.run(run.chain([guest("kmer").as_str(), "--", "-k", "21"])).ok();
    let artifacts = world.artifacts("k");
    let histogram = String::from_utf8(artifacts[0].1.clone()).unwrap();
    let expected =
        ["1 4789765", "2 32356", "3 4320", "4 1297", "5 600", "6 2165", "7 4031", "8 150"];
    assert_eq!(histogram.lines().take(8).collect::<Vec<_>>(), expected);
    assert!(histogram.lines().last().unwrap().starts_with("57 "));
    assert_eq!(
        sha256(&artifacts[1].1),
        "1c6de76297fdac1bf58f570e67286282cc14aba6dec3c5e00f5806ea187cd505"
    );
    let shown = world.show("k");
    assert!(shown["peak_memory_bytes"].as_u64().unwrap() <= 16 << 20);
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("{:x}", sha2::Sha256::digest(bytes))
}

#[test]
fn inputs_arguments_environment_and_standard_input_reach_the_job() {
    let world = World::new();
    // A small program as text: copies standard input to standard output.
    let cat = world.path("cat.wat");
    fs::write(&cat, CAT).unwrap();
    let file = world.path("in.txt");
    fs::write(&file, "through standard input\n").unwrap();
    let ran = world.run(["run", "--stdin", file.to_str().unwrap(), cat.to_str().unwrap()]).ok();
    assert_eq!(ran.text(), "through standard input\n");
    // Nothing is inherited: without --stdin it is empty.
    assert_eq!(world.run(["run", cat.to_str().unwrap()]).ok().text(), "");
}

/// A preview-1 module as text.
const CAT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 1024))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $again))))))"#;

#[test]
fn a_job_that_runs_can_be_looked_at_from_another_process() {
    let world = World::new();
    let counter = guest("counter");
    let run = ["run", "--job-id", "c", &counter, "--", "--steps", "100000", "--work", "20"];
    let mut running = Running::start(&mut world.hb(run));
    wait_until("checkpoints are seen from outside", || {
        let ran = world.run(["show", "c", "--json"]);
        ran.code == Some(0) && ran.json()["checkpoints"].as_u64().unwrap() >= 3
    });
    assert_eq!(world.show("c")["state"], "RUNNING");
    assert!(world.run(["logs", "c"]).ok().text().starts_with("step "));
    world.run(["artifacts", "c"]).exits(127).complains(&["has not ended yet"]);
    assert!(running.kill());
}

#[test]
fn a_reader_that_goes_away_does_not_end_a_job() {
    let world = World::new();
    let counter = guest("counter");
    let run = ["run", "--job-id", "c", &counter, "--", "--steps", "2000"];
    let mut command = world.hb(run);
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(world.show("c")["state"], "SEALED");
    assert_eq!(world.run(["logs", "c"]).ok().text().lines().count(), 2000);
}

#[test]
fn sigterm_is_a_crash_like_any_other_and_the_job_resumes() {
    let world = World::new();
    let counter = guest("counter");
    let run = ["run", "--job-id", "c", &counter, "--", "--steps", "300", "--work", "3"];
    for signal in ["TERM", "HUP"] {
        let running = Running::start(&mut world.hb(run));
        let before =
            world.show_if_there("c").map_or(0, |shown| shown["checkpoints"].as_u64().unwrap());
        wait_until("there are more checkpoints", || {
            world
                .show_if_there("c")
                .is_some_and(|c| c["checkpoints"].as_u64().unwrap() > before + 5)
        });
        running.signal(signal);
        assert_eq!(running.finish().code, None, "it died by the signal");
    }
    let last = world.run(run).ok();
    assert!(last.stderr.contains("resumed from checkpoint"), "{}", last.stderr);
    assert_eq!(last.text().lines().count(), 300);
}

#[test]
fn output_that_does_not_arrive_is_said_and_is_kept() {
    let world = World::new();
    let run = ["run", "--job-id", "h", &guest("hello")];
    // Once while it runs, and once when it is answered from the ledger.
    for _ in 0..2 {
        let mut command = world.hb(run);
        command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let ran = Running::start(&mut command).finish().exits(125);
        ran.complains(&["could not be written", "hb logs h"]);
    }
    assert!(!world.run(["logs", "h"]).ok().stdout.is_empty());
    // Standard error that nobody can read is no reason to fail.
    let mut command = world.hb(run);
    command.stderr(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    Running::start(&mut command).finish().ok();
}

/// Twelve thousand files: what names them does not fit into one frame of the log.
#[test]
fn a_job_may_leave_more_files_than_fit_into_one_record() {
    let world = World::new();
    let greedy = guest("greedy");
    let run = ["run", "--job-id", "m", "--max-files", "60000", &greedy, "--", "many-files"];
    world.run(run).exits(1);
    assert_eq!(world.show("m")["state"], "FAILED");
    world.run(["ledger", "check"]).ok();
    world.run(["verify", "m"]).ok();
}
