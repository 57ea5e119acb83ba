//! Guests made of calls: a core module that makes one call after another and compares what each
//! answers with what is expected.

use std::fmt::Write as _;

use hb_sandbox::Launch;
use hb_types::outcome::Outcome;

use crate::common::{Bench, Ledger};

/// All functions with their parameters: `i` for 32 bits, `I` for 64. Each gives an error number,
/// but `proc_exit`.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "iIi"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "iI"),
    ("fd_filestat_set_times", "iIIi"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiiIIii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// The type of a parameter.
pub fn wasm_type(letter: char) -> &'static str {
    match letter {
        'i' => "i32",
        'I' => "i64",
        other => panic!("no type {other}"),
    }
}

/// A module that imports everything. It exports one page of memory.
pub fn module(items: &str, body: &str) -> String {
    let mut source = "(module\n".to_owned();
    for (name, parameters) in FUNCTIONS {
        let parameters: Vec<&str> = parameters.chars().map(wasm_type).collect();
        let parameters = parameters.join(" ");
        writeln!(
            source,
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {parameters}) (result i32)))"#
        )
        .unwrap();
    }
    source.push_str(r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))"#);
    write!(source, r#"(memory (export "memory") 1) {items} (func (export "_start") {body}))"#)
        .unwrap();
    source
}

/// Bytes of memory, and calls with what they answer.
#[derive(Default)]
pub struct Script {
    data: String,
    steps: Vec<(String, u64)>,
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts bytes into the memory before the start.
    pub fn bytes(mut self, at: u32, bytes: &[u8]) -> Self {
        write!(self.data, "(data (i32.const {at}) \"").unwrap();
        for byte in bytes {
            write!(self.data, "\\{byte:02x}").unwrap();
        }
        self.data.push_str("\")\n");
        self
    }

    /// Puts numbers of 32 bits into the memory: a list of buffers, for example.
    pub fn words(self, at: u32, words: &[u32]) -> Self {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bytes(at, &bytes)
    }

    /// `fd_close 3` or `load32 100` (also `load8`, `load16`, `load64`), and the answer. Numbers
    /// may be negative.
    pub fn step(mut self, step: &str, answer: u64) -> Self {
        self.steps.push((step.to_owned(), answer));
        self
    }

    /// Many of them.
    pub fn steps(self, steps: &[(&str, u64)]) -> Self {
        steps.iter().fold(self, |script, (step, answer)| script.step(step, *answer))
    }

    fn source(&self) -> String {
        let mut body = String::new();
        for (number, (step, answer)) in self.steps.iter().enumerate() {
            let mut words = step.split(' ');
            let name = words.next().unwrap();
            let (call, letter) = match name {
                "load8" => (format!("i32.load8_u (i32.const {})", words.next().unwrap()), 'i'),
                "load16" => (format!("i32.load16_u (i32.const {})", words.next().unwrap()), 'i'),
                "load32" => (format!("i32.load (i32.const {})", words.next().unwrap()), 'i'),
                "load64" => (format!("i64.load (i32.const {})", words.next().unwrap()), 'I'),
                name => {
                    let (_, parameters) =
                        FUNCTIONS.iter().find(|(known, _)| *known == name).expect(step);
                    let arguments: Vec<String> = parameters
                        .chars()
                        .map(|letter| {
                            format!("({}.const {})", wasm_type(letter), words.next().expect(step))
                        })
                        .collect();
                    (format!("call ${name} {}", arguments.join(" ")), 'i')
                }
            };
            assert_eq!(words.next(), None, "{step}");
            let ty = wasm_type(letter);
            let code = number + 1;
            writeln!(
                body,
                "(if ({ty}.ne ({call}) ({ty}.const {answer})) (then (call $exit (i32.const {code}))))"
            )
            .unwrap();
        }
        module(&self.data, &body)
    }

    /// Runs the script, all of whose steps must answer as expected.
    pub fn run(&self, bench: &Bench, launch: Launch) -> Ledger {
        assert!(self.steps.len() < 256, "the exit code names the step");
        let (ending, ledger) = bench.end_with(&self.source(), launch);
        if let Outcome::Exit { code } = ending.outcome {
            let (step, answer) = &self.steps[usize::from(code) - 1];
            panic!("{step:?} does not answer {answer} (step {code})");
        }
        assert_eq!(ending.outcome, Outcome::Success, "{:?}", ending.explanation);
        ledger
    }

    /// Runs the script to an end of which only the outcome is of interest.
    pub fn outcome(&self, bench: &Bench, launch: Launch) -> (Outcome, Ledger) {
        let (ending, ledger) = bench.end_with(&self.source(), launch);
        (ending.outcome, ledger)
    }
}
