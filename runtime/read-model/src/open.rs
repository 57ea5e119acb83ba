//! Opening the file, and deciding whether it can be gone on with.
//!
//! Whatever cannot be gone on with is removed, not mended: the log has it all.

use std::{
    ffi::CStr,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use crate::{
    ReadModelError,
    bounds::{MAX_STATEMENTS, WRITER_CACHE_KIB},
    error::{Fault, is_damage},
    meta::Meta,
    schema,
    stored::from_sql,
};

/// Whether a read model goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It holds what it held.
    Existing,
    /// It is empty and has to be fed from the beginning.
    Fresh(FreshReason),
}

/// Why a read model is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreshReason {
    /// There was no file.
    Absent,
    /// The file could not be read.
    Damaged {
        /// What was found.
        found: String,
    },
    /// The file was written by another version, or is something else.
    OtherVersion,
    /// The file belongs to another ledger.
    OtherLedger,
}

impl fmt::Display for FreshReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "there was none"),
            Self::Damaged { found } => write!(f, "the one that was there is damaged: {found}"),
            Self::OtherVersion => write!(f, "the one that was there has another form"),
            Self::OtherLedger => write!(f, "the one that was there belongs to another ledger"),
        }
    }
}

/// Files that `SQLite` keeps beside the one that it was given.
pub fn side_log(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The writing connection to a usable file, which is the one that was there where possible.
pub fn open(path: &Path, ledger: [u8; 16]) -> Result<(Connection, Opened), ReadModelError> {
    let reason = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => FreshReason::Absent,
        Err(error) => return Err(io_error("look at", path)(error)),
        Ok(_) => match existing(path, ledger) {
            Ok(Ok(connection)) => return Ok((connection, Opened::Existing)),
            Ok(Err(reason)) => reason,
            Err(fault) => FreshReason::Damaged { found: found(fault)? },
        },
    };
    Ok((create(path, ledger)?, Opened::Fresh(reason)))
}

/// Says what is wrong with a file, where it is the file and not the machine.
fn found(fault: Fault) -> Result<String, ReadModelError> {
    // What SQLite cannot even name comes from a file that lacks what every one of ours has.
    let is_files = |error: &rusqlite::Error| {
        is_damage(error)
            || match error.sqlite_error() {
                Some(error) => {
                    error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHORT_READ
                        || error.code == ErrorCode::Unknown
                }
                None => true,
            }
    };
    match fault {
        Fault::Sqlite(error) if is_files(&error) => Ok(error.to_string()),
        Fault::Damaged(found) => Ok(found),
        other => Err(other.while_doing("open the read model", 0)),
    }
}

/// The file as it is, if it is of this form and ledger.
fn existing(path: &Path, ledger: [u8; 16]) -> Result<Result<Connection, FreshReason>, Fault> {
    let connection = connect(path, WRITER_CACHE_KIB)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let is_ours = number("application_id")? == schema::APPLICATION_ID;
    if !is_ours || number("user_version")? != schema::version() {
        return Ok(Err(FreshReason::OtherVersion));
    }
    // `SQLite` reads a last page that was cut off as if zeros followed.
    let page_bytes: u64 =
        from_sql(connection.pragma_query_value(None, "page_size", |row| row.get(0))?)?;
    let len_bytes = fs::metadata(path).map_or(0, |found| found.len());
    if !len_bytes.is_multiple_of(page_bytes) {
        return Err(Fault::Damaged(format!("{len_bytes} bytes are not whole pages")));
    }
    let found: Vec<u8> =
        connection.query_row("SELECT ledger FROM meta WHERE id = 1", [], |row| row.get(0))?;
    if found != ledger {
        return Ok(Err(FreshReason::OtherLedger));
    }
    Meta::load(&connection)?;
    crate::history::counts_by_phase(&connection)?;
    Ok(Ok(connection))
}

/// An empty file in place of whatever was there. No other connection to it is open.
pub fn create(path: &Path, ledger: [u8; 16]) -> Result<Connection, ReadModelError> {
    remove(path)?;
    let make = || -> Result<Connection, Fault> {
        let mut connection = connect(path, WRITER_CACHE_KIB)?;
        schema::create(&mut connection, ledger)?;
        Ok(connection)
    };
    make().map_err(|fault| fault.while_doing("create the read model", 0))
}

/// Removes the file and what `SQLite` keeps beside it.
fn remove(path: &Path) -> Result<(), ReadModelError> {
    // The file first: one that is left behind without its log could be taken for whole.
    for path in [path.to_owned(), beside(path, "-journal"), side_log(path), beside(path, "-shm")] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The way of `SQLite` to the disk that keeps the index of its log in memory of this process, which alone
/// may have the file open. The usual one keeps it in a file that is mapped: where the disk is full and its
/// blocks are smaller than a page of memory, touching that map ends the process (SIGBUS).
const IN_ONE_PROCESS: &CStr = c"unix-excl";

/// A connection as all of them are.
pub fn connect(path: &Path, cache_kib: i64) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, IN_ONE_PROCESS)?;
    connection.set_prepared_statement_cache_capacity(MAX_STATEMENTS);
    // Only recovery and the cutting of SQLite's log ever make anyone wait, and not for long.
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // The log of SQLite is flushed before its pages go into the file, never at a commit. So a power
    // cut can take the newest changes away, which are fed again, but cannot leave a file that
    // looks whole and is not.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(connection)
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReadModelError + use<> {
    let path = path.to_owned();
    move |source| ReadModelError::Io { doing, path, source }
}
