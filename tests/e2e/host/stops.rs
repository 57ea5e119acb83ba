//! A host that is asked to stop: what runs comes to a checkpoint, and nothing counts as a crash.

use serde_json::{Value, json};

use super::{Blob, Host, counted, get, history_of, post, stdout_of, submit, wait_for_seal};
use crate::{
    http,
    support::{World, wait_until},
};

/// Steps of the job that is stopped.
const STEPS: u64 = 2000;

fn start(world: &World, component: &Blob, job: &str, arguments: &[&str]) -> Host {
    let mut host = Host::spawn(world, &[]);
    let address = host.ready();
    component.upload(address).unwrap();
    let digest = &component.digest;
    submit(address, &json!({"job_id": job, "component": digest, "arguments": arguments}));
    host
}

fn show(host: &Host, job: &str) -> Value {
    get(host.address().unwrap(), &format!("/v1/jobs/{job}"))
}

#[test]
fn a_host_that_is_asked_to_stop_lets_a_job_come_to_a_checkpoint_and_the_next_one_goes_on() {
    let world = World::new();
    let component = Blob::guest("counter");
    let arguments = ["--steps", &STEPS.to_string(), "--work", "2"];
    let mut host = start(&world, &component, "c", &arguments);
    let mut stops = 0;
    for more in [3, 100, 200] {
        let has = |host: &Host| show(host, "c")["checkpoints"].as_u64().unwrap();
        let before = has(&host);
        wait_until("it saves", || has(&host) >= before + more);
        host.stop();
        assert_eq!(world.run(["show", "c", "--json"]).ok().json()["crashes"], 0);
        stops += 1;
        host = Host::spawn(&world, &[]);
        host.ready();
    }
    let address = host.ready();
    let shown = wait_for_seal(address, "c");
    assert_eq!((&shown["crashes"], &shown["attempts"]), (&json!(0), &json!(stops + 1)));
    let history = history_of(address, "c");
    let why = history.iter().filter(|event| event["event"] == "interrupted");
    let why: Vec<&Value> = why.map(|event| &event["why"]).collect();
    assert_eq!(why, vec!["shutdown"; stops]);
    // Each attempt goes on from the newest checkpoint: no step was done twice.
    let saved = history.iter().filter(|event| event["event"] == "checkpoint");
    let saved: Vec<u64> = saved.map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(saved, (1..=STEPS).collect::<Vec<u64>>());
    assert!(stdout_of(address, "c") == counted(STEPS).as_bytes());
    host.stop();
    world.run(["ledger", "check"]).ok();
}

#[test]
fn a_second_signal_stops_at_once_and_what_ran_is_run_again() {
    let world = World::new();
    let component = Blob::guest("greedy");
    let mut host = start(&world, &component, "l", &["loop"]);
    wait_until("it runs", || show(&host, "l")["state"] == "RUNNING");
    let address = host.ready();
    host.running.signal("TERM");
    wait_until("the host drains", || {
        http::request(address, "GET", "/readyz", &[], b"").is_ok_and(|told| told.status == 503)
    });
    // An endless loop has no checkpoint to come to.
    assert!(host.running.is_there(), "it gives the job time");
    host.stop();

    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    wait_until("it runs again", || show(&host, "l")["attempts"].as_u64().unwrap() == 2);
    // A host that had waited until its time was over would have interrupted the job in order.
    assert_eq!(show(&host, "l")["crashes"], 1);
    post(address, "/v1/jobs/l/cancel").is(202);
    assert_eq!(wait_for_seal(address, "l")["conclusion"]["outcome"], "cancelled");
    host.stop();
    world.run(["ledger", "check"]).ok();
}
