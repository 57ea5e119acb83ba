//! The one row of counters that every transaction starts from.

use hb_types::Lsn;
use rusqlite::Connection;

use crate::{
    error::Fault,
    stored::{from_sql, to_sql},
};

/// The counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Everything up to here is in the file.
    pub applied: Lsn,
    /// The greatest number of a job that was ever fed.
    pub newest: u64,
    /// The slot of the next new job.
    pub next_slot: u64,
    /// The facet of the next new name.
    pub next_facet: i64,
    /// Jobs whose phase is final.
    pub final_jobs: u64,
    /// What is kept for them, modulo 2^64: adding and taking away cancel out exactly.
    pub final_bytes: u64,
}

impl Meta {
    /// As it stands in the file.
    pub fn load(connection: &Connection) -> Result<Self, Fault> {
        const SQL: &str = "SELECT applied, newest, next_slot, next_facet, final_jobs, final_bytes \
                           FROM meta WHERE id = 1";
        let mut statement = connection.prepare_cached(SQL)?;
        let mut rows = statement.query([])?;
        let row = rows.next()?.ok_or_else(|| Fault::Damaged("no counters".to_owned()))?;
        Ok(Self {
            applied: from_sql(row.get(0)?)?,
            newest: from_sql(row.get(1)?)?,
            next_slot: from_sql(row.get(2)?)?,
            next_facet: row.get(3)?,
            final_jobs: from_sql(row.get(4)?)?,
            final_bytes: row.get::<_, i64>(5)?.cast_unsigned(),
        })
    }

    /// Puts it into the file.
    pub fn store(&self, connection: &Connection) -> Result<(), Fault> {
        const SQL: &str = "UPDATE meta SET applied = ?1, newest = ?2, next_slot = ?3, \
                           next_facet = ?4, final_jobs = ?5, final_bytes = ?6 WHERE id = 1";
        connection.prepare_cached(SQL)?.execute((
            to_sql("applied", self.applied)?,
            to_sql("number", self.newest)?,
            to_sql("slot", self.next_slot)?,
            self.next_facet,
            to_sql("final jobs", self.final_jobs)?,
            self.final_bytes.cast_signed(),
        ))?;
        Ok(())
    }
}
