//! The read model: one writer, a few readers, one file.
//!
//! Owns: who may touch the file when. Knows nothing of what is asked and answered.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hb_types::{Lsn, state::Phase};
use rusqlite::Connection;

use crate::{
    Changes, Count, Cursor, Ended, EventRow, Filter, JobRow, Opened, Page, ReadModelError, Totals,
    bounds::{ANSWER_TIME, MAX_PAGE, MAX_SIDE_LOG_BYTES, READERS},
    change,
    error::Fault,
    history,
    meta::Meta,
    open::{create, open, side_log},
    query,
    readers::{Readers, Reading},
};

/// What an operator may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Connections that read at once.
    pub readers: usize,
    /// How long a question may take, waiting included.
    pub answer_time: Duration,
    /// Where `SQLite`'s own log is cut by force, in bytes.
    pub max_side_log_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { readers: READERS, answer_time: ANSWER_TIME, max_side_log_bytes: MAX_SIDE_LOG_BYTES }
    }
}

/// The history of jobs, for questions. See the crate's own page for what it promises.
///
/// Every method blocks its thread for as long as it takes.
pub struct ReadModel {
    path: PathBuf,
    ledger: [u8; 16],
    max_side_log_bytes: u64,
    applied: AtomicU64,
    /// `None` after a clearing that failed half-way.
    writer: Mutex<Option<Connection>>,
    readers: Readers,
    /// Held by every reader while it reads, and by whoever needs that nobody does.
    gate: RwLock<()>,
}

impl fmt::Debug for ReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel")
            .field("path", &self.path)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl ReadModel {
    /// Opens the read model of a ledger. Where there is none that can be gone on with, an empty one
    /// takes its place.
    ///
    /// The directory exists, and no other process has the file open: the lock of the ledger sees
    /// to that.
    pub fn open(path: &Path, ledger: [u8; 16]) -> Result<(Self, Opened), ReadModelError> {
        Self::open_with(path, ledger, Options::default())
    }

    /// The same with other bounds.
    pub fn open_with(
        path: &Path,
        ledger: [u8; 16],
        options: Options,
    ) -> Result<(Self, Opened), ReadModelError> {
        let (connection, opened) = open(path, ledger)?;
        let meta =
            Meta::load(&connection).map_err(|fault| fault.while_doing("open the read model", 0))?;
        let model = Self {
            path: path.to_owned(),
            ledger,
            max_side_log_bytes: options.max_side_log_bytes,
            applied: AtomicU64::new(meta.applied),
            writer: Mutex::new(Some(connection)),
            readers: Readers::new(path.to_owned(), options.readers, options.answer_time),
            gate: RwLock::new(()),
        };
        Ok((model, opened))
    }

    /// The position up to which everything is in it. Zero also while it is being built anew.
    pub fn applied(&self) -> Lsn {
        self.applied.load(Ordering::Acquire)
    }

    /// Applies changes, all or none. Changes before [`ReadModel::applied`] are passed over, and the
    /// same changes twice are the same as once.
    pub fn apply(&self, changes: &Changes) -> Result<(), ReadModelError> {
        let mut writer = self.writer();
        let connection = writer.as_mut().ok_or(ReadModelError::Closed)?;
        let applied = change::apply(connection, changes)
            .map_err(|fault| fault.while_doing("apply changes", 0))?;
        self.applied.store(applied, Ordering::Release);
        self.bound_side_log(connection)
    }

    /// A page of the jobs that satisfy a filter, newest first, at most [`MAX_PAGE`] of them: the
    /// first one, or the one at a cursor that came with the page before it.
    ///
    /// A limit of zero is taken as one.
    pub fn query(
        &self,
        filter: &Filter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page, ReadModelError> {
        filter.check()?;
        let after = cursor.map(|cursor| cursor.place(filter)).transpose()?;
        self.read("list jobs", |reading| {
            query::page(reading, filter, after, limit.clamp(1, MAX_PAGE))
        })
    }

    /// The job with a number.
    pub fn get(&self, number: u64) -> Result<Option<JobRow>, ReadModelError> {
        self.read("look up a job", |reading| query::get(reading, number))
    }

    /// How many jobs satisfy a filter, counted up to [`crate::bounds::MAX_COUNT`].
    pub fn count(&self, filter: &Filter) -> Result<Count, ReadModelError> {
        filter.check()?;
        self.read("count jobs", |reading| query::count(reading, filter))
    }

    /// How many jobs there are in each phase, every phase named. Does not depend on how many there are.
    pub fn counts_by_phase(&self) -> Result<BTreeMap<Phase, u64>, ReadModelError> {
        self.read("count jobs", |reading| history::counts_by_phase(reading.connection))
    }

    /// How many jobs are final, and how many bytes are kept for them. Does not depend on how many
    /// there are.
    pub fn totals(&self) -> Result<Totals, ReadModelError> {
        self.read("count jobs", |reading| history::totals(reading.connection))
    }

    /// Events after a position, oldest first, at most [`MAX_PAGE`].
    pub fn events_after(&self, after: Lsn, limit: usize) -> Result<Vec<EventRow>, ReadModelError> {
        let limit = limit.min(MAX_PAGE);
        self.read("list events", |reading| history::events_after(reading.connection, after, limit))
    }

    /// Events of one job after a position, oldest first, at most [`MAX_PAGE`].
    pub fn events_of_job(
        &self,
        job: u64,
        after: Lsn,
        limit: usize,
    ) -> Result<Vec<EventRow>, ReadModelError> {
        let limit = limit.min(MAX_PAGE);
        self.read("list events", |reading| {
            history::events_of_job(reading.connection, job, after, limit)
        })
    }

    /// Final jobs that ended before a time, in the order of their ends and then of their numbers,
    /// at most [`MAX_PAGE`]; those after a given one, or from the first on.
    pub fn oldest_ended(
        &self,
        before_ns: u64,
        after: Option<Ended>,
        limit: usize,
    ) -> Result<Vec<JobRow>, ReadModelError> {
        let limit = limit.min(MAX_PAGE);
        self.read("list ended jobs", |reading| {
            history::oldest_ended(reading.connection, before_ns, after, limit)
        })
    }

    /// Empties it, also when its file is damaged: everything has to be fed again. Waits for those
    /// who read.
    pub fn clear(&self) -> Result<(), ReadModelError> {
        let mut writer = self.writer();
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        // SQLite must have closed a file before it is removed: a connection that closes later would
        // remove the log of the new one.
        self.readers.close();
        *writer = None;
        self.applied.store(0, Ordering::Release);
        *writer = Some(create(&self.path, self.ledger)?);
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Option<Connection>> {
        // A panic while writing has rolled the transaction back.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(
        &self,
        doing: &'static str,
        answer: impl FnOnce(&Reading<'_>) -> Result<T, Fault>,
    ) -> Result<T, ReadModelError> {
        let _reading = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.readers.read(answer).map_err(|fault| fault.while_doing(doing, self.readers.limit_ms()))
    }

    /// `SQLite`'s log is used again from its beginning once nobody reads from it. Readers that
    /// overlap without a pause would let it grow for ever, so in the end they wait once.
    fn bound_side_log(&self, connection: &Connection) -> Result<(), ReadModelError> {
        let len_bytes = fs::metadata(side_log(&self.path)).map_or(0, |found| found.len());
        if len_bytes <= self.max_side_log_bytes {
            return Ok(());
        }
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(|error| Fault::from(error).while_doing("cut the log of the read model", 0))
    }
}
