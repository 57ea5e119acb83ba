//! Jobs given to a host by the command line: uploaded, followed, and ended as the job did.

use serde_json::json;

use crate::{
    guests::guest,
    host::Host,
    support::{Running, World, data_file, wait_until},
};

#[test]
fn a_job_that_is_submitted_and_waited_for_prints_and_exits_as_if_it_had_run_here() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let kmer = guest("kmer");
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    let submit = ["submit", &kmer, "--job-id", "k", "--input", &input, "--wait", "--", "-k", "21"];
    let printed = world.run(submit).ok().text();
    assert!(printed.contains("distinct 48482\n"), "{printed}");
    // Repeated, it is answered by the job that is there.
    assert_eq!(world.run(submit).ok().text(), printed);
    assert_eq!(world.run(["logs", "-f", "k"]).ok().text(), printed);
    let greedy = guest("greedy");
    world.run(["submit", &greedy, "--wait", "--", "exit", "3"]).exits(3);
    host.stop();
}

fn counted_lines(text: &str) -> usize {
    text.lines().count()
}

#[test]
fn a_host_that_is_killed_while_a_job_is_waited_for_changes_nothing_of_what_is_printed() {
    let world = World::new();
    let counter = guest("counter");
    let arguments = ["--steps", "1500", "--work", "2"];
    let expected = {
        let other = World::new();
        other.run(["run", &counter, "--"].iter().copied().chain(arguments)).ok().text()
    };
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let submit = ["submit", &counter, "--job-id", "c", "--wait", "--"];
    let waiting = Running::start(&mut world.hb(submit.iter().copied().chain(arguments)));
    for kill in 1..=3 {
        wait_until("it saves", || {
            world
                .show_if_there("c")
                .is_some_and(|shown| shown["checkpoints"].as_u64().unwrap() >= kill * 100)
        });
        assert!(host.running.kill(), "the host was there");
        // Another port: whoever waits finds the host again by its data directory.
        host = Host::spawn(&world, &[]);
        host.ready();
    }
    let ran = waiting.finish().ok();
    assert!(ran.text() == expected, "{} lines", counted_lines(&ran.text()));
    assert_eq!(world.show("c")["crashes"], 3);
    host.stop();
}

#[test]
fn whoever_stops_waiting_does_not_stop_the_job_which_is_held_released_and_cancelled_by_name() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let counter = guest("counter");
    let submit = ["submit", &counter, "--job-id", "long", "--wait", "--", "--steps", "1000000"];
    let waiting = Running::start(&mut world.hb(submit));
    let state = || world.show_if_there("long").map(|shown| shown["state"].clone());
    wait_until("it runs", || state() == Some(json!("RUNNING")));
    waiting.signal("INT");
    let ran = waiting.finish().exits(130);
    assert!(ran.stderr.contains("goes on"), "{}", ran.stderr);
    assert_eq!(state(), Some(json!("RUNNING")));

    world.run(["hold", "long"]).ok();
    wait_until("it is held", || state() == Some(json!("SCHEDULED")));
    let why = world.run(["why", "long"]).ok().text();
    assert!(why.contains("hold"), "{why}");
    world.run(["release", "long"]).ok();
    wait_until("it runs again", || state() == Some(json!("RUNNING")));
    assert_eq!(world.show("long")["crashes"], 0);

    let tracing = Running::start(&mut world.hb(["trace", "-f", "long"]));
    world.run(["cancel", "long"]).ok();
    world.run(["wait", "long"]).exits(130);
    let traced = tracing.finish().exits(0).text();
    for word in ["received", "running, attempt", "checkpoint", "put on hold", "cancel"] {
        assert!(traced.to_lowercase().contains(word), "{word:?} is missing");
    }
    world.run(["cancel", "long"]).exits(2).complains(&["long"]);
    world.run(["cancel", "absent"]).exits(127).complains(&["there is no job", "absent"]);
    host.stop();
}

#[test]
fn what_failed_is_tried_again_and_what_went_well_is_gone_on_from_with_other_arguments() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let counter = guest("counter");
    let submit = |job: &str, fuel: &str| {
        let words = ["submit", &counter, "--job-id", job, "--wait", "--fuel", fuel];
        let words = words.iter().copied().chain(["--checkpoint-steps", "1", "--"]);
        world.run(words.chain(["--steps", "40", "--work", "1"]))
    };
    let whole = submit("whole", "1000000000000").ok().text();
    let fuel = world.show("whole")["fuel"].as_u64().unwrap();
    submit("starved", &(fuel / 2).to_string()).exits(152);
    let retried = world.run(["retry", "starved", "--from-checkpoint", "--fuel", "1000000000000"]);
    let retried = retried.ok().text();
    let name = retried.trim();
    world.run(["wait", name]).ok();
    assert_eq!(world.run(["logs", name]).ok().text(), whole);
    let forked = world.run(["fork", "whole", "--at", "5", "--", "--steps", "50", "--work", "1"]);
    let forked = forked.ok().text();
    let name = forked.trim();
    assert_eq!(world.run(["wait", name]).code, Some(0));
    let longer = world.run(["logs", name]).ok().text();
    assert!(longer.starts_with(&whole) && counted_lines(&longer) == 50, "{longer}");
    world.run(["retry", "whole"]).exits(2).complains(&["whole"]);
    world.run(["fork", "whole", "--at", "4000"]).exits(127).complains(&["4000"]);
    host.stop();
}

#[test]
fn a_manifest_that_is_submitted_again_is_the_same_job_until_it_says_something_else() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    std::fs::copy(guest("hello"), world.path("hello.wasm")).unwrap();
    let manifest = world.path("job.json");
    let write = |text: &str| std::fs::write(&manifest, text).unwrap();
    let submit = |more: &[&str]| {
        let words = ["submit", manifest.to_str().unwrap()].into_iter().chain(more.iter().copied());
        world.run(words).ok().text().trim().to_owned()
    };
    write(r#"{"component": "./hello.wasm", "program": "greeter"}"#);
    let first = submit(&[]);
    assert!(first.starts_with("greeter-"), "{first}");
    world.run(["wait", &first]).ok();
    assert_eq!(submit(&[]), first);
    write(r#"{"component": "./hello.wasm", "program": "greeter", "labels": {"a": "b"}}"#);
    assert_eq!(submit(&[]), first, "labels are no part of what a job is");
    assert_ne!(submit(&["--rerun"]), first);
    write(r#"{"component": "./hello.wasm", "program": "greeter", "seed": 7}"#);
    assert_ne!(submit(&[]), first);
    write(r#"{"component": "./absent.wasm"}"#);
    let refused = world.run(["submit", manifest.to_str().unwrap()]);
    refused.exits(127).complains(&["absent.wasm"]);
    host.stop();
}

#[test]
fn schedules_pauses_and_removal_are_one_command_each() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let hello = guest("hello");
    std::fs::copy(&hello, world.path("hello.wasm")).unwrap();
    let manifest = world.path("job.json");
    std::fs::write(&manifest, r#"{"component": "./hello.wasm"}"#).unwrap();
    let manifest = manifest.to_str().unwrap();
    let set = ["schedule", "set", "often", "--cron", "* * * * * *", manifest];
    world.run(set).ok();
    let jobs = || {
        let listed = world.run(["jobs", "--id", "often-at-", "--json"]).ok().json();
        listed.as_array().map_or(0, Vec::len)
    };
    assert!(world.run(["schedule", "list"]).ok().text().contains("often"));
    wait_until("two moments", || jobs() >= 2);
    world.run(["schedule", "remove", "often"]).ok();
    assert!(!world.run(["schedule", "list"]).ok().text().contains("often"));
    // Else one of them could be the newest of all.
    wait_until("they have ended", || {
        let unfinished = world.run(["status", "--json"]).ok().json();
        (&unfinished["running"], &unfinished["waiting"]) == (&json!(0), &json!(0))
    });

    world.run(["pause"]).ok();
    world.run(["submit", &hello, "--job-id", "later"]).ok();
    let why = world.run(["why", "later"]).ok().text();
    assert!(why.contains("paused"), "{why}");
    world.run(["resume"]).ok();
    world.run(["wait", "later"]).ok();

    let plan = world.run(["prune", "--max-jobs", "1", "--dry-run"]).ok().text();
    assert!(plan.contains("often-at-"), "{plan}");
    world.run(["show", "later"]).ok();
    world.run(["prune", "--max-jobs", "1"]).ok();
    wait_until("they are gone", || jobs() == 0);
    world.run(["logs", "later"]).ok();
    host.stop();
    world.run(["ledger", "check"]).ok();
}
