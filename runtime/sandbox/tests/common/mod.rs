//! What the tests of the sandbox share: a sandbox of its own for each test, and a session that
//! keeps checkpoints in memory, by chunks, as a host would.
#![allow(dead_code, clippy::unwrap_used)]

pub mod program;

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use hb_sandbox::{
    Compiler, Control, Ended, Ending, HostFault, Launch, PrepareError, Prepared, Sandbox,
    SandboxOptions, Saved, Session, Stream,
};
use hb_types::{
    Digest,
    capture::{
        Capture, ChunkSource, ContentCapture, ContentId, Counters, NameTree, Progress, Restored,
        chunk_count, chunk_len,
    },
    limits::Limits,
};

/// A sandbox in a directory of its own.
pub struct Bench {
    pub sandbox: Sandbox,
    pub directory: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::open(options(directory.path().join("cache"))).unwrap();
        Self { sandbox, directory }
    }

    pub fn prepare_text(&self, source: &str) -> Result<Prepared, PrepareError> {
        let limits = Limits::default();
        let binary = self.sandbox.to_binary(source.as_bytes().to_vec(), &limits)?;
        self.sandbox.prepare(&binary, Digest::of(&binary), &limits)
    }

    pub fn prepare(&self, binary: &[u8]) -> Result<Prepared, PrepareError> {
        self.sandbox.prepare(binary, Digest::of(binary), &Limits::default())
    }

    /// Runs a text to its end with default limits.
    pub fn end_of(&self, source: &str) -> (Ending, Ledger) {
        self.end_with(source, launch())
    }

    pub fn end_with(&self, source: &str, launch: Launch) -> (Ending, Ledger) {
        let prepared = self.prepare_text(source).unwrap();
        let mut ledger = Ledger::default();
        let ended = self.sandbox.run(&prepared, launch, &mut ledger, &Control::default()).unwrap();
        let Ended::Finished(ending) = ended else { panic!("nobody stopped it") };
        (ending, ledger)
    }
}

pub fn options(cache_dir: PathBuf) -> SandboxOptions {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_hb-compile"));
    SandboxOptions { cache_dir, compiler: Compiler { program, arguments: Vec::new() } }
}

pub fn launch() -> Launch {
    Launch {
        arguments: vec!["guest".to_owned()],
        environment: Vec::new(),
        stdin: None,
        inputs: Vec::new(),
        limits: Limits::default(),
        seed: [7; 32],
        start_ns: 1_700_000_000_000_000_000,
        scratch: tempfile::tempfile().unwrap(),
    }
}

pub fn launch_with(change: impl FnOnce(&mut Limits)) -> Launch {
    let mut launch = launch();
    change(&mut launch.limits);
    launch
}

type Chunks = BTreeMap<(u64, u32), Arc<Vec<u8>>>;

/// A durable condition of a job.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Point {
    pub sequence: u64,
    pub step: u64,
    pub state: Vec<u8>,
    pub counters: Counters,
    pub contents: Vec<(ContentId, u64)>,
    pub names: NameTree,
    pub progress: Progress,
    chunks: Chunks,
}

impl Point {
    /// All bytes of a content.
    pub fn bytes(&self, id: ContentId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for ((content, _), chunk) in &self.chunks {
            if *content == id.0 {
                bytes.extend_from_slice(chunk);
            }
        }
        bytes
    }

    pub fn stdout(&self) -> String {
        String::from_utf8(self.bytes(ContentId::STDOUT)).unwrap()
    }

    /// Applies a capture to the chunks of `before`: only what is dirty is read.
    fn of(capture: &Capture<'_>, before: &Chunks, sequence: u64) -> Self {
        let mut chunks = Chunks::new();
        for ContentCapture { id, len_bytes, dirty } in &capture.contents {
            for index in 0..chunk_count(*len_bytes) {
                let chunk = match dirty.iter().find(|chunk| chunk.index == index) {
                    Some(_) => Arc::new(capture.source.read_chunk(*id, index).unwrap()),
                    None => Arc::clone(&before[&(id.0, index)]),
                };
                assert_eq!(chunk.len(), chunk_len(*len_bytes, index) as usize);
                chunks.insert((id.0, index), chunk);
            }
        }
        Self {
            sequence,
            step: capture.step,
            state: capture.state.to_vec(),
            counters: capture.counters,
            contents: capture.contents.iter().map(|one| (one.id, one.len_bytes)).collect(),
            names: capture.names.clone(),
            progress: capture.progress.clone(),
            chunks,
        }
    }
}

impl ChunkSource for Point {
    fn read_chunk(&self, id: ContentId, index: u32) -> io::Result<Vec<u8>> {
        self.chunks
            .get(&(id.0, index))
            .map(|chunk| chunk.to_vec())
            .ok_or_else(|| io::Error::other("no such chunk"))
    }
}

/// Keeps the checkpoints of one job over all its attempts.
#[derive(Default)]
pub struct Ledger {
    pub points: Vec<Point>,
    pub finished: Option<Point>,
    pub live: Vec<(Stream, Vec<u8>)>,
    /// What was done and of how much, as it was told.
    pub told: Vec<(u64, Option<u64>)>,
    pub due_calls: u64,
    /// Answers `due` with no at these steps, and with yes elsewhere.
    pub never_due: bool,
    /// Ends the attempt at this many saves of the attempt.
    pub stop_after: Option<u64>,
    pub saves_in_attempt: u64,
    base: Chunks,
}

impl Ledger {
    pub fn newest(&self) -> Option<&Point> {
        self.points.last()
    }

    pub fn end(&self) -> &Point {
        self.finished.as_ref().expect("the job has an outcome")
    }

    /// Starts another attempt: what was not saved is lost.
    pub fn new_attempt(&mut self, stop_after: Option<u64>) {
        self.stop_after = stop_after;
        self.saves_in_attempt = 0;
        self.base = Chunks::new();
    }
}

impl Session for Ledger {
    fn restore(&mut self) -> Result<Option<Restored<'_>>, HostFault> {
        let Some(point) = self.points.last() else { return Ok(None) };
        self.base = point.chunks.clone();
        Ok(Some(Restored {
            sequence: point.sequence,
            step: point.step,
            state: point.state.clone(),
            counters: point.counters,
            contents: point.contents.clone(),
            names: point.names.clone(),
            progress: point.progress.clone(),
            source: Box::new(point.clone()),
        }))
    }

    fn due(&mut self, _step: u64) -> bool {
        self.due_calls += 1;
        !self.never_due
    }

    fn save(&mut self, capture: &Capture<'_>) -> Result<Saved, HostFault> {
        let sequence = self.points.last().map_or(1, |point| point.sequence + 1);
        let point = Point::of(capture, &self.base, sequence);
        self.base = point.chunks.clone();
        self.points.push(point);
        self.saves_in_attempt += 1;
        if self.stop_after.is_some_and(|stop| self.saves_in_attempt >= stop) {
            return Ok(Saved::Stop);
        }
        Ok(Saved::Continue(sequence))
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.live.push((stream, bytes.to_vec()));
    }

    fn progress(&mut self, progress: &Progress) {
        if self.told.last() != Some(&(progress.done, progress.total)) {
            self.told.push((progress.done, progress.total));
        }
    }

    fn finish(&mut self, _ending: &Ending, capture: &Capture<'_>) -> Result<(), HostFault> {
        assert!(self.finished.is_none(), "finish is called once");
        self.finished = Some(Point::of(capture, &self.base, 0));
        Ok(())
    }
}
