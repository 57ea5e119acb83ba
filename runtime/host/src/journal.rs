//! How the host's decisions reach the log.
//!
//! Owns: the small interface between decisions and whatever keeps them ([`Journal`]), and its
//! implementation over the embedded log. Several machines will have an engine behind the same
//! interface; nothing above it knows which.
//!
//! Invariant: an entry is appended only if its expectation holds at that position, and the
//! entries of one call are appended together or not at all.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use hb_types::{
    Digest, Lsn,
    event::{Event, JobNumber, SCHEMA},
};
use hb_wal::{AppendError, Record, Ticket, Wal};

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A name that a job takes.
    Id(String),
    /// A job.
    Job(JobNumber),
    /// The ledger as a whole.
    Ledger,
}

/// What must hold of the subject for an entry to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Nothing was appended about it.
    Absent,
    /// This was the last position about it.
    At(Lsn),
}

/// One decision.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is about.
    pub subject: Subject,
    /// Under which condition.
    pub expect: Expect,
    /// The record.
    pub event: Event,
}

/// Why entries are not, or not certainly, in the log.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An expectation did not hold; nothing was appended.
    #[error(
        "another decision came first: {subject:?} was last decided at {found:?}, {expected:?} was expected"
    )]
    Conflict {
        /// What it is about.
        subject: Subject,
        /// What was expected.
        expected: Expect,
        /// The last position about it.
        found: Option<Lsn>,
    },
    /// The log did not take them, or it is not known whether it did.
    #[error("the ledger's log did not take a record")]
    Append(#[from] AppendError),
}

/// Entries on their way to the disk.
#[must_use = "nothing may be announced before `wait` returned"]
pub struct Pending {
    ticket: Ticket,
    /// Position of the first entry; the others follow without gaps.
    pub first: Lsn,
}

impl Pending {
    /// Returns when the entries are durable.
    pub fn wait(self) -> Result<(), JournalError> {
        Ok(self.ticket.wait()?)
    }

    /// Calls back once the entries are durable, or when whether they are cannot be known any more.
    /// The call comes from the thread that commits, which does nothing else meanwhile.
    pub fn on_durable(&self, call: impl FnOnce(Result<(), JournalError>) + Send + 'static) {
        self.ticket.on_durable(move |result| call(result.map_err(JournalError::from)));
    }
}

/// Is called once with how it went.
pub type WhenDurable = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Where decisions are kept.
pub trait Journal: Send + Sync {
    /// Appends entries whose expectations hold. They are ordered when this returns and durable
    /// when [`Pending::wait`] does.
    fn append(&self, entries: &[Entry], urgency: Urgency) -> Result<Pending, JournalError>;

    /// Returns when everything up to this position is durable, whoever appended it.
    fn await_durable(&self, lsn: Lsn) -> Result<(), JournalError>;

    /// Calls back once everything up to this position is durable, or may never be.
    fn when_durable(&self, lsn: Lsn, call: WhenDurable);

    /// The newest durable position, and the link of the log's chain there.
    fn head(&self) -> (Lsn, Digest);
}

/// Whether an entry may use the space that is kept back for a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// New work: refused when the disk is nearly full.
    New,
    /// What is needed to end work that was accepted.
    Closing,
}

/// The log of this process.
pub struct EmbeddedJournal {
    wal: Wal,
    last: Mutex<BTreeMap<Subject, Lsn>>,
}

impl EmbeddedJournal {
    /// Over a log whose records, as far as `last` tells, were all read.
    pub fn new(wal: Wal, last: BTreeMap<Subject, Lsn>) -> Self {
        Self { wal, last: Mutex::new(last) }
    }

    /// The log itself, for snapshots and figures.
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Forgets the last positions of subjects about which nothing more can be decided, so that
    /// memory does not grow with history. Who decides knows by itself that their names are taken.
    pub fn release(&self, subjects: impl IntoIterator<Item = Subject>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in subjects {
            last.remove(&subject);
        }
    }
}

impl Journal for EmbeddedJournal {
    fn append(&self, entries: &[Entry], urgency: Urgency) -> Result<Pending, JournalError> {
        let records: Vec<Record> = entries
            .iter()
            .map(|entry| {
                let (kind, payload) = entry.event.encode();
                Record { kind, schema: SCHEMA, payload: payload.into_vec() }
            })
            .collect();
        // A thread that panicked while it held the lock can only have done so before the append.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let found = last.get(&entry.subject).copied();
            let holds = match entry.expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::At(lsn) => found == Some(lsn),
            };
            if !holds {
                let (subject, expected) = (entry.subject.clone(), entry.expect);
                return Err(JournalError::Conflict { subject, expected, found });
            }
        }
        let ticket = match urgency {
            Urgency::New => self.wal.append(&records)?,
            Urgency::Closing => self.wal.append_reserved(&records)?,
        };
        let first = ticket.first_lsn;
        for (lsn, entry) in (first..).zip(entries) {
            last.insert(entry.subject.clone(), lsn);
            if let Event::Received(_) = entry.event {
                last.insert(Subject::Job(lsn), lsn);
            }
        }
        Ok(Pending { ticket, first })
    }

    fn await_durable(&self, lsn: Lsn) -> Result<(), JournalError> {
        if self.wal.durable_lsn() >= lsn {
            return Ok(());
        }
        Ok(self.wal.settle()?)
    }

    fn when_durable(&self, lsn: Lsn, call: WhenDurable) {
        self.wal.on_durable(lsn, move |result| call(result.map_err(JournalError::from)));
    }

    fn head(&self) -> (Lsn, Digest) {
        let (lsn, link) = self.wal.head();
        (lsn, Digest(link))
    }
}
