//! A host over HTTP: from the start of its process to the first job, sealed no-op jobs per second by
//! the number of clients, flushes of the log for each, and memory.
//!
//! `http_bench [--json] [DIR]` works in a temporary directory inside DIR (default: the current one), which
//! should lie on the disk that is meant. Each number of clients is measured five times, beside it a loop
//! of write and flush on the same disk. Clients and host share the machine's processors.

use std::{
    env, fs,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hb_api::manifest::Manifest;
use hb_client::{Client, ClientOptions, Patience};
use hb_config::host_file::HostFile;
use serde_json::json;

/// A job that does nothing: a preview-1 core module.
const NO_OP: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;
/// Clients, and jobs that they submit altogether.
const LOADS: [(u32, u32); 3] = [(1, 300), (16, 3000), (256, 6000)];
const ROUNDS: usize = 5;
const RAW_BLOCK: usize = 4096;
const RAW_FILE_BYTES: u64 = 16 << 20;

fn main() -> anyhow::Result<()> {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let as_json = words.iter().position(|word| word == "--json").map(|at| words.remove(at));
    let base = words.first().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let hb = env::current_exe()?.with_file_name("hb");
    ensure!(hb.is_file(), "{} is missing: cargo build --release -p hb", hb.display());
    let root = tempfile::tempdir_in(&base).context("no directory to work in")?;

    let starts = (0..ROUNDS).map(|round| {
        let begun = Instant::now();
        let host = Host::start(&hb, &root.path().join(format!("start-{round}")))?;
        let ready = begun.elapsed();
        Ok((ready.as_secs_f64() * 1000.0, host.memory_mib()?))
    });
    let starts: Vec<(f64, f64)> = starts.collect::<anyhow::Result<_>>()?;
    let ready_ms = Spread::of(starts.iter().map(|start| start.0).collect());
    let idle_mib = Spread::of(starts.iter().map(|start| start.1).collect());

    let host = Host::start(&hb, &root.path().join("data"))?;
    let component = upload(&host, &hb, root.path())?;
    let mut number = 0;
    let mut loads = Vec::new();
    submit_all(&host, &component, 1, 50, &mut number)?;
    for (clients, jobs) in LOADS {
        let (mut sealed, mut flushes, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(raw_flushes(root.path())?);
            let before = host.client()?.status()?.log.flushes;
            let begun = Instant::now();
            submit_all(&host, &component, clients, jobs, &mut number)?;
            sealed.push(f64::from(jobs) / begun.elapsed().as_secs_f64());
            let after = host.client()?.status()?.log.flushes;
            flushes.push(f64::from(u32::try_from(after - before)?) / f64::from(jobs));
        }
        loads.push((clients, Spread::of(sealed), Spread::of(flushes), Spread::of(raw)));
    }
    let busy_mib = host.memory_mib()?;
    if as_json.is_some() {
        let rows = loads.iter().map(|(clients, sealed, flushes, raw)| {
            json!({"clients": clients, "sealed_per_s": sealed.list(), "flushes_per_job": flushes.list(),
                   "raw_flushes_per_s": raw.list()})
        });
        let all = json!({
            "ready_ms": ready_ms.list(), "idle_mib": idle_mib.list(), "busy_mib": busy_mib,
            "loads": rows.collect::<Vec<_>>(),
        });
        println!("{all}");
        return Ok(());
    }
    println!(
        "start to ready: {ready_ms} ms; idle memory {idle_mib} MiB; after {number} jobs {busy_mib:.0} MiB"
    );
    println!("clients  sealed jobs/s           flushes/job          raw write+flush/s");
    for (clients, sealed, flushes, raw) in &loads {
        println!("{clients:>7}  {sealed:<22}  {flushes:<19.2}  {raw}");
    }
    Ok(())
}

/// Median, least and most of some rounds.
struct Spread(Vec<f64>);

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    fn list(&self) -> serde_json::Value {
        json!({"median": self.0[self.0.len() / 2], "min": self.0[0], "max": self.0[self.0.len() - 1]})
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let places = f.precision().unwrap_or(0);
        let (median, last) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        let text = format!("{median:.places$} ({:.places$} to {last:.places$})", self.0[0]);
        write!(f, "{text:<width$}", width = f.width().unwrap_or(0))
    }
}

struct Host {
    child: Child,
    url: String,
}

impl Host {
    /// Starts one and waits until it takes jobs.
    fn start(hb: &Path, data: &Path) -> anyhow::Result<Self> {
        let child = Command::new(hb)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--max-queued",
                "20000",
                "--config",
                "/dev/null",
            ])
            .arg("--data")
            .arg(data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut host = Self { child, url: String::new() };
        let begun = Instant::now();
        loop {
            let found = HostFile::read(data).ok().flatten();
            if let Some(url) = found.and_then(|file| file.urls.into_iter().next()) {
                host.url = url;
                // One that is not ready says when to ask again, which would be what is measured.
                let at_once = Patience::default().for_total(Duration::ZERO);
                if host.client_with(at_once)?.is_ready().unwrap_or(false) {
                    return Ok(host);
                }
            }
            ensure!(begun.elapsed() < Duration::from_mins(1), "the host does not become ready");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn client(&self) -> anyhow::Result<Client> {
        self.client_with(Patience::default())
    }

    fn client_with(&self, patience: Patience) -> anyhow::Result<Client> {
        let server = self.url.clone();
        Ok(Client::new(&ClientOptions { server, patience, ..ClientOptions::default() })?)
    }

    fn memory_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib =
            line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
        Ok(kib.context("the kernel does not say how much memory the host has")? / 1024.0)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the module translated and uploaded by the program itself; its digest.
fn upload(host: &Host, hb: &Path, dir: &Path) -> anyhow::Result<String> {
    let path = dir.join("no-op.wat");
    fs::write(&path, NO_OP)?;
    let submitted = Command::new(hb)
        .args(["submit", "--server", &host.url, "--job-id", "first", "--wait"])
        .arg(&path)
        .output()?;
    ensure!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let first = host.client()?.job("first")?;
    Ok(first.spec.component.digest.to_string())
}

/// Submits so many jobs by so many clients, and waits until all are sealed.
fn submit_all(
    host: &Host,
    component: &str,
    clients: u32,
    jobs: u32,
    number: &mut u32,
) -> anyhow::Result<()> {
    let first = *number;
    *number += jobs;
    let last = *number;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|name| {
                scope.spawn(move || -> anyhow::Result<()> {
                    let client = host.client()?;
                    for number in (first + name..last).step_by(clients as usize) {
                        client.submit(&Manifest {
                            job_id: Some(format!("no-op-{number}")),
                            component: Some(component.to_owned()),
                            ..Manifest::default()
                        })?;
                    }
                    Ok(())
                })
            })
            .collect();
        clients.into_iter().try_for_each(|one| one.join().expect("a client does not panic"))
    })?;
    let client = host.client()?;
    loop {
        let status = client.status()?;
        if status.running == 0 && status.waiting == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Blocks that are written and flushed in half a second, one after the other, into a file that has
/// its place on the disk: the most that anybody who flushes each job by itself could do.
fn raw_flushes(dir: &Path) -> anyhow::Result<f64> {
    let file = File::create(dir.join("raw"))?;
    file.write_all_at(&vec![0; usize::try_from(RAW_FILE_BYTES)?], 0)?;
    file.sync_all()?;
    let (begun, mut count, mut at) = (Instant::now(), 0_u32, 0);
    while begun.elapsed() < Duration::from_millis(500) {
        file.write_all_at(&[1; RAW_BLOCK], at)?;
        file.sync_data()?;
        at = (at + RAW_BLOCK as u64) % RAW_FILE_BYTES;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
