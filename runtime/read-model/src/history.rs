//! Events in their order, jobs in the order of their end, and the counters.

use std::collections::BTreeMap;

use hb_types::{Lsn, state::Phase};
use rusqlite::{Connection, Params, Row};

use crate::{
    EventRow, JobRow,
    error::Fault,
    meta::Meta,
    stored::{JOBS_BY_END, from_sql, job_from_sql, phase_code, phase_of},
};

/// The place of a final job in the order of their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// When it ended.
    pub ended_ns: u64,
    /// Its number.
    pub number: u64,
}

/// How much there is of final jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Jobs in a final phase.
    pub jobs: u64,
    /// Bytes that are kept for them.
    pub bytes: u64,
}

pub const EVENTS: &str =
    "SELECT lsn, job, kind, json FROM event WHERE lsn > ?1 ORDER BY lsn LIMIT ?2";
pub const EVENTS_OF_JOB: &str = "SELECT lsn, job, kind, json FROM event INDEXED BY event_by_job \
    WHERE job = ?1 AND lsn > ?2 ORDER BY lsn LIMIT ?3";
const PHASE: &str = "SELECT jobs FROM phase WHERE code = ?1";
const PHASES: &str = "SELECT code, jobs FROM phase";

/// Events after a position, oldest first.
pub fn events_after(
    connection: &Connection,
    after: Lsn,
    limit: usize,
) -> Result<Vec<EventRow>, Fault> {
    collect(connection, EVENTS, (clamped(after), bound(limit)), event_from_sql)
}

/// Events of one job after a position, oldest first.
pub fn events_of_job(
    connection: &Connection,
    job: u64,
    after: Lsn,
    limit: usize,
) -> Result<Vec<EventRow>, Fault> {
    // No job has a number beyond these.
    let Ok(job) = i64::try_from(job) else { return Ok(Vec::new()) };
    collect(connection, EVENTS_OF_JOB, (job, clamped(after), bound(limit)), event_from_sql)
}

/// Final jobs that ended before a time, the one that ended first first.
pub fn oldest_ended(
    connection: &Connection,
    before_ns: u64,
    after: Option<Ended>,
    limit: usize,
) -> Result<Vec<JobRow>, Fault> {
    let (ended, number) =
        after.map_or((-1, -1), |after| (clamped(after.ended_ns), clamped(after.number)));
    let parameters = (ended, number, clamped(before_ns), bound(limit));
    collect(connection, JOBS_BY_END, parameters, |row| Ok(job_from_sql(row)?.1))
}

/// How many jobs there are in each phase.
pub fn counts_by_phase(connection: &Connection) -> Result<BTreeMap<Phase, u64>, Fault> {
    let counts = collect(connection, PHASES, (), |row| {
        Ok((phase_of(row.get(0)?)?, from_sql(row.get(1)?)?))
    })?;
    Ok(counts.into_iter().collect())
}

/// How many jobs there are in one phase.
pub fn count_phase(connection: &Connection, phase: Phase) -> Result<u64, Fault> {
    let mut statement = connection.prepare_cached(PHASE)?;
    from_sql(statement.query_row([phase_code(phase)], |row| row.get(0))?)
}

/// How many final jobs there are, and what is kept for them.
pub fn totals(connection: &Connection) -> Result<Totals, Fault> {
    let meta = Meta::load(connection)?;
    Ok(Totals { jobs: meta.final_jobs, bytes: meta.final_bytes })
}

fn collect<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl Fn(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn event_from_sql(row: &Row<'_>) -> Result<EventRow, Fault> {
    Ok(EventRow {
        lsn: from_sql(row.get(0)?)?,
        job: from_sql(row.get(1)?)?,
        kind: row.get(2)?,
        json: row.get(3)?,
    })
}

/// A bound of a comparison: nothing is kept beyond what `SQLite` can compare with.
fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
