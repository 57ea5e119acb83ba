//! What can go wrong with the read model, and what to do about it.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;

use crate::{InvalidCursor, InvalidFilter, bits::InvalidBits};

/// Why the read model could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    /// The file cannot be made, opened or removed.
    #[error("could not {doing} {}: check the disk and the permissions of its directory", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something that was never written to it.
    #[error(
        "could not {doing}: the read model's file is damaged ({found}); clear it and build it again from \
         the log, nothing is lost"
    )]
    Damaged {
        /// What was tried, as a verb and an object.
        doing: &'static str,
        /// What was found.
        found: String,
    },
    /// There is no room.
    #[error(
        "could not {doing}: the disk is full; free some space, then feed the same changes again"
    )]
    Full {
        /// What was tried, as a verb and an object.
        doing: &'static str,
        /// What `SQLite` said.
        #[source]
        source: rusqlite::Error,
    },
    /// The answer took longer than a question may take.
    #[error(
        "could not {doing} within {limit_ms} ms: narrow the filter, for example by a state or a time \
         range, or ask again when the host is less busy"
    )]
    TooSlow {
        /// What was tried, as a verb and an object.
        doing: &'static str,
        /// How long it may take.
        limit_ms: u64,
    },
    /// The cursor cannot be used.
    #[error("the page cannot be continued")]
    Cursor(#[from] InvalidCursor),
    /// The filter cannot be asked.
    #[error("the filter cannot be answered")]
    Filter(#[from] InvalidFilter),
    /// A number beyond what the file can hold.
    #[error(
        "{field} is {value}, at most {} can be kept: the job or event is not from a log",
        i64::MAX
    )]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A job that is new but not the newest.
    #[error(
        "job {number} is new here, but job {newest} came before it: feed jobs in the order of their \
         numbers, or clear the read model and build it again"
    )]
    OutOfOrder {
        /// The job.
        number: u64,
        /// The greatest number that was fed.
        newest: u64,
    },
    /// An earlier clearing failed half-way.
    #[error("the read model is closed since clearing it failed: clear it again")]
    Closed,
    /// Anything else that `SQLite` refused.
    #[error("could not {doing}")]
    Database {
        /// What was tried, as a verb and an object.
        doing: &'static str,
        /// What `SQLite` said.
        #[source]
        source: rusqlite::Error,
    },
}

/// What goes wrong below, before it is known what was being done and for how long.
#[derive(Debug)]
pub enum Fault {
    /// `SQLite`, or a value that is not what was written.
    Sqlite(rusqlite::Error),
    /// Contents that were never written.
    Damaged(String),
    /// The time was over between two statements.
    TimeIsOver,
    /// A caller's number that cannot be kept.
    OutOfRange(&'static str, u64),
    /// A caller's job that comes too late.
    OutOfOrder { number: u64, newest: u64 },
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<InvalidBits> for Fault {
    fn from(error: InvalidBits) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Fault {
    /// The error for callers.
    pub fn while_doing(self, doing: &'static str, limit_ms: u64) -> ReadModelError {
        match self {
            Self::Damaged(found) => ReadModelError::Damaged { doing, found },
            Self::TimeIsOver => ReadModelError::TooSlow { doing, limit_ms },
            Self::OutOfRange(field, value) => ReadModelError::OutOfRange { field, value },
            Self::OutOfOrder { number, newest } => ReadModelError::OutOfOrder { number, newest },
            Self::Sqlite(source) if is_damage(&source) => {
                ReadModelError::Damaged { doing, found: source.to_string() }
            }
            Self::Sqlite(source) => match source.sqlite_error_code() {
                Some(ErrorCode::OperationInterrupted) => {
                    ReadModelError::TooSlow { doing, limit_ms }
                }
                Some(ErrorCode::DiskFull) => ReadModelError::Full { doing, source },
                _ => ReadModelError::Database { doing, source },
            },
        }
    }
}

/// Whether the file, and not the question or the machine, is to blame.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..)
        | Error::QueryReturnedNoRows => true,
        other => matches!(
            other.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    }
}
