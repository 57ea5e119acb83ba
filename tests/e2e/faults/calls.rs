//! System calls that fail: into a run, and into a host under load.

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
    thread,
};

use super::{
    has_strace,
    load::{Heard, check, client, manifest},
    skip,
};
use crate::{
    guests::guest,
    host::{Blob, Host, JSON, Place, get, post},
    http,
    support::{Over, Running, World, data_file, wait_until},
};

/// Makes a call of a running process fail from now on, until it is let go of.
struct Injection {
    strace: Running,
}

impl Injection {
    fn attach(pid: u32, call: &str, how: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        strace.args(["-e", &format!("inject={call}:{how}"), "-p", &pid.to_string()]);
        let strace = Running::start(strace.stdout(Stdio::null()).stderr(Stdio::null()));
        wait_until("every thread is traced", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            tasks.flatten().all(|task| {
                // A thread may end while it is looked for.
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        });
        Self { strace }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // Asked to end, it lets go of the process first; killed, it would take it along.
        if self.strace.is_there() {
            self.strace.signal("TERM");
        }
        wait_until("strace has let go", || !self.strace.is_there());
    }
}

/// A job that writes files, in a process of its own: its checkpoints are packs, renamed into place.
fn files_job() -> Vec<String> {
    let input = format!("genome={}", data_file("lambda_virus.fa").display());
    let words = ["run", "--job-id", "k", "--checkpoint-steps", "1", "--input", &input];
    let guest = guest("kmer");
    words.into_iter().chain([guest.as_str(), "--", "-k", "13"]).map(str::to_owned).collect()
}

/// Which calls fail, and at which of each thread.
const CALLS: &[(&str, &[u32])] = &[
    ("renameat", &[1, 2, 4, 7]),
    ("fsync", &[1, 5, 9, 14]),
    ("unlinkat", &[1, 2]),
    ("ftruncate", &[1, 2]),
    ("mkdirat", &[1, 3]),
    // Of those to read, names that are looked up, and those to create.
    ("openat2", &[1, 40, 300]),
];

#[test]
fn a_call_that_fails_once_under_a_run_is_named_and_loses_nothing() {
    if !has_strace() {
        return skip("failing calls", "no strace");
    }
    let expected = {
        let world = World::new();
        world.run(files_job()).ok();
        world.result("k")
    };
    let mut failed: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, places) in CALLS {
        for (number, place) in places.iter().enumerate() {
            let error = ["EIO", "ENOSPC"][number % 2];
            let world = World::new();
            world.run(["run", "--job-id", "before", &guest("hello")]).ok();
            let before = world.result("before");
            let (trace, inject) =
                (format!("trace={call}"), format!("inject={call}:error={error}:when={place}"));
            let under =
                ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            let ran = Running::start(&mut world.hb_under(&under, files_job())).finish();
            let what = format!("{call} {error} at {place}: {}", ran.stderr);
            assert!(matches!(ran.code, Some(0 | 125)), "{what}");
            if ran.code == Some(125) {
                *failed.entry(call).or_default() += 1;
                let words: &[&str] = if error == "EIO" {
                    &["Input/output error", "check"]
                } else {
                    &["No space left on device", "free some space"]
                };
                ran.complains(words);
            }
            world.run(["ledger", "check"]).ok();
            world.run(files_job()).ok();
            assert_eq!(world.result("k"), expected, "{what}");
            assert_eq!(world.result("before"), before, "{what}");
        }
    }
    println!("runs that ended by it: {failed:?}");
    assert!(["renameat", "fsync", "openat2"].iter().all(|call| failed.contains_key(call)));
}

/// A host under load whose calls fail from some moment on: what clients heard, and how it ended.
fn host_with_failing(call: &str, how: &str) -> (World, Heard, Option<i32>, String) {
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let place = Place::default();
    let address = host.ready();
    place.set(Some(address));
    let over = AtomicBool::new(false);
    let heard = thread::scope(|scope| {
        let until = Over(&over);
        let clients = ["a", "b"].map(|name| scope.spawn(|| client(&place, name, &over)));
        wait_until("some jobs ran", || {
            get(address, "/v1/jobs?state=SEALED")["jobs"].as_array().unwrap().len() >= 5
        });
        let injection = Injection::attach(host.running.pid(), call, how);
        wait_until("the host ends", || !host.running.is_there());
        drop(injection);
        drop(until);
        clients.into_iter().map(|one| one.join().unwrap()).reduce(Heard::and).unwrap()
    });
    let said = host.said();
    (world, heard, host.running.finish().code, said)
}

/// Demands that the next start has everything and lets it end.
fn nothing_is_lost(world: &World, told: &[String]) {
    world.run(["ledger", "check"]).ok();
    let mut host = Host::spawn(world, &[]);
    let address = host.ready();
    http::request(address, "POST", "/v1/starts/resume", &[], b"").unwrap();
    check(address, told);
    host.stop();
    world.run(["ledger", "check"]).ok();
}

#[test]
fn a_host_whose_log_cannot_be_flushed_says_so_ends_and_the_next_one_has_everything() {
    if !has_strace() {
        return skip("failing flush", "no strace");
    }
    let (world, heard, code, said) = host_with_failing("fdatasync", "error=EIO");
    assert_eq!(code, Some(125), "{said}");
    assert!(
        said.contains("takes nothing any more") && said.contains("Input/output error"),
        "{said}"
    );
    println!("{} jobs were told; {:?}", heard.told.len(), heard.refused);
    heard.only(&[(500, "internal"), (503, "outcome-unknown"), (503, "not-ready")]);
    nothing_is_lost(&world, &heard.told);
}

/// A store that refuses everything, below a host that says it is ready and takes jobs in, would run none
/// of them.
#[test]
fn a_host_whose_names_cannot_be_flushed_says_so_ends_and_the_next_one_has_everything() {
    if !has_strace() {
        return skip("failing directory flush", "no strace");
    }
    let (world, heard, code, said) = host_with_failing("fsync", "error=EIO");
    assert_eq!(code, Some(125), "{said}");
    assert!(said.contains("could not be made durable"), "{said}");
    println!("{} jobs were told; {:?}", heard.told.len(), heard.refused);
    heard.only(&[(500, "internal"), (503, "outcome-unknown"), (503, "not-ready")]);
    nothing_is_lost(&world, &heard.told);
}

/// No thread that runs a job is there to notice it.
#[test]
fn a_host_without_work_notices_that_its_log_cannot_be_flushed() {
    if !has_strace() {
        return skip("failing flush without work", "no strace");
    }
    let world = World::new();
    let mut host = Host::spawn(&world, &[]);
    let address = host.ready();
    let (counter, stdin) = (Blob::guest("counter"), Blob::new(b"x".to_vec()));
    for blob in [&counter, &stdin] {
        blob.upload(address).unwrap().is(201);
    }
    post(address, "/v1/starts/pause").is(200);
    let injection = Injection::attach(host.running.pid(), "fdatasync", "error=EIO");
    let body = manifest("c", &counter, &stdin).to_string();
    let answer = http::request(address, "POST", "/v1/jobs", JSON, body.as_bytes()).unwrap();
    assert_eq!(answer.is(503).json()["code"], "outcome-unknown");
    wait_until("the host ends", || !host.running.is_there());
    drop(injection);
    let said = host.said();
    assert_eq!(host.running.finish().code, Some(125), "{said}");
    nothing_is_lost(&world, &[]);
}

#[test]
fn a_call_that_fails_once_in_each_thread_of_a_host_loses_nothing_and_it_goes_on() {
    if !has_strace() {
        return skip("failing calls under a host", "no strace");
    }
    for (call, error) in [("renameat", "EIO"), ("renameat", "ENOSPC"), ("unlinkat", "EIO")] {
        let world = World::new();
        let mut host = Host::spawn(&world, &[]);
        let address = host.ready();
        let place = Place::default();
        place.set(Some(address));
        let over = AtomicBool::new(false);
        let heard = thread::scope(|scope| {
            let until = Over(&over);
            let clients = ["a", "b"].map(|name| scope.spawn(|| client(&place, name, &over)));
            let records = || get(address, "/v1/status")["log"]["records"].as_u64().unwrap();
            let some_more = |what| {
                let before = records();
                wait_until(what, || records() > before + 40);
            };
            some_more("it works");
            // The next call of each thread.
            let how = format!("error={error}:when=1");
            let injection = Injection::attach(host.running.pid(), call, &how);
            some_more("it goes on");
            drop(injection);
            drop(until);
            clients.into_iter().map(|one| one.join().unwrap()).reduce(Heard::and).unwrap()
        });
        println!("{call}: {} jobs were told; {:?}", heard.told.len(), heard.refused);
        heard.only(&[(500, "internal"), (507, "disk-full")]);
        check(address, &heard.told);
        host.stop();
        world.run(["ledger", "check"]).ok();
    }
}
