//! Compiled code is kept, verified, and made again where it is damaged.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{fs, path::PathBuf};

use common::{Bench, Ledger, launch, options, program::program};
use hb_sandbox::{Compiler, Control, Ended, Sandbox, SandboxOptions};
use hb_types::{Digest, job::EXECUTION_SEMANTICS, limits::Limits, outcome::Outcome};

fn files(bench: &Bench) -> Vec<PathBuf> {
    let entries = fs::read_dir(bench.directory.path().join("cache")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The same cache with a compiler that cannot work.
fn without_compiler(bench: &Bench) -> Sandbox {
    let compiler = Compiler { program: "/bin/false".into(), arguments: Vec::new() };
    let cache_dir = bench.directory.path().join("cache");
    Sandbox::open(SandboxOptions { cache_dir, compiler }).unwrap()
}

#[test]
fn a_component_is_compiled_once_for_all_sandboxes_on_a_cache() {
    let bench = Bench::new();
    let source = program("", "(call $exit (i32.const 9))").into_bytes();
    let binary = bench.sandbox.to_binary(source, &Limits::default()).unwrap();
    bench.prepare(&binary).unwrap();
    assert_eq!(files(&bench).len(), 1, "no temporary file is left");

    let other = without_compiler(&bench);
    let prepared = other.prepare(&binary, Digest::of(&binary), &Limits::default()).unwrap();
    let mut ledger = Ledger::default();
    let ended = other.run(&prepared, launch(), &mut ledger, &Control::default()).unwrap();
    let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
    assert_eq!(ending.outcome, Outcome::Exit { code: 9 });
}

#[test]
fn damaged_code_is_never_loaded_and_made_again() {
    let bench = Bench::new();
    let source = program("", "(call $exit (i32.const 9))").into_bytes();
    let binary = bench.sandbox.to_binary(source, &Limits::default()).unwrap();
    bench.prepare(&binary).unwrap();
    let [path] = &files(&bench)[..] else { panic!("one file") };
    let whole = fs::read(path).unwrap();
    let damages: [Vec<u8>; 4] = [
        Vec::new(),
        whole[..whole.len() - 1].to_vec(),
        {
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 0x10;
            flipped
        },
        // Whole by its digest, but no code of this engine.
        [&Digest::of(b"not code").0[..], b"not code"].concat(),
    ];
    for damaged in damages {
        fs::write(path, &damaged).unwrap();
        let broken = without_compiler(&bench);
        let refused = broken.prepare(&binary, Digest::of(&binary), &Limits::default());
        assert!(refused.is_err(), "it must not come from the cache");
        let fresh = Sandbox::open(options(bench.directory.path().join("cache"))).unwrap();
        fresh.prepare(&binary, Digest::of(&binary), &Limits::default()).unwrap();
        let repaired = fs::read(path).unwrap();
        assert_eq!(repaired[..32], Digest::of(&repaired[32..]).0);
    }
}

#[test]
fn the_version_that_code_is_bound_to_is_the_version_that_is_built_in() {
    let lock = include_str!("../../../Cargo.lock");
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains("name = \"wasmtime\"\n"))
        .and_then(|package| package.split("version = \"").nth(1))
        .and_then(|rest| rest.split('"').next())
        .unwrap();
    let expected = format!("hackbrain-{EXECUTION_SEMANTICS}/wasmtime-{version}");
    assert_eq!(hb_sandbox::ENGINE_VERSION, expected);
    // Another major version counts fuel anew, so it needs another version of the semantics.
    assert_eq!((EXECUTION_SEMANTICS, version.split('.').next()), (1, Some("48")));
}
