//! Files as real programs see them: a guest in Rust, through preview 2 and through preview 1.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{Bench, Ledger, Point, launch, launch_with};
use hb_sandbox::{Control, Ended, Ending, HostFault, Input, Saved, Session, Stream};
use hb_types::{
    capture::{Capture, NodeKind, Progress, Restored},
    limits::Limits,
    outcome::Outcome,
};

const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

/// Compiles a guest; a guest without its target does not pass for a tested one.
fn build(name: &str, target: &str, directory: &Path) -> Vec<u8> {
    let guests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let source = guests.join(format!("{name}.rs"));
    let output = directory.join(format!("{name}.wasm"));
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(compiler)
        .args(["--edition", "2024", "-O", "--target", target, "-o"])
        .args([&output, &source])
        .status()
        .unwrap();
    assert!(status.success(), "the guest was not compiled for {target}");
    std::fs::read(output).unwrap()
}

/// Runs the guest to its end and gives what it printed.
fn run(target: &str, arguments: &[&str], change: impl Fn(&mut Limits)) -> (String, Ledger) {
    let bench = Bench::new();
    let prepared = bench.prepare(&build("files", target, bench.directory.path())).unwrap();
    let mut launch = launch_with(change);
    launch.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let mut genome = tempfile::tempfile().unwrap();
    genome.write_all(b"ACGT").unwrap();
    launch.inputs = vec![Input { name: "genome".to_owned(), file: genome, len_bytes: 4 }];
    let mut ledger = Ledger::default();
    let ended = bench.sandbox.run(&prepared, launch, &mut ledger, &Control::default()).unwrap();
    let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
    let printed = ledger.end().stdout();
    assert_eq!(ending.outcome, Outcome::Success, "{printed}\n{:?}", ending.explanation);
    (printed, ledger)
}

#[test]
fn a_program_finds_the_files_that_posix_promises() {
    let expected = include_str!("guests/files.expected");
    for target in TARGETS {
        let (printed, ledger) = run(target, &["tour"], |_| {});
        assert_eq!(printed, expected, "{target}");
        let point = ledger.end();
        let names: Vec<&str> = point.names.keys().map(String::as_str).collect();
        let left =
            ["job/a", "job/full", "job/full/x", "job/h", "job/t", "out/c", "out/genome", "out/n"];
        assert_eq!(names, left);
        let NodeKind::File(genome) = point.names["out/genome"].kind else { panic!("a file") };
        assert_eq!(point.bytes(genome), b"ACGT");
    }
}

#[test]
fn quotas_are_errors_that_a_program_can_handle() {
    for target in TARGETS {
        let small = |limits: &mut Limits| {
            limits.files_bytes = 100_500;
            limits.files = 20;
        };
        let (printed, ledger) = run(target, &["fill"], small);
        // The C library of preview 2 makes one error of everything that a stream refuses.
        let full = match target {
            "wasm32-wasip2" => "I/O error (os error 29)",
            _ => "No space left on device (os error 51)",
        };
        let expected = format!(
            "written 100000, then {full}\nlength 100000\nmade 20, then Quota exceeded (os error 19)\n"
        );
        assert_eq!(printed, expected, "{target}");
        assert_eq!(ledger.end().names.len(), 20);
    }
}

#[test]
fn too_many_open_files_are_refused_and_closing_one_helps() {
    for target in TARGETS {
        let (printed, _) = run(target, &["open"], |limits| limits.open_files = 10);
        // Three are the directories that it was given.
        assert_eq!(
            printed, "open 7, then Quota exceeded (os error 19)\nagain: \"x\"\n",
            "{target}"
        );
    }
}

#[test]
fn two_runs_leave_the_same_bytes_names_times_and_counters() {
    for target in TARGETS {
        let (_, first) = run(target, &["tour"], |_| {});
        let (_, second) = run(target, &["tour"], |_| {});
        assert_eq!(first.end(), second.end(), "{target}");
    }
}

/// A ledger whose attempt is cut off in the middle of a step, at the given write to the output.
struct Cut<'a> {
    ledger: &'a mut Ledger,
    writes_left: u64,
    cancel: Arc<AtomicBool>,
}

impl Session for Cut<'_> {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        self.ledger.restore()
    }

    fn due(&mut self, step: u64) -> bool {
        self.ledger.due(step)
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        self.ledger.save(capture)
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.ledger.output(stream, bytes);
        self.writes_left = self.writes_left.saturating_sub(1);
        if self.writes_left == 0 {
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.ledger.progress(progress);
    }

    fn finish(&mut self, ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault> {
        if ending.outcome == Outcome::Cancelled {
            return Ok(());
        }
        self.ledger.finish(ending, capture)
    }
}

/// Fuel is left out: a program that starts again from its state allocates in another order.
fn without_fuel(point: &Point) -> Point {
    let mut point = point.clone();
    point.counters.fuel_used = 0;
    point
}

#[test]
fn an_attempt_that_is_cut_off_leaves_no_trace_in_any_later_checkpoint() {
    let bench = Bench::new();
    let guest = build("steps", "wasm32-wasip1", bench.directory.path());
    let prepared = bench.prepare(&guest).unwrap();
    let mut undisturbed = Ledger::default();
    let ended =
        bench.sandbox.run(&prepared, launch(), &mut undisturbed, &Control::default()).unwrap();
    let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
    assert_eq!(ending.outcome, Outcome::Success, "{:?}", ending.explanation);
    assert_eq!(undisturbed.points.len(), 16);

    // Attempts of different lengths, each cut off between two writes of some step.
    for first in [1, 3, 10] {
        let mut disturbed = Ledger::default();
        let (mut attempts, mut writes_left) = (0, first);
        while disturbed.finished.is_none() {
            disturbed.new_attempt(None);
            let control = Control::default();
            let cancel = Arc::clone(&control.cancel);
            let mut session = Cut { ledger: &mut disturbed, writes_left, cancel };
            bench.sandbox.run(&prepared, launch(), &mut session, &control).unwrap();
            attempts += 1;
            writes_left += 7;
            assert!(attempts < 100, "every attempt gets further than the one before");
        }
        assert!(attempts > 3, "it was cut off {attempts} times");
        assert_eq!(disturbed.points.len(), undisturbed.points.len());
        for (found, expected) in disturbed.points.iter().zip(&undisturbed.points) {
            assert_eq!(without_fuel(found), without_fuel(expected), "checkpoint {}", found.step);
        }
        assert_eq!(without_fuel(disturbed.end()), without_fuel(undisturbed.end()));
    }
}
