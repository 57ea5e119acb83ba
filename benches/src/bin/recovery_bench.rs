//! What a start of a host costs, by the size of its ledger.
//!
//! `recovery_bench [--json] [--jobs N,N…] [DIR]` works in a temporary directory inside DIR (default: the
//! current one). For each number of jobs it writes a log of lives that came to their end (received,
//! started, eight checkpoints, ended and sealed) and opens a host on it: with nothing but the log,
//! with snapshots, and after the jobs that are over were archived. Each figure is the median of
//! several openings, in milliseconds, with the files in the page cache.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use hb_benches::Arguments;
use hb_disk::RealDisk;
use hb_host::{ArchiveOptions, Ground, Host, RealClock};
use hb_sandbox::{Compiler, Sandbox, SandboxOptions};
use hb_types::{
    Digest, Lsn,
    capture::{ContentId, Counters, Progress},
    content::{Chunk, ChunkChange, ContentChange, Delta, Kept},
    event::{
        Checkpointed, Ended, Event, Received, SCHEMA, Scheduled, Sealed, Started, StartsPaused,
    },
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    limits::Limits,
    outcome::{Explanation, Outcome},
    terms::Terms,
};
use hb_wal::{Record, Wal};
use serde_json::{Value, json};

/// Openings of which the median is taken.
const TIMES: usize = 5;
/// Checkpoints of a job.
const CHECKPOINTS: u64 = 8;
/// Bytes of state that each of them changes.
const STATE_BYTES: usize = 300;
/// Bytes of a signed envelope, about as many as real ones have.
const ENVELOPE_BYTES: usize = 2500;
/// Records of one job.
const RECORDS: u64 = CHECKPOINTS + 5;
/// Jobs that are appended behind one flush.
const BATCH: u64 = 64;

fn main() -> Result<()> {
    let Arguments { base, sizes, as_json } =
        Arguments::read("--jobs", &[100, 1_000, 10_000, 100_000])?;
    if !as_json {
        println!("| jobs | records | log MiB | log only, ms | with snapshots, ms | archived, ms |");
        println!("| --- | --- | --- | --- | --- | --- |");
    }
    let mut all = Vec::new();
    for jobs in sizes {
        let root = tempfile::tempdir_in(&base).context("no directory to work in")?;
        let found = measure(root.path(), jobs)?;
        if !as_json {
            let figure = |name: &str| format!("{:.1}", found[name].as_f64().unwrap_or(0.0));
            println!(
                "| {jobs} | {} | {} | {} | {} | {} |",
                jobs * RECORDS,
                figure("log_mib"),
                figure("log_only_ms"),
                figure("snapshot_ms"),
                figure("archived_ms")
            );
        }
        all.push(found);
    }
    if as_json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}

fn measure(root: &Path, jobs: u64) -> Result<Value> {
    let log_bytes = write(root, jobs)?;
    let compiler = Compiler { program: std::env::current_exe()?, arguments: Vec::new() };
    let sandbox = Sandbox::open(SandboxOptions { cache_dir: root.join("cache"), compiler })?;
    let ground = Bench { root, sandbox: Arc::new(sandbox) };
    let never = ArchiveOptions { kept_in_memory: usize::MAX, batch: 512 };
    let log_only_ms = ground.opening_ms(u64::MAX, never)?;
    ground.snapshot_twice(never)?;
    let snapshot_ms = ground.opening_ms(u64::MAX, never)?;
    {
        let host = ground.open(1, ArchiveOptions::default())?;
        while host.archive_if_due()? {}
    }
    ground.snapshot_twice(ArchiveOptions::default())?;
    let archived_ms = ground.opening_ms(u64::MAX, ArchiveOptions::default())?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let log_mib = log_bytes as f64 / f64::from(1 << 20);
    Ok(json!({
        "jobs": jobs, "records": jobs * RECORDS, "log_mib": log_mib, "log_only_ms": log_only_ms,
        "snapshot_ms": snapshot_ms, "archived_ms": archived_ms,
    }))
}

struct Bench<'a> {
    root: &'a Path,
    sandbox: Arc<Sandbox>,
}

impl Bench<'_> {
    fn opening_ms(&self, snapshot_every_bytes: u64, archive: ArchiveOptions) -> Result<f64> {
        let mut found = Vec::new();
        for _ in 0..TIMES {
            let begun = Instant::now();
            let host = self.open(snapshot_every_bytes, archive)?;
            found.push(begun.elapsed().as_secs_f64() * 1000.0);
            drop(host);
        }
        found.sort_by(f64::total_cmp);
        Ok(found[TIMES / 2])
    }

    /// Two snapshots are kept, and the log from the older one on.
    fn snapshot_twice(&self, archive: ArchiveOptions) -> Result<()> {
        for _ in 0..2 {
            let (wal, _) =
                Wal::open(Arc::new(RealDisk::open(self.root)?), hb_wal::Options::default())?;
            let news = StartsPaused { paused: false, at_ns: 0 };
            wal.append_wait(&[record(&news.into())])?;
            drop(wal);
            self.open(1, archive)?.tidy();
        }
        Ok(())
    }

    fn open(&self, snapshot_every_bytes: u64, archive: ArchiveOptions) -> Result<Host> {
        Ok(Host::open_on(Ground {
            disk: Arc::new(RealDisk::open(self.root)?),
            lock: None,
            executor: Arc::<Sandbox>::clone(&self.sandbox),
            containers: hb_host::Containers::new(hb_host::ContainerOptions::default()),
            clock: Arc::new(RealClock),
            machine: "bench".to_owned(),
            process: std::process::id(),
            key: hb_seal::HostKey::from_seed(&[7; 32]),
            scratch: self.root.to_owned(),
            ceilings: Limits::ceilings(),
            log: hb_wal::Options::default(),
            snapshot_every_bytes,
            archive,
        })?)
    }
}

/// Writes the lives of jobs into a new log; returns its bytes.
fn write(root: &Path, jobs: u64) -> Result<u64> {
    let (wal, _) = Wal::open(Arc::new(RealDisk::open(root)?), hb_wal::Options::default())?;
    let (mut lsn, mut from) = (1, 0);
    while from < jobs {
        let mut ticket = None;
        for index in from..jobs.min(from + BATCH) {
            let records: Vec<Record> = life(lsn, index).iter().map(record).collect();
            lsn += records.len() as Lsn;
            ticket = Some(wal.append(&records)?);
        }
        if let Some(ticket) = ticket {
            ticket.wait()?;
        }
        from += BATCH;
    }
    let bytes = wal.stats().bytes;
    wal.close()?;
    Ok(bytes)
}

fn record(event: &Event) -> Record {
    let (kind, payload) = event.encode();
    Record { kind, schema: SCHEMA, payload: payload.into_vec() }
}

/// All records of one job; the first is at `first`.
fn life(first: Lsn, index: u64) -> Vec<Event> {
    let (job, token, at_ns) = (first, first + 2, 1_700_000_000_000_000_000);
    let spec = spec(index);
    let (job_hash, terms) = (spec.hash(), Terms::default());
    let mut life: Vec<Event> = vec![
        Received { job_id: format!("job-{index}"), job_hash, spec, terms, at_ns }.into(),
        Scheduled { job, at_ns }.into(),
        Started { job, process: 1, at_ns }.into(),
    ];
    for sequence in 1..=CHECKPOINTS {
        let fill = sequence.to_le_bytes()[0];
        let chunk = Chunk::Inline(vec![fill; STATE_BYTES]);
        let change = ContentChange {
            id: ContentId::STATE,
            len_bytes: STATE_BYTES as u64,
            chunks: vec![ChunkChange::Set { index: 0, chunk }],
        };
        let delta = Delta { fresh: sequence == 1, changed: vec![change], ..Delta::default() };
        let digest = Digest::of(&sequence.to_le_bytes());
        let (counters, progress) = (Counters::default(), Progress::default());
        let step = sequence;
        let checkpoint =
            Checkpointed { job, token, sequence, step, digest, counters, progress, delta, at_ns };
        life.push(checkpoint.into());
    }
    let empty = BlobRef { digest: Digest::of(b""), len_bytes: 0 };
    let ended = Ended {
        job,
        token: Some(token),
        outcome: Outcome::Success,
        explanation: Explanation { message: "ended with success".into(), backtrace: Vec::new() },
        counters: Counters::default(),
        progress: Progress::default(),
        delta: Delta { removed: vec![ContentId::STATE], ..Delta::default() },
        stdout: empty,
        stderr: empty,
        artifacts: BTreeMap::new(),
        peak_memory_bytes: 1 << 20,
        reproducible: true,
        at_ns,
    };
    life.push(ended.into());
    let envelope = Kept::Inline(vec![b'x'; ENVELOPE_BYTES]);
    life.push(Sealed { job, seal: job_hash, envelope, at_ns }.into());
    life
}

fn spec(index: u64) -> JobSpec {
    JobSpec {
        component: BlobRef { digest: Digest::of(b"component"), len_bytes: 9 },
        arguments: vec!["program".to_owned(), index.to_string()],
        environment: Vec::new(),
        stdin: None,
        inputs: BTreeMap::new(),
        limits: Limits::default(),
        seed: index,
        start_ns: DEFAULT_START_NS,
        origin: None,
        container: None,
        checkpoints: CheckpointPolicy::default(),
        max_crashes: 200,
        labels: BTreeMap::new(),
    }
}
