//! Components that were made to do harm, and guests that print what terminals obey.
//!
//! Whatever bytes a stranger uploads and has run: the job ends, and the host lives. What the sandbox
//! says of each is tested there.

use std::fs;

use serde_json::{Value, json};

use super::client::Server;
use crate::{guests::guest, support::World};

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    let mut rest = contents.len();
    while rest > 0x7f {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes.extend(contents);
    bytes
}

fn component(sections: &[u8]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0", sections].concat()
}

/// An instance type that declares an instance type, and so on.
fn nested_types(depth: usize) -> Vec<u8> {
    let mut ty = vec![0x42, 0x00];
    for _ in 1..depth {
        ty = [&[0x42, 0x01, 0x01][..], &ty].concat();
    }
    component(&section(7, &[&[1][..], &ty].concat()))
}

fn nested_components(depth: usize) -> Vec<u8> {
    (0..depth).fold(component(&[]), |inner, _| component(&section(4, &inner)))
}

/// Each component instantiates the one before it ten times: a thousand million instances.
fn expanding_instances() -> Vec<u8> {
    let mut inner = component(&[]);
    for _ in 0..9 {
        let instantiate = [&[10][..], &[0, 0, 0].repeat(10)].concat();
        inner = component(&[section(4, &inner), section(5, &instantiate)].concat());
    }
    inner
}

/// A core module that claims more functions than it has bytes.
fn claims() -> Vec<u8> {
    let types = section(1, &[1, 0x60, 0, 0]);
    [b"\0asm\x01\0\0\0".to_vec(), types, section(3, &[0xff, 0xff, 0xff, 0xff, 0x0f])].concat()
}

#[test]
fn components_that_were_made_to_do_harm_end_as_not_runnable_and_the_host_lives() {
    let world = World::new();
    let server = Server::start(&world, &[]);
    let hello = fs::read(guest("hello")).unwrap();
    let damaged: Vec<u8> = hello
        .iter()
        .enumerate()
        .map(|(at, byte)| if at % 97 == 96 { byte ^ 0xa5 } else { *byte })
        .collect();
    let cases = [
        ("nothing", Vec::new()),
        ("text", b"#!/bin/sh\nreboot\n".to_vec()),
        ("zeroes", vec![0; 1 << 20]),
        ("types of depth 80", nested_types(80)),
        ("types of depth 700", nested_types(700)),
        ("types of depth 20000", nested_types(20_000)),
        ("components of depth 40", nested_components(40)),
        ("components of depth 5000", nested_components(5000)),
        ("instances that expand", expanding_instances()),
        ("claims", claims()),
        ("cut", hello[..hello.len() / 2].to_vec()),
        ("damaged", damaged),
    ];
    for (index, (name, bytes)) in cases.into_iter().enumerate() {
        let digest = server.upload(&bytes);
        let job = server.run(&json!({"job_id": format!("harm-{index}"), "component": digest}));
        assert_eq!(job["conclusion"]["outcome"], "not runnable", "{name}: {job}");
        plain(&job);
    }
    assert!(server.lives(&world));
    server.stop();
}

/// Demands that no text holds what a terminal obeys.
#[track_caller]
fn plain(value: &Value) {
    match value {
        Value::String(text) => assert!(!text.chars().any(char::is_control), "{text:?}"),
        Value::Array(items) => items.iter().for_each(plain),
        Value::Object(members) => members.iter().for_each(|(name, one)| {
            assert!(!name.chars().any(char::is_control), "{name:?}");
            plain(one);
        }),
        _ => {}
    }
}

#[test]
fn what_a_guest_prints_or_names_is_data_and_never_obeyed() {
    let world = World::new();
    let server = Server::start(&world, &[]);
    let hello = server.upload(&fs::read(guest("hello")).unwrap());
    let greedy = server.upload(&fs::read(guest("greedy")).unwrap());
    let sequence =
        "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\r\nevent: end\ndata: {}\n\n<script>alert(1)</script>";
    let printing = json!({"job_id": "prints", "component": hello, "program": sequence, "arguments": [sequence]});
    server.run(&printing);
    // The bytes come as they were printed, and as nothing that a browser would run.
    let printed = server.get("/v1/jobs/prints/stdout");
    assert!(String::from_utf8(printed.body.clone()).unwrap().contains(sequence));
    assert_eq!(printed.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(printed.header("x-content-type-options"), Some("nosniff"));
    assert!(printed.header("content-disposition").unwrap().starts_with("attachment"));
    // In an event stream it is inside of JSON: a guest cannot write events of its own.
    let events = String::from_utf8(server.listen("/v1/jobs/prints/events").body).unwrap();
    assert_eq!(events.lines().filter(|line| *line == "event: end").count(), 1, "{events}");
    assert!(!events.contains('\u{1b}') && !events.contains('\r'));
    plain(&server.get("/v1/jobs?q=prints").json());
    let trapped =
        server.run(&json!({"job_id": "named", "component": greedy, "arguments": ["hostile-name"]}));
    assert!(!trapped["conclusion"]["backtrace"].as_array().unwrap().is_empty());
    plain(&trapped["conclusion"]);
    assert!(server.lives(&world));
    server.stop();
}

#[test]
fn a_guest_that_prints_without_end_is_stopped_at_its_limit_and_can_be_read() {
    const MOST: usize = 64 * 1024 * 1024;
    let world = World::new();
    let server = Server::start(&world, &[]);
    let greedy = server.upload(&fs::read(guest("greedy")).unwrap());
    let manifest = json!({"job_id": "flood", "component": greedy, "arguments": ["flood-stdout"],
        "limits": {"stdout_bytes": "64MiB"}});
    let job = server.run(&manifest);
    assert_eq!(job["conclusion"]["outcome"], "limit stdout_bytes");
    let printed = server.get("/v1/jobs/flood/stdout");
    assert_eq!(job["conclusion"]["stdout"]["bytes"], printed.body.len());
    assert!(printed.body.len() <= MOST && printed.body.len() > MOST / 2, "{}", printed.body.len());
    let digest = blake3::hash(&printed.body).to_hex();
    assert_eq!(job["conclusion"]["stdout"]["digest"], digest.as_str());
    assert!(server.lives(&world));
    server.stop();
}
