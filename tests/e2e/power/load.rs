//! A host at work on a disk that keeps a record, and clients that note what they were told and how far
//! the record was when they were.
//!
//! Owns: the notes, and what the undisturbed run came to. Knows nothing of cuts.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    mount::{Kind, Mounted},
    record::{Image, Record},
    shelf::{Placed, Shelf},
};
use crate::{
    host::{Blob, Host, JSON, all_jobs, get, history_of, stdout_of, submit, wait_until_idle},
    http::{self, Events},
    support::{Over, World, data_file},
};

/// What a client was told.
pub enum Told {
    /// `201`: these bytes are here.
    Uploaded(Blob),
    /// `202`: this job will run.
    Accepted(String),
    /// An event of the stream of all events.
    Event(Value),
}

/// When.
pub struct Note {
    /// Steps that the disk had been told.
    pub at: usize,
    pub told: Told,
}

/// What a job comes to, however often it was interrupted.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// Outcome, exit code, message, artifacts and output, as the host shows them.
    shown: Vec<Value>,
    seal: Value,
    stdout: Vec<u8>,
    /// Steps at which it saved, in that order: each once, however often it went on.
    saved: Vec<u64>,
}

pub fn ending_of(address: SocketAddr, job: &str) -> Ending {
    let shown = get(address, &format!("/v1/jobs/{job}"));
    let history = history_of(address, job);
    let saved = history.iter().filter(|event| event["event"] == "checkpoint");
    let keys = ["outcome", "exit_code", "message", "artifacts", "stdout", "stderr"];
    Ending {
        shown: keys.map(|key| shown["conclusion"][key].clone()).to_vec(),
        seal: shown["seal"].clone(),
        stdout: stdout_of(address, job),
        saved: saved.map(|event| event["step"].as_u64().unwrap()).collect(),
    }
}

/// A recorded run.
pub struct Run {
    pub kind: Kind,
    pub record: Record,
    /// In the order in which it was told.
    pub notes: Vec<Note>,
    /// By job.
    pub endings: BTreeMap<String, Ending>,
}

/// Clients that submit at once.
const CLIENTS: usize = 3;
/// Steps of a job that only counts.
const STEPS: u64 = 12;
/// Steps of the job that was there before: nearly as many as the first segment of a log has room for, so
/// that the log changes over to its second one under load.
const STEPS_BEFORE: u64 = 1900;

struct Notes<'a> {
    disk: &'a Placed<'a>,
    notes: Mutex<Vec<Note>>,
}

impl Notes<'_> {
    fn take(&self, told: Told) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push(Note { at: self.disk.position(), told });
    }
}

/// Runs a host under load, `under` another program where one is named, and lets every job end.
pub fn record(shelf: &Shelf, world: &World, kind: Kind, under: &[&str], jobs: usize) -> Run {
    let disk = shelf.put(Image::empty(kind.disk_bytes()));
    kind.make(&disk.path());
    let mounted = Mounted::mount(kind, &disk.path(), &world.path("recorded")).unwrap();
    let mut inner = World::new();
    inner.set_data(mounted.at().join("data"));
    prepare(&inner);
    sync(mounted.at());
    disk.begin();

    let notes = Notes { disk: &disk, notes: Mutex::default() };
    let mut host = Host::spawn_under(&inner, under, &[]);
    let address = host.ready();
    // What was told before is not told again.
    let from = get(address, "/v1/status")["log"]["durable"].to_string();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let until = Over(&over);
        let (notes, over) = (&notes, &over);
        let listener = scope.spawn(move || listen(address, from, notes, over));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|name| scope.spawn(move || submit_some(address, notes, name, jobs)))
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        wait_until_idle(address);
        drop(until);
        listener.join().unwrap();
    });
    let ids = all_jobs(address).into_iter().map(|row| row["job_id"].as_str().unwrap().to_owned());
    let endings = ids.map(|job| (job.clone(), ending_of(address, &job))).collect();
    host.stop();
    let figures = inner.run(["ledger", "stats", "--json"]).ok().json();
    assert!(figures["log"]["segments"].as_u64() >= Some(2), "the log stayed short: {figures}");
    drop(mounted);
    let mut notes = notes.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    notes.sort_by_key(|note| note.at);
    Run { kind, record: disk.end(), notes, endings }
}

/// The first start is not recorded: its long zeros would be most of the record.
fn prepare(world: &World) {
    let mut host = Host::spawn(world, &[]);
    let address = host.ready();
    let counter = Blob::guest("counter");
    counter.upload(address).unwrap().is(201);
    let steps = STEPS_BEFORE.to_string();
    let before = json!({
        "job_id": "before",
        "component": counter.digest,
        "arguments": ["--steps", steps],
        "checkpoints": {"every-steps": 1},
    });
    submit(address, &before);
    wait_until_idle(address);
    host.stop();
}

fn sync(mount: &std::path::Path) {
    let done = std::process::Command::new("sync").arg("-f").arg(mount).status().unwrap();
    assert!(done.success());
}

/// Uploads what a job needs and submits it, again and again.
fn submit_some(address: SocketAddr, notes: &Notes<'_>, name: usize, jobs: usize) {
    let components = ["counter", "hello", "kmer"].map(Blob::guest);
    let genome = Blob::new(fs::read(data_file("lambda_virus.fa")).unwrap());
    let steps = STEPS.to_string();
    let (counts, letters) = (["--steps", steps.as_str(), "--work", "2"], ["-k", "13"]);
    for number in 0..jobs {
        let label = format!("client-{name}-{number}");
        // Sizes on both sides of what a log takes itself.
        let stdin = Blob::new(label.repeat(1 + number % 3 * 3000).into_bytes());
        // One of each three writes files and leaves some.
        let which = (name + number) % 3;
        let component = &components[which];
        for blob in [component, &stdin, &genome] {
            let answer = blob.upload(address).unwrap();
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            notes.take(Told::Uploaded(blob.clone()));
        }
        let manifest = json!({
            "job_id": label,
            "component": component.digest,
            "stdin": stdin.digest,
            "inputs": {"genome": genome.digest},
            "arguments": if which == 2 { &letters[..] } else { &counts },
            "checkpoints": {"every-steps": 1},
            "resources": {"cpu": 0.4, "memory": "16MiB"},
            "max_crashes": 1000,
        });
        let body = manifest.to_string();
        http::request(address, "POST", "/v1/jobs", JSON, body.as_bytes()).unwrap().is(202);
        notes.take(Told::Accepted(label));
    }
}

/// Notes every event after `last`, until all is over and the stream has nothing more.
fn listen(address: SocketAddr, mut last: String, notes: &Notes<'_>, over: &AtomicBool) {
    let silence = Duration::from_millis(200);
    loop {
        let events = Events::open(address, "/v1/events", Some(&last));
        let mut events = events.unwrap().patience(silence).unwrap();
        while let Ok(event) = events.next() {
            let Some(id) = &event.id else { continue };
            last.clone_from(id);
            notes.take(Told::Event(event.json()));
        }
        if over.load(Ordering::Relaxed) {
            return;
        }
    }
}
