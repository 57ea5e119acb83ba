//! A native program has the contract of a component: identity, checkpoints, rollback, artifacts, events,
//! limits, seal.

use std::fmt::Write as _;

use serde_json::json;

use super::{IMAGE, Place, program};
use crate::support::{Running, wait_until};

fn steps(place: &Place, job: &str, steps: &str, pause: &str) -> std::process::Command {
    let input = format!("steps.py={}", program("steps.py").display());
    place.hb([
        "run",
        "--image",
        IMAGE,
        "--job-id",
        job,
        "--checkpoint-steps",
        "5",
        "--input",
        &input,
        "--",
        "python3",
        "/in/steps.py",
        steps,
        pause,
    ])
}

fn printed(steps: u64) -> String {
    let mut text = "[D1_STABLE] begin\n".to_owned();
    for step in 1..=steps {
        writeln!(text, "step {step}").unwrap();
    }
    writeln!(text, "sum {}", steps * (steps + 1) / 2).unwrap();
    text
}

#[test]
fn a_native_program_has_the_contract_of_a_component() {
    let Some(place) = Place::open("a native program") else { return };
    let world = &place.world;
    let ran = Running::start(&mut steps(&place, "whole", "20", "0.05")).finish().ok();
    assert_eq!(ran.text(), printed(20));
    let shown = world.show("whole");
    assert_eq!(shown["state"], "SEALED");
    assert_eq!(shown["checkpoints"], json!(3));
    let artifacts = world.artifacts("whole");
    assert_eq!(artifacts.len(), 1);
    assert_eq!(artifacts[0].0, "steps.txt");
    let trace = world.run(["trace", "whole"]).ok().text();
    for words in ["[D1_STABLE] begin", "all steps are done"] {
        assert!(trace.contains(words), "{words} expected in {trace}");
    }
    let seal = world.run(["seal", "whole"]).ok().text();
    let envelope: serde_json::Value = serde_json::from_str(&seal).unwrap();
    let statement = decoded(envelope["payload"].as_str().unwrap());
    let circumstances =
        &statement["predicate"]["runDetails"]["metadata"]["hackbrain_circumstances"];
    assert_eq!(circumstances["determinism_not_enforced"], true);
    assert_eq!(circumstances["hermetic"], false);
    for mode in [&["verify", "whole"][..], &["verify", "--checkpoints", "whole"]] {
        let said = place.run(mode).ok().text();
        assert!(said.starts_with("same"), "{said}");
    }

    // Killed in the middle: the container goes on, and the next host takes it over.
    let mut running = Running::start(&mut steps(&place, "killed", "20", "0.05"));
    wait_until("a checkpoint is there", || {
        world.show_if_there("killed").is_some_and(|shown| shown["checkpoints"].as_u64() >= Some(1))
    });
    let before = place.engine.containers();
    assert!(running.kill(), "the host was still at work");
    assert_eq!(place.engine.containers(), before, "a container outlives its host");
    let mut running = Running::start(&mut steps(&place, "killed", "20", "0.05"));
    wait_until("the second attempt is there", || {
        world.show_if_there("killed").is_some_and(|shown| shown["attempts"].as_u64() >= Some(2))
    });
    wait_until("it goes on", || {
        place.engine.containers() != before
            || world.show("killed")["checkpoints"].as_u64() >= Some(2)
    });
    let after = place.engine.containers();
    assert!(after == before || after.is_empty(), "the same container: {before:?}, {after:?}");
    assert!(running.is_there() || after.is_empty());
    running.finish().ok();
    assert_eq!(world.result("killed"), world.result("whole"));
    no_op_beside_docker_run(&place);
    place.engine.is_clean();
    place.run(["ledger", "check"]).ok();
}

/// Prints what a job that does nothing costs, beside what runs nothing in the same image.
fn no_op_beside_docker_run(place: &Place) {
    const TIMES: u32 = 5;
    let begun = std::time::Instant::now();
    for _ in 0..TIMES {
        place.run(["run", "--rerun", "--image", IMAGE, "--", "/bin/true"]).ok();
    }
    let ours = begun.elapsed() / TIMES;
    let begun = std::time::Instant::now();
    for _ in 0..TIMES {
        place.engine.docker(&["run", "--rm", "--network", "none", IMAGE, "/bin/true"]);
    }
    println!("a no-op job: {ours:?} with hb run, {:?} with docker run", begun.elapsed() / TIMES);
}

/// The JSON behind base64.
fn decoded(text: &str) -> serde_json::Value {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group.iter().fold(0, |bits, byte| (bits << 6) | value(*byte));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    serde_json::from_slice(&bytes).unwrap()
}
