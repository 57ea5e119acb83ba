//! The stand-in host does what it says: it kills, it rolls back, and it finds broken contracts.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use hackbrain::{Host, Killed, Rehearsal};
use tempfile::TempDir;

fn stage() -> (TempDir, Rehearsal) {
    let directory = TempDir::new().unwrap();
    let host = Rehearsal::new(directory.path(), 1).unwrap();
    (directory, host)
}

#[test]
fn what_came_after_the_checkpoint_is_undone() {
    let (_directory, mut host) = stage();
    let (job, out) = (host.job(), host.out());
    let killed = host.attempt(Some(4), |host| {
        host.restore();
        fs::write(job.join("kept"), "before").unwrap();
        host.metric("done", 1.0);
        assert_eq!(host.save(7, b"state"), 1);
        fs::write(job.join("kept"), "after").unwrap();
        fs::write(out.join("new"), "after").unwrap();
        host.metric("done", 2.0);
        panic!("the job lives after it was killed");
    });
    assert_eq!(killed, Err::<(), _>(Killed));
    host.attempt(None, |host| {
        let snapshot = host.restore().unwrap();
        assert_eq!((snapshot.sequence, snapshot.step, &snapshot.state[..]), (1, 7, &b"state"[..]));
        assert_eq!(fs::read_to_string(job.join("kept")).unwrap(), "before");
        assert!(!out.join("new").exists());
        assert_eq!(host.metrics["done"].to_bits(), 1.0_f64.to_bits());
    })
    .unwrap();
}

#[test]
fn a_kill_before_the_first_checkpoint_leaves_nothing() {
    let (_directory, mut host) = stage();
    let job = host.job();
    let killed = host.attempt(Some(2), |host| {
        assert_eq!(host.restore().map(|snapshot| snapshot.step), None);
        fs::write(job.join("file"), "").unwrap();
        host.note("killed here");
    });
    assert_eq!(killed, Err(Killed));
    let found = host.attempt(None, |host| host.restore().is_some() || job.join("file").exists());
    assert_eq!(found, Ok(false));
}

fn panic_of(job: impl FnOnce(&mut Rehearsal)) -> String {
    let (_directory, mut host) = stage();
    host.attempt(None, |host| {
        host.restore();
        host.save(5, b"");
    })
    .unwrap();
    let reason = catch_unwind(AssertUnwindSafe(|| host.attempt(None, job))).unwrap_err();
    let text = reason.downcast_ref::<String>().cloned();
    text.or_else(|| reason.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap()
}

#[test]
fn a_job_that_breaks_the_contract_is_caught() {
    let twice = panic_of(|host| {
        host.restore();
        host.restore();
    });
    assert!(twice.contains("a second time"), "{twice}");
    let elsewhere = panic_of(|host| {
        host.restore();
        host.due(6);
    });
    assert!(elsewhere.contains("must name the restored step"), "{elsewhere}");
    let falling = panic_of(|host| {
        host.restore();
        host.save(4, b"");
    });
    assert!(falling.contains("step fell to 4"), "{falling}");
}
