//! Clients that submit jobs and do not give up: each asks again until it is told.
//!
//! Owns: the mix of jobs, and the way a client has to go. Knows nothing of kills.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Blob, Place};
use crate::{
    http::{self, Response},
    support::{Moments, PATIENCE},
};

/// What is run: a component with its arguments.
pub struct Kind {
    pub component: Blob,
    pub arguments: &'static [&'static str],
}

impl Kind {
    /// One of each: a job without a checkpoint, one with many, one that fails.
    pub fn all() -> [Self; 3] {
        let kind = |name, arguments| Self { component: Blob::guest(name), arguments };
        [
            kind("hello", &["one", "two"]),
            kind("counter", &["--steps", "20", "--work", "6"]),
            kind("greedy", &["unreachable"]),
        ]
    }

    /// The manifest of such a job, small enough for many of them at once.
    pub fn manifest(&self) -> Value {
        json!({
            "component": self.component.digest,
            "arguments": self.arguments,
            "checkpoints": {"every-steps": 1},
            "resources": {"cpu": 0.2, "memory": "16MiB"},
            "max_crashes": 1000,
        })
    }
}

/// A job that a client was told about.
pub struct Told {
    pub job_id: String,
    /// Which kind.
    pub kind: usize,
    /// Whether it was told that this request made it.
    pub created: bool,
    /// How often it had to ask.
    pub requests: u32,
    /// How often it had to upload again.
    pub uploads: u32,
}

/// One client, until `over`.
pub fn client(name: u64, kinds: &[Kind], place: &Place, over: &AtomicBool, seed: u64) -> Vec<Told> {
    let mut moments = Moments::new(seed ^ name);
    let mut told = Vec::new();
    for number in 0_usize.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let kind = number % kinds.len();
        let mut manifest = kinds[kind].manifest();
        let label = format!("client-{name}-{number}");
        // What no job refers to yet goes with the next start: then it is uploaded again.
        let stdin = Blob::new(label.clone().into_bytes());
        manifest["stdin"] = json!(stdin.digest);
        let mut key = None;
        if number % 2 == 0 {
            manifest["job_id"] = json!(label);
        } else {
            key = Some(label);
        }
        told.push(submit(
            place,
            kind,
            &manifest,
            key.as_deref(),
            &[&kinds[kind].component, &stdin],
        ));
        std::thread::sleep(moments.next(Duration::from_millis(500)));
    }
    told
}

/// Sends the same request until it is answered.
fn submit(
    place: &Place,
    kind: usize,
    manifest: &Value,
    key: Option<&str>,
    blobs: &[&Blob],
) -> Told {
    let begun = Instant::now();
    let (mut requests, mut uploads) = (0, 0);
    loop {
        assert!(begun.elapsed() < PATIENCE, "no answer to {manifest}");
        requests += 1;
        let answer = ask(place, manifest, key);
        match answer {
            Ok(answer) if matches!(answer.status, 200 | 202) => {
                let accepted = answer.json();
                let job_id = accepted["job_id"].as_str().unwrap().to_owned();
                let created = accepted["created"] == json!(true);
                assert_eq!(answer.status == 202, created, "{accepted}");
                return Told { job_id, kind, created, requests, uploads };
            }
            Ok(answer) if answer.status == 422 => {
                let problem = answer.json();
                assert_eq!(problem["code"], "blob-missing", "{problem}");
                uploads += 1;
                for blob in blobs {
                    let _ = place.now().and_then(|address| blob.upload(address));
                }
            }
            Ok(answer) if matches!(answer.status, 429 | 503) => pause(),
            Ok(answer) => panic!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
            // Refused or reset: the host is being killed.
            Err(_) => pause(),
        }
    }
}

fn ask(place: &Place, manifest: &Value, key: Option<&str>) -> io::Result<Response> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    http::request(place.now()?, "POST", "/v1/jobs", &headers, manifest.to_string().as_bytes())
}

fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
