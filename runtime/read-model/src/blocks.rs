//! What is known of each block as a whole: how many jobs, and from when to when.
//!
//! Bounds of times only widen: when a job changes or goes they may say more than there is, never
//! less.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    JobRow, TimeRange,
    bits::block_of,
    error::Fault,
    stored::{from_sql, to_sql},
};

macro_rules! columns {
    () => {
        "id, jobs, ended, received_first_ns, received_last_ns, ended_first_ns, ended_last_ns"
    };
}

/// Blocks from a given one down.
pub const BLOCKS_DOWN: &str =
    concat!("SELECT ", columns!(), " FROM block WHERE id <= ?1 ORDER BY id DESC");

const GET: &str = concat!("SELECT ", columns!(), " FROM block WHERE id = ?1");
const PUT: &str =
    concat!("INSERT OR REPLACE INTO block (", columns!(), ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
const DROP: &str = "DELETE FROM block WHERE id = ?1";

/// A stretch of time with both ends; without any time in it where the first is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first_ns: u64,
    last_ns: u64,
}

impl Span {
    const NEVER: Self = Self { first_ns: i64::MAX.cast_unsigned(), last_ns: 0 };

    fn widen(&mut self, ns: u64) {
        self.first_ns = self.first_ns.min(ns);
        self.last_ns = self.last_ns.max(ns);
    }

    fn within(self, range: TimeRange) -> Within {
        if self.first_ns > self.last_ns || !range.touches(self.first_ns, self.last_ns) {
            Within::None
        } else if range.contains(self.first_ns) && range.contains(self.last_ns) {
            Within::All
        } else {
            Within::Some
        }
    }
}

/// How many jobs of a block can lie in a range of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// None of them.
    None,
    /// It has to be looked at.
    Some,
    /// All of them.
    All,
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its number.
    pub id: u64,
    jobs: u64,
    ended: u64,
    received: Span,
    ends: Span,
}

impl Block {
    const fn empty(id: u64) -> Self {
        Self { id, jobs: 0, ended: 0, received: Span::NEVER, ends: Span::NEVER }
    }

    /// From a row of [`BLOCKS_DOWN`].
    pub fn from_sql(row: &Row<'_>) -> Result<Self, Fault> {
        let number = |at| -> Result<u64, Fault> { from_sql(row.get(at)?) };
        Ok(Self {
            id: number(0)?,
            jobs: number(1)?,
            ended: number(2)?,
            received: Span { first_ns: number(3)?, last_ns: number(4)? },
            ends: Span { first_ns: number(5)?, last_ns: number(6)? },
        })
    }

    /// How many of its jobs can have been received in a range.
    pub fn received_within(&self, range: TimeRange) -> Within {
        if range.is_all() { Within::All } else { self.received.within(range) }
    }

    /// How many of its jobs can have ended in a range; one that has not ended is in none.
    pub fn ended_within(&self, range: TimeRange) -> Within {
        if range.is_all() {
            return Within::All;
        }
        match self.ends.within(range) {
            Within::All if self.ended < self.jobs => Within::Some,
            within => within,
        }
    }
}

/// Changes of blocks within one transaction.
pub struct BlockWriter<'c> {
    connection: &'c Connection,
    held: BTreeMap<u64, Block>,
}

impl<'c> BlockWriter<'c> {
    /// Over a connection with an open transaction.
    pub const fn new(connection: &'c Connection) -> Self {
        Self { connection, held: BTreeMap::new() }
    }

    /// A job came, changed or went.
    pub fn change(
        &mut self,
        slot: u64,
        before: Option<&JobRow>,
        after: Option<&JobRow>,
    ) -> Result<(), Fault> {
        let id = block_of(slot);
        let block = self.get(id)?;
        if let Some(job) = after {
            block.jobs += 1;
            block.received.widen(job.received_ns);
            if let Some(ended_ns) = job.ended_ns {
                block.ended += 1;
                block.ends.widen(ended_ns);
            }
        }
        if let Some(job) = before {
            let contradiction = || Fault::Damaged(format!("block {id} has too few jobs"));
            let ended = u64::from(job.ended_ns.is_some());
            block.jobs = block.jobs.checked_sub(1).ok_or_else(contradiction)?;
            block.ended = block.ended.checked_sub(ended).ok_or_else(contradiction)?;
        }
        Ok(())
    }

    /// Writes everything. A transaction touches at most as many blocks as jobs.
    pub fn finish(self) -> Result<(), Fault> {
        let mut put = self.connection.prepare_cached(PUT)?;
        let mut drop = self.connection.prepare_cached(DROP)?;
        for block in self.held.into_values() {
            let id = to_sql("block", block.id)?;
            if block.jobs == 0 {
                drop.execute([id])?;
                continue;
            }
            put.execute((
                id,
                to_sql("jobs", block.jobs)?,
                to_sql("jobs", block.ended)?,
                to_sql("received_ns", block.received.first_ns)?,
                to_sql("received_ns", block.received.last_ns)?,
                to_sql("ended_ns", block.ends.first_ns)?,
                to_sql("ended_ns", block.ends.last_ns)?,
            ))?;
        }
        Ok(())
    }

    fn get(&mut self, id: u64) -> Result<&mut Block, Fault> {
        if !self.held.contains_key(&id) {
            let mut statement = self.connection.prepare_cached(GET)?;
            let found = statement
                .query_row([to_sql("block", id)?], |row| Ok(Block::from_sql(row)))
                .optional()?;
            self.held.insert(id, found.transpose()?.unwrap_or(Block::empty(id)));
        }
        Ok(self.held.get_mut(&id).expect("it was just put there"))
    }
}
