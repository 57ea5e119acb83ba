//! The complex Ginzburg-Landau equation in two dimensions; the command line of it.
//!
//! Artifacts `field.bin`, `metrics.csv` and `phase.png`. See `docs/guests.md`.

use std::{path::Path, process::ExitCode};

use ginzburg_landau::{Settings, field::Parameters, run};
use hackbrain::{FlagError, Flags, Live};

const FLAGS: [&str; 8] =
    ["--size", "--length", "--steps", "--dt", "--b", "--c", "--seed", "--every"];

fn main() -> ExitCode {
    let ended = settings().and_then(|settings| {
        run(&mut Live, Path::new("/out"), &settings).map_err(|error| error.to_string())
    });
    match ended {
        Ok(measures) => {
            println!("energy {}", measures.energy);
            println!("phase coherence {}", measures.phase_coherence);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("ginzburg-landau: {message}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Result<Settings, String> {
    let flags = Flags::parse(std::env::args().skip(1), &FLAGS).map_err(|e| e.to_string())?;
    if let Some(extra) = flags.rest.first() {
        return Err(format!("{extra:?} is not understood: the flags are {}", FLAGS.join(", ")));
    }
    read(&flags).map_err(|error| error.to_string())
}

fn read(flags: &Flags) -> Result<Settings, FlagError> {
    let default = Settings::default();
    let size = flags.get("--size", default.parameters.size, "a power of two")?;
    // Unless it is given, points lie at distance one.
    let length = flags.get("--length", ginzburg_landau::fft::ratio(size, 1), "a number")?;
    Ok(Settings {
        parameters: Parameters {
            size,
            length,
            dt: flags.get("--dt", default.parameters.dt, "a number")?,
            b: flags.get("--b", default.parameters.b, "a number")?,
            c: flags.get("--c", default.parameters.c, "a number")?,
            seed: flags.get("--seed", default.parameters.seed, "a whole number")?,
        },
        steps: flags.get("--steps", default.steps, "a number of steps")?,
        every: flags.get("--every", default.every, "a number of steps")?,
    })
}
