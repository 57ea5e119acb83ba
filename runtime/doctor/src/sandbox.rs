//! Whether a component can be compiled and run here.
//!
//! Owns: a tiny program and its way through everything that a stranger's goes through: text to
//! binary and scan and compilation in the bounded child, the loading of machine code, a run.

use hb_sandbox::{
    Compiler, Control, Ended, Ending, HostFault, Launch, PrepareError, Prepared, Sandbox,
    SandboxError, SandboxOptions, Saved, Session, Stream,
};
use hb_types::{
    Digest,
    capture::{Capture, Progress, Restored},
    limits::Limits,
    outcome::Outcome,
};

use crate::{
    check::{Check, Topic, causes},
    directory::Place,
};

const COMPILER: Topic = Topic {
    id: "compiler",
    title: "compiling and running",
    why: "a component is compiled in a child process with bounds of its own, then run in this one",
};

/// Counts to a thousand in memory of its own, and fails if the sum is wrong.
const PROGRAM: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_start") (local $number i32) (local $sum i32)
        (loop $next
            (local.set $number (i32.add (local.get $number) (i32.const 1)))
            (local.set $sum (i32.add (local.get $sum) (local.get $number)))
            (br_if $next (i32.lt_u (local.get $number) (i32.const 1000))))
        (i32.store (i32.const 65532) (local.get $sum))
        (if (i32.ne (i32.load (i32.const 65532)) (i32.const 500500)) (then unreachable))))"#;

/// Why the program did not come through.
enum Failure {
    Sandbox(SandboxError),
    Prepare(PrepareError),
    Run(HostFault),
    Scratch(std::io::Error),
    Outcome(Outcome),
    Stopped,
}

pub(crate) fn check(compiler: &Compiler, place: &Place) -> Check {
    match compile_and_run(compiler, place) {
        Ok(ending) => COMPILER.ok(format!(
            "a small program was compiled and run with {} units of fuel",
            ending.counters.fuel_used
        )),
        Err(failure) => judge(&failure),
    }
}

fn judge(failure: &Failure) -> Check {
    const MEMORY: &str = "ulimit -v unlimited   # and give the container or service 3 GiB or more";
    const ROOM: &str = "see data-directory and data-space above";
    const LOOK: &str = "HB_LOG=debug hb doctor   # to see what it says";
    let (found, fix) = match failure {
        Failure::Prepare(error @ PrepareError::CompilerMemory(_)) => (causes(error), MEMORY),
        Failure::Prepare(error @ PrepareError::Cache { .. }) => (causes(error), ROOM),
        Failure::Prepare(error) => (causes(error), LOOK),
        Failure::Sandbox(error) => (causes(error), MEMORY),
        Failure::Run(error) => (causes(error), MEMORY),
        Failure::Scratch(error) => (causes(error), ROOM),
        Failure::Outcome(outcome) => {
            (format!("the program ended with {}", outcome.canonical()), LOOK)
        }
        Failure::Stopped => ("the program was stopped".to_owned(), LOOK),
    };
    COMPILER.fail(found, fix)
}

fn compile_and_run(compiler: &Compiler, place: &Place) -> Result<Ending, Failure> {
    // Not the ledger's own cache: what is found there would say nothing about compiling.
    let cache = tempfile::Builder::new()
        .prefix(".hb-doctor-")
        .tempdir_in(&place.existing)
        .or_else(|_| tempfile::tempdir())
        .map_err(Failure::Scratch)?;
    let sandbox = Sandbox::open(SandboxOptions {
        cache_dir: cache.path().to_owned(),
        compiler: compiler.clone(),
    })
    .map_err(Failure::Sandbox)?;
    let limits = Limits::default();
    let binary =
        sandbox.to_binary(PROGRAM.as_bytes().to_vec(), &limits).map_err(Failure::Prepare)?;
    let prepared: Prepared =
        sandbox.prepare(&binary, Digest::of(&binary), &limits).map_err(Failure::Prepare)?;
    let launch = Launch {
        arguments: vec!["doctor".to_owned()],
        environment: Vec::new(),
        stdin: None,
        inputs: Vec::new(),
        limits,
        seed: [0; 32],
        start_ns: 0,
        scratch: tempfile::tempfile_in(cache.path()).map_err(Failure::Scratch)?,
    };
    let ended = sandbox.run(&prepared, launch, &mut Nobody, &Control::default());
    match ended.map_err(Failure::Run)? {
        Ended::Finished(ending) if ending.outcome.is_success() => Ok(ending),
        Ended::Finished(ending) => Err(Failure::Outcome(ending.outcome)),
        Ended::Stopped => Err(Failure::Stopped),
    }
}

/// A session that keeps nothing: the program saves nothing.
struct Nobody;

impl Session for Nobody {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        Ok(None)
    }

    fn due(&mut self, _step: u64) -> bool {
        false
    }

    fn save(&mut self, _capture: &Capture<'_>) -> Result<Saved, HostFault> {
        Ok(Saved::Stop)
    }

    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}

    fn progress(&mut self, _progress: &Progress) {}

    fn finish(&mut self, _ending: &Ending, _capture: &Capture<'_>) -> Result<(), HostFault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::Status;

    #[test]
    fn a_compiler_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let compiler = Compiler { program: "/no/such/program".into(), arguments: Vec::new() };
        let check = check(&compiler, &Place::of(directory.path()));
        assert_eq!(check.status, Status::Fail);
        assert!(check.found.contains("/no/such/program"), "{}", check.found);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
