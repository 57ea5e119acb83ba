//! A scripted history of a whole host on any disk, with real guests in the real sandbox, and what
//! its callers were told.
//!
//! Owns the scripts, and the notes of everything that was announced. Knows nothing of crashes.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use hb_disk::Storage;
use hb_host::{ArchiveOptions, Ground, Host, Notice, Observer, OpenHostError, Submission};
use hb_sandbox::{Compiler, Control, Sandbox, SandboxOptions, Stream};
use hb_seal::HostKey;
use hb_types::{
    Digest,
    capture::{ContentId, Progress},
    event::JobNumber,
    job::{CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    ledger::Job,
    limits::Limits,
    outcome::Outcome,
};

pub type Fault = Box<dyn Error + Send + Sync>;

/// One job of a script.
pub struct Plan {
    pub job_id: String,
    pub component: Vec<u8>,
    pub arguments: Vec<String>,
    pub input: Option<(&'static str, Vec<u8>)>,
    pub checkpoints: CheckpointPolicy,
    pub max_crashes: u32,
    /// The job that it goes on from, and from which of its checkpoints.
    pub goes_on_from: Option<(&'static str, u64)>,
}

impl Plan {
    pub fn new(job_id: &str, guest: hb_guests::Guest, arguments: &[&str]) -> Self {
        let program = [guest.name].into_iter();
        Self {
            job_id: job_id.to_owned(),
            component: std::fs::read(guest.path()).unwrap(),
            arguments: program.chain(arguments.iter().copied()).map(str::to_owned).collect(),
            input: None,
            checkpoints: CheckpointPolicy::Never,
            max_crashes: 200,
            goes_on_from: None,
        }
    }

    pub fn from(self, job_id: &'static str, sequence: u64) -> Self {
        Self { goes_on_from: Some((job_id, sequence)), ..self }
    }

    /// One with a checkpoint of 64 KiB at each of four steps.
    pub fn of_field(job_id: &str) -> Self {
        let arguments = ["--size", "64", "--steps", "4", "--every", "2"];
        Self::new(job_id, hb_guests::GINZBURG_LANDAU, &arguments).every(1)
    }

    pub fn every(self, steps: u64) -> Self {
        Self { checkpoints: CheckpointPolicy::EverySteps(steps), ..self }
    }
}

/// Jobs that one host after another runs.
pub struct Script {
    pub plans: Vec<Plan>,
    /// Before this one the host is closed and opened again.
    pub reopen_before: usize,
    pub max_frame_bytes: usize,
    pub segment_bytes: u64,
    pub snapshot_every_bytes: u64,
    pub archive: ArchiveOptions,
}

impl Script {
    /// Small jobs, whose checkpoints fit into records: many log segments, many snapshots.
    pub fn of_records() -> Self {
        Self {
            plans: vec![
                Plan::new("counter", hb_guests::COUNTER, &["--steps", "5"]),
                Plan::new("again", hb_guests::COUNTER, &["--steps", "2"]),
                Plan::new("undone", hb_guests::GREEDY, &["after-checkpoint", "0"]),
            ],
            reopen_before: 1,
            max_frame_bytes: 24 << 10,
            segment_bytes: 44 << 10,
            snapshot_every_bytes: 14 << 10,
            archive: ArchiveOptions::default(),
        }
    }

    /// Jobs with a large state, with large files and with an input: their checkpoints are blobs
    /// that come and go.
    pub fn of_packs() -> Self {
        let genome = include_bytes!("../../../../tests/data/lambda_virus.fa");
        let mut kmer = Plan::new("kmer", hb_guests::KMER, &["-k", "11", "--buffer", "4096"]);
        kmer.input = Some(("genome", genome[..16 << 10].to_vec()));
        Self {
            plans: vec![Plan::of_field("field"), kmer.every(4_000)],
            reopen_before: 1,
            max_frame_bytes: 96 << 10,
            segment_bytes: 128 << 10,
            snapshot_every_bytes: 40 << 10,
            archive: ArchiveOptions::default(),
        }
    }

    /// Jobs that go on from checkpoints of jobs before them, which have to be made again.
    pub fn of_forks() -> Self {
        let longer = ["--size", "64", "--steps", "3", "--every", "2"];
        Self {
            plans: vec![
                Plan::new("counter", hb_guests::COUNTER, &["--steps", "3"]),
                Plan::new("fork", hb_guests::COUNTER, &["--steps", "4"]).from("counter", 2),
                Plan::new("again", hb_guests::COUNTER, &["--steps", "5"]).from("fork", 2),
                Plan::of_field("field"),
                Plan::new("longer", hb_guests::GINZBURG_LANDAU, &longer).every(1).from("field", 1),
            ],
            reopen_before: 2,
            max_frame_bytes: 96 << 10,
            segment_bytes: 128 << 10,
            snapshot_every_bytes: 40 << 10,
            archive: ArchiveOptions::default(),
        }
    }

    /// One job that is set aside when its host dies once without a checkpoint in between.
    pub fn of_one_chance() -> Self {
        let plan = Plan::new("counter", hb_guests::COUNTER, &["--steps", "2"]);
        Self {
            plans: vec![Plan { max_crashes: 1, ..plan }],
            reopen_before: 0,
            ..Self::of_records()
        }
    }

    fn log(&self) -> hb_wal::Options {
        hb_wal::Options {
            segment_bytes: self.segment_bytes,
            max_frame_bytes: self.max_frame_bytes,
            reserve_bytes: 8 << 10,
            // Without threads the same calls give the same operations of the disk.
            background: false,
            seed: Some(1),
            clock_ns: || 1_700_000_000_000_000_000,
            ..hb_wal::Options::default()
        }
    }
}

/// One for all hosts: what is compiled once stays ready.
fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let open = || {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_hb-host-compile"));
        let options = SandboxOptions {
            cache_dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash-cache"),
            compiler: Compiler { program, arguments: Vec::new() },
        };
        Arc::new(Sandbox::open(options).unwrap())
    };
    Arc::clone(SANDBOX.get_or_init(open))
}

pub fn open(disk: &Arc<dyn Storage>, script: &Script) -> Result<Host, OpenHostError> {
    Host::open_on(Ground {
        disk: Arc::clone(disk),
        lock: None,
        executor: sandbox(),
        clock: Arc::new(hb_host::RealClock),
        machine: "test".to_owned(),
        process: std::process::id(),
        key: HostKey::from_seed(&[7; 32]),
        scratch: std::env::temp_dir(),
        containers: hb_host::Containers::new(hb_host::ContainerOptions::default()),
        ceilings: Limits::ceilings(),
        log: script.log(),
        snapshot_every_bytes: script.snapshot_every_bytes,
        archive: script.archive,
    })
}

/// What was announced of a job.
#[derive(Clone, Debug, Default)]
pub struct ToldJob {
    pub number: JobNumber,
    pub sequence: u64,
    pub step: u64,
    pub ended: Option<(Outcome, Option<Digest>)>,
}

/// What the callers of the hosts on one disk were told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub accepted: BTreeMap<String, ToldJob>,
    /// Whose submission was begun.
    pub submitted: BTreeSet<String>,
}

struct Watch<'a> {
    told: &'a mut ToldJob,
    stdout: Vec<u8>,
    started: bool,
    at_checkpoint: &'a mut (dyn FnMut() + Send),
}

impl Observer for Watch<'_> {
    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Preparing | Notice::Materialising { .. } | Notice::Resumed { .. } => {}
            Notice::Started { .. } => self.started = true,
            Notice::Checkpoint { sequence, step, .. } => {
                (self.told.sequence, self.told.step) = (sequence, step);
                (self.at_checkpoint)();
            }
            Notice::Ended { outcome, seal } => self.told.ended = Some((outcome, seal)),
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout {
            self.stdout.extend_from_slice(bytes);
        }
    }

    fn progress(&mut self, _progress: &Progress) {}
}

/// All that a repetition must reproduce.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    pub outcome: Outcome,
    pub seal: Option<Digest>,
    pub stdout: Vec<u8>,
    /// By name, as read back.
    pub artifacts: BTreeMap<String, Digest>,
    /// Number, step and digest.
    pub checkpoints: Vec<(u64, u64, Digest)>,
}

pub fn marks(job: &Job) -> Vec<(u64, u64, Digest)> {
    job.checkpoints.iter().map(|mark| (mark.sequence, mark.step, mark.digest)).collect()
}

fn finished(host: &Host, job: &Job) -> Result<Finished, Fault> {
    let conclusion = job.conclusion.as_ref().ok_or("a job came back without an outcome")?;
    let read = |id| {
        let mut bytes = Vec::new();
        host.copy_output(job, id, &mut bytes).map(|_| bytes)
    };
    let stdout = read(ContentId::STDOUT)?;
    if Digest::of(&stdout) != conclusion.stdout.digest {
        return Err("what the job printed is not what was sealed".into());
    }
    let mut artifacts = BTreeMap::new();
    for (name, artifact) in &conclusion.artifacts {
        artifacts.insert(name.clone(), Digest::of(&read(artifact.content)?));
    }
    let seal = job.seal.as_ref().map(|kept| kept.seal);
    let checkpoints = marks(job);
    Ok(Finished { outcome: conclusion.outcome, seal, stdout, artifacts, checkpoints })
}

fn forked(host: &Host, source: &str, sequence: u64, like: &JobSpec) -> Result<JobSpec, Fault> {
    let found = host.with_ledger(|ledger| ledger.by_id(source).map(|found| found.number()));
    let number = found.ok_or("the job to go on from is gone")?;
    let changes = |spec: &mut JobSpec| {
        spec.arguments.clone_from(&like.arguments);
        spec.checkpoints = like.checkpoints;
    };
    Ok(host.fork_spec(number, Some(sequence), changes)?)
}

/// Submits a job and runs it to its end, wherever it stands.
pub fn run(host: &Host, plan: &Plan, told: &mut Told) -> Result<Finished, Fault> {
    run_with(host, plan, told, &mut || ())
}

/// The same; does something whenever a checkpoint was announced.
pub fn run_with(
    host: &Host,
    plan: &Plan,
    told: &mut Told,
    at_checkpoint: &mut (dyn FnMut() + Send),
) -> Result<Finished, Fault> {
    let limits = Limits::default();
    let component = host.add_component(plan.component.clone(), &limits)?;
    let mut inputs = BTreeMap::new();
    if let Some((name, bytes)) = &plan.input {
        inputs.insert((*name).to_owned(), host.add_blob(&mut &bytes[..])?);
    }
    let spec = JobSpec {
        component,
        container: None,
        arguments: plan.arguments.clone(),
        environment: Vec::new(),
        stdin: None,
        inputs,
        limits,
        seed: 7,
        start_ns: DEFAULT_START_NS,
        origin: None,
        checkpoints: plan.checkpoints,
        max_crashes: plan.max_crashes,
        labels: BTreeMap::new(),
    };
    let spec = match plan.goes_on_from {
        Some((source, sequence)) => forked(host, source, sequence, &spec)?,
        None => spec,
    };
    let job_id = plan.job_id.clone();
    told.submitted.insert(job_id.clone());
    let name_hint = job_id.clone();
    let submission = Submission {
        job_id: Some(job_id.clone()),
        name_hint,
        spec,
        terms: hb_types::terms::Terms::default(),
        rerun: false,
    };
    let number = host.submit(&submission)?.number();
    let known = told.accepted.entry(job_id).or_insert(ToldJob { number, ..ToldJob::default() });
    if known.number != number {
        return Err(format!("{} was job {}, now {number}", plan.job_id, known.number).into());
    }
    let mut watch = Watch { told: known, stdout: Vec::new(), started: false, at_checkpoint };
    let job = host.run(number, &Control::default(), &mut watch)?;
    let Watch { stdout, started, .. } = watch;
    let finished = finished(host, &job)?;
    known.ended = Some((finished.outcome, finished.seal));
    if started && stdout != finished.stdout {
        return Err("what was shown of standard output is not what was kept".into());
    }
    Ok(finished)
}

/// The whole history, up to the first error.
pub fn history(
    disk: &Arc<dyn Storage>,
    script: &Script,
    told: &mut Told,
) -> Result<Vec<Finished>, Fault> {
    history_with(disk, script, told, |_, _, error, _| Err(error))
}

/// The whole history; `failed` is asked what to do when a job could not be run.
pub fn history_with(
    disk: &Arc<dyn Storage>,
    script: &Script,
    told: &mut Told,
    failed: impl Fn(&Host, &Plan, Fault, &mut Told) -> Result<Finished, Fault>,
) -> Result<Vec<Finished>, Fault> {
    let mut all = Vec::new();
    let (before, after) = script.plans.split_at(script.reopen_before);
    for plans in [before, after] {
        let host = open(disk, script)?;
        for plan in plans {
            let ended = run(&host, plan, told);
            all.push(ended.or_else(|error| failed(&host, plan, error, told))?);
        }
    }
    Ok(all)
}

/// An error and its causes.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
