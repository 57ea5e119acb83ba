//! Hosts that are wrong on purpose.
//!
//! Owns: the faults by which the checker is itself checked. Each stands for one step that the code
//! under test could leave out or do wrong; it is put between a host and what the host stands on
//! (disk, executor), or between a host and its clients, so that the product carries no switches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hb_disk::Storage;
use hb_sandbox::{Ending, HostFault, Saved, Session, Stream};
use hb_types::{
    capture::{
        CHUNK_BYTES, Capture, ChunkSource, ContentId, DirtyChunk, Progress, Restored, chunk_count,
        chunk_len,
    },
    event::JobNumber,
};

use crate::stage;

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Every flush returns before its bytes are durable.
    AnswersBeforeFlush,
    /// A flush that failed counts as done.
    IgnoresFailedFlush,
    /// The log is never flushed.
    SkipsLogFlush,
    /// Blobs, and with them packs of checkpoints, are never flushed.
    SkipsBlobFlush,
    /// Names of segments and snapshots are not made durable.
    SkipsLogDirectorySync,
    /// Names of blobs are not made durable.
    SkipsBlobDirectorySync,
    /// Blobs that nothing needs stay.
    KeepsUnneededBlobs,
    /// Recovery gives up one record more than was torn.
    CutsTailTooFar,
    /// An attempt gets the state of the last checkpoint but one.
    ResumesFromOlderState,
    /// An attempt gets a checkpoint without what was printed up to it.
    ForgetsOutputAtRestore,
    /// `save` returns without anything having been written.
    AcknowledgesUnsavedCheckpoint,
    /// The pack of a checkpoint is removed before the one after it is durable.
    RemovesPackTooEarly,
    /// The outcome is sealed over all but the last byte of the output.
    SealsPartialOutput,
    /// The outcome of a failure is told as success.
    TellsFailureAsSuccess,
    /// A submission is answered before its record is durable.
    AcceptsBeforeDurable,
    /// A submission that is repeated is a new job.
    ForgetsIdempotency,
    /// Events are shown before their records are durable.
    ShowsEventsBeforeDurable,
    /// A cancellation is answered and not carried out.
    ForgetsCancellation,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AnswersBeforeFlush,
        Self::IgnoresFailedFlush,
        Self::SkipsLogFlush,
        Self::SkipsBlobFlush,
        Self::SkipsLogDirectorySync,
        Self::SkipsBlobDirectorySync,
        Self::KeepsUnneededBlobs,
        Self::CutsTailTooFar,
        Self::ResumesFromOlderState,
        Self::ForgetsOutputAtRestore,
        Self::AcknowledgesUnsavedCheckpoint,
        Self::RemovesPackTooEarly,
        Self::SealsPartialOutput,
        Self::TellsFailureAsSuccess,
        Self::AcceptsBeforeDurable,
        Self::ForgetsIdempotency,
        Self::ShowsEventsBeforeDurable,
        Self::ForgetsCancellation,
    ];
}

/// A deliberate fault, and what it has to remember over the lives of a host.
#[derive(Clone, Debug)]
pub struct Spoil {
    /// Which one.
    pub mutation: Mutation,
    states: Arc<Mutex<BTreeMap<JobNumber, Vec<Vec<u8>>>>>,
    packs: Arc<Mutex<BTreeMap<JobNumber, Vec<String>>>>,
}

impl Spoil {
    /// Remembers nothing yet.
    pub fn new(mutation: Mutation) -> Self {
        Self { mutation, states: Arc::default(), packs: Arc::default() }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session between a host that is wrong and a program.
pub(crate) struct SpoiledSession<'a> {
    inner: &'a mut dyn Session,
    spoil: &'a Spoil,
    disk: &'a dyn Storage,
}

impl<'a> SpoiledSession<'a> {
    pub(crate) fn new(inner: &'a mut dyn Session, spoil: &'a Spoil, disk: &'a dyn Storage) -> Self {
        Self { inner, spoil, disk }
    }

    /// Large blobs, by path.
    fn packs(&self) -> Vec<String> {
        let mut found = Vec::new();
        for fan in self.disk.list("blob").unwrap_or_default() {
            let dir = format!("blob/{fan}");
            for name in self.disk.list(&dir).unwrap_or_default() {
                let path = format!("{dir}/{name}");
                let file = self.disk.open(&path, hb_disk::Open::Read);
                let len_bytes = file.and_then(|file| file.len()).unwrap_or(0);
                if fan != "tmp" && len_bytes > u64::from(CHUNK_BYTES) {
                    found.push(path);
                }
            }
        }
        found
    }

    fn save_removing_early(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        let job = stage::current_job().unwrap_or(0);
        for path in lock(&self.spoil.packs).remove(&job).unwrap_or_default() {
            // What cannot be removed stays, as it should.
            let _ = self.disk.remove(&path);
        }
        let before = self.packs();
        let saved = self.inner.save(capture)?;
        let new = self.packs().into_iter().filter(|path| !before.contains(path));
        lock(&self.spoil.packs).insert(job, new.collect());
        Ok(saved)
    }
}

impl Session for SpoiledSession<'_> {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        let Some(mut restored) = self.inner.restore()? else { return Ok(None) };
        match self.spoil.mutation {
            Mutation::ResumesFromOlderState => {
                let states = lock(&self.spoil.states);
                let states = stage::current_job().and_then(|job| states.get(&job));
                if let Some([.., older, _]) = states.map(Vec::as_slice) {
                    restored.state.clone_from(older);
                }
            }
            Mutation::ForgetsOutputAtRestore => {
                restored.contents.retain(|(id, _)| *id != ContentId::STDOUT);
            }
            _ => {}
        }
        Ok(Some(restored))
    }

    fn due(&mut self, step: u64) -> bool {
        self.inner.due(step)
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        match self.spoil.mutation {
            // What comes first is kept, so that there is something to go back to.
            Mutation::AcknowledgesUnsavedCheckpoint if capture.step > 2 => {
                Ok(Saved::Continue(capture.step))
            }
            Mutation::RemovesPackTooEarly => self.save_removing_early(capture),
            _ => {
                let saved = self.inner.save(capture)?;
                if let Some(job) = stage::current_job() {
                    lock(&self.spoil.states).entry(job).or_default().push(capture.state.to_vec());
                }
                Ok(saved)
            }
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.inner.output(stream, bytes);
    }

    fn progress(&mut self, progress: &Progress) {
        self.inner.progress(progress);
    }

    fn finish(&mut self, ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault> {
        let mut contents = capture.contents.clone();
        let mut ending = ending.clone();
        let mut cut = None;
        match self.spoil.mutation {
            Mutation::SealsPartialOutput => {
                let stdout = contents.iter_mut().find(|content| content.id == ContentId::STDOUT);
                let in_last = |len_bytes: u64| len_bytes % u64::from(CHUNK_BYTES);
                if let Some(stdout) = stdout.filter(|content| in_last(content.len_bytes) > 1) {
                    stdout.len_bytes -= 1;
                    let index = chunk_count(stdout.len_bytes) - 1;
                    stdout.dirty.retain(|dirty| dirty.index != index);
                    stdout.dirty.push(DirtyChunk { index, clean_prefix_bytes: 0 });
                    cut = Some((index, chunk_len(stdout.len_bytes, index)));
                }
            }
            Mutation::TellsFailureAsSuccess => {
                ending.outcome = hb_types::outcome::Outcome::Success;
            }
            _ => {}
        }
        let (names, progress) = (capture.names.clone(), capture.progress.clone());
        let Capture { step, state, counters, source, .. } = *capture;
        let cut = Cut { source, cut };
        let source: &dyn ChunkSource = &cut;
        let capture = Capture { step, state, counters, contents, names, progress, source };
        self.inner.finish(&ending, &capture)
    }
}

/// Contents of which one chunk of standard output is shorter.
struct Cut<'a> {
    source: &'a dyn ChunkSource,
    /// Which, and how long it is.
    cut: Option<(u32, u32)>,
}

impl ChunkSource for Cut<'_> {
    fn read_chunk(&self, id: ContentId, index: u32) -> std::io::Result<Vec<u8>> {
        let mut bytes = self.source.read_chunk(id, index)?;
        if let Some((cut, len)) = self.cut.filter(|_| id == ContentId::STDOUT)
            && cut == index
        {
            bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        }
        Ok(bytes)
    }
}
