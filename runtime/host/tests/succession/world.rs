//! A host in a directory of its own, with real guests, and what its jobs left.
//!
//! Owns nothing but shorthands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use hb_disk::RealDisk;
use hb_guests::Guest;
use hb_host::{ArchiveOptions, Ground, Host, Notice, Observer, Orders, Submission};
use hb_sandbox::{Compiler, Control, Sandbox, SandboxOptions, Stream};
use hb_seal::HostKey;
use hb_types::{
    Digest,
    capture::{ContentId, Progress},
    event::JobNumber,
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    ledger::Job,
    limits::Limits,
    outcome::Outcome,
    terms::Terms,
};

/// One for all hosts: what is compiled once stays ready.
pub fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let open = || {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_hb-host-compile"));
        let options = SandboxOptions {
            cache_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("succession-cache"),
            compiler: Compiler { program, arguments: Vec::new() },
        };
        Arc::new(Sandbox::open(options).unwrap())
    };
    Arc::clone(SANDBOX.get_or_init(open))
}

fn open(root: &Path, archive: ArchiveOptions) -> Arc<Host> {
    let host = Host::open_on(Ground {
        disk: Arc::new(RealDisk::open(root).unwrap()),
        lock: None,
        executor: sandbox(),
        clock: Arc::new(hb_host::RealClock),
        machine: "test".to_owned(),
        process: std::process::id(),
        key: HostKey::from_seed(&[7; 32]),
        scratch: std::env::temp_dir(),
        containers: hb_host::Containers::new(hb_host::ContainerOptions::default()),
        ceilings: Limits::ceilings(),
        log: hb_wal::Options::default(),
        snapshot_every_bytes: hb_host::SNAPSHOT_EVERY_BYTES,
        archive,
    });
    Arc::new(host.unwrap())
}

/// A host and its directory.
pub struct World {
    directory: tempfile::TempDir,
    archive: ArchiveOptions,
    pub host: Arc<Host>,
}

/// What a person gets of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub outcome: Outcome,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub artifacts: BTreeMap<String, Digest>,
}

impl World {
    pub fn new() -> Self {
        Self::that_archives(ArchiveOptions::default())
    }

    pub fn that_archives(archive: ArchiveOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = open(directory.path(), archive);
        Self { directory, archive, host }
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Closes the host and opens it again.
    pub fn reopened(self) -> Self {
        let Self { directory, archive, host } = self;
        drop(host);
        let host = open(directory.path(), archive);
        Self { directory, archive, host }
    }

    pub fn component(&self, guest: Guest) -> BlobRef {
        let bytes = std::fs::read(guest.path()).unwrap();
        self.host.add_component(bytes, &Limits::default()).unwrap()
    }

    pub fn saves_only(&self) -> BlobRef {
        self.host.add_component(SAVES_ONLY.into(), &Limits::default()).unwrap()
    }

    pub fn spec(&self, guest: Guest, arguments: &[&str]) -> JobSpec {
        JobSpec {
            component: self.component(guest),
            container: None,
            arguments: words(guest, arguments),
            environment: Vec::new(),
            stdin: None,
            inputs: BTreeMap::new(),
            limits: Limits::default(),
            seed: 7,
            start_ns: DEFAULT_START_NS,
            origin: None,
            checkpoints: CheckpointPolicy::EverySteps(1),
            max_crashes: 200,
            labels: BTreeMap::new(),
        }
    }

    pub fn submit(&self, job_id: &str, spec: JobSpec) -> JobNumber {
        self.submit_under(job_id, spec, Terms::default())
    }

    pub fn submit_under(&self, job_id: &str, spec: JobSpec, terms: Terms) -> JobNumber {
        self.host.submit(&submission(job_id, spec, terms)).unwrap().number()
    }

    /// Runs a job to its end.
    pub fn run(&self, number: JobNumber) -> Job {
        self.host.run(number, &Control::default(), &mut Silent).unwrap()
    }

    /// Submits a job and runs it to its end.
    pub fn ended(&self, job_id: &str, spec: JobSpec) -> Job {
        self.run(self.submit(job_id, spec))
    }

    /// Runs a job to its next checkpoint and stops it there.
    pub fn run_to_next_checkpoint(&self, number: JobNumber) -> Job {
        let orders = Orders::default();
        orders.stop_at_checkpoint(hb_types::state::Interruption::Shutdown);
        let executed = self.host.execute(number, &orders, &mut Silent).unwrap();
        let hb_host::Executed::Stopped { .. } = executed else { panic!("it did not stop") };
        self.host.job(number).unwrap()
    }

    pub fn read(&self, job: &Job, id: ContentId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.host.copy_output(job, id, &mut bytes).unwrap();
        bytes
    }

    pub fn left(&self, job: &Job) -> Left {
        let conclusion = job.conclusion.as_ref().unwrap();
        let artifacts = conclusion.artifacts.iter();
        let artifacts = artifacts.map(|(name, artifact)| {
            let bytes = self.read(job, artifact.content);
            assert_eq!(Digest::of(&bytes), artifact.blob.digest, "{name}");
            (name.clone(), artifact.blob.digest)
        });
        Left {
            outcome: conclusion.outcome,
            stdout: self.read(job, ContentId::STDOUT),
            stderr: self.read(job, ContentId::STDERR),
            artifacts: artifacts.collect(),
        }
    }

    /// The ledger is whole, and the blobs are those that it refers to.
    pub fn assert_healthy(&self) {
        // What could not be removed while another thread held it.
        self.host.tidy();
        let report = hb_host::care::check(self.root()).unwrap();
        assert!(report.is_healthy(), "{:?} {:?}", report.missing, report.blobs.findings);
        let view = hb_host::LedgerView::open(self.root()).unwrap();
        let there: Vec<Digest> = view.store().list().map(|entry| entry.unwrap().0).collect();
        let extra: Vec<&Digest> =
            there.iter().filter(|digest| !view.ledger.refers_to(**digest)).collect();
        assert!(extra.is_empty(), "nothing needs {extra:?}");
    }
}

/// A program that saves without ever having asked for a checkpoint, and then traps.
const SAVES_ONLY: &str = r#"(module
    (import "hackbrain:job/checkpoint@0.1.0" "save" (func $save (param i64 i32 i32) (result i64)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $save (i64.const 1) (i32.const 0) (i32.const 1)))
        (drop (call $save (i64.const 2) (i32.const 0) (i32.const 1)))
        unreachable))"#;

pub fn words(guest: Guest, arguments: &[&str]) -> Vec<String> {
    [guest.name].into_iter().chain(arguments.iter().copied()).map(str::to_owned).collect()
}

pub fn submission(job_id: &str, spec: JobSpec, terms: Terms) -> Submission {
    Submission {
        job_id: Some(job_id.to_owned()),
        name_hint: job_id.to_owned(),
        spec,
        terms,
        rerun: false,
    }
}

/// Watches nothing.
pub struct Silent;

impl Observer for Silent {
    fn notice(&mut self, _: Notice) {}
    fn output(&mut self, _: Stream, _: &[u8]) {}
    fn progress(&mut self, _: &Progress) {}
}

/// Does something at each notice.
pub struct At<F>(pub F);

impl<F: FnMut(&Notice) + Send> Observer for At<F> {
    fn notice(&mut self, notice: Notice) {
        (self.0)(&notice);
    }
    fn output(&mut self, _: Stream, _: &[u8]) {}
    fn progress(&mut self, _: &Progress) {}
}
