//! One host, from its opening to its end.
//!
//! Owns: the real host and dispatcher over a simulated process, the attempts that are on their way,
//! and how all of it ends. Knows nothing of what clients want.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use hb_disk::{SimulatedDisk, Storage};
use hb_host::{
    ArchiveOptions, Capacity, Change, DispatchOptions, Dispatcher, Ground, Host, Listener,
    OpenHostError, Stream,
};
use hb_seal::HostKey;
use hb_types::{Lsn, event::JobNumber, limits::Limits};

use crate::{
    clock::SimulatedClock,
    executor::{SimulatedExecutor, ToldSave},
    process::Process,
    spoil::Spoil,
    stage::Actor,
};

/// Dimensions of the log: small, so that segments change and snapshots are made within a history.
pub fn log_options() -> hb_wal::Options {
    hb_wal::Options {
        segment_bytes: 128 << 10,
        max_frame_bytes: 96 << 10,
        reserve_bytes: 8 << 10,
        // Without threads the same calls give the same operations of the disk.
        background: false,
        seed: Some(1),
        clock_ns: || 1_700_000_000_000_000_000,
        ..hb_wal::Options::default()
    }
}

/// What a client is told later, by the thread that commits.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The job's name.
    pub name: String,
    /// Its number.
    pub number: JobNumber,
}

/// Positions that a host said to have become durable.
#[derive(Debug, Default)]
struct News(Mutex<Vec<Change>>);

impl Listener for News {
    fn changed(&self, change: Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    fn forgotten(&self, _jobs: &[JobNumber]) {}

    fn printed(&self, _job: JobNumber, _stream: Stream) {}

    fn progressed(&self, _job: JobNumber) {}
}

/// A host that is open.
pub struct Life {
    /// The process.
    pub process: Process,
    /// The host.
    pub host: Arc<Host>,
    /// Its dispatcher, without threads.
    pub dispatcher: Arc<Dispatcher>,
    /// Attempts that are on their way.
    pub actors: Vec<Actor>,
    /// Answers that arrived.
    pub answers: Arc<Mutex<Vec<Answer>>>,
    /// What guests were told.
    pub saves: Arc<Mutex<Vec<ToldSave>>>,
    news: Arc<News>,
    /// Positions that were announced so far.
    announced: BTreeSet<Lsn>,
}

impl Life {
    /// Opens a host.
    pub fn open(
        process: Process,
        clock: &Arc<SimulatedClock>,
        spoil: Option<&Spoil>,
    ) -> Result<Self, OpenHostError> {
        let saves = Arc::new(Mutex::new(Vec::new()));
        let executor = SimulatedExecutor::new(process.clone(), Arc::clone(&saves), spoil.cloned());
        let host = Host::open_on(Ground {
            disk: Arc::new(process.clone()),
            lock: None,
            executor: Arc::new(executor),
            containers: hb_host::Containers::new(hb_host::ContainerOptions::default()),
            clock: Arc::<SimulatedClock>::clone(clock),
            machine: "simulated".to_owned(),
            process: 1,
            key: HostKey::from_seed(&[7; 32]),
            scratch: std::env::temp_dir(),
            ceilings: Limits::ceilings(),
            log: log_options(),
            snapshot_every_bytes: 60 << 10,
            archive: ArchiveOptions { kept_in_memory: 3, batch: 2 },
        })?;
        let host = Arc::new(host);
        let machine = Capacity { cpu_milli: 3000, memory_bytes: 8 << 30 };
        let options = DispatchOptions::new(machine, 1, 12);
        let dispatcher = Arc::new(Dispatcher::unstaffed(Arc::clone(&host), options));
        let news = Arc::<News>::default();
        host.listen(Arc::<News>::clone(&news));
        let (actors, answers, announced) = (Vec::new(), Arc::default(), BTreeSet::new());
        Ok(Self { process, host, dispatcher, actors, answers, saves, news, announced })
    }

    /// Founds a host on an empty disk.
    pub fn found() -> SimulatedDisk {
        let disk = SimulatedDisk::new();
        let clock = Arc::new(SimulatedClock::new(0));
        let process = Process::new(&disk, u64::MAX, &clock, 0, None);
        drop(Self::open(process, &clock, None).expect("an empty disk without faults"));
        disk.fork()
    }

    /// The disk as this process sees it.
    pub fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(self.process.clone())
    }

    /// Whether nothing more can be asked of it.
    pub fn is_over(&self) -> bool {
        self.process.is_gone() || self.dispatcher.failure().is_some()
    }

    /// Takes the next job out of the queue, if one may start; its attempt is on its way then.
    pub fn start_next(&mut self) -> Option<JobNumber> {
        let taken = self.dispatcher.take_next()?;
        let number = taken.number;
        let dispatcher = Arc::clone(&self.dispatcher);
        self.actors.push(Actor::new(number, move || dispatcher.run_taken(&taken)));
        Some(number)
    }

    /// Lets one attempt go on to its next step.
    pub fn resume(&mut self, index: usize) {
        if !self.actors[index].resume() {
            self.actors.remove(index);
        }
    }

    /// Lets all attempts go on until they are over.
    pub fn resume_all(&mut self) {
        while !self.actors.is_empty() {
            self.resume(0);
        }
    }

    /// What has been told since this was last asked.
    pub fn answers(&self) -> (Vec<Answer>, Vec<ToldSave>) {
        let answers =
            std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner));
        let saves = std::mem::take(&mut *self.saves.lock().unwrap_or_else(PoisonError::into_inner));
        (answers, saves)
    }

    /// Checks what was announced since this was last asked: each position once, and none that is not
    /// durable.
    pub fn check_announcements(&mut self) -> Result<(), String> {
        let durable = self.host.durable_lsn();
        let changes =
            std::mem::take(&mut *self.news.0.lock().unwrap_or_else(PoisonError::into_inner));
        for Change { first, last, .. } in changes {
            if last > durable {
                return Err(format!("position {last} was announced, {durable} is durable"));
            }
            if let Some(again) = (first..=last).find(|lsn| !self.announced.insert(*lsn)) {
                return Err(format!("position {again} was announced twice"));
            }
        }
        Ok(())
    }

    /// Asks everything to stop at its next checkpoint, waits for it, and closes the host.
    pub fn drain(&mut self) {
        self.dispatcher.begin_drain();
        self.resume_all();
    }

    /// Ends the process as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
        self.resume_all();
    }
}
