//! Changes of the history, applied in one transaction.
//!
//! Owns: which rows, sets, blocks and counters change together. Applying the same changes twice
//! changes nothing, and changes that lie before what was applied are passed over.

use std::collections::{BTreeMap, BTreeSet};

use hb_types::{Lsn, state::Phase};
use rusqlite::{Connection, TransactionBehavior};

use crate::{
    EventRow, JobRow,
    blocks::BlockWriter,
    error::Fault,
    facet::Facet,
    meta::Meta,
    postings::PostingWriter,
    stored::{JOB_BY_NUMBER, job_from_sql, phase_code, put_job, to_sql},
};

/// What happened up to some position of the log.
///
/// Everything that happened from the last `applied` up to this one belongs together. While a model
/// is built anew from a ledger's present state, all but the last changes say `applied: 0`, so that
/// one that is interrupted is known to be incomplete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Jobs that are new or changed, as they are now. A new one has a greater number than every
    /// job before it.
    pub jobs: Vec<JobRow>,
    /// Events to remember.
    pub events: Vec<EventRow>,
    /// Numbers of jobs to forget, with their events.
    pub forgotten: Vec<u64>,
    /// The position up to which the history is then known.
    pub applied: Lsn,
}

const PUT_EVENT: &str =
    "INSERT OR IGNORE INTO event (lsn, job, kind, json) VALUES (?1, ?2, ?3, ?4)";
const DROP_JOB: &str = "DELETE FROM job WHERE slot = ?1";
const DROP_EVENTS: &str = "DELETE FROM event WHERE job = ?1";
const CHANGE_PHASE: &str = "UPDATE phase SET jobs = jobs + ?2 WHERE code = ?1";

/// Applies changes and returns the position up to which the history is known.
pub fn apply(connection: &mut Connection, changes: &Changes) -> Result<Lsn, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let meta = Meta::load(&transaction)?;
    if changes.applied < meta.applied {
        return Ok(meta.applied);
    }
    let mut writer = Writer {
        connection: &transaction,
        postings: PostingWriter::new(&transaction, meta.next_facet)?,
        blocks: BlockWriter::new(&transaction),
        phases: BTreeMap::new(),
        meta,
    };
    let forgotten: BTreeSet<u64> = changes.forgotten.iter().copied().collect();
    // Of several rows of one job the last one counts; the sort keeps their order.
    let mut jobs: Vec<&JobRow> = changes.jobs.iter().collect();
    jobs.retain(|job| !forgotten.contains(&job.number));
    jobs.sort_by_key(|job| job.number);
    for job in jobs {
        writer.put(job)?;
    }
    for event in changes.events.iter().filter(|event| !forgotten.contains(&event.job)) {
        writer.remember(event)?;
    }
    for number in forgotten {
        writer.forget(number)?;
    }
    let applied = writer.finish(changes.applied)?;
    transaction.commit()?;
    Ok(applied)
}

struct Writer<'c> {
    connection: &'c Connection,
    meta: Meta,
    postings: PostingWriter<'c>,
    blocks: BlockWriter<'c>,
    phases: BTreeMap<Phase, i64>,
}

impl Writer<'_> {
    /// A job is new or changed.
    fn put(&mut self, job: &JobRow) -> Result<(), Fault> {
        let (slot, before) = match self.find(job.number)? {
            Some((_, before)) if before.last > job.last || before == *job => return Ok(()),
            Some((slot, before)) => (slot, Some(before)),
            None => (self.next_slot(job.number)?, None),
        };
        put_job(self.connection, slot, job)?;
        self.change(slot, before.as_ref(), Some(job))
    }

    /// A job is to be forgotten, if it is known.
    fn forget(&mut self, number: u64) -> Result<(), Fault> {
        self.connection.prepare_cached(DROP_EVENTS)?.execute([to_sql("job", number)?])?;
        let Some((slot, before)) = self.find(number)? else { return Ok(()) };
        self.connection.prepare_cached(DROP_JOB)?.execute([to_sql("slot", slot)?])?;
        self.change(slot, Some(&before), None)
    }

    fn remember(&self, event: &EventRow) -> Result<(), Fault> {
        let (lsn, job) = (to_sql("lsn", event.lsn)?, to_sql("job", event.job)?);
        self.connection.prepare_cached(PUT_EVENT)?.execute((lsn, job, &event.kind, &event.json))?;
        Ok(())
    }

    fn find(&self, number: u64) -> Result<Option<(u64, JobRow)>, Fault> {
        if number > self.meta.newest {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(JOB_BY_NUMBER)?;
        let mut rows = statement.query([to_sql("number", number)?])?;
        rows.next()?.map(job_from_sql).transpose()
    }

    /// The slot of a new job. Slots follow numbers, since pages are read in their order.
    fn next_slot(&mut self, number: u64) -> Result<u64, Fault> {
        // The first job of all may have the number zero.
        if self.meta.next_slot > 0 && number <= self.meta.newest {
            return Err(Fault::OutOfOrder { number, newest: self.meta.newest });
        }
        let slot = self.meta.next_slot;
        self.meta.next_slot += 1;
        self.meta.newest = number;
        Ok(slot)
    }

    /// Everything that follows from a job that came, changed or went.
    fn change(
        &mut self,
        slot: u64,
        before: Option<&JobRow>,
        after: Option<&JobRow>,
    ) -> Result<(), Fault> {
        let facets = |job: Option<&JobRow>| job.map(Facet::all).unwrap_or_default();
        let (had, has) = (facets(before), facets(after));
        for facet in had.difference(&has) {
            self.postings.remove(slot, *facet)?;
        }
        for facet in has.difference(&had) {
            self.postings.add(slot, *facet)?;
        }
        self.blocks.change(slot, before, after)?;
        for (job, sign) in [(before, -1), (after, 1)] {
            let Some(job) = job else { continue };
            *self.phases.entry(job.phase).or_default() += sign;
            if job.phase.is_final() {
                let (jobs, bytes) = (&mut self.meta.final_jobs, &mut self.meta.final_bytes);
                *jobs = jobs.checked_add_signed(sign).ok_or_else(too_few)?;
                *bytes = bytes.wrapping_add_signed(job.bytes.cast_signed().wrapping_mul(sign));
            }
        }
        Ok(())
    }

    fn finish(mut self, applied: Lsn) -> Result<Lsn, Fault> {
        self.blocks.finish()?;
        self.meta.next_facet = self.postings.finish()?;
        self.meta.applied = self.meta.applied.max(applied);
        for (phase, change) in self.phases {
            self.connection.prepare_cached(CHANGE_PHASE)?.execute((phase_code(phase), change))?;
        }
        self.meta.store(self.connection)?;
        Ok(self.meta.applied)
    }
}

fn too_few() -> Fault {
    Fault::Damaged("fewer final jobs than there are".to_owned())
}
