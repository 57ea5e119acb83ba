//! Each guest is what it is said to be, and documented.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

/// The first eight bytes of a component and of a module.
const COMPONENT: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const MODULE: [u8; 8] = *b"\0asm\x01\0\0\0";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn is_a_component(path: &Path, imported: &[&str], not_imported: &[&str]) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes[..8], COMPONENT);
    for name in imported {
        assert!(holds(&bytes, name), "{} does not import {name}", path.display());
    }
    for name in not_imported {
        assert!(!holds(&bytes, name), "{} imports {name}", path.display());
    }
    let root = root().to_str().unwrap();
    assert!(!holds(&bytes, root), "{} names a path of this machine", path.display());
}

const CHECKPOINT: &str = "hackbrain:job/checkpoint@0.1.0";
const PROGRESS: &str = "hackbrain:job/progress@0.1.0";
const PROCESS: &str = "hackbrain:job/process@0.1.0";

#[test]
fn hello() {
    is_a_component(hb_guests::HELLO.path(), &["wasi:cli/run@"], &["hackbrain:job"]);
}

#[test]
fn kmer() {
    is_a_component(hb_guests::KMER.path(), &[CHECKPOINT, PROGRESS], &[]);
}

#[test]
fn ginzburg_landau() {
    is_a_component(hb_guests::GINZBURG_LANDAU.path(), &[CHECKPOINT, PROGRESS], &[]);
}

#[test]
fn counter() {
    is_a_component(hb_guests::COUNTER.path(), &[CHECKPOINT, PROGRESS], &[]);
}

#[test]
fn greedy() {
    is_a_component(hb_guests::GREEDY.path(), &[CHECKPOINT, PROGRESS, PROCESS], &[]);
}

#[test]
fn sieve() {
    if !hb_guests::SIEVE.is_skipped() {
        let bytes = fs::read(hb_guests::SIEVE.path()).unwrap();
        assert_eq!(bytes[..8], MODULE);
        assert!(holds(&bytes, "wasi_snapshot_preview1") && holds(&bytes, "proc_exit"));
    }
}

hb_guests::foreach_guest!();

#[test]
fn each_guest_has_its_section_in_the_documentation() {
    let page = fs::read_to_string(root().join("docs/guests.md")).unwrap();
    for guest in hb_guests::ALL {
        let heading = format!("\n## `{}`", guest.name);
        assert!(page.contains(&heading), "docs/guests.md has no section for {guest:?}");
    }
}

#[test]
fn the_example_in_the_documentation_is_the_one_that_compiles() {
    let page = fs::read_to_string(root().join("docs/guests.md")).unwrap();
    let example = fs::read_to_string(root().join("guests/sdk/examples/loop.rs")).unwrap();
    let program = example.split_once("\n\n").unwrap().1;
    assert!(page.contains(program), "docs/guests.md quotes another example");
}
