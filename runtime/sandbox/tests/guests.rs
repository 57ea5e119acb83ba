//! The guests of this repository, compiled by real compilers, run to their ends.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, fs, fs::File, path::Path};

use common::{Bench, Ledger, Point, launch};
use hb_sandbox::{Control, Ended, Ending, Input, Launch, Prepared};
use hb_types::{
    capture::{ContentId, NodeKind},
    limits::Limits,
    outcome::{Outcome, TrapKind},
};

hb_guests::foreach_guest!();

fn launch_of(name: &str, arguments: &[&str]) -> Launch {
    let arguments = [name].iter().chain(arguments).map(|one| (*one).to_owned()).collect();
    Launch { arguments, ..launch() }
}

fn prepared(bench: &Bench, path: &Path) -> Prepared {
    bench.prepare(&fs::read(path).unwrap()).unwrap()
}

/// Runs to the end, in attempts of `saves` checkpoints each.
fn run(
    bench: &Bench,
    prepared: &Prepared,
    saves: Option<u64>,
    launch: impl Fn() -> Launch,
) -> (Ending, Ledger) {
    let mut ledger = Ledger::default();
    loop {
        ledger.new_attempt(saves);
        let ended =
            bench.sandbox.run(prepared, launch(), &mut ledger, &Control::default()).unwrap();
        if let Ended::Finished(ending) = ended {
            return (ending, ledger);
        }
    }
}

/// Everything that the seal of a job is made of: streams and files, by name.
fn products(end: &Point) -> BTreeMap<String, Vec<u8>> {
    let mut products = BTreeMap::from([
        ("stdout".to_owned(), end.bytes(ContentId::STDOUT)),
        ("stderr".to_owned(), end.bytes(ContentId::STDERR)),
    ]);
    for (name, node) in &end.names {
        let bytes = match node.kind {
            NodeKind::Directory => Vec::new(),
            NodeKind::File(id) => end.bytes(id),
        };
        products.insert(name.clone(), bytes);
    }
    products
}

/// The whole run, and equal ones that were stopped after each so many checkpoints.
fn same_in_pieces(
    path: &Path,
    pieces: &[u64],
    launch: impl Fn() -> Launch,
) -> BTreeMap<String, Vec<u8>> {
    let bench = Bench::new();
    let prepared = prepared(&bench, path);
    let (ending, ledger) = run(&bench, &prepared, None, &launch);
    assert_eq!(ending.outcome, Outcome::Success, "{:?}", ending.explanation);
    let whole = products(ledger.end());
    for saves in pieces {
        let (piecewise, ledger_of_pieces) = run(&bench, &prepared, Some(*saves), &launch);
        assert_eq!(piecewise.outcome, ending.outcome);
        let found = products(ledger_of_pieces.end());
        let names: Vec<_> = found.keys().collect();
        assert_eq!(names, whole.keys().collect::<Vec<_>>(), "{saves} saves an attempt");
        for (name, bytes) in &found {
            assert!(*bytes == whole[name], "{name} differs with {saves} saves an attempt");
        }
        assert_eq!(ledger_of_pieces.end().names, ledger.end().names, "time stamps");
        assert_eq!(piecewise.counters.clock_ns, ending.counters.clock_ns);
    }
    whole
}

#[test]
fn hello() {
    let bench = Bench::new();
    let prepared = prepared(&bench, hb_guests::HELLO.path());
    let (ending, ledger) = run(&bench, &prepared, None, || launch_of("hello", &["a", "b c"]));
    assert_eq!(ending.outcome, Outcome::Success);
    let expected = "hello from inside the sandbox\nargument 1: a\nargument 2: b c\n";
    assert_eq!(ledger.end().stdout(), expected);
}

#[test]
fn counter() {
    let path = hb_guests::COUNTER.path();
    let whole = same_in_pieces(path, &[1, 2, 3, 7], || launch_of("counter", &["--steps", "25"]));
    assert_eq!(whole["stdout"], whole["out/steps.txt"]);
    assert_eq!(whole["stdout"].split(|byte| *byte == b'\n').count(), 26);
}

#[test]
fn kmer() {
    let genome = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/lambda_virus.fa");
    let with_genome = || {
        let file = File::open(genome).unwrap();
        let len_bytes = file.metadata().unwrap().len();
        let inputs = vec![Input { name: "genome".to_owned(), file, len_bytes }];
        let arguments = ["-k", "21", "--buffer", "8192", "--fan-in", "3"];
        Launch { inputs, ..launch_of("kmer", &arguments) }
    };
    let whole = same_in_pieces(hb_guests::KMER.path(), &[1, 2], with_genome);
    assert_eq!(whole["out/histogram.txt"], b"1 48482\n");
    assert_eq!(whole["out/spectrum.txt"].split(|byte| *byte == b'\n').count(), 48_483);
}

#[test]
fn ginzburg_landau() {
    let arguments = ["--size", "32", "--steps", "40", "--c", "1.5"];
    let whole = same_in_pieces(hb_guests::GINZBURG_LANDAU.path(), &[1, 5], || {
        launch_of("ginzburg-landau", &arguments)
    });
    assert_eq!(whole["out/field.bin"].len(), 64 + 16 * 32 * 32);
    assert!(whole["out/phase.png"].starts_with(b"\x89PNG"));
}

#[test]
fn greedy() {
    let bench = Bench::new();
    let prepared = prepared(&bench, hb_guests::GREEDY.path());
    let ends = |arguments: &[&str]| {
        run(&bench, &prepared, None, || {
            let mut launch = launch_of("greedy", arguments);
            launch.limits = Limits {
                fuel: 100_000_000,
                memory_bytes: 32 << 20,
                stdout_bytes: 1 << 20,
                stderr_bytes: 1 << 20,
                checkpoint_bytes: 1 << 20,
                checkpoints: 50,
                ..Limits::default()
            };
            launch
        })
    };
    let trap = |trap| Outcome::Trap { trap }.canonical();
    for (command, expected) in [
        ("loop", "limit fuel".to_owned()),
        ("grow", "limit memory_bytes".to_owned()),
        ("flood-stdout", "limit stdout_bytes".to_owned()),
        ("flood-stderr", "limit stderr_bytes".to_owned()),
        ("flood-metrics", "limit fuel".to_owned()),
        ("flood-notes", "limit fuel".to_owned()),
        ("many-checkpoints", "limit checkpoints".to_owned()),
        ("recurse", trap(TrapKind::StackOverflow)),
        ("unreachable", trap(TrapKind::Unreachable)),
        ("panic", trap(TrapKind::Unreachable)),
        ("divide", trap(TrapKind::DivisionByZero)),
        ("overflow", trap(TrapKind::IntegerOverflow)),
        ("oob", trap(TrapKind::MemoryOutOfBounds)),
        ("table-oob", trap(TrapKind::TableOutOfBounds)),
        ("null-call", trap(TrapKind::IndirectCallToNull)),
        ("bad-signature", trap(TrapKind::BadSignature)),
        ("hostile-name", trap(TrapKind::Unreachable)),
        ("restore-twice", trap(TrapKind::ContractBroken)),
        ("falling-step", trap(TrapKind::ContractBroken)),
        ("long-metric", "exit 1".to_owned()),
        ("long-note", "exit 1".to_owned()),
        ("sleep 86400", "exit 0".to_owned()),
        ("exit 42", "exit 42".to_owned()),
        ("exit 0", "exit 0".to_owned()),
        ("std-exit 42", "exit 1".to_owned()),
        ("escape", "exit 0".to_owned()),
    ] {
        let arguments: Vec<_> = command.split(' ').collect();
        let (ending, ledger) = ends(&arguments);
        let stdout = String::from_utf8_lossy(&ledger.end().bytes(ContentId::STDOUT)).into_owned();
        assert_eq!(ending.outcome.canonical(), expected, "{command}: {ending:?}");
        assert!(!stdout.contains("ALLOWED"), "{stdout}");
        for line in ending.explanation.backtrace.iter().chain([&ending.explanation.message]) {
            assert!(!line.contains(|shown: char| shown.is_control()), "{command}: {line:?}");
        }
    }
    let (ending, _) = ends(&["panic"]);
    let backtrace = ending.explanation.backtrace.join("\n");
    assert!(backtrace.contains("greedy::traps::panic"), "{backtrace}");
    assert!(backtrace.contains("traps.rs:"), "{backtrace}");
    assert!(backtrace.contains("greedy::main"), "{backtrace}");
}

/// A C program, built for preview 1 by clang.
#[test]
fn sieve() {
    if hb_guests::SIEVE.is_skipped() {
        return;
    }
    let bench = Bench::new();
    let prepared = prepared(&bench, hb_guests::SIEVE.path());
    for code in [0, 42] {
        let code_text = code.to_string();
        let (ending, ledger) =
            run(&bench, &prepared, None, || launch_of("sieve", &["100", &code_text]));
        assert_eq!(ending.outcome.exit_code(), code, "{:?}", ending.explanation);
        assert_eq!(ledger.end().stdout(), "25 primes below 100\n");
        assert_eq!(products(ledger.end())["out/primes.txt"].split(|b| *b == b'\n').count(), 26);
    }
}

/// Debug information is read in this process when a guest traps, and nothing has checked it.
#[test]
fn damaged_debug_information_harms_nobody() {
    let bench = Bench::new();
    let whole = fs::read(hb_guests::GREEDY.path()).unwrap();
    let name = b".debug_info";
    let start = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let mut state = 7_u64;
    let mut ran = 0;
    for round in 0..10 {
        let mut damaged = whole.clone();
        for _ in 0..1 << round {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = start + 8 + usize::try_from(state >> 33).unwrap() % 100_000;
            damaged[at] ^= 1 << (state >> 61);
        }
        let Ok(prepared) = bench.prepare(&damaged) else { continue };
        let (ending, _) = run(&bench, &prepared, None, || launch_of("greedy", &["panic"]));
        assert_eq!(ending.outcome, Outcome::Trap { trap: TrapKind::Unreachable });
        ran += 1;
    }
    assert!(ran > 3, "only {ran} of the damaged components compiled");
}
