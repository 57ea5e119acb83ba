//! The experiment: a line and a checkpoint at each step; the command line of it.
//!
//! Artifact `steps.txt`. See `docs/guests.md`.

use std::{
    io::{Write, stdout},
    path::Path,
    process::ExitCode,
};

use counter::{Settings, run};
use hackbrain::{FlagError, Flags, Live};

fn main() -> ExitCode {
    let ended = settings().and_then(|settings| {
        let print = |line: &str| stdout().write_all(line.as_bytes());
        run(&mut Live, Path::new("/job"), Path::new("/out"), settings, print)
            .map_err(|error| error.to_string())
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("counter: {message}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<Settings, String> {
    let read = || -> Result<_, FlagError> {
        let flags = Flags::parse(std::env::args().skip(1), &["--steps", "--work"])?;
        let steps = flags.get("--steps", 100, "a number of steps")?;
        let work = flags.get("--work", 0, "a number of units of work")?;
        Ok((Settings { steps, work }, flags.rest))
    };
    match read() {
        Ok((settings, rest)) if rest.is_empty() => Ok(settings),
        Ok((_, rest)) => {
            Err(format!("{:?} is not understood: the flags are --steps, --work", rest[0]))
        }
        Err(error) => Err(error.to_string()),
    }
}
