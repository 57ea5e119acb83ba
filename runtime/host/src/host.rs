//! A host: one process that owns one ledger.
//!
//! Owns: opening and recovery, the decision lock, claims, snapshots of the ledger and the removal
//! of blobs that nothing needs.
//!
//! Invariants: records are applied to the ledger in the order of the log, under the same lock
//! that appended them; a blob is removed only after the record that let go of it is durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hb_disk::{LockGuard, RealDisk, Storage};
use hb_sandbox::{Compiler, Control, Ended, Input, Launch, Prepared, Sandbox, SandboxOptions};
use hb_seal::HostKey;
use hb_store::{Store, WhileHeld};
use hb_types::{
    Digest, Lsn,
    event::{Event, Interrupted, JobNumber, Scheduled, Started},
    job::BlobRef,
    ledger::{Job, Ledger},
    limits::{Limit, Limits},
    outcome::Outcome,
    state::{Interruption, Phase},
};
use hb_wal::{Recovery, Wal};

use crate::{
    attempt::Attempt,
    clock,
    error::{DecideError, OpenHostError, RunError},
    journal::{EmbeddedJournal, Entry, Expect, Journal, JournalError, Pending, Subject, Urgency},
    layout::{self, Layout},
    observer::{Notice, Observer},
};

/// Log bytes after which the ledger is written as a snapshot, unless chosen otherwise: recovery
/// reads at most about this much, and what the snapshot covers can be removed.
pub const SNAPSHOT_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// The most blobs that wait to be removed until nobody is about to refer to one.
const UNUSED_MAX: usize = 64;

/// What a host is opened with.
pub struct HostOptions {
    /// How the compiling child process is started.
    pub compiler: Compiler,
    /// The most that a job may ask for.
    pub ceilings: Limits,
    /// The log's dimensions.
    pub log: hb_wal::Options,
    /// Log bytes after which the ledger is written as a snapshot; [`SNAPSHOT_EVERY_BYTES`] is
    /// what a data directory is meant to have.
    pub snapshot_every_bytes: u64,
}

/// What a host stands on, for disks that are not a data directory.
pub struct Ground {
    /// Where the log and the blobs are.
    pub disk: Arc<dyn Storage>,
    /// Keeps other hosts from the disk for as long as it lives, where others can reach it.
    pub lock: Option<LockGuard>,
    /// What runs jobs.
    pub sandbox: Arc<Sandbox>,
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
}

/// One process that owns a ledger and runs jobs.
pub struct Host {
    scratch: PathBuf,
    ceilings: Limits,
    store: Store,
    sandbox: Arc<Sandbox>,
    journal: EmbeddedJournal,
    key: HostKey,
    name: String,
    snapshot_every_bytes: u64,
    shared: Mutex<Shared>,
    _lock: Option<LockGuard>,
}

struct Shared {
    ledger: Ledger,
    /// Bytes of log that are not covered by a snapshot and that an earlier process wrote.
    inherited_bytes: u64,
    /// Bytes that this process had written when it last made a snapshot.
    snapshot_at_bytes: u64,
    /// Blobs that were let go of durably, and are removed once nobody is about to refer to any.
    unused: BTreeSet<Digest>,
}

/// A decision that is in the log's order and on its way to the disk.
#[must_use = "nothing may be announced before it was settled"]
pub(crate) struct Decided {
    pending: Pending,
    /// Position of its first record.
    pub first: Lsn,
    unused: Vec<Digest>,
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
        let HostOptions { compiler, ceilings, log, snapshot_every_bytes } = options;
        Self::open_on(Ground {
            disk: Arc::new(disk),
            lock: Some(lock),
            sandbox: Arc::new(Sandbox::open(SandboxOptions {
                cache_dir: layout.cache(),
                compiler,
            })?),
            key: hb_seal::load_or_create(&keys, layout::KEY)?,
            scratch: root.to_owned(),
            ceilings,
            log,
            snapshot_every_bytes,
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
            sandbox: ground.sandbox,
            journal: EmbeddedJournal::new(wal, last_positions(&ledger)),
            key: ground.key,
            name: machine_name(),
            snapshot_every_bytes: ground.snapshot_every_bytes,
            shared: Mutex::new(Shared {
                ledger,
                inherited_bytes,
                snapshot_at_bytes: 0,
                unused: BTreeSet::new(),
            }),
            _lock: ground.lock,
        };
        host.mark_crashes()?;
        Ok(host)
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
            let record = Interrupted { job, token, why, detail, at_ns: clock::now_ns() };
            let decided = self.decide(job, vec![record.into()], Urgency::Closing)?;
            self.settle(decided)?;
        }
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(crate) fn key(&self) -> &HostKey {
        &self.key
    }

    pub(crate) fn ceilings(&self) -> &Limits {
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

    /// Figures of the log since this host was opened.
    pub fn log_figures(&self) -> hb_wal::Stats {
        self.journal.wal().stats()
    }

    /// A job as it stands.
    pub fn job(&self, number: JobNumber) -> Option<Job> {
        self.lock().ledger.jobs.get(&number).cloned()
    }

    /// Looks something up in the ledger as it stands.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.lock().ledger)
    }

    // The ledger is changed only by `Ledger::apply`, which changes all or nothing, so a panic
    // elsewhere under the lock leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides records about one job: checks that they may follow, appends and applies them.
    pub(crate) fn decide(
        &self,
        job: JobNumber,
        events: Vec<Event>,
        urgency: Urgency,
    ) -> Result<Decided, DecideError> {
        let mut shared = self.lock();
        shared.ledger.check(&events)?;
        let mut batch = Vec::with_capacity(events.len());
        for event in events {
            let Some((parts, assembled)) = event.split() else {
                batch.push(event);
                continue;
            };
            // A frame of the log holds a bounded number of bytes. Parts do nothing by
            // themselves, so a crash among them leaves the job as it was.
            for part in parts {
                let entries = entries_about(&shared.ledger, job, vec![part]);
                let _ = self.append_entries(&mut shared, &entries, urgency)?;
            }
            batch.push(assembled);
        }
        let entries = entries_about(&shared.ledger, job, batch);
        Ok(self.append_entries(&mut shared, &entries, urgency)?)
    }

    /// Appends entries and applies them, under the lock that orders both.
    fn append_entries(
        &self,
        shared: &mut Shared,
        entries: &[Entry],
        urgency: Urgency,
    ) -> Result<Decided, JournalError> {
        let pending = self.journal.append(entries, urgency)?;
        let first = pending.first;
        let mut unused = Vec::new();
        for (lsn, entry) in (first..).zip(entries) {
            let applied = shared.ledger.apply(lsn, &entry.event);
            unused.extend(applied.expect("a decision was checked before it was appended"));
        }
        Ok(Decided { pending, first, unused })
    }

    /// Appends the record that founds a job, if its name is still free.
    pub(crate) fn found(&self, job_id: &str, event: Event) -> Result<Decided, DecideError> {
        let mut shared = self.lock();
        shared.ledger.check(std::slice::from_ref(&event))?;
        let subject = Subject::Id(job_id.to_owned());
        let entry = Entry { subject, expect: Expect::Absent, event };
        Ok(self.append_entries(&mut shared, &[entry], Urgency::New)?)
    }

    /// Waits until a decision is durable; then removes what it made useless.
    pub(crate) fn settle(&self, decided: Decided) -> Result<(), JournalError> {
        decided.pending.wait()?;
        if !decided.unused.is_empty() {
            self.lock().unused.extend(decided.unused);
        }
        self.remove_unused();
        self.snapshot_if_due();
        Ok(())
    }

    /// Removes blobs that were let go of, unless somebody has put a blob and not yet decided the
    /// record that refers to it: it may be one of these, found and taken up again. Then it is
    /// left to a later decision, unless too many wait already. What stays behind is found by the
    /// sweep of the next start.
    fn remove_unused(&self) {
        let unused: Vec<Digest> = self.lock().unused.iter().copied().collect();
        if unused.is_empty() {
            return;
        }
        let needed = |digest| self.lock().ledger.refers_to(digest);
        let patient = unused.len() > UNUSED_MAX;
        let while_held = if patient { WhileHeld::Wait } else { WhileHeld::Leave };
        match self.store.remove_unneeded(&unused, &needed, while_held) {
            Ok(true) => {
                self.lock().unused.retain(|digest| !unused.contains(digest));
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "a blob that nothing needs could not be removed");
            }
        }
    }

    /// Waits until everything up to a position is durable: what another thread decided may be
    /// seen in the ledger before it is.
    pub(crate) fn await_durable(&self, lsn: Lsn) -> Result<(), JournalError> {
        self.journal.await_durable(lsn)
    }

    /// Bounds what the next recovery has to read. A failure costs time at the next start, nothing
    /// else, and is only told.
    fn snapshot_if_due(&self) {
        let written = self.journal.wal().stats().bytes;
        let (at, bytes) = {
            let mut shared = self.lock();
            let since = shared.inherited_bytes + written - shared.snapshot_at_bytes;
            if since < self.snapshot_every_bytes {
                return;
            }
            (shared.inherited_bytes, shared.snapshot_at_bytes) = (0, written);
            (shared.ledger.applied, shared.ledger.to_bytes())
        };
        // Decisions of other threads may be in it that are still on their way.
        if let Err(error) = self.await_durable(at) {
            tracing::warn!(%error, "the ledger's snapshot could not be written");
            return;
        }
        if let Err(error) = self.journal.wal().snapshot(at, &bytes) {
            tracing::warn!(%error, "the ledger's snapshot could not be written");
        }
    }

    /// Makes a component ready to run: from the cache, or scanned and compiled in a bounded child.
    pub(crate) fn prepare(
        &self,
        component: BlobRef,
        limits: &Limits,
        observer: &mut dyn Observer,
    ) -> Result<Prepared, RunError> {
        observer.notice(Notice::Preparing);
        let bytes = self.store.get(component.digest)?;
        Ok(self.sandbox.prepare(&bytes, component.digest, limits)?)
    }

    /// Runs a job to its outcome, from its newest checkpoint. One that has an outcome is left as it
    /// is.
    ///
    /// `Err` means that the attempt ended without an outcome; everything that was saved stays.
    pub fn run(
        &self,
        number: JobNumber,
        control: &Control,
        observer: &mut dyn Observer,
    ) -> Result<Job, RunError> {
        let find =
            || self.job(number).ok_or_else(|| RunError::NoSuchJob { name: number.to_string() });
        let job = find()?;
        if !job.is_unfinished() {
            self.await_durable(job.last)?;
            return Ok(job);
        }
        if job.state.crashes_since_checkpoint >= job.spec.max_crashes {
            let decided = self.conclude_idle(&job, Outcome::Poisoned, poison_message(&job))?;
            self.settle(decided)?;
            return find();
        }
        let prepared = self.prepare(job.spec.component, &job.spec.limits, observer)?;
        let launch = self.launch(&job)?;
        let (token, job) = self.claim(&job)?;
        observer.notice(Notice::Started { attempt: job.state.attempts });
        let control = with_deadline(control, &job.spec.limits);
        let mut attempt = Attempt::new(self, &job, token, observer);
        match self.sandbox.run(&prepared, launch, &mut attempt, &control) {
            Ok(Ended::Finished(_)) => {}
            Ok(Ended::Stopped) => unreachable!("an attempt never asks for a stop"),
            Err(fault) => return Err(self.interrupt(number, token, fault)),
        }
        let job = find()?;
        if let Some(conclusion) = &job.conclusion {
            let seal = job.seal.as_ref().map(|kept| kept.seal);
            observer.notice(Notice::Ended { outcome: conclusion.outcome, seal });
        }
        Ok(job)
    }

    /// Writes down that the host could not go on, as far as it still can.
    fn interrupt(&self, job: JobNumber, token: Lsn, fault: hb_sandbox::HostFault) -> RunError {
        let detail = hb_types::text::printable(&chain_of(&fault), 1000);
        let why = Interruption::HostFault;
        let record = Interrupted { job, token, why, detail, at_ns: clock::now_ns() };
        let written = self.decide(job, vec![record.into()], Urgency::Closing);
        let written = written.and_then(|decided| Ok(self.settle(decided)?));
        if let Err(error) = written {
            // The next start finds the attempt and marks it; nothing depends on this record.
            tracing::warn!(%error, "the interruption could not be written down");
        }
        RunError::Fault(fault)
    }

    /// Claims a job for this process. Not waited for: the log's order alone makes the claim hold
    /// before anything that the attempt writes.
    fn claim(&self, job: &Job) -> Result<(Lsn, Job), RunError> {
        let at_ns = clock::now_ns();
        let number = job.number;
        let mut events: Vec<Event> = Vec::new();
        if job.state.phase == Phase::Received {
            events.push(Scheduled { job: number, at_ns }.into());
        }
        events.push(Started { job: number, process: std::process::id(), at_ns }.into());
        let offset = events.len() as u64 - 1;
        let decided = self.decide(number, events, Urgency::New)?;
        let token = decided.first + offset;
        let job = self.job(number).expect("a claimed job is in the ledger");
        Ok((token, job))
    }

    fn launch(&self, job: &Job) -> Result<Launch, RunError> {
        let mut inputs = Vec::with_capacity(job.spec.inputs.len());
        for (name, blob) in &job.spec.inputs {
            let file = self.open_blob(*blob)?;
            inputs.push(Input { name: name.clone(), file, len_bytes: blob.len_bytes });
        }
        Ok(Launch {
            arguments: job.spec.arguments.clone(),
            environment: job.spec.environment.clone(),
            stdin: job.spec.stdin.map(|blob| self.open_blob(blob)).transpose()?,
            inputs,
            limits: job.spec.limits.clone(),
            seed: job.spec.seed_bytes(),
            start_ns: job.spec.start_ns,
            scratch: tempfile::tempfile_in(&self.scratch).map_err(RunError::Scratch)?,
        })
    }

    fn open_blob(&self, blob: BlobRef) -> Result<std::fs::File, RunError> {
        crate::view::blob_file(&self.store, blob)
    }
}

/// Entries about one job that hold only if nothing else was decided about it.
fn entries_about(ledger: &Ledger, job: JobNumber, events: Vec<Event>) -> Vec<Entry> {
    let last = ledger.jobs.get(&job).map_or(Expect::Absent, |job| Expect::At(job.last));
    let entry = |(index, event)| Entry {
        subject: Subject::Job(job),
        // The records of one batch follow each other by being appended together.
        expect: if index == 0 { last } else { Expect::Any },
        event,
    };
    events.into_iter().enumerate().map(entry).collect()
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

/// The control of one attempt: the caller's, and the job's own limit of real time.
fn with_deadline(control: &Control, limits: &Limits) -> Control {
    let mut control = control.clone();
    let limit_ms = limits.get(Limit::Deadline);
    if let Some(end) = Instant::now().checked_add(Duration::from_millis(limit_ms)) {
        control.deadline = Some(control.deadline.map_or(end, |other| other.min(end)));
    }
    control
}

fn poison_message(job: &Job) -> String {
    format!(
        "set aside: {} attempts died with their host since the last checkpoint; \
         `hb trace {}` shows them, and --max-crashes raises the bound for a new job",
        job.state.crashes_since_checkpoint, job.job_id
    )
}

/// An error and its causes, in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn machine_name() -> String {
    let name = rustix::system::uname();
    hb_types::text::printable_bytes(name.nodename().to_bytes(), 200)
}
