//! Files as people and programs drop them, over a desk that accepts at once and ends jobs when told.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, io::Read};

use hb_api::manifest::Manifest;
use hb_types::{
    event::{Ended, Event, Received, Sealed, Started},
    ledger::{Job, Ledger},
    outcome::{Explanation, Outcome},
};

use super::*;
use crate::desk::Handed;

/// A ledger in memory. All clones are one.
#[derive(Clone, Default)]
struct FakeDesk(Arc<Mutex<Fake>>);

#[derive(Default)]
struct Fake {
    ledger: Ledger,
    blobs: BTreeMap<Digest, u64>,
    full: bool,
}

impl Fake {
    fn apply(&mut self, event: impl Into<Event>) -> u64 {
        let lsn = self.ledger.applied + 1;
        self.ledger.apply(lsn, &event.into()).unwrap();
        lsn
    }
}

impl FakeDesk {
    fn end_all(&self) {
        let mut fake = self.0.lock().unwrap();
        let open: Vec<JobNumber> = fake
            .ledger
            .jobs
            .values()
            .filter(|job| job.is_unfinished())
            .map(|job| job.number)
            .collect();
        for job in open {
            fake.apply(hb_types::event::Scheduled { job, at_ns: 2 });
            let token = fake.apply(Started { job, process: 1, at_ns: 3 });
            let blob = hb_types::job::BlobRef { digest: Digest::of(b""), len_bytes: 0 };
            fake.apply(Ended {
                job,
                token: Some(token),
                outcome: Outcome::Success,
                explanation: Explanation::default(),
                counters: hb_types::capture::Counters::default(),
                progress: hb_types::capture::Progress::default(),
                delta: hb_types::content::Delta::default(),
                stdout: blob,
                stderr: blob,
                artifacts: BTreeMap::new(),
                peak_memory_bytes: 0,
                reproducible: true,
                at_ns: 4,
            });
            let envelope = hb_types::content::Kept::Inline(b"{}".to_vec());
            fake.apply(Sealed { job, seal: Digest::of(b"seal"), envelope, at_ns: 4 });
        }
    }

    fn jobs(&self) -> Vec<String> {
        let fake = self.0.lock().unwrap();
        fake.ledger.jobs.values().map(|job| job.job_id.clone()).collect()
    }
}

impl Desk for FakeDesk {
    fn take_in(&self, file: &mut dyn Read) -> Result<Digest, HandError> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let digest = Digest::of(&bytes);
        self.0.lock().unwrap().blobs.insert(digest, bytes.len() as u64);
        Ok(digest)
    }

    fn hand_in(&self, manifest: &Manifest) -> Result<Handed, HandError> {
        let mut fake = self.0.lock().unwrap();
        if fake.full {
            return Err(HandError::Later("the queue is full".to_owned()));
        }
        let blobs = &fake.blobs;
        let resolved =
            manifest.resolve(|digest| Ok::<_, HandError>(blobs.get(&digest).copied()))?;
        let (job_id, job_hash) = (resolved.job_id.unwrap(), resolved.spec.hash());
        if let Some(found) = fake.ledger.by_id(&job_id) {
            if found.job_hash() != job_hash {
                return Err(HandError::Refused(format!("job id {job_id} belongs to another job")));
            }
            return Ok(Handed { number: found.number() });
        }
        let (spec, terms) = (resolved.spec, resolved.terms);
        let number = fake.apply(Received { job_id, job_hash, spec, terms, at_ns: 1 });
        Ok(Handed { number })
    }

    fn look(&self, number: JobNumber) -> Option<Job> {
        self.0.lock().unwrap().ledger.jobs.get(&number).cloned()
    }
}

struct World {
    root: tempfile::TempDir,
    desk: FakeDesk,
    watch: Watch,
    /// Added to the time of a scan.
    later: Duration,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let desk = FakeDesk::default();
        let watch = Watch::new(Folder::open(root.path()).unwrap(), Box::new(desk.clone()));
        fs::write(root.path().join("queue/a.wasm"), b"component").unwrap();
        Self { root, desk, watch, later: Duration::ZERO }
    }

    fn drop_file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.root.path().join("queue").join(name), bytes).unwrap();
    }

    fn scan(&mut self) {
        self.watch.scan(SystemTime::now() + self.later).unwrap();
    }

    /// As a crash and a new start: nothing is remembered.
    fn restart(&mut self) {
        let folder = Folder::open(self.root.path()).unwrap();
        self.watch = Watch::new(folder, Box::new(self.desk.clone()));
    }

    fn report(&self, name: &str) -> Report {
        let bytes = fs::read(self.root.path().join("telemetry").join(name)).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    fn is_in(&self, part: &str, name: &str) -> bool {
        self.root.path().join(part).join(name).exists()
    }

    fn settle(&mut self) {
        self.later += SETTLED * 2;
        self.scan();
    }
}

const GOOD: &[u8] = br#"{"component": "./a.wasm"}"#;

#[test]
fn a_manifest_runs_and_moves_to_the_archive_with_its_outcome_reported() {
    let mut world = World::new();
    world.drop_file("job.json", GOOD);
    world.scan();
    let report = world.report("job.json");
    assert_eq!((report.state, report.job_state.as_deref()), (State::Accepted, Some("RECEIVED")));
    assert!(world.is_in("queue", "job.json"));
    world.desk.end_all();
    world.scan();
    let report = world.report("job.json");
    assert_eq!((report.state, report.outcome.as_deref()), (State::Over, Some("success")));
    assert!(report.seal.is_some() && report.exit_code == Some(0));
    assert!(world.is_in("archive", "job.json") && !world.is_in("queue", "job.json"));
    assert_eq!(world.desk.jobs().len(), 1);
}

#[test]
fn a_half_written_manifest_is_waited_for_and_a_malformed_one_rejected_with_a_reason() {
    let mut world = World::new();
    world.drop_file("slow.json", &GOOD[..10]);
    world.scan();
    assert!(world.is_in("queue", "slow.json"));
    assert!(world.desk.jobs().is_empty());
    world.drop_file("slow.json", GOOD);
    world.scan();
    assert_eq!(world.desk.jobs().len(), 1);

    let malformed: [(&str, &[u8], &str); 5] = [
        ("cut.json", &GOOD[..10], "no manifest"),
        ("garbage.json", b"\xff\x00\x1b[31m", "no manifest"),
        ("unknown.json", br#"{"component": "./a.wasm", "surprise": 1}"#, "surprise"),
        ("nothing.json", br#"{"component": "./b.wasm"}"#, "b.wasm"),
        ("huge.json", &vec![b' '; 2 << 20], "at most"),
    ];
    for (name, bytes, _) in malformed {
        world.drop_file(name, bytes);
    }
    world.scan();
    world.settle();
    for (name, _, why) in malformed {
        let report = world.report(name);
        assert_eq!(report.state, State::Rejected, "{name}");
        let reason = report.reason.unwrap();
        assert!(reason.contains(why) && !reason.contains('\u{1b}'), "{name}: {reason}");
        assert!(world.is_in("rejected", name) && !world.is_in("queue", name), "{name}");
    }
    assert_eq!(world.desk.jobs().len(), 1);
}

#[test]
fn the_same_manifest_twice_is_one_job_and_another_one_of_that_name_another() {
    let mut world = World::new();
    world.drop_file("job.json", GOOD);
    world.scan();
    world.desk.end_all();
    world.scan();
    world.drop_file("job.json", GOOD);
    world.scan();
    assert_eq!(world.desk.jobs().len(), 1);
    assert!(world.is_in("archive", "job.json") && !world.is_in("queue", "job.json"));
    world.drop_file("job.json", br#"{"component": "./a.wasm", "seed": 7}"#);
    world.scan();
    assert_eq!(world.desk.jobs().len(), 2);

    let named = br#"{"component": "./a.wasm", "job_id": "mine"}"#;
    world.drop_file("x.json", named);
    world.drop_file("y.json", named);
    world.scan();
    assert_eq!(world.desk.jobs().len(), 3);
    world.drop_file("z.json", br#"{"component": "./a.wasm", "job_id": "mine", "seed": 1}"#);
    world.scan();
    world.settle();
    assert!(world.report("z.json").reason.unwrap().contains("mine"));
}

#[test]
fn a_new_start_between_any_two_steps_loses_and_doubles_nothing() {
    for steps in 0..6 {
        let mut world = World::new();
        world.drop_file("job.json", GOOD);
        world.drop_file("bad.json", b"{");
        for step in 0..6 {
            if step == steps {
                world.restart();
            }
            if step == 3 {
                world.desk.end_all();
            }
            world.later += SETTLED;
            world.scan();
        }
        assert_eq!(world.desk.jobs().len(), 1, "restart before step {steps}");
        assert!(world.is_in("archive", "job.json") && world.is_in("rejected", "bad.json"));
        assert_eq!(world.report("job.json").state, State::Over);
    }
}

#[test]
fn what_cannot_be_taken_now_waits_and_says_why() {
    let mut world = World::new();
    world.desk.0.lock().unwrap().full = true;
    world.drop_file("job.json", GOOD);
    world.scan();
    world.settle();
    let report = world.report("job.json");
    assert_eq!(report.state, State::Waiting);
    assert!(report.reason.unwrap().contains("full"));
    world.desk.0.lock().unwrap().full = false;
    world.scan();
    assert_eq!(world.report("job.json").state, State::Accepted);
}

#[test]
fn no_name_and_no_link_leads_out_of_the_folder() {
    let mut world = World::new();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, b"secret").unwrap();
    let queue = world.root.path().join("queue");
    std::os::unix::fs::symlink(&secret, queue.join("link.wasm")).unwrap();
    std::os::unix::fs::symlink(&secret, queue.join("link.json")).unwrap();
    let escapes = [
        "../../secret".to_owned(),
        secret.display().to_string(),
        "./link.wasm".to_owned(),
        "../queue/../../secret".to_owned(),
    ];
    for (index, path) in escapes.iter().enumerate() {
        let manifest = serde_json::json!({"component": path}).to_string();
        world.drop_file(&format!("escape-{index}.json"), manifest.as_bytes());
    }
    world.scan();
    world.settle();
    for index in 0..escapes.len() {
        let name = format!("escape-{index}.json");
        assert_eq!(world.report(&name).state, State::Rejected, "{name}");
    }
    assert!(
        world.desk.0.lock().unwrap().blobs.keys().all(|digest| *digest != Digest::of(b"secret"))
    );
    for odd in [".hidden.json", "a.json.tmp", "note.txt", "b.json~", "c.json.part"] {
        world.drop_file(odd, GOOD);
    }
    world.settle();
    assert!(world.desk.jobs().is_empty());
}
