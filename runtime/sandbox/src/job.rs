//! `hackbrain:job`: checkpoints, progress and exit codes.
//!
//! Owns: the rules of `wit/job.wit` and what a job said of itself. Knows nothing of how
//! checkpoints are kept: the session does that.
//!
//! The functions are bound by hand and not by a generator, so that the state of a checkpoint is
//! read where it lies in the guest's memory instead of being copied.
//!
//! Invariants: steps never fall within an attempt; `restore` happens at most once and before any
//! `save`; after `restore` every counter stands where the checkpoint left it.

use hb_types::{
    capture::{Capture, Counters, Progress},
    limits::Limit,
    text,
};
use wasmtime::{
    AsContext, StoreContextMut,
    component::{ComponentType, Linker, Lower, WasmList, WasmStr},
};

use crate::{
    abort::{Abort, HostFault},
    exit_code,
    guest::Guest,
    lease::Lease,
    session::{METRIC_NAME_BYTES, NOTE_BYTES, SAID_MAX, Saved, Session},
};

/// What a job has said and asked in this attempt.
pub(crate) struct Job {
    lease: Lease,
    restored: bool,
    saves: u64,
    sequence: u64,
    last_step: Option<u64>,
    /// What the first `due` after `restore` puts back, if it names the restored step.
    settle: Option<(u64, Counters)>,
    progress: Progress,
    dropped_notes: u64,
    dropped_metrics: u64,
}

/// `checkpoint.snapshot`.
#[derive(ComponentType, Lower)]
#[component(record)]
struct Snapshot {
    sequence: u64,
    step: u64,
    state: Vec<u8>,
}

impl Job {
    pub(crate) fn new(lease: Lease) -> Self {
        Self {
            lease,
            restored: false,
            saves: 0,
            sequence: 0,
            last_step: None,
            settle: None,
            progress: Progress::default(),
            dropped_notes: 0,
            dropped_metrics: 0,
        }
    }

    /// What the job said of itself, with a note on what was dropped.
    pub(crate) fn progress(&self) -> Progress {
        let mut progress = self.progress.clone();
        if self.dropped_notes > 0 {
            progress.notes.push(format!(
                "{} further notes since the last checkpoint were dropped: at most {SAID_MAX} are kept",
                self.dropped_notes
            ));
        }
        if self.dropped_metrics > 0 {
            progress.notes.push(format!(
                "{} values of further metrics were dropped: at most {SAID_MAX} names are kept",
                self.dropped_metrics
            ));
        }
        progress
    }

    /// The last step that the job named.
    pub(crate) fn step(&self) -> u64 {
        self.last_step.unwrap_or(0)
    }

    fn advance(&mut self, step: u64) -> Result<(), Abort> {
        if let Some(last) = self.last_step.filter(|last| step < *last) {
            return Err(Abort::Contract(format!(
                "its step falls from {last} to {step}: steps must never fall"
            )));
        }
        self.last_step = Some(step);
        Ok(())
    }

    fn session<R>(&self, body: impl FnOnce(&mut dyn Session) -> R) -> Result<R, Abort> {
        self.lease
            .with(body)
            .ok_or_else(|| Abort::Fault(HostFault::message("the job's session is over")))
    }

    fn tell(&self) -> Result<(), Abort> {
        self.session(|session| session.progress(&self.progress))
    }
}

/// Links the three interfaces.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut checkpoint = linker.instance("hackbrain:job/checkpoint@0.1.0")?;
    checkpoint.func_wrap("restore", |store, (): ()| Ok((restore(store)?,)))?;
    checkpoint.func_wrap("due", |store, (step,): (u64,)| Ok((due(store, step)?,)))?;
    checkpoint.func_wrap("save", |store, (step, state): (u64, WasmList<u8>)| {
        Ok((save(store, step, &state)?,))
    })?;

    let mut progress = linker.instance("hackbrain:job/progress@0.1.0")?;
    progress.func_wrap("report", |store, (done, total): (u64, Option<u64>)| {
        report(store, done, total)
    })?;
    progress
        .func_wrap("metric", |store, (name, value): (WasmStr, f64)| metric(store, &name, value))?;
    progress.func_wrap("note", |store, (note_text,): (WasmStr,)| note(store, &note_text))?;

    let mut process = linker.instance("hackbrain:job/process@0.1.0")?;
    process.func_wrap("exit", |_, (code,): (u32,)| -> wasmtime::Result<()> {
        Err(Abort::Exit(exit_code::low_byte(code)).into())
    })
}

fn restore(mut store: StoreContextMut<'_, Guest>) -> wasmtime::Result<Option<Snapshot>> {
    let guest = store.data_mut();
    guest.pulse.check()?;
    if guest.job.restored || guest.job.saves > 0 {
        let message = "it calls restore a second time or after save: call it once, first";
        return Err(Abort::Contract(message.to_owned()).into());
    }
    guest.job.restored = true;
    let job = &guest.job;
    let world = &guest.stdio.world;
    let given = job.session(|session| -> Result<_, HostFault> {
        let Some(restored) = session.restore()? else { return Ok(None) };
        let mut world = world.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        world
            .restore(
                &restored.contents,
                &restored.names,
                restored.counters.next_content,
                &*restored.source,
            )
            .map_err(|error| HostFault::new("a checkpoint could not be put back", error))?;
        let snapshot =
            Snapshot { sequence: restored.sequence, step: restored.step, state: restored.state };
        Ok(Some((snapshot, restored.counters, restored.progress)))
    })?;
    let Some((snapshot, counters, progress)) = given.map_err(Abort::Fault)? else {
        return Ok(None);
    };
    guest.job.sequence = snapshot.sequence;
    guest.job.last_step = Some(snapshot.step);
    guest.job.settle = Some((snapshot.step, counters));
    // The notes of the checkpoint are in the job's trace already.
    guest.job.progress = Progress { notes: Vec::new(), ..progress };
    guest.stdio.source().seek(counters.stdin_bytes).map_err(|error| {
        Abort::Fault(HostFault::new("standard input cannot be taken up where it stood", error))
    })?;
    let fuel_left = guest.set_counters(&counters);
    store.set_fuel(fuel_left)?;
    Ok(Some(snapshot))
}

fn due(mut store: StoreContextMut<'_, Guest>, step: u64) -> wasmtime::Result<bool> {
    let guest = store.data_mut();
    guest.pulse.check()?;
    guest.job.advance(step)?;
    let settle = guest.job.settle.take().filter(|(restored_step, _)| *restored_step == step);
    if let Some((_, counters)) = settle {
        // This step has its checkpoint: it is the one that was just put back.
        let fuel_left = guest.set_counters(&counters);
        store.set_fuel(fuel_left)?;
        return Ok(false);
    }
    Ok(guest.job.session(|session| session.due(step))?)
}

fn save(
    mut store: StoreContextMut<'_, Guest>,
    step: u64,
    state: &WasmList<u8>,
) -> wasmtime::Result<u64> {
    let fuel_left = store.get_fuel()?;
    let guest = store.data_mut();
    guest.pulse.check()?;
    guest.job.advance(step)?;
    guest.job.settle = None;
    let state_bytes = state.len() as u64;
    if state_bytes > guest.limits.checkpoint_bytes {
        return Err(Abort::limit(&guest.limits, Limit::CheckpointBytes, state_bytes).into());
    }
    let wanted = guest.job.sequence.saturating_add(1);
    if wanted > guest.limits.checkpoints {
        return Err(Abort::limit(&guest.limits, Limit::Checkpoints, wanted).into());
    }
    let counters = guest.counters(fuel_left);
    let progress = guest.job.progress();
    let context = store.as_context();
    let bytes = state.as_le_slice(&context);
    let guest = context.data();
    let mut world = guest.world();
    let (contents, names) = world.capture();
    let capture =
        Capture { step, state: bytes, counters, contents, names, progress, source: &*world };
    let saved = guest.job.session(|session| session.save(&capture))?.map_err(Abort::Fault)?;
    drop(capture);
    world.mark_clean();
    drop(world);
    let Saved::Continue(sequence) = saved else { return Err(Abort::Stopped.into()) };
    let job = &mut store.data_mut().job;
    job.saves += 1;
    job.sequence = sequence;
    job.progress.notes.clear();
    job.dropped_notes = 0;
    job.dropped_metrics = 0;
    Ok(sequence)
}

fn report(
    mut store: StoreContextMut<'_, Guest>,
    done: u64,
    total: Option<u64>,
) -> wasmtime::Result<()> {
    let guest = store.data_mut();
    guest.pulse.check()?;
    guest.job.progress.done = done;
    guest.job.progress.total = total;
    Ok(guest.job.tell()?)
}

fn metric(
    mut store: StoreContextMut<'_, Guest>,
    name: &WasmStr,
    value: f64,
) -> wasmtime::Result<()> {
    store.data().pulse.check()?;
    let name = text::printable(&name.to_str(store.as_context())?, METRIC_NAME_BYTES);
    let job = &mut store.data_mut().job;
    if job.progress.metrics.len() >= SAID_MAX && !job.progress.metrics.contains_key(&name) {
        job.dropped_metrics += 1;
        return Ok(());
    }
    job.progress.metrics.insert(name, value);
    Ok(job.tell()?)
}

fn note(mut store: StoreContextMut<'_, Guest>, note_text: &WasmStr) -> wasmtime::Result<()> {
    store.data().pulse.check()?;
    let job = &mut store.data_mut().job;
    if job.progress.notes.len() >= SAID_MAX {
        job.dropped_notes += 1;
        return Ok(());
    }
    let note_text = text::printable(&note_text.to_str(store.as_context())?, NOTE_BYTES);
    let job = &mut store.data_mut().job;
    job.progress.notes.push(note_text);
    Ok(job.tell()?)
}
