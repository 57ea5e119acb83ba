//! Many watchers of one job, half of them slow: each gets everything, and the host keeps nothing
//! for any of them.

use std::{
    fs,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Blob, Host, get, history_of, post, soak::memory_bytes, stdout_of, submit, wait_for_seal,
    watch::Seen,
};
use crate::{
    http::{self, Events},
    support::{World, wait_until},
};

/// Watchers, unless `HB_WATCHERS` says otherwise.
const WATCHERS: usize = 200;
/// Memory that a watcher may cost.
const GROWTH_BYTES: u64 = 1 << 20;
/// What a slow one reads at once, and its pause before.
const SLOW: (usize, Duration) = (1024, Duration::from_millis(2));

#[test]
fn many_watchers_of_a_job_that_saves_often_see_all_of_it() {
    watched_by_many("counter", &json!({"arguments": ["--steps", "1500", "--work", "1"]}));
}

#[test]
fn many_watchers_of_a_job_that_prints_without_end_see_all_of_it() {
    watched_by_many(
        "greedy",
        &json!({"arguments": ["flood-stdout"], "limits": {"stdout_bytes": "4MiB"}}),
    );
}

fn watched_by_many(guest: &str, manifest: &Value) {
    let told = std::env::var("HB_WATCHERS").ok();
    let count = told.map_or(WATCHERS, |count| count.parse().expect("HB_WATCHERS is a number"));
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let component = Blob::guest(guest);
    component.upload(address).unwrap().is(201);
    // Compiled once, so that what grows later is not the compiler.
    let mut manifest = manifest.clone();
    manifest["component"] = json!(component.digest);
    manifest["job_id"] = json!("before");
    submit(address, &manifest);
    wait_for_seal(address, "before");
    let before = memory_bytes(host.running.pid());

    post(address, "/v1/starts/pause").is(200);
    manifest["job_id"] = json!("watched");
    submit(address, &manifest);
    let watching = AtomicUsize::new(0);
    let (seen, most) = thread::scope(|scope| {
        let watchers: Vec<_> = (0..count)
            .map(|number| {
                let watching = &watching;
                scope.spawn(move || follow(address, number % 2 == 1, watching))
            })
            .collect();
        wait_until("all watch", || watching.load(Ordering::Relaxed) == count);
        post(address, "/v1/starts/resume").is(200);
        let mut most = 0;
        wait_until("all have seen the end", || {
            most = most.max(memory_bytes(host.running.pid()));
            let alive = http::request(address, "GET", "/livez", &[], b"").unwrap();
            assert_eq!(alive.status, 200);
            watchers.iter().all(thread::ScopedJoinHandle::is_finished)
        });
        let seen: Vec<Seen> = watchers.into_iter().map(|one| one.join().unwrap()).collect();
        (seen, most)
    });

    let stdout = stdout_of(address, "watched");
    assert_eq!(get(address, "/v1/jobs/watched")["conclusion"]["stdout"]["bytes"], stdout.len());
    let history = history_of(address, "watched");
    let history: Vec<u64> = history.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    for (number, seen) in seen.iter().enumerate() {
        assert!(seen.stdout == stdout, "watcher {number}: {} bytes", seen.stdout.len());
        assert_eq!(seen.events, history, "watcher {number}");
    }
    println!(
        "{guest}: {} events and {} bytes to each of {count}; {} MiB before, at most {} MiB",
        history.len(),
        stdout.len(),
        before >> 20,
        most >> 20
    );
    let allowed = before + GROWTH_BYTES * count as u64;
    assert!(most < allowed, "{most} bytes in use, {before} before");
    host.stop();
}

fn follow(address: SocketAddr, is_slow: bool, watching: &AtomicUsize) -> Seen {
    let mut events = Events::open(address, "/v1/jobs/watched/events", None).unwrap();
    watching.fetch_add(1, Ordering::Relaxed);
    if is_slow {
        events = events.slowly(SLOW.0, SLOW.1);
    }
    let mut seen = Seen::default();
    while !seen.over {
        seen.take(&events.next().unwrap());
    }
    seen
}

/// Processor time of a process so far, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn watchers_of_a_host_on_which_nothing_happens_cost_next_to_nothing() {
    let told = std::env::var("HB_WATCHERS").ok();
    let count = told.map_or(WATCHERS, |count| count.parse().expect("HB_WATCHERS is a number"));
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let pid = host.running.pid();
    let before = memory_bytes(pid);
    let open = || Events::open(address, "/v1/events", None).unwrap();
    let mut watchers: Vec<Events> = (0..count).map(|_| open()).collect();
    let (begun, memory) = (ticks(pid), memory_bytes(pid));
    thread::sleep(Duration::from_secs(2));
    let spent = ticks(pid) - begun;
    println!(
        "{count} watchers: {} KiB each, {spent} ticks of processor time in two seconds",
        (memory.saturating_sub(before) / count as u64) >> 10
    );
    // All of them still hear of what happens.
    let hello = Blob::guest("hello");
    hello.upload(address).unwrap().is(201);
    submit(address, &json!({"job_id": "h", "component": hello.digest}));
    for watcher in &mut watchers {
        assert_eq!(watcher.next().unwrap().name, "received");
    }
    assert!(memory < before + GROWTH_BYTES * count as u64, "{memory} bytes, {before} before");
    host.stop();
}
