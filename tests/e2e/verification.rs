//! Promise 3: the result is proven, and a lie is found.

use std::fs;

use serde_json::Value;

use crate::{
    guests::guest,
    support::{World, data_file},
};

fn counted(world: &World) {
    world.run(["run", "--job-id", "c", &guest("counter"), "--", "--steps", "20"]).ok();
}

#[test]
fn a_sealed_job_verifies_by_id_by_hash_by_seal_and_by_envelope() {
    let world = World::new();
    counted(&world);
    let shown = world.show("c");
    let envelope = world.path("c.seal.json");
    fs::write(&envelope, world.run(["seal", "c"]).ok().stdout).unwrap();
    let envelope = envelope.to_str().unwrap();
    for name in
        ["c", shown["job_hash"].as_str().unwrap(), shown["seal"].as_str().unwrap(), envelope]
    {
        let verdict = world.run(["verify", name, "--json"]).ok().json();
        assert_eq!(verdict["result"], "same", "{name}");
        assert_eq!(verdict["checkpoints_compared"], 20);
    }
    let verdict = world.run(["verify", "--checkpoints", "c", "--json"]).ok().json();
    assert_eq!(verdict["result"], "same");
    assert_eq!(verdict["restarts"], 20);
}

#[test]
fn an_envelope_that_was_changed_anywhere_is_not_trusted() {
    let world = World::new();
    counted(&world);
    let text = world.run(["seal", "c"]).ok().text();
    let mut envelope: Value = serde_json::from_str(&text).unwrap();
    let payload = envelope["payload"].as_str().unwrap().to_owned();
    let middle = payload.len() / 2;
    let other = if &payload[middle..=middle] == "A" { "B" } else { "A" };
    envelope["payload"] = format!("{}{other}{}", &payload[..middle], &payload[middle + 1..]).into();
    let path = world.path("forged.json");
    fs::write(&path, envelope.to_string()).unwrap();
    world.run(["verify", path.to_str().unwrap()]).exits(2).complains(&["could not be checked"]);

    // A sound envelope of another host is not trusted until its key is named.
    let elsewhere = World::new();
    counted(&elsewhere);
    let path = world.path("elsewhere.json");
    fs::write(&path, elsewhere.run(["seal", "c"]).ok().stdout).unwrap();
    world.run(["verify", path.to_str().unwrap()]).exits(2).complains(&["--key"]);
}

#[test]
fn checkpoints_inside_the_merge_and_inside_the_reading_verify() {
    let world = World::new();
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    let kmer = guest("kmer");
    let run = ["run", "--checkpoint-steps", "4000", "--input", &input, &kmer];
    world.run(run.into_iter().chain(["--job-id", "a", "--", "-k", "21"])).ok();
    for mode in [&["verify", "a", "--json"][..], &["verify", "--checkpoints", "a", "--json"]] {
        let same = world.run(mode).ok().json();
        assert_eq!(same["result"], "same");
        assert!(same["checkpoints_compared"].as_u64().unwrap() >= 2, "{same}");
    }
}

#[test]
fn failures_are_sealed_and_verified_too() {
    let world = World::new();
    let greedy = guest("greedy");
    for (id, arguments, code) in [
        ("exit", &["exit", "7"][..], 7),
        ("trap", &["unreachable"], 134),
        ("divide", &["divide"], 134),
    ] {
        let run = ["run", "--job-id", id, &greedy, "--"];
        world.run(run.iter().chain(arguments)).exits(code);
        let shown = world.show(id);
        assert_eq!(shown["state"], "FAILED", "{id}");
        assert!(world.run(["verify", id]).ok().text().starts_with("same"), "{id}");
    }
    let run = ["run", "--job-id", "fuel", "--fuel", "1000000", &greedy, "--", "loop"];
    world.run(run).exits(152);
    world.run(["verify", "fuel"]).ok();
    // What depends on the machine cannot be proven, and is not claimed to be.
    let run = ["run", "--job-id", "late", "--timeout", "1", &greedy, "--", "loop"];
    world.run(run).exits(124);
    world.run(["verify", "late"]).exits(2).complains(&["no repetition can prove it"]);
}

#[test]
fn a_job_whose_input_is_gone_cannot_be_checked_and_says_which() {
    let world = World::new();
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    world.run(["run", "--job-id", "k", "--input", &input, &guest("kmer"), "--", "-k", "11"]).ok();
    let digest = world.show("k")["spec"]["inputs"]["genome"]["digest"].as_str().unwrap().to_owned();
    let blob = find(&world.data().join("blob"), &digest);
    fs::remove_file(blob).unwrap();
    world.run(["verify", "k"]).exits(2).complains(&["genome", &digest]);
}

fn find(dir: &std::path::Path, digest: &str) -> std::path::PathBuf {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                dirs.push(path);
            } else if digest.ends_with(&name) || name.contains(digest) {
                return path;
            }
        }
    }
    panic!("no blob {digest}");
}
