//! Containers that are there already.
//!
//! Owns: how a container is recognised, whether one that an earlier host started can be taken over,
//! and what is removed at a start. Knows nothing of what runs in it.

use std::{collections::HashMap, fs};

use bollard::models::ContainerSummary;

use crate::{
    containers::Identity,
    engine::{Engine, EngineError},
    exit::{self, Exit},
    place::{self, Note, Place},
};

/// The ledger, in hexadecimal digits.
pub(crate) const LEDGER: &str = "hackbrain.ledger";
/// The job's number.
pub(crate) const JOB: &str = "hackbrain.job";
/// The claim of the attempt that started it.
pub(crate) const ATTEMPT: &str = "hackbrain.attempt";
/// The process that repeats a job, and when it started.
pub(crate) const REPETITION: &str = "hackbrain.repetition";

/// Labels of a container.
pub(crate) fn labels(identity: &Identity) -> HashMap<String, String> {
    match identity {
        Identity::Job { ledger, number, attempt } => HashMap::from([
            (LEDGER.to_owned(), hex::encode(ledger)),
            (JOB.to_owned(), number.to_string()),
            (ATTEMPT.to_owned(), attempt.to_string()),
        ]),
        Identity::Repetition => {
            let pid = std::process::id();
            let mark = format!("{pid}:{}", started(pid).unwrap_or_default());
            HashMap::from([(REPETITION.to_owned(), mark)])
        }
    }
}

/// When a process started, in ticks since the machine did; none where there is no such process.
fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program stands in parentheses and may hold anything.
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Looks for a container of a job that goes on, or ended by itself while no host was there; removes
/// all others of that job.
pub(crate) fn find(
    engine: &Engine,
    identity: &Identity,
    place: &Place,
    job_hash: &str,
) -> Result<Option<Note>, EngineError> {
    let Identity::Job { ledger, number, .. } = identity else { return Ok(None) };
    let labels = [format!("{LEDGER}={}", hex::encode(ledger)), format!("{JOB}={number}")];
    let note = place
        .note()
        .filter(|note| note.boot == place::boot() && note.job_hash == job_hash && note.released);
    let mut adopted = None;
    for found in engine.list(&labels)? {
        let Some(id) = found.id else { continue };
        match &note {
            Some(note) if note.container == id && is_intact(engine, &id)? => {
                adopted = Some(note.clone());
            }
            _ => engine.remove(&id)?,
        }
    }
    Ok(adopted)
}

/// Whether a container runs, or ended by itself.
fn is_intact(engine: &Engine, id: &str) -> Result<bool, EngineError> {
    let state = match engine.state(id) {
        Ok(state) => state,
        Err(error) if error.is_absent() => return Ok(false),
        Err(error) => return Err(error),
    };
    let ended_by_itself = || matches!(exit::read(&state, false), Exit::Code(_) | Exit::OutOfMemory);
    Ok(exit::is_running(&state) || (exit::has_ended(&state) && ended_by_itself()))
}

/// Removes all containers of a job.
pub(crate) fn discard(engine: &Engine, ledger: &[u8], number: u64) -> Result<(), EngineError> {
    let labels = [format!("{LEDGER}={}", hex::encode(ledger)), format!("{JOB}={number}")];
    engine
        .list(&labels)?
        .into_iter()
        .filter_map(|found| found.id)
        .try_for_each(|id| engine.remove(&id))
}

/// Removes containers of this ledger whose jobs do not need them any more, and those of repetitions
/// whose process is gone. Returns how many.
pub(crate) fn sweep(
    engine: &Engine,
    ledger: &[u8],
    is_wanted: &dyn Fn(u64) -> bool,
) -> Result<u64, EngineError> {
    let mut removed = 0;
    let of_ledger = engine.list(&[format!("{LEDGER}={}", hex::encode(ledger))])?;
    let of_nobody = engine.list(&[REPETITION.to_owned()])?;
    let label = |found: &ContainerSummary, name: &str| {
        found.labels.as_ref().and_then(|labels| labels.get(name).cloned())
    };
    let useless = of_ledger.into_iter().filter(|found| {
        let job = label(found, JOB).and_then(|text| text.parse().ok());
        !job.is_some_and(is_wanted)
    });
    let orphaned = of_nobody.into_iter().filter(|found| {
        let mark = label(found, REPETITION).unwrap_or_default();
        let mut parts = mark.split(':').map(|part| part.parse::<u64>().ok());
        let pid = parts.next().flatten().and_then(|pid| u32::try_from(pid).ok());
        let since = parts.next().flatten();
        pid.and_then(started) != since || since.is_none()
    });
    for found in useless.chain(orphaned) {
        if let Some(id) = found.id {
            engine.remove(&id)?;
            removed += 1;
        }
    }
    Ok(removed)
}
