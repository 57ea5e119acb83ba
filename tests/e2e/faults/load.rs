//! Clients that go on submitting whatever they are answered, and what they must find in the end.
//!
//! Owns: what was told and what was refused. Knows nothing of what is done to the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    host::{Blob, JSON, Place, all_jobs, counted, get, history_of, stdout_of, wait_until_idle},
    http::{self, Response},
};

/// Steps of each job.
const STEPS: u64 = 10;

/// What a client came to know.
#[derive(Default)]
pub struct Heard {
    /// Jobs that were accepted.
    pub told: Vec<String>,
    /// How often which problem was answered.
    pub refused: BTreeMap<(u16, String), usize>,
}

impl Heard {
    fn refuse(&mut self, answer: &Response) {
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        *self.refused.entry((answer.status, code)).or_default() += 1;
    }

    /// Both together.
    pub fn and(mut self, other: Self) -> Self {
        self.told.extend(other.told);
        for (problem, count) in other.refused {
            *self.refused.entry(problem).or_default() += count;
        }
        self
    }

    /// Every answer that was no success is one of these.
    #[track_caller]
    pub fn only(&self, problems: &[(u16, &str)]) {
        for (status, code) in self.refused.keys() {
            assert!(problems.contains(&(*status, code)), "{status} {code}: {:?}", self.refused);
        }
    }
}

/// One client: each job has bytes of its own that are uploaded first.
pub fn client(place: &Place, name: &str, over: &AtomicBool) -> Heard {
    let counter = Blob::guest("counter");
    let mut heard = Heard::default();
    for number in 0_usize.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let job = format!("{name}-{number}");
        let stdin = Blob::new(job.repeat(1000).into_bytes());
        let _ = submit(place, &job, &counter, &stdin, &mut heard);
        thread::sleep(Duration::from_millis(5));
    }
    heard
}

fn submit(
    place: &Place,
    job: &str,
    counter: &Blob,
    stdin: &Blob,
    heard: &mut Heard,
) -> std::io::Result<()> {
    for blob in [counter, stdin] {
        let answer = blob.upload(place.now()?)?;
        if !matches!(answer.status, 200 | 201) {
            heard.refuse(&answer);
            return Ok(());
        }
    }
    let body = manifest(job, counter, stdin).to_string();
    let answer = http::request(place.now()?, "POST", "/v1/jobs", JSON, body.as_bytes())?;
    if matches!(answer.status, 200 | 202) {
        heard.told.push(job.to_owned());
    } else {
        heard.refuse(&answer);
    }
    Ok(())
}

pub fn manifest(job: &str, component: &Blob, stdin: &Blob) -> Value {
    json!({
        "job_id": job,
        "component": component.digest,
        "stdin": stdin.digest,
        "arguments": ["--steps", STEPS.to_string(), "--work", "2"],
        "checkpoints": {"every-steps": 1},
        "resources": {"cpu": 0.4, "memory": "16MiB"},
        "max_crashes": 1000,
    })
}

/// Demands that each job that somebody was told of is there and came to its end, once; and that no job
/// is there twice.
#[track_caller]
pub fn check(address: SocketAddr, told: &[String]) {
    wait_until_idle(address);
    let rows = all_jobs(address);
    let ids: BTreeSet<&str> = rows.iter().map(|row| row["job_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rows.len(), "a job is listed twice");
    let once: BTreeSet<&String> = told.iter().collect();
    assert_eq!(once.len(), told.len(), "a job was made twice");
    for job in told {
        assert!(ids.contains(job.as_str()), "{job} is lost");
        let shown = get(address, &format!("/v1/jobs/{job}"));
        assert_eq!(shown["conclusion"]["outcome"], "success", "{job}: {shown}");
        assert!(shown["seal"].is_string(), "{job}");
        assert!(stdout_of(address, job) == counted(STEPS).as_bytes(), "{job}");
        let history = history_of(address, job);
        for name in ["received", "ended", "sealed"] {
            let count = history.iter().filter(|event| event["event"] == name).count();
            assert_eq!(count, 1, "{job}: {name}");
        }
        let saved = history.iter().filter(|event| event["event"] == "checkpoint");
        let saved: Vec<u64> = saved.map(|event| event["step"].as_u64().unwrap()).collect();
        assert_eq!(saved, (1..=STEPS).collect::<Vec<u64>>(), "{job}");
    }
}
