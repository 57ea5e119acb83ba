//! The log beside the raw disk, in one run on one machine.
//!
//! `log_bench [DIR]` works in a temporary directory inside DIR (default: the current one), which
//! should lie on the disk that is meant. Prints microseconds, records per second and ratios;
//! medians of several rounds in which the variants take turns.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hb_disk::{Open, RealDisk, Storage as _};
use hb_wal::{Options, Record, Wal};

const ROUNDS: usize = 5;
const SLICE: Duration = Duration::from_millis(600);
const RAW_FILE_BYTES: u64 = 64 << 20;

fn main() -> Result<()> {
    let base = std::env::args().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let root = tempfile::tempdir_in(&base).context("no directory to work in")?;
    commits(root.path())?;
    opening(root.path())?;
    payloads(root.path())?;
    beside_checkpoints(root.path())
}

/// Latencies of one slice, and how many records it made durable in which time.
struct Slice {
    latencies_us: Vec<f64>,
    records: u64,
    seconds: f64,
}

/// Medians over the rounds.
struct Figures {
    p10_us: f64,
    p50_us: f64,
    p99_us: f64,
    /// The 99.9th percentile.
    tail_us: f64,
    per_second: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn percentile(sorted: &[f64], per_mille: usize) -> f64 {
    sorted.get((sorted.len() * per_mille / 1000).min(sorted.len() - 1)).copied().unwrap_or(f64::NAN)
}

fn figures(slices: Vec<Slice>) -> Figures {
    let mut columns: [Vec<f64>; 5] = std::array::from_fn(|_| Vec::new());
    for mut slice in slices {
        slice.latencies_us.sort_by(f64::total_cmp);
        for (column, per_mille) in columns.iter_mut().zip([100, 500, 990, 999]) {
            column.push(percentile(&slice.latencies_us, per_mille));
        }
        #[allow(clippy::cast_precision_loss)] // counts of a slice are far below 2^52
        columns[4].push(slice.records as f64 / slice.seconds);
    }
    let [p10_us, p50_us, p99_us, tail_us, per_second] = columns.map(median);
    Figures { p10_us, p50_us, p99_us, tail_us, per_second }
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn record(bytes: usize) -> Record {
    let payload = (0..bytes).map(|at| at.to_le_bytes()[0] ^ 0x5A).collect();
    Record { kind: 1, schema: 1, payload }
}

fn open(dir: &Path, options: Options) -> Result<Wal> {
    let disk = Arc::new(RealDisk::open(dir)?);
    Ok(Wal::open(disk, options)?.0)
}

/// A file of zeros that are really on the disk.
struct Raw {
    file: File,
    offset: u64,
}

impl Raw {
    fn new(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create_new(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for piece in 0..RAW_FILE_BYTES >> 20 {
            file.write_all_at(&zeros, piece << 20)?;
        }
        file.sync_all()?;
        Ok(Self { file, offset: 0 })
    }

    /// One append made durable; microseconds.
    fn append(&mut self, data: &[u8]) -> Result<f64> {
        let step = u64::try_from(data.len())?;
        let at = Instant::now();
        self.file.write_all_at(data, self.offset)?;
        self.file.sync_data()?;
        self.offset = (self.offset + step) % (RAW_FILE_BYTES - step);
        Ok(us(at.elapsed()))
    }
}

/// A lone committer and the raw disk, taking turns after every single append: what else the
/// machine does meets all of them alike.
fn alone(raw: &mut Raw, wal: &Wal) -> Result<[Slice; 3]> {
    let (small, large, records) = (vec![0x5A; 256], vec![0x5A; 4096], [record(256)]);
    let mut latencies: [Vec<f64>; 3] = std::array::from_fn(|_| Vec::new());
    let started = Instant::now();
    while started.elapsed() < 3 * SLICE {
        latencies[0].push(raw.append(&small)?);
        latencies[1].push(raw.append(&large)?);
        let at = Instant::now();
        wal.append_wait(&records)?;
        latencies[2].push(us(at.elapsed()));
    }
    Ok(latencies.map(|latencies_us| {
        let seconds = latencies_us.iter().sum::<f64>() / 1e6;
        let records = latencies_us.len().try_into().unwrap_or(u64::MAX);
        Slice { latencies_us, records, seconds }
    }))
}

/// Committers that are threads, each waiting for its own record.
fn threads(wal: &Arc<Wal>, committers: usize, running: &Arc<AtomicBool>) -> Result<Slice> {
    let started = Instant::now();
    let handles: Vec<_> = (0..committers)
        .map(|_| {
            let (wal, running) = (Arc::clone(wal), Arc::clone(running));
            std::thread::spawn(move || -> Result<Vec<f64>> {
                let records = [record(256)];
                let mut latencies = Vec::new();
                while started.elapsed() < SLICE || !running.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    wal.append_wait(&records)?;
                    latencies.push(us(at.elapsed()));
                }
                Ok(latencies)
            })
        })
        .collect();
    let mut latencies_us = Vec::new();
    for handle in handles {
        latencies_us.extend(handle.join().map_err(|_| anyhow::anyhow!("a committer panicked"))??);
    }
    let records = u64::try_from(latencies_us.len())?;
    Ok(Slice { latencies_us, records, seconds: started.elapsed().as_secs_f64() })
}

/// Committers that are told: each appends again when its last record is durable.
fn told(wal: &Wal, committers: usize) -> Result<Slice> {
    let records = [record(256)];
    let (sender, receiver) = mpsc::channel();
    let append = |at: Instant| -> Result<()> {
        let sender = sender.clone();
        wal.append(&records)?.on_durable(move |result| {
            // The receiver is gone only when the slice is over.
            let _ = sender.send((at, result));
        });
        Ok(())
    };
    let started = Instant::now();
    for _ in 0..committers {
        append(Instant::now())?;
    }
    let mut latencies_us = Vec::new();
    while started.elapsed() < SLICE {
        let (at, result) = receiver.recv()?;
        result?;
        let now = Instant::now();
        latencies_us.push(us(now - at));
        append(now)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    wal.settle()?;
    let records = u64::try_from(latencies_us.len())?;
    Ok(Slice { latencies_us, records, seconds })
}

fn commits(root: &Path) -> Result<()> {
    let mut raw = Raw::new(&root.join("raw"))?;
    let wal = Arc::new(open(&root.join("log"), Options::default())?);
    let always = Arc::new(AtomicBool::new(true));
    let small = Options { segment_bytes: 16 << 20, ..Options::default() };
    let small = open(&root.join("small"), small)?;
    let names = [
        "raw 256 B",
        "raw 4 KiB",
        "1",
        "8 threads",
        "64 threads",
        "64 told",
        "512 told",
        "4096 told",
        "512, 16 MiB",
    ];
    let mut slices: Vec<Vec<Slice>> = names.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (all, one) in slices.iter_mut().zip(alone(&mut raw, &wal)?) {
            all.push(one);
        }
        slices[3].push(threads(&wal, 8, &always)?);
        slices[4].push(threads(&wal, 64, &always)?);
        slices[5].push(told(&wal, 64)?);
        slices[6].push(told(&wal, 512)?);
        slices[7].push(told(&wal, 4096)?);
        slices[8].push(told(&small, 512)?);
    }
    println!("256 B records    p10 µs   p50 µs    p99 µs   records/s   p10, p50 over raw 256 B");
    let all: Vec<Figures> = slices.into_iter().map(figures).collect();
    for (name, found) in names.iter().zip(&all) {
        let Figures { p10_us, p50_us, p99_us, per_second, .. } = found;
        let (low, mid) = (p10_us / all[0].p10_us, p50_us / all[0].p50_us);
        println!(
            "{name:<14} {p10_us:>8.0} {p50_us:>8.0}  {p99_us:>8.0}  {per_second:>10.0}   {low:>6.2} {mid:>6.2}"
        );
    }
    let stats = wal.stats();
    println!("flushes per record over the whole run: {:.4}", ratio(stats.flushes, stats.records));
    wal.close()?;
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // counts of a run are far below 2^52
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Creating a log, opening it again, and reading a large one.
fn opening(root: &Path) -> Result<()> {
    println!("\nsegment    create ms   open again ms");
    for mib in [4_u64, 16, 64] {
        let options = Options {
            segment_bytes: mib << 20,
            first_segment_bytes: mib << 20,
            max_frame_bytes: 2 << 20,
            ..Options::default()
        };
        let (mut create, mut again) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let dir = root.join(format!("create-{mib}-{round}"));
            let at = Instant::now();
            let wal = open(&dir, options.clone())?;
            create.push(us(at.elapsed()) / 1e3);
            wal.append_wait(&[record(256)])?;
            wal.close()?;
            drop(wal);
            let at = Instant::now();
            let wal = open(&dir, options.clone())?;
            again.push(us(at.elapsed()) / 1e3);
            wal.close()?;
        }
        println!("{mib:>3} MiB {:>12.1} {:>15.1}", median(create), median(again));
    }
    println!("\nreading back        GiB   GB/s verify   GB/s replay");
    for (name, bytes, batch) in [
        ("256 B, 64 a frame", 256, 64),
        ("256 B, 1 a frame", 256, 1),
        ("16 KiB, 64 a frame", 16 << 10, 64),
    ] {
        let dir = root.join(format!("read-{bytes}-{batch}"));
        let wal = open(&dir, Options::default())?;
        let records: Vec<Record> = (0..batch).map(|_| record(bytes)).collect();
        let frames =
            if batch == 1 { 8_000 } else { 400_000_000 / (batch * (bytes + 32)).max(4096) };
        for _ in 0..frames {
            wal.append(&records)?;
            if batch == 1 {
                wal.settle()?;
            }
        }
        wal.close()?;
        drop(wal);
        let (mut verify, mut replay, mut size) = (Vec::new(), Vec::new(), 0.0);
        for _ in 0..ROUNDS {
            let reader = hb_wal::read_only(&RealDisk::open(&dir)?)?;
            size = ratio(reader.figures.bytes, 1_000_000_000);
            verify.push(size / reader.figures.took.as_secs_f64());
            let (at, mut sum) = (Instant::now(), 0);
            reader.replay(|record| {
                sum += record.payload.len();
                Ok::<(), std::convert::Infallible>(())
            })?;
            anyhow::ensure!(sum > 0, "nothing was replayed");
            replay.push(size / at.elapsed().as_secs_f64());
        }
        println!("{name:<18} {size:>5.2} {:>12.2} {:>13.2}", median(verify), median(replay));
    }
    Ok(())
}

/// A log whose frames hold the largest payload that is measured.
fn wide() -> Options {
    Options { first_segment_bytes: 64 << 20, max_frame_bytes: 17 << 20, ..Options::default() }
}

/// A payload as a file of its own, made durable, and a record that names it.
fn as_file(disk: &RealDisk, wal: &Wal, number: u64, payload: &[u8]) -> Result<()> {
    let (temporary, path) = (format!("blobs/{number}.tmp"), format!("blobs/{number}"));
    let file = disk.open(&temporary, Open::Create)?;
    file.write_at(0, payload)?;
    file.flush()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir("blobs")?;
    wal.append_wait(&[record(96)])?;
    Ok(())
}

/// What one durable payload costs by itself, in the log and as a file.
fn payloads(root: &Path) -> Result<()> {
    println!(
        "\none payload at a time, p50 µs (medians of rounds)\n    KiB    in the log    as a file    file over log"
    );
    let dir = root.join("payloads");
    let wal = open(&dir, wide())?;
    let disk = RealDisk::open(&dir)?;
    disk.create_dir("blobs")?;
    let mut number = 0;
    for kib in [1_usize, 4, 16, 64, 256, 1024, 4096, 16384] {
        let payload = record(kib << 10);
        let times = (8192 / kib).clamp(5, 60);
        let (mut inline, mut file) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            for _ in 0..times {
                let at = Instant::now();
                wal.append_wait(std::slice::from_ref(&payload))?;
                one.push(us(at.elapsed()));
                let at = Instant::now();
                as_file(&disk, &wal, number, &payload.payload)?;
                other.push(us(at.elapsed()));
                number += 1;
            }
            inline.push(median(one));
            file.push(median(other));
        }
        let (inline, file) = (median(inline), median(file));
        println!("{kib:>7} {inline:>13.0} {file:>12.0} {:>16.2}", file / inline);
        // Segments that were used up are not removed without snapshots; take one now and then.
        wal.snapshot(wal.durable_lsn(), b"none")?;
    }
    wal.close()?;
    Ok(())
}

/// Eight committers of small records while checkpoints are saved beside them.
fn beside_checkpoints(root: &Path) -> Result<()> {
    println!("\n8 committers of 256 B beside checkpoints\n{:<34} p50 µs    p99 µs  p99.9 µs", "");
    let variants: [(&str, usize, u64, bool); 7] = [
        ("none", 0, 0, false),
        ("64 KiB each 2 ms, in the log", 64 << 10, 2, true),
        ("64 KiB each 2 ms, as files", 64 << 10, 2, false),
        ("1 MiB each 10 ms, in the log", 1 << 20, 10, true),
        ("1 MiB each 10 ms, as files", 1 << 20, 10, false),
        ("16 MiB each 100 ms, in the log", 16 << 20, 100, true),
        ("16 MiB each 100 ms, as files", 16 << 20, 100, false),
    ];
    let mut slices: Vec<Vec<Slice>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..3 {
        for (at, (_, bytes, every_ms, inline)) in variants.iter().enumerate() {
            let dir = root.join(format!("beside-{round}-{at}"));
            let wal = Arc::new(open(&dir, wide())?);
            let ready = Arc::new(AtomicBool::new(*bytes == 0));
            let stop = Arc::new(AtomicBool::new(false));
            let saver = {
                let (wal, ready, stop) = (Arc::clone(&wal), Arc::clone(&ready), Arc::clone(&stop));
                let (bytes, every, inline) = (*bytes, Duration::from_millis(*every_ms), *inline);
                let dir = dir.clone();
                std::thread::spawn(move || -> Result<()> {
                    let disk = RealDisk::open(&dir)?;
                    disk.create_dir("blobs")?;
                    let payload = record(bytes);
                    let mut number = 0;
                    while bytes > 0 && !stop.load(Ordering::Relaxed) {
                        let at = Instant::now();
                        if inline {
                            wal.append_wait(std::slice::from_ref(&payload))?;
                        } else {
                            as_file(&disk, &wal, number, &payload.payload)?;
                        }
                        number += 1;
                        ready.store(true, Ordering::Relaxed);
                        std::thread::sleep(every.saturating_sub(at.elapsed()));
                    }
                    Ok(())
                })
            };
            slices[at].push(threads(&wal, 8, &ready)?);
            stop.store(true, Ordering::Relaxed);
            saver.join().map_err(|_| anyhow::anyhow!("the saver panicked"))??;
            wal.close()?;
            drop(wal);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    for ((name, ..), found) in variants.iter().zip(slices.into_iter().map(figures)) {
        println!("{name:<32} {:>8.0}  {:>8.0}  {:>8.0}", found.p50_us, found.p99_us, found.tail_us);
    }
    Ok(())
}
