//! A host that runs many jobs keeps none of them in memory.

use std::{
    fs,
    net::SocketAddr,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Blob, Host, JSON, get, wait_until_idle};
use crate::{
    http::Connection,
    support::{World, wait_until},
};

/// Jobs, unless `HB_SOAK_JOBS` says otherwise.
const JOBS: u64 = 5000;
const CONNECTIONS: u64 = 8;
/// Jobs that wait at most: clients that are faster than the host are told so.
const QUEUED: &str = "2000";
/// Bytes of memory that may be in use after all jobs and were not after the first fifth.
const GROWTH_BYTES: u64 = 64 << 20;
/// Of these for each job: its place in the index of what is over.
const GROWTH_BYTES_PER_JOB: u64 = 400;
/// Open files that may be more.
const GROWTH_FILES: u64 = 64;

/// Resident memory of a process, in bytes.
pub fn memory_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

fn open_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

#[test]
fn memory_and_open_files_do_not_grow_with_the_jobs_that_were_run() {
    let told = std::env::var("HB_SOAK_JOBS").ok();
    let jobs = told.map_or(JOBS, |jobs| jobs.parse().expect("HB_SOAK_JOBS is a number"));
    let world = World::new();
    let mut host = Host::spawn(&world, &["--max-queued", QUEUED]);
    let address = host.ready();
    let component = Blob::guest("hello");
    component.upload(address).unwrap().is(201);
    let pid = host.running.pid();
    let sample = |jobs: u64, what: &str| {
        wait_until_idle(address);
        wait_until("all are sealed", || {
            get(address, "/v1/status")["jobs"]["SEALED"] == json!(jobs)
        });
        let (memory, files) = (memory_bytes(pid), open_files(pid));
        println!("{what}: {} MiB resident, {files} open files", memory >> 20);
        (memory, files)
    };

    submit_all(address, &component, 0..jobs / 5);
    let before = sample(jobs / 5, "after the first fifth");
    let begun = Instant::now();
    submit_all(address, &component, jobs / 5..jobs);
    let accepted = begun.elapsed();
    let after = sample(jobs, "after all");
    let count = u32::try_from(jobs - jobs / 5).unwrap();
    println!(
        "{count} jobs accepted in {accepted:?}, ended in {:?}: {:.0} a second",
        begun.elapsed(),
        f64::from(count) / begun.elapsed().as_secs_f64()
    );
    let allowed = before.0 + GROWTH_BYTES + GROWTH_BYTES_PER_JOB * u64::from(count);
    assert!(after.0 < allowed, "{} bytes after all, {} before", after.0, before.0);
    assert!(after.1 < before.1 + GROWTH_FILES, "{} files after all, {} before", after.1, before.1);
    host.stop();
}

fn submit_all(address: SocketAddr, component: &Blob, numbers: Range<u64>) {
    thread::scope(|scope| {
        for first in 0..CONNECTIONS {
            let mine = numbers.clone().skip(usize::try_from(first).unwrap());
            scope.spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                for number in mine.step_by(usize::try_from(CONNECTIONS).unwrap()) {
                    let manifest = json!({
                        "job_id": format!("soak-{number}"),
                        "component": component.digest,
                        "resources": {"cpu": 0.1, "memory": "16MiB"},
                    });
                    submit(&mut connection, manifest.to_string().as_bytes());
                }
            });
        }
    });
}

/// Submits one job, as soon as the queue takes it.
fn submit(connection: &mut Connection, body: &[u8]) {
    loop {
        let answer = connection.send("POST", "/v1/jobs", JSON, body).unwrap();
        if answer.status == 202 {
            return;
        }
        let answer = answer.is(429);
        assert_eq!(answer.json()["code"], "queue-full");
        thread::sleep(Duration::from_millis(20));
    }
}
