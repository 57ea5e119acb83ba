//! A host: one process that owns one ledger.
//!
//! Owns: opening and recovery, what a host is made of, how the ledger is looked at. Decisions are in
//! `decide.rs`, attempts in `execute.rs`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use hb_container::{ContainerOptions, Containers};
use hb_disk::{LockGuard, RealDisk, Storage};
use hb_sandbox::{Compiler, Sandbox, SandboxOptions};
use hb_seal::HostKey;
use hb_store::Store;
use hb_types::{
    Digest, Lsn,
    event::{Interrupted, JobNumber},
    ledger::{Job, Ledger},
    limits::Limits,
    state::Interruption,
};
use hb_wal::{Recovery, Wal};

use crate::{
    archive::ArchiveOptions,
    clock::{Clock, RealClock},
    error::OpenHostError,
    executor::Executor,
    journal::{EmbeddedJournal, Journal, Subject, Urgency},
    layout::{self, Layout},
    listen::Listener,
    live::LiveJobs,
    program::Programs,
};

/// Log bytes after which the ledger is written as a snapshot, unless chosen otherwise: recovery
/// reads at most about this much, and what the snapshot covers can be removed.
pub const SNAPSHOT_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// What a host is opened with.
pub struct HostOptions {
    /// How the compiling child process is started.
    pub compiler: Compiler,
    /// How containers are run.
    pub containers: ContainerOptions,
    /// The most that a job may ask for.
    pub ceilings: Limits,
    /// The log's dimensions.
    pub log: hb_wal::Options,
    /// Log bytes after which the ledger is written as a snapshot; [`SNAPSHOT_EVERY_BYTES`] is
    /// what a data directory is meant to have.
    pub snapshot_every_bytes: u64,
    /// When jobs that are over leave memory.
    pub archive: ArchiveOptions,
    /// Puts something between the host and its disk, for experiments.
    pub wrap_disk: Option<WrapDisk>,
}

/// Puts something between a host and its disk.
pub type WrapDisk = Box<dyn FnOnce(Arc<dyn Storage>) -> io::Result<Arc<dyn Storage>>>;

/// What a host stands on, for disks that are not a data directory.
pub struct Ground {
    /// Where the log and the blobs are.
    pub disk: Arc<dyn Storage>,
    /// Keeps other hosts from the disk for as long as it lives, where others can reach it.
    pub lock: Option<LockGuard>,
    /// What runs components.
    pub executor: Arc<dyn Executor>,
    /// What runs native programs.
    pub containers: Containers,
    /// What tells the time.
    pub clock: Arc<dyn Clock>,
    /// Name of the machine, for circumstances.
    pub machine: String,
    /// Number of the process, for circumstances.
    pub process: u32,
    /// What seals are signed with.
    pub key: HostKey,
    /// A directory for files without names: what a job writes while it runs.
    pub scratch: PathBuf,
    /// The most that a job may ask for.
    pub ceilings: Limits,
    /// The log's dimensions.
    pub log: hb_wal::Options,
    /// Log bytes after which the ledger is written as a snapshot.
    pub snapshot_every_bytes: u64,
    /// When jobs that are over leave memory.
    pub archive: ArchiveOptions,
}

/// One process that owns a ledger and runs jobs.
pub struct Host {
    pub(crate) scratch: PathBuf,
    ceilings: Limits,
    store: Store,
    executor: Arc<dyn Executor>,
    containers: Containers,
    clock: Arc<dyn Clock>,
    pub(crate) process: u32,
    pub(crate) journal: EmbeddedJournal,
    key: HostKey,
    name: String,
    ledger_id: [u8; 16],
    started_ns: u64,
    snapshot_every_bytes: u64,
    archive: ArchiveOptions,
    shared: Mutex<Shared>,
    listeners: RwLock<Arc<[Arc<dyn Listener>]>>,
    live: LiveJobs,
    /// Whether a thread of its own tidies up after decisions.
    kept: AtomicBool,
    _lock: Option<LockGuard>,
}

pub(crate) struct Shared {
    pub ledger: Ledger,
    /// Bytes of log that are not covered by a snapshot and that an earlier process wrote.
    pub inherited_bytes: u64,
    /// Bytes that this process had written when it last made a snapshot.
    pub snapshot_at_bytes: u64,
    /// Length of the last snapshot; zero where this process made none.
    pub snapshot_bytes: u64,
    /// Blobs that were let go of, each with the position of the record that did: they are removed
    /// once it is durable and nobody is about to refer to any.
    pub unused: BTreeMap<Digest, Lsn>,
}

impl Host {
    /// Opens a data directory, or founds it; recovers; marks attempts that died with their host.
    pub fn open(root: &Path, options: HostOptions) -> Result<Self, OpenHostError> {
        let layout = Layout::new(root);
        let directory = |source| OpenHostError::Directory { path: root.to_owned(), source };
        let disk = RealDisk::open(root).map_err(directory)?;
        let Some(lock) = crate::ownership::take(&disk).map_err(directory)? else {
            let owner = disk.lock_owner(layout::LOCK);
            return Err(OpenHostError::InUse { path: root.to_owned(), owner });
        };
        std::fs::create_dir_all(layout.keys()).map_err(directory)?;
        let keys = cap_std::fs::Dir::open_ambient_dir(layout.keys(), cap_std::ambient_authority())
            .map_err(directory)?;
        let HostOptions {
            compiler,
            containers,
            ceilings,
            log,
            snapshot_every_bytes,
            archive,
            wrap_disk,
        } = options;
        let disk: Arc<dyn Storage> = Arc::new(disk);
        let disk = match wrap_disk {
            Some(wrap) => wrap(disk).map_err(directory)?,
            None => disk,
        };
        Self::open_on(Ground {
            disk,
            lock: Some(lock),
            executor: Arc::new(Sandbox::open(SandboxOptions {
                cache_dir: layout.cache(),
                compiler,
            })?),
            containers: Containers::new(containers),
            clock: Arc::new(RealClock),
            machine: machine_name(),
            process: std::process::id(),
            key: hb_seal::load_or_create(&keys, layout::KEY)?,
            scratch: root.to_owned(),
            ceilings,
            log,
            snapshot_every_bytes,
            archive,
        })
    }

    /// Opens a host on any disk, or founds one there; recovers; marks attempts that died with
    /// their host.
    pub fn open_on(ground: Ground) -> Result<Self, OpenHostError> {
        let (wal, recovery) = Wal::open(Arc::clone(&ground.disk), ground.log)?;
        for notice in &recovery.notices {
            tracing::warn!("the ledger's log: {notice}");
        }
        let ledger =
            crate::view::replay(recovery.snapshot.as_ref(), |visit| recovery.replay(visit))?;
        let inherited_bytes = bytes_without_snapshot(&recovery);
        let ledger_id = recovery.uuid;
        drop(recovery);
        let in_log = ground.disk.list("wal").unwrap_or_default();
        let gave_up_records = in_log.iter().any(|name| name.starts_with("removed-"));
        let store = Store::open(ground.disk)?;
        if gave_up_records {
            // What was given up may be wanted back, and its blobs with it.
            tracing::info!("blobs are kept: records that were given up lie in wal/removed-*");
        } else {
            store.sweep(&|digest| ledger.refers_to(digest))?;
        }
        let host = Self {
            scratch: ground.scratch,
            ceilings: ground.ceilings,
            store,
            executor: ground.executor,
            containers: ground.containers,
            started_ns: ground.clock.now_ns(),
            clock: ground.clock,
            process: ground.process,
            journal: EmbeddedJournal::new(wal, last_positions(&ledger)),
            key: ground.key,
            name: ground.machine,
            ledger_id,
            snapshot_every_bytes: ground.snapshot_every_bytes,
            archive: ground.archive,
            shared: Mutex::new(Shared {
                ledger,
                inherited_bytes,
                snapshot_at_bytes: 0,
                snapshot_bytes: 0,
                unused: BTreeMap::new(),
            }),
            listeners: RwLock::new(Arc::from([])),
            live: LiveJobs::default(),
            kept: AtomicBool::new(false),
            _lock: ground.lock,
        };
        host.mark_crashes()?;
        host.sweep_containers();
        Ok(host)
    }

    /// Removes containers that an earlier host left and that no job can go on in. Those of jobs that
    /// are about to go on stay: their next attempt takes them over, or removes them.
    fn sweep_containers(&self) {
        let goes_on = |job: &Job| job.is_unfinished() && !job.state.held;
        let is_wanted =
            |number| self.with_ledger(|ledger| ledger.jobs.get(&number).is_some_and(goes_on));
        match self.containers.sweep(self.ledger_id, &is_wanted) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "containers of an earlier host were removed"),
            Err(error) => {
                tracing::warn!(%error, "containers of an earlier host may be left; the next start looks again");
            }
        }
    }

    /// Every attempt that still holds a job died with an earlier host: this one has the lock.
    fn mark_crashes(&self) -> Result<(), OpenHostError> {
        let running: Vec<(JobNumber, Lsn, u32)> = self
            .lock()
            .ledger
            .jobs
            .values()
            .filter_map(|job| {
                let process = job.attempts.last().map_or(0, |attempt| attempt.process);
                job.state.token.map(|token| (job.number, token, process))
            })
            .collect();
        for (job, token, process) in running {
            let detail = format!("process {process} ended without saying why");
            let why = Interruption::HostCrashed;
            let record = Interrupted { job, token, why, detail, at_ns: self.now_ns() };
            let decided = self.decide(job, vec![record.into()], Urgency::Closing)?;
            self.settle(decided)?;
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn executor(&self) -> &dyn Executor {
        &*self.executor
    }

    /// The time, as this host sees it.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// What runs native programs.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }

    pub(crate) fn programs(&self) -> Programs<'_> {
        Programs { store: &self.store, executor: &*self.executor, containers: &self.containers }
    }

    pub(crate) fn key(&self) -> &HostKey {
        &self.key
    }

    /// The most that a job may ask for.
    pub fn ceilings(&self) -> &Limits {
        &self.ceilings
    }

    /// Name of the machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest durable position of the log, and the link of its chain there.
    pub fn head(&self) -> (Lsn, Digest) {
        self.journal.head()
    }

    /// The newest durable position of the log.
    pub fn durable_lsn(&self) -> Lsn {
        self.journal.wal().durable_lsn()
    }

    /// Figures of the log since this host was opened.
    pub fn log_figures(&self) -> hb_wal::Stats {
        self.journal.wal().stats()
    }

    /// Why nothing can be made durable any more, if so: a flush failed, and only opening the data
    /// directory again tells what it kept.
    pub fn failure(&self) -> Option<String> {
        let stopped = || {
            let dir = self.store.stopped()?;
            Some(format!("the names in {dir} could not be made durable"))
        };
        self.journal.wal().failure().or_else(stopped)
    }

    /// The identity of the ledger.
    pub fn ledger_id(&self) -> [u8; 16] {
        self.ledger_id
    }

    /// When this host was opened, in nanoseconds since the Unix epoch.
    pub fn started_ns(&self) -> u64 {
        self.started_ns
    }

    pub(crate) fn snapshot_every_bytes(&self) -> u64 {
        self.snapshot_every_bytes
    }

    pub(crate) fn archive_options(&self) -> ArchiveOptions {
        self.archive
    }

    /// A job in memory as it stands. Jobs that are over may have been archived; see
    /// [`Host::load`].
    pub fn job(&self, number: JobNumber) -> Option<Job> {
        self.lock().ledger.jobs.get(&number).cloned()
    }

    /// Looks something up in the ledger as it stands.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.lock().ledger)
    }

    /// What running jobs print and say before it is durable.
    pub fn live(&self) -> &LiveJobs {
        &self.live
    }

    /// Adds somebody who wants to know of changes.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        let mut listeners = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        *listeners = listeners.iter().cloned().chain([listener]).collect();
    }

    pub(crate) fn listeners(&self) -> Arc<[Arc<dyn Listener>]> {
        Arc::clone(&self.listeners.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that a thread calls [`Host::tidy`] from now on, so that no decision has to.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    // The ledger is changed only by `Ledger::apply`, which changes all or nothing, so a panic
    // elsewhere under the lock leaves it whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About how many bytes of a log its newest snapshot does not cover: the log tells how many it
/// has, and how many records.
fn bytes_without_snapshot(recovery: &Recovery) -> u64 {
    let covered = recovery.snapshot.as_ref().map_or(0, |snapshot| snapshot.lsn);
    let figures = &recovery.figures;
    let bytes_per_record = figures.bytes / figures.records.max(1);
    bytes_per_record.saturating_mul(recovery.last_lsn.saturating_sub(covered))
}

fn last_positions(ledger: &Ledger) -> BTreeMap<Subject, Lsn> {
    let jobs = ledger.jobs.values();
    jobs.flat_map(|job| {
        let id = (Subject::Id(job.job_id.clone()), job.number);
        [id, (Subject::Job(job.number), job.last)]
    })
    .collect()
}

fn machine_name() -> String {
    let name = rustix::system::uname();
    hb_types::text::printable_bytes(name.nodename().to_bytes(), 200)
}
