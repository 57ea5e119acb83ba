//! Pages of jobs, newest first, and how many there are.

use std::ops::ControlFlow;

use rusqlite::{CachedStatement, OptionalExtension};

use crate::{
    Cursor, Filter, JobRow,
    bits::{BLOCK_SLOTS, block_of, offset_of},
    blocks::{BLOCKS_DOWN, Block},
    bounds::MAX_COUNT,
    error::Fault,
    plan::{Candidates, Plan},
    readers::Reading,
    stored::{JOB_BY_NUMBER, JOB_BY_SLOT, from_sql, job_from_sql, to_sql},
};

/// Some jobs of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The jobs, newest first.
    pub jobs: Vec<JobRow>,
    /// Where the next page begins; `None` where this is the last one.
    pub next: Option<Cursor>,
}

/// How many jobs satisfy a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// So many.
    Exactly(u64),
    /// So many or more; counting stopped there.
    AtLeast(u64),
}

pub const SLOT_BEFORE: &str = "SELECT slot FROM job INDEXED BY job_by_number \
                               WHERE number < ?1 ORDER BY number DESC LIMIT 1";

/// The next jobs after the one with the number `after`.
pub fn page(
    reading: &Reading<'_>,
    filter: &Filter,
    after: Option<u64>,
    limit: usize,
) -> Result<Page, Fault> {
    let mut jobs = Vec::new();
    let below = match after {
        None => Some(u64::MAX),
        Some(number) => slot_before(reading, number)?.map(|slot| slot + 1),
    };
    let Some(below) = below else { return Ok(Page { jobs, next: None }) };
    let mut rows = Rows::new(reading)?;
    each_block(reading, filter, below, |block, found| {
        for offset in found.bits.descending() {
            if let Some(job) = rows.get(block.id * BLOCK_SLOTS + u64::from(offset), filter)? {
                jobs.push(job);
                // One more than wanted tells whether there is a next page.
                if jobs.len() > limit {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let has_more = jobs.len() > limit;
    jobs.truncate(limit);
    let last = jobs.last().filter(|_| has_more);
    let next = last.map(|job| Cursor::after(job.number, filter));
    Ok(Page { jobs, next })
}

/// How many jobs satisfy a filter, as far as [`MAX_COUNT`].
pub fn count(reading: &Reading<'_>, filter: &Filter) -> Result<Count, Fault> {
    let mut jobs = 0;
    let mut rows = Rows::new(reading)?;
    each_block(reading, filter, u64::MAX, |block, found| {
        if found.exact {
            jobs += u64::from(found.bits.len());
        } else {
            for offset in found.bits.descending() {
                let job = rows.get(block.id * BLOCK_SLOTS + u64::from(offset), filter)?;
                jobs += u64::from(job.is_some());
                if jobs > MAX_COUNT {
                    break;
                }
            }
        }
        Ok(if jobs > MAX_COUNT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(if jobs > MAX_COUNT { Count::AtLeast(MAX_COUNT) } else { Count::Exactly(jobs) })
}

/// The job with a number.
pub fn get(reading: &Reading<'_>, number: u64) -> Result<Option<JobRow>, Fault> {
    let Ok(number) = i64::try_from(number) else { return Ok(None) };
    let mut statement = reading.connection.prepare_cached(JOB_BY_NUMBER)?;
    let mut rows = statement.query([number])?;
    Ok(rows.next()?.map(job_from_sql).transpose()?.map(|(_, job)| job))
}

/// The slot of the newest job with a lesser number.
fn slot_before(reading: &Reading<'_>, number: u64) -> Result<Option<u64>, Fault> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let mut statement = reading.connection.prepare_cached(SLOT_BEFORE)?;
    statement.query_row([number], |row| row.get(0)).optional()?.map(from_sql).transpose()
}

/// Shows the candidates of every block below a slot, from the newest on.
fn each_block(
    reading: &Reading<'_>,
    filter: &Filter,
    below: u64,
    mut show: impl FnMut(&Block, &Candidates) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    let Some(mut plan) = Plan::new(reading.connection, filter)? else { return Ok(()) };
    let mut statement = reading.connection.prepare_cached(BLOCKS_DOWN)?;
    let first = i64::try_from(block_of(below)).expect("a block has many slots");
    let mut blocks = statement.query([first])?;
    while let Some(row) = blocks.next()? {
        reading.check_time()?;
        let block = Block::from_sql(row)?;
        let cut = (block.id == block_of(below)).then_some(offset_of(below));
        let found = plan.candidates(&block, cut)?;
        if show(&block, &found)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Looks at candidates themselves.
struct Rows<'r> {
    reading: &'r Reading<'r>,
    statement: CachedStatement<'r>,
}

impl<'r> Rows<'r> {
    fn new(reading: &'r Reading<'r>) -> Result<Self, Fault> {
        Ok(Self { reading, statement: reading.connection.prepare_cached(JOB_BY_SLOT)? })
    }

    /// The job in a slot, if it satisfies the filter.
    fn get(&mut self, slot: u64, filter: &Filter) -> Result<Option<JobRow>, Fault> {
        self.reading.check_time()?;
        let mut rows = self.statement.query([to_sql("slot", slot)?])?;
        let Some(row) = rows.next()? else {
            return Err(Fault::Damaged(format!("slot {slot} is taken, but there is no job in it")));
        };
        let (_, job) = job_from_sql(row)?;
        Ok(filter.matches(&job).then_some(job))
    }
}
