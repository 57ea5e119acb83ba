//! What is said where there is no engine, no image, no program.

use super::{IMAGE, Place};
use crate::{
    host::{Host, JSON},
    http,
    support::World,
};

const NOWHERE: &str = "unix:///nowhere/engine.sock";

#[test]
fn where_no_engine_answers_it_is_said_and_nothing_is_accepted() {
    let world = World::new();
    let mut command = world.hb(["run", "--image", "python:3", "--", "true"]);
    let ran = crate::support::Ran::of(command.env("DOCKER_HOST", NOWHERE).output().unwrap());
    ran.exits(125).complains(&["no container engine answers", NOWHERE, "container.engine"]);
    let mut host = Host::spawn_with(&world, &[], |command| {
        command.env("DOCKER_HOST", NOWHERE);
    });
    let address = host.ready();
    let manifest = br#"{"job_id": "o", "image": "python:3", "program": "true"}"#;
    let refused = http::request(address, "POST", "/v1/jobs", JSON, manifest).unwrap().is(501);
    assert_eq!(refused.json()["code"], "needs-container-executor");
    http::request(address, "GET", "/v1/jobs/o", &[], b"").unwrap().is(404);
    host.stop();
}

#[test]
fn an_image_or_a_program_that_is_not_there_is_named() {
    let Some(place) = Place::open("what is not there") else { return };
    let id = format!("sha256:{}", "0".repeat(64));
    place.run(["run", "--image", &id, "--", "true"]).exits(125).complains(&["no sha256:000"]);
    let ran = place.run(["run", "--image", IMAGE, "--", "no-such-program"]).exits(127);
    assert!(ran.stderr.contains("no-such-program"), "{}", ran.stderr);
    place.run(["run", "--image", IMAGE]).exits(2).complains(&["--"]);
    let small = ["run", "--image", IMAGE, "--max-memory", "64KiB", "--", "true"];
    let ran = place.run(small).exits(126);
    assert!(ran.stderr.contains("memory"), "{}", ran.stderr);
    let checked = place.world.path("preflight");
    std::fs::write(&checked, "echo checking\ntest -e /in/absent\n").unwrap();
    let flags = ["run", "--image", IMAGE, "--preflight", checked.to_str().unwrap(), "--", "true"];
    let ran = place.run(flags).exits(1);
    assert!(ran.stderr.contains("pre-flight script failed"), "{}", ran.stderr);
    place.engine.is_clean();
}
