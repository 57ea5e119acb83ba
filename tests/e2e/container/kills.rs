//! Fifty kills, of the host, of a container's program and of the engine in turn.

use std::{net::SocketAddr, process::Command};

use serde_json::json;

use super::{IMAGE, Place, program};
use crate::{
    host::{Blob, Host, JSON, get, post, stdout_of, submit, wait_for_seal},
    http,
    support::wait_until,
};

const KILLS: u64 = 50;
/// Steps; the job is far from its end when the last kill comes.
const STEPS: &str = "1000000";
/// After this many kills containers outlive their engine.
const OUTLIVE_FROM: u64 = 26;

fn sequence(address: SocketAddr, job: &str) -> u64 {
    get(address, &format!("/v1/jobs/{job}"))["checkpoints"].as_u64().unwrap_or(0)
}

/// `kill -9` of the program in a job's container, if it runs now.
fn kill_program(place: &Place) -> bool {
    let Some(id) = place.engine.containers().pop() else { return false };
    let Some(pid) = place.engine.ask(&["inspect", "--format", "{{.State.Pid}}", &id]) else {
        return false;
    };
    pid != "0" && Command::new("kill").args(["-9", &pid]).status().unwrap().success()
}

#[test]
fn fifty_kills_of_host_program_and_engine_lose_nothing_and_leave_nothing() {
    let Some(mut place) = Place::open("fifty kills") else { return };
    let mut host = spawn(&place);
    let mut address = host.ready();
    let source = std::fs::read(program("steps.py")).unwrap();
    let source = Blob::new(source);
    source.upload(address).unwrap();
    let manifest = |job: &str, steps: &str, pause: &str| {
        json!({"job_id": job, "image": IMAGE, "program": "python3", "max_crashes": 1000,
            "arguments": ["/in/steps.py", steps, pause], "inputs": {"steps.py": source.digest},
            "checkpoints": {"every-steps": 10}})
    };
    submit(address, &manifest("victim", STEPS, "0.005"));
    for kill in 1..=KILLS {
        let before = sequence(address, "victim");
        // It came further since the last kill, so nothing is ever lost for good.
        wait_until("a new checkpoint", || sequence(address, "victim") > before);
        match kill % 3 {
            0 => {
                assert!(host.running.kill(), "the host was at work");
                host = spawn(&place);
                address = host.ready();
            }
            1 => wait_until("the program is killed", || kill_program(&place)),
            _ => {
                if kill >= OUTLIVE_FROM {
                    place.engine.let_containers_outlive_it();
                }
                place.engine.kill_and_start();
            }
        }
        assert!(sequence(address, "victim") >= before, "kill {kill}: a checkpoint is lost");
    }
    let saved = sequence(address, "victim");
    let shown = get(address, "/v1/jobs/victim");
    println!("{KILLS} kills: {saved} checkpoints, {} attempts", shown["attempts"]);

    // How far it came it can be told: its steps stand in its files, its output and its state.
    http::request(address, "POST", "/v1/jobs/victim/hold", JSON, b"{}").unwrap().is(202);
    wait_until("it is on hold", || {
        get(address, "/v1/status")["running"] == json!(0)
            && get(address, "/v1/jobs/victim")["held"] == json!(true)
    });
    let printed = String::from_utf8(stdout_of(address, "victim")).unwrap();
    let mut lines = printed.lines();
    assert_eq!(lines.next(), Some("[D1_STABLE] begin"));
    let mut last = 0;
    for (at, line) in (1u64..).zip(lines) {
        assert_eq!(line, format!("step {at}"), "each step once and in order");
        last = at;
    }
    assert!(last >= 10, "{printed}");
    post(address, "/v1/jobs/victim/cancel").is(202);

    // The same program with an end, killed once in each way, ends as one that was left alone.
    submit(address, &manifest("whole", "120", "0.02"));
    wait_for_seal(address, "whole");
    submit(address, &manifest("short", "120", "0.02"));
    wait_until("a checkpoint", || sequence(address, "short") >= 1);
    kill_program(&place);
    wait_until("another", || sequence(address, "short") >= 3);
    assert!(host.running.kill());
    host = spawn(&place);
    address = host.ready();
    wait_until("another", || sequence(address, "short") >= 5);
    place.engine.kill_and_start();
    wait_for_seal(address, "short");
    host.stop();
    assert_eq!(place.world.result("short"), place.world.result("whole"));
    place.engine.is_clean();
    place.run(["ledger", "check"]).ok();
}

#[test]
fn a_container_that_its_host_left_goes_with_its_job_whatever_becomes_of_that() {
    let Some(place) = Place::open("containers that were left") else { return };
    let mut host = spawn(&place);
    for (job, verb) in [("held", "hold"), ("cancelled", "cancel")] {
        let mut address = host.ready();
        let sleeper = json!({"job_id": job, "image": IMAGE, "program": "sleep",
            "arguments": ["1000"]});
        submit(address, &sleeper);
        wait_until("its container runs", || place.engine.containers().len() == 1);
        // Nothing starts any more, so it waits after the next start of the host.
        post(address, "/v1/starts/pause").is(200);
        assert!(host.running.kill());
        host = spawn(&place);
        address = host.ready();
        assert_eq!(place.engine.containers().len(), 1, "it goes on without its host");
        let path = format!("/v1/jobs/{job}/{verb}");
        http::request(address, "POST", &path, JSON, b"{}").unwrap().is(202);
        if verb == "hold" {
            assert!(host.running.kill());
            host = spawn(&place);
            address = host.ready();
        }
        wait_until("it is gone", || place.engine.containers().is_empty());
        post(address, "/v1/starts/resume").is(200);
    }
    host.stop();
    place.engine.is_clean();
}

fn spawn(place: &Place) -> Host {
    Host::spawn_with(&place.world, &[], |command| {
        place.engine.name_to(command);
    })
}

#[test]
fn a_program_that_ends_as_if_it_were_killed_each_time_is_set_aside_and_not_run_for_ever() {
    let Some(place) = Place::open("a program that looks killed") else { return };
    let mut host = spawn(&place);
    let address = host.ready();
    let manifest = json!({"job_id": "again", "image": IMAGE, "program": "python3",
        "arguments": ["-c", "raise SystemExit(137)"], "max_crashes": 2});
    submit(address, &manifest);
    let shown = wait_for_seal(address, "again");
    assert_eq!(shown["conclusion"]["outcome"], "poisoned");
    assert_eq!(shown["crashes"], 2);
    host.stop();
    place.engine.is_clean();
}
