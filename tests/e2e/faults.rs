//! A disk that fills up and a disk that fails, for real: a small file system of its own, and
//! errors injected into the program's system calls.

mod calls;
mod full;
mod load;
mod pauses;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    guests::guest,
    support::{JobResult, Running, World, data_file, wait_until},
};

/// Leaves a test out by name where the machine lacks something, unless nothing may be left out.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("HB_REQUIRE_ALL").is_none(), "{test}: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// Whether system calls can be made to fail.
pub fn has_strace() -> bool {
    Command::new("strace").arg("-V").output().is_ok_and(|out| out.status.success())
}

/// An ext4 file system in a file, mounted until it is let go of.
struct SmallDisk {
    mount: PathBuf,
}

impl SmallDisk {
    fn mount(world: &World, megabytes: u64) -> Option<Self> {
        let image = world.path("disk.img");
        fs::File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
        let mount = world.path("mounted");
        fs::create_dir(&mount).unwrap();
        let ran = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|out| out.status.success())
        };
        let (image, target) = (image.to_str().unwrap(), mount.to_str().unwrap());
        let mounted = ran("mkfs.ext4", &["-q", "-F", "-m", "0", image])
            && ran("mount", &["-o", "loop", image, target]);
        mounted.then_some(Self { mount })
    }

    /// Takes all but about `leave` bytes.
    fn fill(&self, leave: u64) -> PathBuf {
        let path = self.mount.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        let block = vec![0x55; 1 << 20];
        // Flushed as it goes: blocks that are only promised are not yet counted as taken.
        while free_bytes(&self.mount) > leave + (1 << 20) && file.write_all(&block).is_ok() {
            file.sync_data().ok();
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.mount).status();
    }
}

fn free_bytes(path: &Path) -> u64 {
    let out = Command::new("stat").args(["-f", "-c", "%a %S"]).arg(path).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().unwrap());
    numbers.next().unwrap() * numbers.next().unwrap()
}

fn kmer_result() -> JobResult {
    let world = World::new();
    world.run(kmer()).ok();
    world.result("k")
}

fn kmer() -> Vec<String> {
    let input = format!("genome={}", data_file("ecoli_536.fna.gz").display());
    let words = ["run", "--job-id", "k", "--checkpoint-every", "20ms", "--input", &input];
    let guest = guest("kmer");
    words.into_iter().chain([guest.as_str(), "--", "-k", "21"]).map(str::to_owned).collect()
}

#[test]
fn a_full_disk_refuses_new_work_keeps_what_is_there_and_goes_on_when_there_is_room() {
    let mut world = World::new();
    // With room to spare once the filler is gone: the job needs up to about 320 MB (the scratch copy of what
    // it writes beside the blobs it becomes, and the blobs of checkpoints that were just replaced).
    let Some(disk) = SmallDisk::mount(&world, 640) else {
        return skip("full disk", "file systems cannot be mounted here");
    };
    world.set_data(disk.mount.join("data"));
    world.run(["run", "--job-id", "before", &guest("hello")]).ok();
    let before = world.result("before");

    // Full while a job runs: the attempt ends with a clear error, not with an outcome.
    let mut filler = disk.fill(24 << 20);
    let ran = world.run(kmer()).exits(125);
    ran.complains(&["full", "resume"]);
    assert_eq!(world.show("k")["outcome"], serde_json::Value::Null);

    // Full from the start: new work is refused.
    fs::remove_file(&filler).unwrap();
    filler = disk.fill(0);
    let other = world.path("in.bin");
    fs::write(&other, vec![7; 8 << 20]).unwrap();
    let input = format!("x={}", other.display());
    world.run(["run", "--input", &input, &guest("hello")]).exits(125).complains(&["full"]);
    assert_eq!(world.result("before"), before, "what is there is kept and can be read");
    world.run(["ledger", "check"]).ok();

    // Room again: everything goes on.
    fs::remove_file(&filler).unwrap();
    world.run(kmer()).ok();
    assert_eq!(world.result("k"), kmer_result());
}

#[test]
fn a_failing_flush_or_write_ends_the_attempt_and_loses_nothing() {
    if !has_strace() {
        return skip("failing disk", "no strace");
    }
    let counter = guest("counter");
    let arguments = ["run", "--job-id", "c", &counter, "--", "--steps", "40"];
    let expected = {
        let world = World::new();
        world.run(arguments).ok();
        world.result("c")
    };
    for (call, error) in [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")] {
        for when in [1, 2, 3, 5, 9, 20, 40] {
            let world = World::new();
            world.run(["run", "--job-id", "warm", &counter, "--", "--steps", "1"]).ok();
            // A job that was there before must survive whatever happens.
            let before = world.result("warm");
            let inject = format!("inject={call}:error={error}:when={when}+");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
            strace.arg(inject).arg(crate::support::HB).args(arguments);
            let ran = strace.env("HB_DATA", world.data()).output().unwrap();
            let told = String::from_utf8_lossy(&ran.stderr);
            assert!(matches!(ran.status.code(), Some(0 | 125)), "{call} {error} {when}: {told}");
            if ran.status.code() == Some(125) {
                assert_eq!(told.matches("hb: error: ").count(), 1, "{told}");
            }
            // Whatever the guest printed was printed by steps that were saved or will be again.
            world.run(["ledger", "check"]).ok();
            world.run(arguments).ok();
            assert_eq!(world.result("c"), expected, "{call} {error} from the {when}th on");
            assert_eq!(world.result("warm"), before);
        }
    }
}

#[test]
fn a_process_that_was_paused_and_passed_over_cannot_write() {
    // While the first one stands still it holds the lock, so nobody can pass it over on this
    // machine; when it is killed in that condition the next one goes on.
    let world = World::new();
    let counter = guest("counter");
    let run = ["run", "--job-id", "c", &counter, "--", "--steps", "300", "--work", "2"];
    let mut paused = Running::start(&mut world.hb(run));
    wait_until("some steps are durable", || {
        let ran = world.run(["show", "c", "--json"]);
        ran.code == Some(0) && ran.json()["checkpoints"].as_u64().unwrap() > 5
    });
    paused.signal("STOP");
    world.run(run).exits(125).complains(&["in use by process"]);
    assert!(paused.kill());
    world.run(run).ok();
    assert_eq!(world.run(["logs", "c"]).ok().text().lines().count(), 300);
}
