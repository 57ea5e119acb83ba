//! A host: one process that owns one ledger.
//!
//! Owns: opening and recovery, the decision lock, claims, snapshots of the ledger and the removal
//! of blobs that nothing needs.
//!
//! Invariants: records are applied to the ledger in the order of the log, under the same lock
//! that appended them; a blob is removed only after the record that let go of it is durable.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hb_disk::{LockGuard, RealDisk, Storage};
use hb_sandbox::{Compiler, Control, Ended, Input, Launch, Prepared, Sandbox, SandboxOptions};
use hb_seal::HostKey;
use hb_store::Store;
use hb_types::{
    Digest, Lsn,
    event::{Event, Interrupted, JobNumber, Scheduled, Started},
    job::BlobRef,
    ledger::{Job, Ledger},
    limits::{Limit, Limits},
    outcome::Outcome,
    state::{Interruption, Phase},
};
use hb_wal::Wal;

use crate::{
    attempt::Attempt,
    clock,
    error::{DecideError, OpenHostError, RunError},
    journal::{EmbeddedJournal, Entry, Expect, Journal, JournalError, Pending, Subject, Urgency},
    layout::{self, Layout},
    observer::{Notice, Observer},
};

/// Log bytes after which the ledger is written as a snapshot: recovery reads at most about this
/// much, and what the snapshot covers can be removed.
const SNAPSHOT_EVERY_BYTES: u64 = 32 * 1024 * 1024;

/// What a host is opened with.
pub struct HostOptions {
    /// How the compiling child process is started.
    pub compiler: Compiler,
    /// The most that a job may ask for.
    pub ceilings: Limits,
    /// The log's dimensions.
    pub log: hb_wal::Options,
}

/// One process that owns a ledger and runs jobs.
pub struct Host {
    layout: Layout,
    ceilings: Limits,
    store: Store,
    sandbox: Sandbox,
    journal: EmbeddedJournal,
    key: HostKey,
    name: String,
    shared: Mutex<Shared>,
    _lock: LockGuard,
}

struct Shared {
    ledger: Ledger,
    bytes_since_snapshot: u64,
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
        let disk: Arc<dyn Storage> = Arc::new(disk);
        let (wal, recovery) = Wal::open(Arc::clone(&disk), options.log)?;
        for notice in &recovery.notices {
            tracing::warn!("the ledger's log: {notice}");
        }
        let ledger =
            crate::view::replay(recovery.snapshot.as_ref(), |visit| recovery.replay(visit))?;
        drop(recovery);
        let store = Store::open(disk)?;
        store.sweep(&|digest| ledger.refers_to(digest))?;
        let host = Self {
            ceilings: options.ceilings,
            store,
            sandbox: Sandbox::open(SandboxOptions {
                cache_dir: layout.cache(),
                compiler: options.compiler,
            })?,
            journal: EmbeddedJournal::new(wal, last_positions(&ledger)),
            key: hb_seal::load_or_create(&keys, layout::KEY)?,
            name: machine_name(),
            shared: Mutex::new(Shared { ledger, bytes_since_snapshot: 0 }),
            layout,
            _lock: lock,
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
        let last = shared.ledger.jobs.get(&job).map_or(Expect::Absent, |job| Expect::At(job.last));
        let subject = Subject::Job(job);
        let entries = events.into_iter().enumerate().map(|(index, event)| Entry {
            subject: subject.clone(),
            // The records of one decision follow each other by being appended together.
            expect: if index == 0 { last } else { Expect::Any },
            event,
        });
        Ok(self.append_entries(&mut shared, entries.collect(), urgency)?)
    }

    /// Appends entries and applies them, under the lock that orders both.
    fn append_entries(
        &self,
        shared: &mut Shared,
        entries: Vec<Entry>,
        urgency: Urgency,
    ) -> Result<Decided, JournalError> {
        let pending = self.journal.append(&entries, urgency)?;
        let first = pending.first;
        let mut unused = Vec::new();
        for (lsn, entry) in (first..).zip(&entries) {
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
        Ok(self.append_entries(&mut shared, vec![entry], Urgency::New)?)
    }

    /// Waits until a decision is durable; then removes what it made useless.
    pub(crate) fn settle(&self, decided: Decided) -> Result<(), JournalError> {
        decided.pending.wait()?;
        for digest in decided.unused {
            let needed = self.lock().ledger.refers_to(digest);
            // Blobs that stay behind are found by the sweep of the next start.
            if !needed && let Err(error) = self.store.remove(digest) {
                tracing::warn!(%digest, %error, "a blob that nothing needs could not be removed");
            }
        }
        self.snapshot_if_due();
        Ok(())
    }

    /// Bounds what the next recovery has to read. A failure costs time at the next start, nothing
    /// else, and is only told.
    fn snapshot_if_due(&self) {
        let written = self.journal.wal().stats().bytes;
        let snapshot = {
            let mut shared = self.lock();
            if written < shared.bytes_since_snapshot + SNAPSHOT_EVERY_BYTES {
                return;
            }
            shared.bytes_since_snapshot = written;
            (shared.ledger.applied, shared.ledger.to_bytes())
        };
        let (at, bytes) = snapshot;
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
        let decided = self.decide(number, events, Urgency::Closing)?;
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
            scratch: tempfile::tempfile_in(self.layout.root()).map_err(RunError::Scratch)?,
        })
    }

    fn open_blob(&self, blob: BlobRef) -> Result<std::fs::File, RunError> {
        crate::view::blob_file(&self.store, blob)
    }
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
