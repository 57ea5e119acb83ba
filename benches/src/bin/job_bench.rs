//! What a job costs beside the work it does: from acceptance to seal, in one process, durable.
//!
//! Prints sealed no-op jobs per second, flushes of the log for each, and the latency of a checkpoint
//! of a small and a large state beside a raw durable append of the same size on the same disk.

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use hb_host::{Host, HostOptions, Notice, Observer, Submission};
use hb_sandbox::{Compiler, Control, Stream};
use hb_types::{
    capture::Progress,
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    limits::Limits,
};

const JOBS: u32 = 500;
const APPENDS: usize = 400;

fn main() -> anyhow::Result<()> {
    let hb = env::current_exe()?.with_file_name("hb");
    ensure!(hb.is_file(), "{} is missing: cargo build --release -p hb", hb.display());
    let work = tempfile::tempdir()?;
    let host = Host::open(
        &work.path().join("data"),
        HostOptions {
            compiler: Compiler { program: hb, arguments: vec!["compile-component".into()] },
            containers: hb_host::ContainerOptions::default(),
            ceilings: Limits::ceilings(),
            log: hb_wal::Options::default(),
            snapshot_every_bytes: hb_host::SNAPSHOT_EVERY_BYTES,
            archive: hb_host::ArchiveOptions::default(),
            wrap_disk: None,
        },
    )?;
    no_op_jobs(&host)?;
    checkpoints(&host, work.path())
}

fn no_op_jobs(host: &Host) -> anyhow::Result<()> {
    let hello = component(host, "hello")?;
    run(host, hello, &["warm"], &mut Watch::default())?;
    let before = host.log_figures();
    let begun = Instant::now();
    for index in 0..JOBS {
        run(host, hello, &[&index.to_string()], &mut Watch::default())?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let after = host.log_figures();
    let flushes = u32::try_from(after.flushes - before.flushes)?;
    println!(
        "sealed no-op jobs, one at a time: {:.0}/s, {:.2} flushes of the log each, {:.0} µs each",
        f64::from(JOBS) / seconds,
        f64::from(flushes) / f64::from(JOBS),
        seconds * 1e6 / f64::from(JOBS)
    );
    Ok(())
}

/// `counter` saves at each step, so the time between two notices is one checkpoint.
fn checkpoints(host: &Host, work: &Path) -> anyhow::Result<()> {
    let counter = component(host, "counter")?;
    let mut watch = Watch::default();
    run(host, counter, &["--steps", "2000"], &mut watch)?;
    let checkpoint = median(&mut watch.between);
    let raw = raw_append(work, 4096)?;
    println!(
        "checkpoint of a line, two files and a small state: {:.0} µs; raw append of 4 KiB and flush: {:.0} µs; ratio {:.2}",
        checkpoint * 1e6,
        raw * 1e6,
        checkpoint / raw
    );
    Ok(())
}

/// Median seconds of a durable append into a file that was filled before.
fn raw_append(work: &Path, bytes: usize) -> anyhow::Result<f64> {
    let mut file = File::create(work.join("raw"))?;
    file.write_all(&vec![0; bytes * APPENDS])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let block = vec![0x5a; bytes];
    let mut times = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(median(&mut times))
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

fn component(host: &Host, name: &str) -> anyhow::Result<BlobRef> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let path = root.join(format!("target/guests/{name}.wasm"));
    let bytes = std::fs::read(&path)
        .with_context(|| format!("{}: cargo build --release -p hb-guests", path.display()))?;
    Ok(host.add_component(bytes, &Limits::default())?)
}

fn run(
    host: &Host,
    component: BlobRef,
    arguments: &[&str],
    watch: &mut Watch,
) -> anyhow::Result<()> {
    let words = ["job"].iter().chain(arguments);
    let spec = JobSpec {
        component,
        container: None,
        arguments: words.map(|word| (*word).to_owned()).collect(),
        environment: Vec::new(),
        stdin: None,
        inputs: BTreeMap::new(),
        limits: Limits::default(),
        seed: 0,
        start_ns: DEFAULT_START_NS,
        origin: None,
        checkpoints: CheckpointPolicy::default(),
        max_crashes: 1000,
        labels: BTreeMap::new(),
    };
    let submission = Submission {
        job_id: None,
        name_hint: "bench".to_owned(),
        spec,
        terms: hb_types::terms::Terms::default(),
        rerun: false,
    };
    let number = host.submit(&submission)?.number();
    let job = host.run(number, &Control::default(), watch)?;
    ensure!(job.seal.is_some(), "job {} was not sealed", job.job_id);
    Ok(())
}

/// Notes when checkpoints became durable.
#[derive(Default)]
struct Watch {
    last: Option<Instant>,
    between: Vec<Duration>,
}

impl Observer for Watch {
    fn notice(&mut self, notice: Notice) {
        if let Notice::Checkpoint { .. } = notice {
            let now = Instant::now();
            self.between.extend(self.last.map(|last| now - last));
            self.last = Some(now);
        }
    }

    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}

    fn progress(&mut self, _progress: &Progress) {}
}
