//! The complex Ginzburg-Landau equation in two dimensions, as a job.
//!
//! Owns the loop: steps, checkpoints, measures and artifacts. The physics is in [`field`]. A
//! checkpoint's state has the layout of the artifact `field.bin`; the table of measures grows in
//! `/out` and is rolled back by the host. What is computed depends on the arguments alone.

pub mod bytes;
pub mod complex;
pub mod fft;
pub mod field;
pub mod picture;
pub mod random;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use hackbrain::Host;

use crate::{
    bytes::BytesError,
    field::{Field, Measures, Parameters},
};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What determines the field.
    pub parameters: Parameters,
    /// Steps to do.
    pub steps: u64,
    /// Steps from one row of measures to the next.
    pub every: u64,
}

impl Default for Settings {
    /// Spirals that freeze: with these b and c waves are stable, and vortices send them out.
    fn default() -> Self {
        let parameters = Parameters { size: 128, length: 128.0, dt: 0.1, b: 0.0, c: 1.0, seed: 1 };
        Self { parameters, steps: 1000, every: 10 }
    }
}

/// Why the job ends without a field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that no field can have.
    #[error("{flag} is {found}, but must be {expected}")]
    BadSetting {
        /// The flag.
        flag: &'static str,
        /// What was asked for.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The checkpoint is not this job's.
    #[error("the checkpoint cannot be used: {0}")]
    State(#[from] BytesError),
    /// An artifact cannot be written.
    #[error("cannot write {path}: {source}")]
    Files {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

impl Settings {
    /// Refuses what cannot be computed.
    pub fn check(&self) -> Result<(), Error> {
        let Parameters { size, length, dt, b, c, .. } = self.parameters;
        let refuse = |flag, found: &dyn ToString, expected| {
            Err(Error::BadSetting { flag, found: found.to_string(), expected })
        };
        if !size.is_power_of_two() || !(2..=2048).contains(&size) {
            return refuse("--size", &size, "a power of two from 2 to 2048");
        }
        if !(length.is_finite() && length > 0.0) {
            return refuse("--length", &length, "a positive number");
        }
        if !(dt > 0.0 && dt <= 1.0) {
            return refuse("--dt", &dt, "a number above 0 and at most 1");
        }
        for (flag, value) in [("--b", b), ("--c", c)] {
            if !value.is_finite() {
                return refuse(flag, &value, "a finite number");
            }
        }
        if self.every == 0 {
            return refuse("--every", &self.every, "a number of steps of at least 1");
        }
        Ok(())
    }
}

/// Runs the job from the newest checkpoint, or from the beginning, to its end; the artifacts go
/// to `out`.
pub fn run(host: &mut impl Host, out: &Path, settings: &Settings) -> Result<Measures, Error> {
    // First of all: it puts the files back.
    let restored = host.restore();
    settings.check()?;
    let (mut field, mut done) = match restored {
        Some(snapshot) => bytes::decode(&snapshot.state, settings.parameters)?,
        None => (Field::noise(settings.parameters), 0),
    };
    let mut table: Option<Table> = None;
    loop {
        // At the loop's top, so that the first call after a restart names the restored step.
        if host.due(done) {
            host.save(done, &bytes::encode(&field, done));
        }
        let table = match &mut table {
            Some(table) => table,
            None => table.insert(Table::open(out, done == 0)?),
        };
        if done.is_multiple_of(settings.every) || done == settings.steps {
            let measures = field.measure();
            table.row(settings, done, measures)?;
            host.metric("energy", measures.energy);
            host.metric("phase_coherence", measures.phase_coherence);
            host.report(done, Some(settings.steps));
        }
        if done >= settings.steps {
            break;
        }
        field.step();
        done += 1;
    }
    write(&out.join("field.bin"), &bytes::encode(&field, done))?;
    let size = u32::try_from(settings.parameters.size).expect("checked to be at most 2048");
    write(&out.join("phase.png"), &picture::png(&field.values, size))?;
    Ok(field.measure())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes)
        .map_err(|source| Error::Files { path: path.display().to_string(), source })
}

/// The artifact `metrics.csv`, unbuffered, so that a checkpoint finds all rows in the file.
struct Table {
    path: PathBuf,
    file: File,
}

impl Table {
    fn open(out: &Path, new: bool) -> Result<Self, Error> {
        let path = out.join("metrics.csv");
        let mut options = OpenOptions::new();
        if new {
            options.write(true).create(true).truncate(true);
        } else {
            options.append(true);
        }
        match options.open(&path) {
            Ok(file) => {
                let mut table = Self { path, file };
                if new {
                    table.line("step,time,energy,phase_coherence\n")?;
                }
                Ok(table)
            }
            Err(source) => Err(Error::Files { path: path.display().to_string(), source }),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    fn row(&mut self, settings: &Settings, step: u64, measures: Measures) -> Result<(), Error> {
        let time = step as f64 * settings.parameters.dt;
        let Measures { energy, phase_coherence } = measures;
        self.line(&format!("{step},{time},{energy},{phase_coherence}\n"))
    }

    fn line(&mut self, line: &str) -> Result<(), Error> {
        self.file
            .write_all(line.as_bytes())
            .map_err(|source| Error::Files { path: self.path.display().to_string(), source })
    }
}
