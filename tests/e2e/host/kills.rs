//! Promise 1 and 2 for a host: whatever was acknowledged ends, once, as if nothing had happened; and
//! whoever watches sees everything once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use super::{
    Blob, Host, Place, all_jobs, counted, get, history_of,
    load::{Kind, Told, client},
    stdout_of, submit, wait_for_seal, wait_until_idle,
    watch::{Seen, follow_all, follow_job},
};
use crate::support::{Moments, World};

const KILLS: u32 = 50;
const CLIENTS: u64 = 4;
/// Jobs that are watched.
const WATCHED: [&str; 3] = ["watched-1", "watched-2", "watched-3"];
/// Steps of each.
const STEPS: u64 = 2000;

#[test]
fn a_host_that_is_killed_fifty_times_loses_nothing_doubles_nothing_and_shows_each_event_once() {
    let world = World::new();
    let kinds = Kind::all();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let expected = undisturbed(address, &kinds);
    for job in WATCHED {
        submit(address, &watched(job));
    }

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = u64::from(host.running.pid()) ^ u64::from(now.subsec_nanos());
    println!("seed {seed}");
    let (place, over, up_to) = (Place::default(), AtomicBool::new(false), AtomicU64::new(u64::MAX));
    place.set(Some(address));
    let one_of_each = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|name| {
                let (kinds, place, over) = (&kinds, &place, &over);
                scope.spawn(move || client(name, kinds, place, over, seed))
            })
            .collect();
        let watchers = WATCHED.map(|job| {
            let place = &place;
            scope.spawn(move || follow_job(place, job))
        });
        let all = scope.spawn(|| follow_all(&place, &up_to));

        kill_often(&world, &mut host, &place, &mut Moments::new(seed));
        let address = host.ready();
        place.set(Some(address));
        over.store(true, Ordering::Relaxed);
        let told: Vec<Told> = clients.into_iter().flat_map(|one| one.join().unwrap()).collect();
        wait_until_idle(address);
        let told = check_jobs(address, &told, &expected);
        let histories = check_histories(address);
        up_to.store(*histories.values().flatten().max().unwrap(), Ordering::Relaxed);
        for (job, watcher) in WATCHED.iter().zip(watchers) {
            check_watched(address, job, &watcher.join().unwrap(), &histories[*job]);
        }
        let mut union: Vec<u64> = histories.into_values().flatten().collect();
        union.sort_unstable();
        let all = all.join().unwrap();
        assert_eq!(all.events, union, "the stream of all events, seed {seed}");
        println!("all events: {} in {} connections", all.events.len(), all.connections);
        told
    });

    host.stop();
    world.run(["ledger", "check"]).ok();
    for job in one_of_each {
        let said = world.run(["verify", &job]).ok().text();
        assert!(said.starts_with("same"), "{said}");
    }
}

/// What a job comes to.
#[derive(Debug, PartialEq)]
struct Result {
    outcome: Value,
    exit_code: Value,
    artifacts: Value,
    stdout: Vec<u8>,
}

fn result_of(address: SocketAddr, job: &str) -> Result {
    let conclusion = get(address, &format!("/v1/jobs/{job}"))["conclusion"].clone();
    Result {
        outcome: conclusion["outcome"].clone(),
        exit_code: conclusion["exit_code"].clone(),
        artifacts: conclusion["artifacts"].clone(),
        stdout: stdout_of(address, job),
    }
}

/// Runs one job of each kind to its end. The components are compiled by that, so that kills meet
/// jobs and not the compiler.
fn undisturbed(address: SocketAddr, kinds: &[Kind]) -> Vec<Result> {
    let run = |kind: &Kind| {
        kind.component.upload(address).unwrap().is(201);
        let job = submit(address, &kind.manifest());
        wait_for_seal(address, &job);
        result_of(address, &job)
    };
    kinds.iter().map(run).collect()
}

fn watched(job: &str) -> Value {
    json!({
        "job_id": job,
        "component": Blob::guest("counter").digest,
        "arguments": ["--steps", STEPS.to_string(), "--work", "3"],
        "resources": {"cpu": 0.2, "memory": "16MiB"},
        "max_crashes": 1000,
    })
}

/// Kills the host at moments of all kinds: while it starts, and while it works.
fn kill_often(world: &World, host: &mut Host, place: &Place, moments: &mut Moments) {
    let mut slowest = Duration::ZERO;
    for kill in 0..KILLS {
        if kill % 3 != 0 {
            let begun = Instant::now();
            place.set(Some(host.ready()));
            slowest = slowest.max(begun.elapsed());
        }
        thread::sleep(Duration::from_millis(50) + moments.next(Duration::from_millis(350)));
        assert!(host.running.kill(), "kill {kill} found no host");
        place.set(None);
        *host = Host::spawn(world, &[]);
    }
    println!("{KILLS} kills; the slowest start took {slowest:?}");
}

/// Demands that there is what was told and nothing else, and that all of it came to what it must;
/// one job of each kind.
fn check_jobs(address: SocketAddr, told: &[Told], expected: &[Result]) -> Vec<String> {
    let ids: BTreeSet<&str> = told.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(ids.len(), told.len(), "two requests were told the same job");
    let rows = all_jobs(address);
    let listed: BTreeSet<&str> = rows.iter().map(|row| row["job_id"].as_str().unwrap()).collect();
    assert_eq!(listed.len(), rows.len(), "a job is listed twice");
    assert!(ids.is_subset(&listed), "lost: {:?}", ids.difference(&listed));
    assert_eq!(listed.len(), ids.len() + expected.len() + WATCHED.len(), "{listed:?}");
    for job in told {
        assert_eq!(result_of(address, &job.job_id), expected[job.kind], "{}", job.job_id);
    }
    let count = |is: &dyn Fn(&Told) -> bool| told.iter().filter(|job| is(job)).count();
    println!(
        "{} jobs told, {} by a later request than the one that made them, {} asked more than twice, \
         {} uploaded again; crashes {}",
        told.len(),
        count(&|job| !job.created),
        count(&|job| job.requests > 2),
        count(&|job| job.uploads > 1),
        rows.iter().map(|row| row["crashes"].as_u64().unwrap()).sum::<u64>(),
    );
    let one_of = |kind| told.iter().rfind(|job| job.kind == kind).unwrap().job_id.clone();
    (0..expected.len()).map(one_of).collect()
}

/// Demands that every job ended once and was sealed once; the positions of its events.
fn check_histories(address: SocketAddr) -> BTreeMap<String, Vec<u64>> {
    let history = |row: Value| {
        let job = row["job_id"].as_str().unwrap().to_owned();
        let events = history_of(address, &job);
        let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
        for name in ["received", "ended", "sealed"] {
            assert_eq!(count(name), 1, "{job}: {name}");
        }
        let positions = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
        (job, positions)
    };
    all_jobs(address).into_iter().map(history).collect()
}

fn check_watched(address: SocketAddr, job: &str, seen: &Seen, history: &[u64]) {
    assert_eq!(seen.events, history, "{job}");
    let printed = counted(STEPS);
    assert_eq!(stdout_of(address, job), printed.as_bytes(), "{job}");
    assert!(seen.stdout == printed.as_bytes(), "{job}: {} bytes were seen", seen.stdout.len());
    let shown = get(address, &format!("/v1/jobs/{job}"));
    println!(
        "{job}: {} events in {} connections, {} crashes",
        seen.events.len(),
        seen.connections,
        shown["crashes"]
    );
    assert!(shown["crashes"].as_u64().unwrap() >= 5, "hardly a kill met {job}");
}
