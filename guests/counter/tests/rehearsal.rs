//! The experiment, killed after each call of its host.
#![allow(clippy::unwrap_used)]

use std::{fs, io};

use counter::{Settings, run};
use hackbrain::Rehearsal;
use tempfile::TempDir;

const SETTINGS: Settings = Settings { steps: 12, work: 0 };

fn steps() -> String {
    (1..=12).map(|step| format!("step {step}\n")).collect::<Vec<_>>().concat()
}

#[test]
fn a_job_killed_after_each_call_of_its_host_writes_each_line_once() {
    for kill_at in 1..1000 {
        let directory = TempDir::new().unwrap();
        let mut host = Rehearsal::new(directory.path(), 1).unwrap();
        let (job, out) = (host.job(), host.out());
        let silent = |_: &str| -> io::Result<()> { Ok(()) };
        let killed = host.attempt(Some(kill_at), |host| run(host, &job, &out, SETTINGS, silent));
        let saved = host.saved();
        if killed.is_ok() {
            assert_eq!(saved, 12);
            return;
        }
        let mut printed = String::new();
        let print = |line: &str| {
            printed.push_str(line);
            Ok(())
        };
        host.attempt(None, |host| run(host, &job, &out, SETTINGS, print)).unwrap().unwrap();
        // What was printed up to the checkpoint is the host's to keep.
        let lines = printed.lines().count() as u64;
        assert_eq!(lines, 12 - saved, "killed at {kill_at}");
        assert!(steps().ends_with(&printed), "killed at {kill_at}");
        assert_eq!(fs::read_to_string(out.join("steps.txt")).unwrap(), steps());
        assert!(fs::read_to_string(job.join("last")).unwrap().starts_with("12 "));
    }
    panic!("the job never ended");
}

#[test]
fn work_changes_what_is_kept_and_not_what_is_printed() {
    let kept = [0, 1, 2].map(|work| {
        let directory = TempDir::new().unwrap();
        let mut host = Rehearsal::new(directory.path(), 1).unwrap();
        let (job, out) = (host.job(), host.out());
        let settings = Settings { work, ..SETTINGS };
        host.attempt(None, |host| run(host, &job, &out, settings, |_| Ok(()))).unwrap().unwrap();
        assert_eq!(fs::read_to_string(out.join("steps.txt")).unwrap(), steps());
        fs::read_to_string(job.join("last")).unwrap()
    });
    assert!(kept[0] != kept[1] && kept[1] != kept[2] && kept[0] != kept[2], "{kept:?}");
}
