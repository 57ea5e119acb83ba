//! A host at work on a disk that keeps a record, and clients that note what they were told and how far
//! the record was when they were.
//!
//! Owns: the notes, and what the undisturbed run came to. Knows nothing of cuts.

use std::{
    collections::BTreeMap,
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
    host::{Blob, Host, JSON, all_jobs, get, stdout_of, wait_until_idle},
    http::{self, Events},
    support::World,
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
}

pub fn ending_of(address: SocketAddr, job: &str) -> Ending {
    let shown = get(address, &format!("/v1/jobs/{job}"));
    let keys = ["outcome", "exit_code", "message", "artifacts", "stdout", "stderr"];
    Ending {
        shown: keys.map(|key| shown["conclusion"][key].clone()).to_vec(),
        seal: shown["seal"].clone(),
        stdout: stdout_of(address, job),
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
/// Steps of a job that saves.
pub const STEPS: u64 = 12;

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
    // The first start is not part of it: its long zeros would be most of the record.
    let mut inner = World::new();
    inner.set_data(mounted.at().join("data"));
    let mut host = Host::spawn(&inner, &[]);
    host.ready();
    host.stop();
    sync(mounted.at());
    disk.begin();

    let notes = Notes { disk: &disk, notes: Mutex::default() };
    let mut host = Host::spawn_under(&inner, under, &[]);
    let address = host.ready();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (notes, over) = (&notes, &over);
        let listener = scope.spawn(move || listen(address, notes, over));
        let clients: Vec<_> =
            (0..CLIENTS).map(|name| scope.spawn(move || submit_some(address, notes, name, jobs))).collect();
        for client in clients {
            client.join().unwrap();
        }
        wait_until_idle(address);
        over.store(true, Ordering::Relaxed);
        listener.join().unwrap();
    });
    let ids = all_jobs(address).into_iter().map(|row| row["job_id"].as_str().unwrap().to_owned());
    let endings = ids.map(|job| (job.clone(), ending_of(address, &job))).collect();
    host.stop();
    drop(mounted);
    let mut notes = notes.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    notes.sort_by_key(|note| note.at);
    Run { kind, record: disk.end(), notes, endings }
}

fn sync(mount: &std::path::Path) {
    let done = std::process::Command::new("sync").arg("-f").arg(mount).status().unwrap();
    assert!(done.success());
}

/// Uploads what a job needs and submits it, again and again.
fn submit_some(address: SocketAddr, notes: &Notes<'_>, name: usize, jobs: usize) {
    let (counter, hello) = (Blob::guest("counter"), Blob::guest("hello"));
    for number in 0..jobs {
        let label = format!("client-{name}-{number}");
        // Sizes on both sides of what a log takes itself.
        let stdin = Blob::new(label.repeat(1 + number % 3 * 3000).into_bytes());
        let component = if number % 3 == 2 { &hello } else { &counter };
        for blob in [component, &stdin] {
            let answer = blob.upload(address).unwrap();
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            notes.take(Told::Uploaded(blob.clone()));
        }
        let manifest = json!({
            "job_id": label,
            "component": component.digest,
            "stdin": stdin.digest,
            "arguments": ["--steps", STEPS.to_string(), "--work", "2"],
            "checkpoints": {"every-steps": 1},
            "resources": {"cpu": 0.4, "memory": "16MiB"},
            "max_crashes": 1000,
        });
        let answer =
            http::request(address, "POST", "/v1/jobs", JSON, manifest.to_string().as_bytes());
        answer.unwrap().is(202);
        notes.take(Told::Accepted(label));
    }
}

/// Notes every event, until all is over and the stream has nothing more.
fn listen(address: SocketAddr, notes: &Notes<'_>, over: &AtomicBool) {
    let silence = Duration::from_millis(200);
    let mut last = "0".to_owned();
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
