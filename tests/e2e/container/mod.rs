//! Native programs in containers, on an engine of the tests' own.
//!
//! Each module asks one question. Every test starts its engine, and leaves nothing of it.

mod contract;
mod engine;
mod examples;
mod hostile;
mod kills;
mod older_form;
mod refusals;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use engine::Engine;

use crate::support::{Ran, World};

/// What jobs run in.
pub const IMAGE: &str = "python:hb";

/// A world whose `hb` knows the engine.
pub struct Place {
    pub world: World,
    pub engine: Engine,
}

impl Place {
    /// An engine and an empty ledger; none, said by name, where the machine cannot have an engine.
    pub fn open(test: &str) -> Option<Self> {
        let engine = Engine::start(test)?;
        Some(Self { world: World::new(), engine })
    }

    /// `hb` with these arguments.
    pub fn hb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.world.hb(arguments);
        self.engine.name_to(&mut command);
        command
    }

    /// Runs `hb` to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.hb(arguments).output().unwrap())
    }

    /// Runs Python text as a job with this name; further flags of `hb run` stand before.
    pub fn python(&self, job: &str, flags: &[&str], program: &str) -> Ran {
        let mut arguments = vec!["run", "--image", IMAGE, "--job-id", job];
        arguments.extend(flags);
        arguments.extend(["--", "python3", "-c", program]);
        self.run(arguments)
    }
}

/// A program of the tests.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/container").join(name)
}
