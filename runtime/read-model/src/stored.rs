//! Rows as the file holds them: numbers, phases, digests and labels in and out of columns.

use std::collections::BTreeMap;

use hb_types::{Digest, state::Phase};
use rusqlite::{Row, named_params};

use crate::{JobRow, bits::block_of, error::Fault};

/// A number as `SQLite` keeps it. All that are ordered are kept as they are, so they must be signed.
pub fn to_sql(field: &'static str, value: u64) -> Result<i64, Fault> {
    i64::try_from(value).map_err(|_| Fault::OutOfRange(field, value))
}

/// A number from `SQLite`, which was never negative when it went in.
pub fn from_sql(value: i64) -> Result<u64, Fault> {
    u64::try_from(value).map_err(|_| Fault::Damaged(format!("{value} where none is negative")))
}

/// The code of a phase in the file. Never change one: see `schema::ENCODING`.
pub const fn phase_code(phase: Phase) -> i64 {
    match phase {
        Phase::Received => 0,
        Phase::Scheduled => 1,
        Phase::Running => 2,
        Phase::Completed => 3,
        Phase::Sealed => 4,
        Phase::Failed => 5,
        Phase::Cancelled => 6,
    }
}

/// The phase behind a code.
pub fn phase_of(code: i64) -> Result<Phase, Fault> {
    let known = Phase::ALL.into_iter().find(|phase| phase_code(*phase) == code);
    known.ok_or_else(|| Fault::Damaged(format!("{code} is not a phase")))
}

/// The columns of a job in the order in which [`job_from_sql`] reads them; the slot comes first.
macro_rules! job_columns {
    () => {
        "slot, number, last, phase, job_id, job_hash, seal, program, queue, outcome, exit_code, \
         received_ns, started_ns, ended_ns, attempts, crashes, checkpoints, bytes, labels"
    };
}

/// A job by its slot.
pub const JOB_BY_SLOT: &str = concat!("SELECT ", job_columns!(), " FROM job WHERE slot = ?1");

/// A job by its number.
pub const JOB_BY_NUMBER: &str = concat!("SELECT ", job_columns!(), " FROM job WHERE number = ?1");

/// Final jobs from the one that ended first, after a given one and before a given time.
pub const JOBS_BY_END: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM job INDEXED BY final_job_by_end \
     WHERE final = 1 AND ended_ns IS NOT NULL AND (ended_ns, number) > (?1, ?2) AND ended_ns < ?3 \
     ORDER BY ended_ns, number LIMIT ?4"
);

/// Puts a job into its slot, over what was there; a job's number never changes.
const PUT_JOB: &str = "INSERT INTO job (slot, block, number, last, phase, final, job_id, \
    job_hash, seal, program, queue, outcome, exit_code, received_ns, started_ns, ended_ns, \
    attempts, crashes, checkpoints, bytes, labels) VALUES (:slot, :block, :number, :last, :phase, \
    :final, :job_id, :job_hash, :seal, :program, :queue, :outcome, :exit_code, :received_ns, \
    :started_ns, :ended_ns, :attempts, :crashes, :checkpoints, :bytes, :labels) \
    ON CONFLICT (slot) DO UPDATE SET last = :last, phase = :phase, final = :final, \
    job_id = :job_id, job_hash = :job_hash, seal = :seal, program = :program, queue = :queue, \
    outcome = :outcome, exit_code = :exit_code, received_ns = :received_ns, \
    started_ns = :started_ns, ended_ns = :ended_ns, attempts = :attempts, crashes = :crashes, \
    checkpoints = :checkpoints, bytes = :bytes, labels = :labels";

/// A job and its slot from a row with `job_columns!`.
pub fn job_from_sql(row: &Row<'_>) -> Result<(u64, JobRow), Fault> {
    let optional = |value: Option<i64>| value.map(from_sql).transpose();
    let labels = row.get_ref(18)?.as_str().map_err(rusqlite::Error::from)?;
    let job = JobRow {
        number: from_sql(row.get(1)?)?,
        last: from_sql(row.get(2)?)?,
        phase: phase_of(row.get(3)?)?,
        job_id: row.get(4)?,
        job_hash: Digest(row.get(5)?),
        seal: row.get::<_, Option<[u8; 32]>>(6)?.map(Digest),
        program: row.get(7)?,
        queue: row.get(8)?,
        outcome: row.get(9)?,
        exit_code: row.get(10)?,
        received_ns: from_sql(row.get(11)?)?,
        started_ns: optional(row.get(12)?)?,
        ended_ns: optional(row.get(13)?)?,
        attempts: row.get(14)?,
        crashes: row.get(15)?,
        checkpoints: from_sql(row.get(16)?)?,
        bytes: from_sql(row.get(17)?)?,
        labels: labels_from_sql(labels)?,
    };
    Ok((from_sql(row.get(0)?)?, job))
}

fn labels_from_sql(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    serde_json::from_str(text).map_err(|error| Fault::Damaged(format!("labels: {error}")))
}

/// Puts a job into its slot.
pub fn put_job(connection: &rusqlite::Connection, slot: u64, job: &JobRow) -> Result<(), Fault> {
    let optional = |field, value: Option<u64>| value.map(|value| to_sql(field, value)).transpose();
    let labels = serde_json::to_string(&job.labels).expect("texts by texts are always JSON");
    connection.prepare_cached(PUT_JOB)?.execute(named_params! {
        ":slot": to_sql("slot", slot)?,
        ":block": to_sql("block", block_of(slot))?,
        ":number": to_sql("number", job.number)?,
        ":last": to_sql("last", job.last)?,
        ":phase": phase_code(job.phase),
        ":final": job.phase.is_final(),
        ":job_id": job.job_id,
        ":job_hash": job.job_hash.0,
        ":seal": job.seal.map(|seal| seal.0),
        ":program": job.program,
        ":queue": job.queue,
        ":outcome": job.outcome,
        ":exit_code": job.exit_code,
        ":received_ns": to_sql("received_ns", job.received_ns)?,
        ":started_ns": optional("started_ns", job.started_ns)?,
        ":ended_ns": optional("ended_ns", job.ended_ns)?,
        ":attempts": job.attempts,
        ":crashes": job.crashes,
        ":checkpoints": to_sql("checkpoints", job.checkpoints)?,
        ":bytes": to_sql("bytes", job.bytes)?,
        ":labels": labels,
    })?;
    Ok(())
}
