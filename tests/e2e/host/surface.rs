//! What a host can be asked for beside running jobs: a folder as a queue, schedules, jobs out of jobs,
//! uploads in pieces, removal, and tokens.

use std::fs;

use serde_json::json;

use super::{Blob, Host, JSON, get, post, stdout_of, submit, wait_for_seal};
use crate::{
    guests::guest,
    http::{Response, request},
    support::{World, wait_until},
};

fn post_json(address: std::net::SocketAddr, path: &str, body: &serde_json::Value) -> Response {
    request(address, "POST", path, JSON, body.to_string().as_bytes()).unwrap()
}

#[test]
fn a_manifest_that_is_dropped_into_the_queue_runs_and_is_archived() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    host.ready();
    let data = world.data();
    fs::copy(guest("hello"), data.join("queue/hello.wasm")).unwrap();
    fs::write(data.join("queue/job.json"), br#"{"component": "./hello.wasm"}"#).unwrap();
    fs::write(data.join("queue/bad.json"), br#"{"component": "#).unwrap();
    wait_until("the outcome", || data.join("archive/job.json").exists());
    let report = fs::read(data.join("telemetry/job.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!((&report["state"], &report["outcome"]), (&json!("over"), &json!("success")));
    assert!(report["seal"].as_str().unwrap().len() == 64);
    wait_until("the refusal", || data.join("rejected/bad.json").exists());
    let report = fs::read_to_string(data.join("telemetry/bad.json")).unwrap();
    assert!(report.contains("no manifest"), "{report}");
    host.stop();
}

#[test]
fn a_schedule_makes_a_job_of_each_moment_and_only_one() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let hello = Blob::guest("hello");
    hello.upload(address).unwrap();
    let schedule = json!({"cron": "* * * * * *", "manifest": {"component": hello.digest}});
    let body = schedule.to_string();
    let set =
        request(address, "PUT", "/v1/schedules/often", JSON, body.as_bytes()).unwrap().is(200);
    assert!(set.json()["next"].is_string());
    let jobs = |address| {
        let page = get(address, "/v1/jobs?q=often-at-");
        let ids = page["jobs"].as_array().unwrap().iter();
        ids.map(|job| job["job_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until("three moments", || jobs(address).len() >= 3);
    // In the middle of whatever it is doing.
    host.running.kill();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    wait_until("more moments", || jobs(address).len() >= 5);
    let mut ids = jobs(address);
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let bad = json!({"cron": "often", "manifest": {"component": hello.digest}}).to_string();
    let refused =
        request(address, "PUT", "/v1/schedules/bad", JSON, bad.as_bytes()).unwrap().is(400);
    assert_eq!(refused.json()["code"], "invalid-manifest");
    request(address, "DELETE", "/v1/schedules/often", &[], b"").unwrap().is(204);
    request(address, "GET", "/v1/schedules/often", &[], b"").unwrap().is(404);
    host.stop();
}

#[test]
fn a_job_out_of_fuel_goes_on_from_its_checkpoint_with_more_and_ends_as_if_it_always_had_it() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let counter = Blob::guest("counter");
    counter.upload(address).unwrap();
    let manifest = |job: &str, fuel: u64| {
        json!({
            "job_id": job, "component": counter.digest, "arguments": ["--steps", "40", "--work", "1"],
            "checkpoints": {"every-steps": 1}, "limits": {"fuel": fuel},
        })
    };
    submit(address, &manifest("whole", 1_000_000_000_000));
    let whole = wait_for_seal(address, "whole");
    let fuel = whole["fuel"].as_u64().unwrap();
    submit(address, &manifest("starved", fuel / 2));
    let starved = wait_for_seal(address, "starved");
    assert_eq!(starved["conclusion"]["outcome"], "limit fuel");
    assert!(starved["checkpoints"].as_u64().unwrap() > 2);
    let more = json!({"from_checkpoint": true, "limits": {"fuel": 1_000_000_000_000u64}});
    let retried = post_json(address, "/v1/jobs/starved/retry", &more).is(202).json();
    let name = retried["job_id"].as_str().unwrap().to_owned();
    assert_eq!(name, "starved-retry-1");
    let ended = wait_for_seal(address, &name);
    assert_eq!(ended["conclusion"]["outcome"], "success");
    assert!(stdout_of(address, &name) == stdout_of(address, "whole"));
    let forked = post_json(address, "/v1/jobs/whole/fork", &json!({"at": 3})).is(202).json();
    let name = forked["job_id"].as_str().unwrap().to_owned();
    wait_for_seal(address, &name);
    assert!(stdout_of(address, &name) == stdout_of(address, "whole"));
    let none = post_json(address, "/v1/jobs/whole/fork", &json!({"at": 4000})).is(404);
    assert_eq!(none.json()["code"], "checkpoint-not-found");
    let done = post_json(address, "/v1/jobs/whole/retry", &json!({})).is(409);
    assert_eq!(done.json()["code"], "already-so");
    host.stop();
    world.run(["verify", "--checkpoints", &name]).ok();
}

#[test]
fn an_upload_goes_on_where_it_broke_off_also_after_a_crash() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let blob = Blob::guest("kmer");
    let path = format!("/v1/blobs/{}", blob.digest);
    let (first, rest) = blob.bytes.split_at(blob.bytes.len() / 3);
    let send = |address, offset: usize, complete: &str, bytes: &[u8]| {
        let offset = offset.to_string();
        let headers = [("upload-offset", offset.as_str()), ("upload-complete", complete)];
        request(address, "PATCH", &path, &headers, bytes).unwrap()
    };
    send(address, 0, "?0", first).is(204);
    host.running.kill();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let wrong = send(address, 5, "?1", rest).is(409).json();
    assert_eq!(
        (&wrong["code"], &wrong["offset"]),
        (&json!("upload-offset-mismatch"), &json!(first.len()))
    );
    send(address, first.len(), "?1", rest).is(201);
    request(address, "GET", &path, &[], b"").unwrap().is(200);
    let lie = format!("/v1/blobs/{}", "ab".repeat(32));
    let refused = request(address, "PUT", &lie, &[], b"other bytes").unwrap().is(422);
    assert_eq!(refused.json()["code"], "digest-mismatch");
    host.stop();
}

#[test]
fn jobs_that_are_over_are_removed_by_hand_with_what_only_they_needed() {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let hello = Blob::guest("hello");
    hello.upload(address).unwrap();
    for index in 0..5 {
        let job = format!("j{index}");
        let labels = if index == 0 { json!({"keep": "true"}) } else { json!({}) };
        submit(
            address,
            &json!({"job_id": job, "component": hello.digest, "arguments": [job], "labels": labels}),
        );
        wait_for_seal(address, &job);
    }
    let asked = json!({"dry_run": true, "max_jobs": 2});
    let plan = post_json(address, "/v1/prune", &asked).is(200).json();
    assert_eq!((&plan["count"], &plan["dry_run"]), (&json!(3), &json!(true)));
    get(address, "/v1/jobs/j1");
    let report = post_json(address, "/v1/prune", &json!({"max_jobs": 2})).is(200).json();
    assert_eq!(report["count"], 3, "{report}");
    request(address, "GET", "/v1/jobs/j1", &[], b"").unwrap().is(404);
    get(address, "/v1/jobs/j0");
    get(address, "/v1/jobs/j4");
    wait_until("the list knows it", || {
        get(address, "/v1/jobs")["jobs"].as_array().unwrap().len() == 2
    });
    host.stop();
    world.run(["ledger", "check"]).ok();
}

#[test]
fn with_a_token_in_its_directory_a_host_asks_for_one_and_a_scope_bounds_what_it_permits() {
    let world = World::new();
    let new = |scope: &str| {
        world.run(["token", "new", "--name", scope, "--scope", scope, "--json"]).ok().json()["token"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (read, admin) = (new("read"), new("admin"));
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let ask = |method: &str, path: &str, token: Option<&str>| {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let headers = [headers, JSON.to_vec()].concat();
        request(address, method, path, &headers, b"{}").unwrap()
    };
    ask("GET", "/livez", None).is(200);
    assert_eq!(ask("GET", "/v1/status", None).is(401).json()["code"], "unauthenticated");
    ask("GET", "/v1/status", Some(&read)).is(200);
    assert_eq!(ask("POST", "/v1/starts/pause", Some(&read)).is(403).json()["code"], "forbidden");
    ask("POST", "/v1/starts/pause", Some(&admin)).is(200);
    ask("POST", "/v1/starts/resume", Some(&admin)).is(200);
    world.run(["token", "revoke", "read"]).ok();
    wait_until("the revocation", || ask("GET", "/v1/status", Some(&read)).status == 401);
    host.running.kill();
    let kept = fs::read_dir(world.data().join("tokens")).unwrap();
    for file in kept {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&admin), "a token lies there in the clear");
    }
}

#[test]
fn what_a_host_says_of_itself_is_in_one_place_and_for_machines() {
    let world = World::new();
    // Whatever engine this machine has, this host finds none.
    let mut host = Host::spawn_with(&world, &[], |command| {
        command.env("DOCKER_HOST", "unix:///nowhere/engine.sock");
    });
    let address = host.ready();
    let counter = Blob::guest("counter");
    counter.upload(address).unwrap();
    submit(address, &json!({"job_id": "c", "component": counter.digest}));
    wait_for_seal(address, "c");
    wait_until("the read model", || get(address, "/v1/status")["jobs"]["SEALED"] == 1);
    let status = get(address, "/v1/status");
    assert_eq!((&status["status"], &status["running"]), (&json!("idle"), &json!(0)));
    assert_eq!(status["last_event"]["event"], "sealed");
    let metrics = request(address, "GET", "/metrics", &[], b"").unwrap().is(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains("hb_jobs{state=\"SEALED\"} 1"), "{metrics}");
    assert!(!metrics.contains("job_id"));
    let page = request(address, "GET", "/docs", &[], b"").unwrap().is(200);
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("/v1/jobs/{job}/events") && !page.contains("<script"));
    let legacy =
        json!({"job_id": "o", "image_hash": "sha256:0", "command": ["a"], "mount_spec": "a:b"});
    let refused = post_json(address, "/api/submit_job", &legacy).is(501).json();
    assert_eq!(refused["code"], "needs-container-executor");
    post(address, "/v1/jobs/c/cancel").is(409);
    host.stop();
}
