//! How soon a host is ready that has many unfinished jobs, and that none of them is forgotten.

use std::{net::SocketAddr, thread, time::Instant};

use serde_json::json;

use super::{Blob, Host, JSON, get, post};
use crate::{
    http::Connection,
    support::{World, wait_until},
};

const JOBS: u64 = 10_000;
const CONNECTIONS: u64 = 8;

#[test]
fn ten_thousand_unfinished_jobs_are_all_there_after_a_kill_and_all_end() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let component = Blob::guest("hello");
    component.upload(address).unwrap().is(201);
    post(address, "/v1/starts/pause").is(200);
    let begun = Instant::now();
    submit_all(address, &component);
    println!("{JOBS} jobs accepted in {:?}", begun.elapsed());
    assert_eq!(get(address, "/v1/status")["waiting"], json!(JOBS));

    assert!(host.running.kill());
    let begun = Instant::now();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    println!("ready {:?} after its start, with {JOBS} unfinished jobs", begun.elapsed());
    let status = get(address, "/v1/status");
    assert_eq!((&status["waiting"], &status["status"]), (&json!(JOBS), &json!("paused")));

    post(address, "/v1/starts/resume").is(200);
    let begun = Instant::now();
    wait_until("all are sealed", || get(address, "/v1/status")["jobs"]["SEALED"] == json!(JOBS));
    println!("all ran in {:?}", begun.elapsed());
    let status = get(address, "/v1/status");
    assert_eq!((&status["waiting"], &status["running"]), (&json!(0), &json!(0)));
    host.stop();

    // The same with as many that are over.
    let begun = Instant::now();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    println!("ready {:?} after its start, with {JOBS} jobs that are over", begun.elapsed());
    host.stop();
    world.run(["ledger", "check"]).ok();
}

fn submit_all(address: SocketAddr, component: &Blob) {
    thread::scope(|scope| {
        for first in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                for number in (first..JOBS).step_by(usize::try_from(CONNECTIONS).unwrap()) {
                    let manifest = json!({
                        "job_id": format!("job-{number}"),
                        "component": component.digest,
                        "resources": {"cpu": 0.1, "memory": "16MiB"},
                    });
                    let body = manifest.to_string();
                    connection.send("POST", "/v1/jobs", JSON, body.as_bytes()).unwrap().is(202);
                }
            });
        }
    });
}
