//! A host that serves, as a process: started, asked, killed.
//!
//! Each module below asks one question of it.

mod crowd;
mod kills;
mod load;
mod ready;
mod soak;
mod stops;
mod surface;
mod watch;

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    guests::guest,
    http::{self, Response},
    support::{PATIENCE, Running, World, wait_until},
};

/// A running host.
pub struct Host {
    pub running: Running,
    world_data: PathBuf,
    log: PathBuf,
}

impl Host {
    /// Starts one and does not wait for it.
    pub fn spawn(world: &World, flags: &[&str]) -> Self {
        Self::start(world, &[], flags, |_| ())
    }

    /// The same, with something else said to its process.
    pub fn spawn_with(
        world: &World,
        flags: &[&str],
        say: impl FnOnce(&mut std::process::Command),
    ) -> Self {
        Self::start(world, &[], flags, say)
    }

    /// The same as an argument of another program, which hands its process over to it.
    pub fn spawn_under(world: &World, under: &[&str], flags: &[&str]) -> Self {
        Self::start(world, under, flags, |_| ())
    }

    fn start(
        world: &World,
        under: &[&str],
        flags: &[&str],
        say: impl FnOnce(&mut std::process::Command),
    ) -> Self {
        let log = world.path("host.log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let arguments = ["serve", "--listen", "127.0.0.1:0"].iter().chain(flags);
        let mut command = world.hb_under(under, arguments);
        command.stdout(Stdio::null()).stderr(file);
        say(&mut command);
        Self { running: Running::start(&mut command), world_data: world.data(), log }
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where it answers, as soon as it says so.
    pub fn address(&self) -> Option<SocketAddr> {
        let bytes = fs::read(self.world_data.join("host.json")).ok()?;
        let found: Value = serde_json::from_slice(&bytes).ok()?;
        // The file of one that was killed stays.
        if found["pid"] != json!(self.running.pid()) {
            return None;
        }
        found["urls"][0].as_str()?.strip_prefix("http://")?.parse().ok()
    }

    /// Waits until it takes jobs, and says where.
    #[track_caller]
    pub fn ready(&mut self) -> SocketAddr {
        self.ready_or_ended().unwrap_or_else(|| panic!("the host ended: {}", self.said()))
    }

    /// The same; nothing where it ends instead.
    #[track_caller]
    pub fn ready_or_ended(&mut self) -> Option<SocketAddr> {
        let begun = Instant::now();
        loop {
            if let Some(address) = self.address()
                && http::request(address, "GET", "/readyz", &[], b"").is_ok_and(|r| r.status == 200)
            {
                return Some(address);
            }
            if !self.running.is_there() {
                return None;
            }
            assert!(begun.elapsed() < PATIENCE, "the host is not ready: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop, and demands that it says it went well.
    #[track_caller]
    pub fn stop(self) {
        self.running.signal("TERM");
        let ran = self.running.finish();
        assert_eq!(ran.code, Some(0), "{}", fs::read_to_string(&self.log).unwrap_or_default());
    }
}

/// Where the host is now; it moves with each start.
#[derive(Default)]
pub struct Place(Mutex<Option<SocketAddr>>);

impl Place {
    pub fn set(&self, address: Option<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    pub fn now(&self) -> std::io::Result<SocketAddr> {
        let address = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        address.ok_or_else(|| std::io::ErrorKind::NotConnected.into())
    }
}

/// `GET`, with a body in JSON.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Value {
    http::request(address, "GET", path, &[], b"").unwrap().is(200).json()
}

/// `POST` without a body.
#[track_caller]
pub fn post(address: SocketAddr, path: &str) -> Response {
    http::request(address, "POST", path, &[], b"").unwrap()
}

/// Bytes that are uploaded, and their digest.
#[derive(Clone)]
pub struct Blob {
    pub digest: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: blake3::hash(&bytes).to_hex().to_string(), bytes }
    }

    /// A built guest.
    pub fn guest(name: &str) -> Self {
        Self::new(fs::read(guest(name)).unwrap())
    }

    pub fn upload(&self, address: SocketAddr) -> std::io::Result<Response> {
        let path = format!("/v1/blobs/{}", self.digest);
        http::request(address, "PUT", &path, &[], &self.bytes)
    }
}

/// Submits a job and returns its id.
#[track_caller]
pub fn submit(address: SocketAddr, manifest: &Value) -> String {
    let body = manifest.to_string();
    let answer = http::request(address, "POST", "/v1/jobs", JSON, body.as_bytes()).unwrap();
    assert!(matches!(answer.status, 200 | 202), "{answer:?}: {:?}", answer.json());
    answer.json()["job_id"].as_str().unwrap().to_owned()
}

pub const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Waits until a job is sealed.
#[track_caller]
pub fn wait_for_seal(address: SocketAddr, job: &str) -> Value {
    let path = format!("/v1/jobs/{job}");
    wait_until("the job is sealed", || !get(address, &path)["seal"].is_null());
    get(address, &path)
}

/// What a job printed.
#[track_caller]
pub fn stdout_of(address: SocketAddr, job: &str) -> Vec<u8> {
    let path = format!("/v1/jobs/{job}/stdout");
    http::request(address, "GET", &path, &[], b"").unwrap().is(200).body
}

/// What happened to a job.
#[track_caller]
pub fn history_of(address: SocketAddr, job: &str) -> Vec<Value> {
    let history = get(address, &format!("/v1/jobs/{job}/history?limit=10000"));
    history.as_array().unwrap().clone()
}

/// Every row of the list, once it shows everything that is durable.
#[track_caller]
pub fn all_jobs(address: SocketAddr) -> Vec<Value> {
    let durable = get(address, "/v1/status")["log"]["durable"].as_u64().unwrap();
    wait_until("the list is up to date", || {
        get(address, "/v1/jobs?limit=1")["as_of"].as_u64().unwrap() >= durable
    });
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(address, &format!("/v1/jobs?limit=1000{cursor}"));
        rows.extend(page["jobs"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

/// What `counter` prints in so many steps.
pub fn counted(steps: u64) -> String {
    let mut printed = String::new();
    for step in 1..=steps {
        writeln!(printed, "step {step}").unwrap();
    }
    printed
}

/// Waits until nothing waits and nothing runs.
#[track_caller]
pub fn wait_until_idle(address: SocketAddr) {
    wait_until("the host is idle", || {
        let status = get(address, "/v1/status");
        status["waiting"] == json!(0) && status["running"] == json!(0)
    });
}
