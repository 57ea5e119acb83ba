//! What simulated guests do, and what must come of it.
//!
//! Owns: programs as arguments of a job, one step of one, and the undisturbed run, computed without
//! host, log or checkpoints: what every disturbed history is compared with.
//!
//! Invariant: a step follows from the program, the number of the step and what went before, and from
//! nothing else.

use std::collections::BTreeMap;

use hb_types::{
    Digest,
    job::{EXECUTION_SEMANTICS, JobSpec},
    limits::{Limit, LimitReached},
    outcome::{Outcome, TrapKind},
};

use crate::draw::Draw;

/// The bytes that stand for a component.
pub const COMPONENT: &[u8] = b"\0asm of a simulated program";

/// Fuel of one step.
pub const STEP_FUEL: u64 = 10;

/// How a program ends when its steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With success.
    Success,
    /// With an exit code.
    Exit(u8),
    /// With a trap.
    Trap,
    /// It uses its fuel up.
    Fuel,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Steps that it takes.
    pub steps: u64,
    /// Bytes that it prints at each step.
    pub line_bytes: u64,
    /// Bytes of the state that it saves.
    pub state_bytes: u64,
    /// Whether it asks for its checkpoint.
    pub restores: bool,
    /// Whether it writes files.
    pub files: bool,
    /// How it ends.
    pub end: End,
}

impl Program {
    /// Some program.
    pub fn drawn(draw: &mut Draw) -> Self {
        let ends = [End::Success, End::Success, End::Success, End::Exit(3), End::Trap, End::Fuel];
        Self {
            steps: draw.between(1, 8),
            line_bytes: *draw.pick(&[0, 9, 40, 700, 9_000]),
            state_bytes: *draw.pick(&[0, 16, 300, 5_000, 70_000]),
            restores: draw.chance(7, 8),
            files: draw.chance(1, 2),
            end: *draw.pick(&ends),
        }
    }

    /// As the arguments of a job.
    pub fn to_arguments(&self) -> Vec<String> {
        let end = match self.end {
            End::Success => "success".to_owned(),
            End::Exit(code) => code.to_string(),
            End::Trap => "trap".to_owned(),
            End::Fuel => "fuel".to_owned(),
        };
        let numbers = [self.steps, self.line_bytes, self.state_bytes];
        let flags = [self.restores, self.files].map(|flag| flag.to_string());
        let numbers = numbers.map(|number| number.to_string());
        ["program".to_owned()].into_iter().chain(numbers).chain(flags).chain([end]).collect()
    }

    /// The program behind arguments; `None` where they are of none.
    pub fn of_arguments(arguments: &[String]) -> Option<Self> {
        let [_, steps, line_bytes, state_bytes, restores, files, end] = arguments else {
            return None;
        };
        Some(Self {
            steps: steps.parse().ok()?,
            line_bytes: line_bytes.parse().ok()?,
            state_bytes: state_bytes.parse().ok()?,
            restores: restores.parse().ok()?,
            files: files.parse().ok()?,
            end: match end.as_str() {
                "success" => End::Success,
                "trap" => End::Trap,
                "fuel" => End::Fuel,
                code => End::Exit(code.parse().ok()?),
            },
        })
    }

    /// What it ends as.
    pub fn outcome(&self, fuel: u64) -> Outcome {
        match self.end {
            End::Success => Outcome::Success,
            End::Exit(code) => Outcome::Exit { code },
            End::Trap => Outcome::Trap { trap: TrapKind::Unreachable },
            End::Fuel => Outcome::Limit {
                reached: LimitReached { limit: Limit::Fuel, value: fuel, wanted: 0 },
            },
        }
    }

    /// The state that is saved.
    pub fn state(&self, memory: &Memory) -> Vec<u8> {
        let mut bytes = [memory.number.to_le_bytes(), memory.step.to_le_bytes()].concat();
        bytes.extend(filler(memory.number, self.state_bytes));
        bytes
    }

    /// Takes a step.
    pub fn step(&self, memory: &mut Memory) -> Made {
        memory.step += 1;
        memory.number = Draw::new(memory.number ^ memory.step).any();
        let (number, step) = (memory.number, memory.step);
        let mut line = format!("step {step} is {number:x}\n").into_bytes();
        line.extend(filler(number, self.line_bytes));
        let remark = step.is_multiple_of(3).then(|| format!("at {step}\n").into_bytes());
        let file = self.files.then(|| {
            let name = if step.is_multiple_of(4) { "late" } else { "result" };
            (name, filler(!number, 20 + number % 50).collect())
        });
        Made { line, remark, file }
    }
}

/// What a program keeps between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The last step that was taken.
    pub step: u64,
    /// What came of all steps.
    pub number: u64,
}

impl Memory {
    /// Before the first step.
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        let number = seed.first_chunk().expect("a seed has 32 bytes");
        Self { step: 0, number: u64::from_le_bytes(*number) }
    }

    /// Out of a state; `None` where it is none.
    pub fn of_state(state: &[u8]) -> Option<Self> {
        let (number, rest) = state.split_first_chunk()?;
        let step = rest.first_chunk()?;
        Some(Self { step: u64::from_le_bytes(*step), number: u64::from_le_bytes(*number) })
    }
}

/// What a program prints before it asks for its checkpoint.
pub const GREETING: &[u8] = b"a program begins\n";

/// What a step does.
pub struct Made {
    /// Printed.
    pub line: Vec<u8>,
    /// Printed as an error.
    pub remark: Option<Vec<u8>>,
    /// Appended to a file below `/out`.
    pub file: Option<(&'static str, Vec<u8>)>,
}

fn filler(number: u64, len: u64) -> impl Iterator<Item = u8> {
    let mut draw = Draw::new(number);
    (0..len.div_ceil(8)).flat_map(move |_| draw.any().to_le_bytes()).take(capacity(len))
}

fn capacity(len: u64) -> usize {
    usize::try_from(len).expect("a simulated length is small")
}

/// What an undisturbed run leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undisturbed {
    /// How it ends.
    pub outcome: Outcome,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it remarked.
    pub stderr: Vec<u8>,
    /// What it left below `/out`.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Undisturbed {
    /// Of a job. `before` are the jobs behind it, the first one first, each with the step up to which
    /// it counts.
    pub fn of(spec: &JobSpec, before: &[(JobSpec, u64)]) -> Self {
        let first = before.first().map_or(spec, |(first, _)| first);
        let mut memory = Memory::of_seed(&first.seed_bytes());
        let mut left = Self {
            outcome: Outcome::Success,
            stdout: GREETING.to_vec(),
            stderr: Vec::new(),
            files: BTreeMap::new(),
        };
        for (spec, up_to) in before {
            let program = Program::of_arguments(&spec.arguments).expect("a program of ours");
            left.take_steps(&program, &mut memory, *up_to);
        }
        let program = Program::of_arguments(&spec.arguments).expect("a program of ours");
        left.take_steps(&program, &mut memory, program.steps);
        left.outcome = program.outcome(spec.limits.fuel);
        left
    }

    fn take_steps(&mut self, program: &Program, memory: &mut Memory, up_to: u64) {
        while memory.step < up_to {
            let made = program.step(memory);
            self.stdout.extend(made.line);
            self.stderr.extend(made.remark.unwrap_or_default());
            if let Some((name, bytes)) = made.file {
                self.files.entry(name.to_owned()).or_default().extend(bytes);
            }
        }
    }

    /// The seal that its job must have.
    pub fn seal(&self, job_hash: Digest) -> Digest {
        let files = self.files.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes)));
        hb_seal::seal_digest(
            job_hash,
            &self.outcome.canonical(),
            Digest::of(&self.stdout),
            Digest::of(&self.stderr),
            &files.collect(),
            EXECUTION_SEMANTICS,
        )
    }
}
