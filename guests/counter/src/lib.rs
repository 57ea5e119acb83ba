//! The experiment: a line and a checkpoint at each step.
//!
//! Owns the loop. It prints through a callback, so that a test can read what was printed. It
//! saves at each step without asking, which makes every step a place where a crash could show.

use std::{
    fs::{self, OpenOptions},
    hint::black_box,
    io::{self, Write},
    path::Path,
};

use hackbrain::Host;

/// Multiplications in one unit of work; a unit takes one or two milliseconds.
const UNIT: u64 = 1 << 19;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Steps to do.
    pub steps: u64,
    /// Units of work in each step.
    pub work: u64,
}

/// Runs from the newest checkpoint, or from the beginning, to the last step.
pub fn run(
    host: &mut impl Host,
    job: &Path,
    out: &Path,
    settings: Settings,
    mut print: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    let (mut step, mut mixed) = match host.restore() {
        Some(snapshot) => decode(&snapshot.state)?,
        None => (0, 0),
    };
    // The answer means nothing here; the call tells the host that all is rebuilt.
    host.due(step);
    while step < settings.steps {
        step += 1;
        mixed = mix(mixed ^ step, settings.work);
        let line = format!("step {step}\n");
        print(&line)?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(out.join("steps.txt"))?
            .write_all(line.as_bytes())?;
        fs::write(job.join("last"), format!("{step} {mixed:016x}\n"))?;
        host.metric("step", f64::from(u32::try_from(step).unwrap_or(u32::MAX)));
        host.report(step, Some(settings.steps));
        host.save(step, &encode(step, mixed));
    }
    Ok(())
}

/// A chain of multiplications that no compiler can shorten (Steele, Lea and Flood's mixer).
fn mix(from: u64, units: u64) -> u64 {
    let mut mixed = from;
    for _ in 0..units.saturating_mul(UNIT) {
        mixed = black_box((mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb));
    }
    mixed
}

fn encode(step: u64, mixed: u64) -> [u8; 16] {
    let mut state = [0; 16];
    state[..8].copy_from_slice(&step.to_le_bytes());
    state[8..].copy_from_slice(&mixed.to_le_bytes());
    state
}

fn decode(state: &[u8]) -> io::Result<(u64, u64)> {
    match state.as_chunks::<8>() {
        ([step, mixed], []) => Ok((u64::from_le_bytes(*step), u64::from_le_bytes(*mixed))),
        _ => Err(io::Error::other(format!(
            "the checkpoint has {} bytes, but a state of counter has 16",
            state.len()
        ))),
    }
}
