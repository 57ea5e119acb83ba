//! A ledger that lost something says so: never a healthy answer, never a silent loss.

use std::{fs, path::PathBuf};

use crate::{
    guests::guest,
    support::{Ran, World},
};

/// A ledger with one sealed job, and the path of its only used segment.
fn sealed() -> (World, PathBuf) {
    let world = World::new();
    world.run(["run", "--job-id", "c", &guest("counter"), "--", "--steps", "50"]).ok();
    world.run(["ledger", "check"]).ok();
    let mut segments: Vec<PathBuf> = fs::read_dir(world.data().join("wal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    segments.sort();
    let first = segments.swap_remove(0);
    (world, first)
}

/// Demands that the damage is refused by a run and told by a check, each with what to do.
#[track_caller]
fn refused(world: &World) -> Ran {
    let hello = guest("hello");
    world.run(["run", &hello]).exits(125).complains(&["hb ledger"]);
    let check = world.run(["ledger", "check"]).exits(1);
    assert!(check.text().contains("damaged"), "{}", check.text());
    check
}

fn last_good(check: &Ran) -> String {
    let text = check.text();
    let end = text.lines().last().unwrap().to_owned();
    let after = end.split("records up to ").nth(1).unwrap();
    after.split(',').next().unwrap().to_owned()
}

#[test]
fn a_flipped_bit_is_refused_with_its_place_and_a_person_may_give_up_what_follows() {
    let (world, segment) = sealed();
    let mut bytes = fs::read(&segment).unwrap();
    // Inside the frames: the first block is the header.
    let place = 4096 * 9 + 700;
    bytes[place] ^= 0x10;
    fs::write(&segment, &bytes).unwrap();
    let check = refused(&world);
    assert!(check.text().contains("at byte"), "{}", check.text());
    let to = last_good(&check);
    let repaired = world.run(["ledger", "repair", "--to", &to]).ok();
    assert!(repaired.text().contains(&format!("up to record {to}")), "{}", repaired.text());
    world.run(["ledger", "check"]).ok();
    // The job goes on from the checkpoint that is left, to the same result.
    let expected = {
        let (other, _) = sealed();
        other.result("c")
    };
    world.run(["run", "--job-id", "c", &guest("counter"), "--", "--steps", "50"]).ok();
    assert_eq!(world.result("c"), expected);
}

#[test]
fn a_log_that_lost_its_tail_is_noticed_and_the_missing_range_named() {
    // Cut off at a block boundary.
    let (world, segment) = sealed();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(4096 * 20).unwrap();
    refused(&world);

    // The last frames put back to zeros, as if they had never been written.
    let (world, segment) = sealed();
    let mut bytes = fs::read(&segment).unwrap();
    let end = bytes.len() - 4096;
    bytes[4096 * 12..end].fill(0);
    fs::write(&segment, &bytes).unwrap();
    let check = refused(&world);
    assert!(check.text().contains("LSN"), "{}", check.text());

    // An older copy of the whole log put in its place.
    let (world, _) = sealed();
    let copy = world.path("copy");
    copy_dir(&world.data().join("wal"), &copy);
    world.run(["run", &guest("hello")]).ok();
    fs::remove_dir_all(world.data().join("wal")).unwrap();
    copy_dir(&copy, &world.data().join("wal"));
    let check = refused(&world);
    assert!(check.text().contains("LSN"), "{}", check.text());
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_stray_file_is_no_reason_to_give_up_records_that_verify() {
    let (world, _) = sealed();
    let stray = world.data().join("wal/000009.seg");
    fs::write(&stray, b"").unwrap();
    let hello = guest("hello");
    let ran = world.run(["run", &hello]).exits(125);
    ran.complains(&["000009", "hb ledger check"]);
    assert!(!ran.stderr.contains("--to 0"), "{}", ran.stderr);
    let check = world.run(["ledger", "check"]).exits(1).text();
    assert!(check.contains("--to 5") && !check.contains("--to 0"), "{check}");
    fs::remove_file(&stray).unwrap();
    world.run(["ledger", "check"]).ok();
    world.run(["verify", "c"]).ok();
}

#[test]
fn blobs_of_records_that_were_given_up_are_kept_with_them() {
    let (world, _) = sealed();
    let count = || world.run(["ledger", "stats", "--json"]).ok().json()["blobs"].as_u64().unwrap();
    world.run(["run", "--job-id", "h", &guest("hello")]).ok();
    let (before, last) = (count(), world.show("h")["job_number"].as_u64().unwrap() - 1);
    world.run(["ledger", "repair", "--to", &last.to_string()]).ok();
    world.run(["show", "h"]).exits(127).complains(&["h"]);
    world.run(["run", &guest("counter"), "--", "--steps", "1"]).ok();
    assert_eq!(count(), before, "the component of the job that was given up is still there");
}

#[test]
fn a_missing_blob_is_named() {
    let (world, _) = sealed();
    let digest = world.show("c")["spec"]["component"]["digest"].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    let mut dirs = vec![world.data().join("blob")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    for blob in found {
        fs::remove_file(blob).unwrap();
    }
    let check = world.run(["ledger", "check"]).exits(1);
    assert!(check.text().contains(&digest), "{}", check.text());
}

#[test]
fn figures_are_told() {
    let (world, _) = sealed();
    let stats = world.run(["ledger", "stats", "--json"]).ok().json();
    assert_eq!(stats["jobs"]["SEALED"], 1);
    assert_eq!(stats["checkpoints"], 50);
    assert!(stats["log"]["records"].as_u64().unwrap() >= 54, "{stats}");
    assert!(world.run(["ledger", "stats"]).ok().text().contains("SEALED"));
}
