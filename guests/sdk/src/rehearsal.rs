//! A stand-in for the host, for native tests: it keeps one checkpoint with the files that
//! belonged to it, kills the job where it is told to, and puts everything back.
//!
//! Owns the directories `job` and `out` below its root. It knows nothing of durability, clocks
//! or limits; those belong to the real host. It asserts what the contract demands of a job: one
//! `restore` an attempt, steps that never fall, and the restored step named first.

use std::{
    any::Any,
    collections::BTreeMap,
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use crate::{Host, checkpoint::Snapshot};

/// The job was killed where the rehearsal was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// A host that kills on demand.
#[derive(Debug)]
pub struct Rehearsal {
    root: PathBuf,
    /// A checkpoint is due at every so many calls of `due`.
    every: u64,
    kill_at: Option<u64>,
    held: Option<Held>,
    /// Calls in this attempt.
    calls: u64,
    dues: u64,
    restored: bool,
    last_step: Option<u64>,
    /// The newest value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// The newest report.
    pub progress: Option<(u64, Option<u64>)>,
    /// Length in bytes of the largest state that was saved.
    pub largest_state_bytes: usize,
}

#[derive(Debug)]
struct Held {
    snapshot: Snapshot,
    files: BTreeMap<PathBuf, Vec<u8>>,
    metrics: BTreeMap<String, f64>,
    progress: Option<(u64, Option<u64>)>,
}

impl Rehearsal {
    /// A host below `root`, an existing directory, that wants a checkpoint at every `every`th
    /// call of `due`.
    pub fn new(root: &Path, every: u64) -> io::Result<Self> {
        for name in ["job", "out"] {
            fs::create_dir_all(root.join(name))?;
        }
        Ok(Self {
            root: root.to_owned(),
            every: every.max(1),
            kill_at: None,
            held: None,
            calls: 0,
            dues: 0,
            restored: false,
            last_step: None,
            metrics: BTreeMap::new(),
            progress: None,
            largest_state_bytes: 0,
        })
    }

    /// What is `/job` to the job.
    pub fn job(&self) -> PathBuf {
        self.root.join("job")
    }

    /// What is `/out` to the job.
    pub fn out(&self) -> PathBuf {
        self.root.join("out")
    }

    /// How many calls the attempt that ended last has made of its host.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// How many checkpoints were saved.
    pub fn saved(&self) -> u64 {
        self.held.as_ref().map_or(0, |held| held.snapshot.sequence)
    }

    /// One attempt, killed after its `kill_at`th call of the host, if that is given.
    pub fn attempt<T>(
        &mut self,
        kill_at: Option<u64>,
        job: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, Killed> {
        (self.kill_at, self.calls, self.dues) = (kill_at, 0, 0);
        (self.restored, self.last_step) = (false, None);
        match panic::catch_unwind(AssertUnwindSafe(|| job(self))) {
            Ok(ended) => Ok(ended),
            Err(reason) if is_kill(reason.as_ref()) => Err(Killed),
            Err(reason) => panic::resume_unwind(reason),
        }
    }

    /// Counts a call that was answered, and kills if it was the last to be.
    fn count(&mut self) {
        self.calls += 1;
        if self.kill_at == Some(self.calls) {
            // Not `panic!`: nothing is to be printed for a death that was asked for.
            panic::resume_unwind(Box::new(Killed));
        }
    }

    fn advance(&mut self, step: u64) {
        assert!(self.last_step.is_none_or(|last| last <= step), "step fell to {step}");
        self.last_step = Some(step);
    }

    fn files(&self) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for directory in [self.job(), self.out()] {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                files.insert(path.clone(), fs::read(path)?);
            }
        }
        Ok(files)
    }

    fn roll_back(&self) -> io::Result<()> {
        for directory in [self.job(), self.out()] {
            fs::remove_dir_all(&directory)?;
            fs::create_dir(&directory)?;
        }
        for (path, bytes) in self.held.iter().flat_map(|held| &held.files) {
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}

fn is_kill(reason: &(dyn Any + Send)) -> bool {
    reason.is::<Killed>()
}

impl Host for Rehearsal {
    fn restore(&mut self) -> Option<Snapshot> {
        assert!(!self.restored, "restore was called a second time");
        self.restored = true;
        self.roll_back().expect("the rehearsal's directory can be written");
        let snapshot = self.held.as_ref().map(|held| held.snapshot.clone());
        self.last_step = snapshot.as_ref().map(|snapshot| snapshot.step);
        (self.metrics, self.progress) = self
            .held
            .as_ref()
            .map_or_else(Default::default, |held| (held.metrics.clone(), held.progress));
        self.count();
        snapshot
    }

    fn due(&mut self, step: u64) -> bool {
        if self.dues == 0
            && let (true, Some(held)) = (self.restored, &self.held)
        {
            assert_eq!(held.snapshot.step, step, "the first due must name the restored step");
        }
        self.advance(step);
        self.dues += 1;
        let due = self.dues.is_multiple_of(self.every);
        self.count();
        due
    }

    fn save(&mut self, step: u64, state: &[u8]) -> u64 {
        self.advance(step);
        let sequence = self.saved() + 1;
        self.largest_state_bytes = self.largest_state_bytes.max(state.len());
        self.held = Some(Held {
            snapshot: Snapshot { sequence, step, state: state.to_vec() },
            files: self.files().expect("the rehearsal's directory can be read"),
            metrics: self.metrics.clone(),
            progress: self.progress,
        });
        self.count();
        sequence
    }

    fn report(&mut self, done: u64, total: Option<u64>) {
        self.progress = Some((done, total));
        self.count();
    }

    fn metric(&mut self, name: &str, value: f64) {
        assert!(name.len() <= 128, "the metric's name {name:?} is longer than 128 bytes");
        self.metrics.insert(name.to_owned(), value);
        self.count();
    }

    fn note(&mut self, text: &str) {
        assert!(text.len() <= 4096, "a note is longer than 4 KiB");
        self.count();
    }
}
