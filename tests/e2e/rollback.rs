//! What was written after the last checkpoint is undone: output, `/job`, artifacts, metrics.

use crate::{
    guests::guest,
    support::{Running, World, wait_until},
};

#[test]
fn a_flood_a_scratch_file_and_an_artifact_after_the_last_checkpoint_are_rolled_back() {
    let greedy = guest("greedy");
    let run = ["run", "--job-id", "g", &greedy, "--", "after-checkpoint", "5000"];
    let undisturbed = World::new();
    undisturbed.run(run).ok();
    let expected = undisturbed.result("g");

    let world = World::new();
    for kills in 1..=5 {
        let mut running = Running::start(&mut world.hb(run));
        wait_until("the attempt has its checkpoint and runs", || {
            let ran = world.run(["show", "g", "--json"]);
            ran.code == Some(0) && {
                let shown = ran.json();
                shown["attempts"] == kills && shown["checkpoints"] == 1
            }
        });
        // The guest floods its output and its files right after the checkpoint, then is silent;
        // what is kept of it must be what the checkpoint held.
        assert!(running.kill());
        let printed = world.run(["logs", "g"]).ok().text();
        assert!(printed.starts_with("before"), "{printed}");
        assert!(!printed.contains("done"), "{printed}");
        assert!(printed.len() < expected.stdout.len() / 2, "the flood is not durable");
    }
    // The guest itself fails if anything was left over from an earlier attempt.
    let last = world.run(run).ok();
    assert_eq!(last.stdout, expected.stdout);
    assert_eq!(world.result("g"), expected);
    assert_eq!(world.show("g")["progress"], undisturbed.show("g")["progress"]);
    assert_eq!(world.show("g")["crashes"], 5);
}

#[test]
fn a_job_that_was_killed_prints_everything_when_it_ends() {
    let counter = guest("counter");
    let run = ["run", "--job-id", "c", &counter, "--", "--steps", "300", "--work", "3"];
    let world = World::new();
    let mut running = Running::start(&mut world.hb(run));
    wait_until("some steps are durable", || {
        let ran = world.run(["show", "c", "--json"]);
        ran.code == Some(0) && ran.json()["checkpoints"].as_u64().unwrap() > 20
    });
    assert!(running.kill());
    let ran = world.run(run).ok();
    let lines: Vec<String> = (1..=300).map(|step| format!("step {step}")).collect();
    assert!(ran.stderr.contains("resumed from checkpoint"), "{}", ran.stderr);
    assert_eq!(ran.text().lines().collect::<Vec<_>>(), lines);
    let trace = world.run(["trace", "c"]).ok().text();
    assert!(trace.contains("crashed with its host"), "{trace}");
}
