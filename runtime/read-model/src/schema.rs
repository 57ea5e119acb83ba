//! What the file holds: its tables and indexes, and the number that says which these are.
//!
//! Jobs get *slots* in the order of their numbers; 4,096 slots are a *block* (see `bits.rs`). Every
//! index that serves filters is cut along blocks. So an insertion touches only the end of each
//! index, however the values are scattered, and a question is answered block by block from the
//! newest on, with sets of bits, until the page is full.

use hb_types::Digest;
use rusqlite::Connection;

/// Marks the file as ours: `HbRm`.
pub const APPLICATION_ID: i32 = i32::from_be_bytes(*b"HbRm");

/// Version of what stands inside of the columns: phases, sets, facets, texts of labels. Raise it
/// when one of these changes; a change of the tables below shows by itself.
const ENCODING: u32 = 1;

/// Bytes of a digest that the index of digests holds.
pub const DIGEST_HEAD_BYTES: usize = 6;

const TABLES: &str = "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    ledger BLOB NOT NULL,
    applied INTEGER NOT NULL,
    newest INTEGER NOT NULL,
    next_slot INTEGER NOT NULL,
    next_facet INTEGER NOT NULL,
    final_jobs INTEGER NOT NULL,
    final_bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE phase (
    code INTEGER PRIMARY KEY,
    jobs INTEGER NOT NULL
) STRICT;

CREATE TABLE job (
    slot INTEGER PRIMARY KEY,
    block INTEGER NOT NULL,
    number INTEGER NOT NULL,
    last INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    final INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    job_hash BLOB NOT NULL,
    seal BLOB,
    program TEXT NOT NULL,
    queue TEXT NOT NULL,
    outcome TEXT,
    exit_code INTEGER,
    received_ns INTEGER NOT NULL,
    started_ns INTEGER,
    ended_ns INTEGER,
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    checkpoints INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    labels TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX job_by_number ON job (number);
CREATE INDEX job_by_hash ON job (block, substr(job_hash, 1, 6));
CREATE INDEX job_by_seal ON job (block, substr(seal, 1, 6));
CREATE INDEX job_by_end ON job (block, ended_ns);
CREATE INDEX final_job_by_end ON job (ended_ns, number) WHERE final = 1 AND ended_ns IS NOT NULL;

CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    jobs INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    received_first_ns INTEGER NOT NULL,
    received_last_ns INTEGER NOT NULL,
    ended_first_ns INTEGER NOT NULL,
    ended_last_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE facet (
    name BLOB PRIMARY KEY,
    id INTEGER NOT NULL,
    jobs INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE posting (
    place INTEGER PRIMARY KEY,
    slots BLOB NOT NULL
) STRICT;

CREATE TABLE event (
    lsn INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    kind TEXT NOT NULL,
    json TEXT NOT NULL
) STRICT;

CREATE INDEX event_by_job ON event (job);
";

/// The number of this form of the file.
pub fn version() -> i32 {
    let digest = Digest::of(format!("{ENCODING}{TABLES}").as_bytes());
    let [a, b, c, d, ..] = digest.0;
    i32::from_le_bytes([a, b, c, d])
}

/// Makes the tables in an empty file and marks it, all in one transaction.
pub fn create(connection: &mut Connection, ledger: [u8; 16]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta VALUES (1, ?1, 0, 0, 0, ?2, 0, 0)",
        (ledger, crate::facet::FIRST_NAMED),
    )?;
    for phase in hb_types::state::Phase::ALL {
        let code = crate::stored::phase_code(phase);
        transaction.execute("INSERT INTO phase VALUES (?1, 0)", [code])?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version())?;
    transaction.commit()
}
