//! No request reaches a file that it is not about.
//!
//! Files with known contents lie inside and beside the data directory. Whatever names are asked for, no
//! answer holds their bytes, and nothing new lies anywhere.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::client::{Request, Server};
use crate::{guests::guest, support::World};

const CANARY: &str = "canary-7f3a9c51-never-to-be-seen";

/// Ways to write a path that leads elsewhere, as they stand in a request line.
const PATHS: &[&str] = &[
    "..%2f",
    "..%2f..%2f",
    "%2e%2e/",
    "%2e%2e%2f",
    "../",
    "../../",
    "..%5c",
    "..%252f",
    "%2e%2e%252f",
    "..%c0%af",
    "..%ef%bc%8f",
    "....//",
    "%2f",
    "//",
    "./",
    "x/../../",
    "x%2f..%2f..%2f",
    "file:%2f%2f",
    "%00",
    "x%00..%2f",
    "~%2f",
];

struct Canaries {
    secrets: Vec<Vec<u8>>,
    files: Vec<String>,
}

/// Puts canaries beside and inside the data directory, and takes the host's key for one.
fn plant(world: &World) -> Canaries {
    fs::write(world.path("canary"), CANARY).unwrap();
    fs::write(world.data().join("canary"), CANARY).unwrap();
    let key = fs::read_to_string(world.data().join("keys/host-ed25519.pem")).unwrap();
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with("---")).collect();
    assert!(!body.is_empty() && body.iter().all(|line| line.len() > 8));
    let mut secrets: Vec<Vec<u8>> = body.iter().map(|line| line.as_bytes().to_vec()).collect();
    secrets.push(CANARY.as_bytes().to_vec());
    secrets.push(b"root:x:0".to_vec());
    let files = [
        "canary",
        "data/canary",
        "keys/host-ed25519.pem",
        "data/keys/host-ed25519.pem",
        "host.json",
        "LOCK",
    ];
    let mut files: Vec<String> = files.iter().map(|&name| name.to_owned()).collect();
    for name in ["canary", "data/canary", "data/keys/host-ed25519.pem"] {
        files.push(world.path(name).to_str().unwrap().to_owned());
    }
    files.push("etc/passwd".to_owned());
    Canaries { secrets, files }
}

fn everything_below(dir: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
            names.insert(entry.path().to_str().unwrap().to_owned());
        }
    }
    names
}

#[test]
fn no_path_leads_to_a_file_of_the_host() {
    let world = World::new();
    let server = Server::start(&world, &[]);
    let canaries = plant(&world);
    let hello = server.upload(&fs::read(guest("hello")).unwrap());
    server.run(&json!({"job_id": "done", "component": hello}));
    let document = server.get("/openapi.json").json();
    let before = everything_below(&world.path(""));
    let mut asked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        if !path.contains('{') {
            continue;
        }
        for method in operations.as_object().unwrap().keys() {
            for (index, prefix) in PATHS.iter().enumerate() {
                let file = &canaries.files[(index + asked) % canaries.files.len()];
                for file in [file.clone(), file.replace('/', "%2f")] {
                    asked += 1;
                    try_path(&server, &canaries, (path, method), &format!("{prefix}{file}"));
                }
            }
        }
    }
    assert!(asked > 500, "only {asked} paths were tried");
    let grown: Vec<_> = everything_below(&world.path(""))
        .into_iter()
        .filter(|name| !before.contains(name))
        .filter(|name| !name.contains("/data/wal/") && !name.contains("/data/read-model"))
        .collect();
    assert!(grown.is_empty(), "{grown:?}");
    assert!(server.lives(&world));
    server.stop();
}

fn try_path(server: &Server, canaries: &Canaries, (path, method): (&str, &str), name: &str) {
    // Only the last parameter, so that a job which is there is asked for its files.
    let last = path.rfind('{').unwrap();
    let end = path[last..].find('}').unwrap() + last + 1;
    let before = path[..last].replace("{job}", "done");
    let target = format!("{before}{name}{}", &path[end..]);
    let mut request = Request::new(&method.to_uppercase(), &target);
    if matches!(method, "post" | "put") {
        request = request.json(&json!({}));
    }
    let answer = server.send(&request);
    for secret in &canaries.secrets {
        let shown = answer.body.windows(secret.len()).any(|window| window == secret);
        assert!(!shown, "{request:?}: {answer:?}");
    }
    // A path that is normalised before it is routed could only be seen where it answers something.
    assert!(answer.status >= 400, "{request:?}: {answer:?}");
}

#[test]
fn names_in_bodies_lead_to_no_file_either() {
    let world = World::new();
    let server = Server::start(&world, &[]);
    let canaries = plant(&world);
    let hello = server.upload(&fs::read(guest("hello")).unwrap());
    let refused = |manifest: Value| {
        let answer = server.post("/v1/jobs", &manifest);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "invalid-manifest"),
            "{manifest}"
        );
    };
    for name in
        ["../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "a\0b", "", "\u{2025}/x", "-x", ".x"]
    {
        refused(json!({"component": hello, "inputs": {name: hello}}));
        refused(json!({"component": hello, "job_id": name}));
        refused(json!({"component": hello, "queue": name}));
    }
    for file in &canaries.files {
        for field in ["component", "stdin"] {
            let mut manifest = json!({"component": hello});
            manifest[field] = json!(format!("../{file}"));
            refused(manifest);
        }
    }
    // A program's own name is text that the program sees, and nothing else.
    let job = server.run(&json!({"component": hello, "program": "../../../canary"}));
    assert_eq!(job["conclusion"]["outcome"], "success");
    let id = job["job_id"].as_str().unwrap();
    assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
    server.stop();
}
