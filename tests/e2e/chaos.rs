//! `hb chaos`: what it does, what it says, and that it can fail.

use serde_json::Value;

use crate::{
    guests::guest,
    support::{Running, World, data_file, wait_until},
};

fn places(report: &Value, fault: &str) -> u64 {
    let places = report["places"].as_array().unwrap().iter();
    places
        .filter(|place| place["fault"] == fault)
        .map(|place| place["reached"].as_u64().unwrap())
        .sum()
}

#[test]
fn a_host_that_is_put_through_every_fault_keeps_every_promise() {
    let world = World::new();
    let kept = world.path("kept");
    let kept = kept.to_str().unwrap();
    let ran = world.run(["chaos", "--kills", "40", "--keep", kept, "--json"]);
    // The seed is in it: that is what a failure is repeated with.
    let report = ran.json();
    assert_eq!(report["held"], true, "{} {}", report["again"], report["violations"]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(report["kills"], 40);
    for subject in report["subjects"].as_array().unwrap() {
        assert!(subject["sealed"].as_u64().unwrap() > 0, "{subject}");
    }
    let outcomes = ["success", "success", "trap unreachable"];
    for (subject, outcome) in report["subjects"].as_array().unwrap().iter().zip(outcomes) {
        assert_eq!(subject["outcome"], outcome);
    }
    assert!(places(&report, "kill") > 0, "{}", report["places"]);
    let crashes = report["subjects"][0]["crashes"].as_u64().unwrap();
    println!(
        "seed {}: {} jobs, {crashes} crashes of the first kind, ready after {} ms",
        report["seed"], report["told"], report["ready_ms"]["median"]
    );
    assert!(crashes > 0, "no kill met a job: {report}");
    assert!(report["events"].as_u64().unwrap() > 0 && report["told"].as_u64().unwrap() > 0);
}

#[test]
fn a_guest_of_ones_own_is_put_through_it_with_its_files_and_arguments() {
    let world = World::new();
    let kmer = guest("kmer");
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    let chaos =
        ["-q", "chaos", &kmer, "--kills", "12", "--seed", "7", "--faults", "kill,power,torn"];
    let more = ["--jobs", "2", "--clients", "2", "--input", &input, "--", "-k", "21"];
    let text = world.run(chaos.iter().chain(&more)).ok().text();
    for words in [
        "12 lives of a host",
        "seed 7",
        "kmer: ",
        "as undisturbed (success",
        "held: nothing that was acknowledged is lost",
        "again: hb -q chaos",
    ] {
        assert!(text.contains(words), "{words:?} expected in {text}");
    }
    assert!(!text.contains("full disk, then"), "only what was asked for is done: {text}");
}

#[test]
fn on_a_disk_whose_flushes_lie_the_loss_is_found_and_said() {
    let world = World::new();
    for seed in ["1", "2", "3"] {
        let chaos = ["-q", "chaos", "--kills", "8", "--seed", seed, "--faults", "lie"];
        let ran = world.hb(chaos).env("TMPDIR", world.path("")).output().unwrap();
        let text = String::from_utf8_lossy(&ran.stdout);
        assert_eq!(ran.status.code(), Some(1), "{text}");
        assert!(text.contains("BROKEN") && text.contains(&format!("--seed {seed}")), "{text}");
        let named = ["cannot be opened", "does not know it any more", "lost:", "backwards:"];
        assert!(named.iter().any(|words| text.contains(words)), "{text}");
        let left = String::from_utf8_lossy(&ran.stderr);
        assert!(left.contains("everything is left in"), "{left}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let world = World::new();
    world.run(["chaos", "--kills", "0"]).exits(2).complains(&["--kills"]);
    let ran = world.run(["chaos", "--faults", "kill,fire"]).exits(2);
    assert!(ran.stderr.contains("fire") && ran.stderr.contains("bitrot"), "{}", ran.stderr);
    world.run(["chaos", "absent.wasm"]).exits(127).complains(&["absent.wasm"]);
    let full = world.path("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("file"), "x").unwrap();
    let full = full.to_str().unwrap();
    world.run(["chaos", "--keep", full]).exits(2).complains(&["not empty"]);
    // A result that a repetition need not have cannot be compared with anything.
    let greedy = guest("greedy");
    let timeout = ["chaos", &greedy, "--timeout", "200ms", "--kills", "1", "--", "loop"];
    world.run(timeout).exits(125).complains(&["need not", "limit"]);
}

#[test]
fn an_experiment_that_is_interrupted_leaves_no_process_and_no_file() {
    let world = World::new();
    let temporary = world.path("temporary");
    std::fs::create_dir(&temporary).unwrap();
    for (signal, leaves_files) in [("INT", false), ("KILL", true)] {
        let mut command = world.hb(["-q", "chaos", "--kills", "1000"]);
        let chaos = Running::start(command.env("TMPDIR", &temporary));
        let place = || std::fs::read_dir(&temporary).unwrap().next().map(|one| one.unwrap().path());
        let host = || {
            let text = std::fs::read(place()?.join("data/host.json")).ok()?;
            let host: Value = serde_json::from_slice(&text).ok()?;
            host["pid"].as_u64()
        };
        wait_until("a host is there", || host().is_some());
        chaos.signal(signal);
        let code = chaos.finish().code;
        assert_eq!(code, (signal == "INT").then_some(130));
        assert_eq!(place().is_some(), leaves_files, "{signal}");
        // Whichever host was there last, by what it was started with.
        let of_ours = |pid: &str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(temporary.to_str().unwrap())
        };
        wait_until("no host is there", || {
            let mut names = std::fs::read_dir("/proc")
                .unwrap()
                .filter_map(|one| one.unwrap().file_name().into_string().ok());
            !names.any(|name| name.bytes().all(|byte| byte.is_ascii_digit()) && of_ours(&name))
        });
    }
}
