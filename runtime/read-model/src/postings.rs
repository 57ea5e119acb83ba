//! Postings: for each block and facet, the set of its jobs.
//!
//! Owns: reading a set, and changing many sets and facets in one transaction with each of them read and
//! written about once.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, types::ValueRef};

use crate::{
    bits::{Bits, block_of, offset_of},
    bounds::MAX_HELD_POSTINGS,
    error::Fault,
    facet::Facet,
    stored::{from_sql, to_sql},
};

/// Bits of a posting's key that name the facet; the block stands above them, so that the postings
/// of one block lie together.
const FACET_BITS: u32 = 40;

pub const GET_POSTING: &str = "SELECT slots FROM posting WHERE place = ?1";
const PUT_POSTING: &str = "INSERT INTO posting (place, slots) VALUES (?1, ?2) \
                           ON CONFLICT (place) DO UPDATE SET slots = ?2";
const DROP_POSTING: &str = "DELETE FROM posting WHERE place = ?1";
pub const GET_FACET: &str = "SELECT id, jobs FROM facet WHERE name = ?1";
const PUT_FACET: &str = "INSERT INTO facet (name, id, jobs) VALUES (?1, ?2, ?3) \
                         ON CONFLICT (name) DO UPDATE SET jobs = ?3";
const DROP_FACET: &str = "DELETE FROM facet WHERE name = ?1";

/// What the file knows of a facet that has a name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its number.
    pub id: i64,
    /// How many jobs have it.
    pub jobs: u64,
}

/// Looks a named facet up.
pub fn find_named(connection: &Connection, name: [u8; 16]) -> Result<Option<Named>, Fault> {
    let mut statement = connection.prepare_cached(GET_FACET)?;
    let found = statement.query_row([name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.map(|(id, jobs)| Ok(Named { id, jobs: from_sql(jobs)? })).transpose()
}

/// Reads sets.
pub struct PostingReader<'c>(CachedStatement<'c>);

impl<'c> PostingReader<'c> {
    /// Over a connection.
    pub fn new(connection: &'c Connection) -> Result<Self, Fault> {
        Ok(Self(connection.prepare_cached(GET_POSTING)?))
    }

    /// The jobs of a block that have a facet; `None` where there are none.
    pub fn get(&mut self, block: u64, facet: i64) -> Result<Option<Bits>, Fault> {
        let mut rows = self.0.query([place(block, facet)?])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        match row.get_ref(0)? {
            ValueRef::Blob(bytes) => Ok(Some(Bits::decode(bytes)?)),
            other => Err(Fault::Damaged(format!("{} for a set of slots", other.data_type()))),
        }
    }
}

fn place(block: u64, facet: i64) -> Result<i64, Fault> {
    let out_of_range = || Fault::OutOfRange("block", block);
    let block = to_sql("block", block)?;
    let above = block.checked_mul(1 << FACET_BITS).ok_or_else(out_of_range)?;
    assert!((0..1 << FACET_BITS).contains(&facet), "facet {facet} has no place");
    Ok(above | facet)
}

/// Changes of many sets within one transaction.
pub struct PostingWriter<'c> {
    connection: &'c Connection,
    reader: PostingReader<'c>,
    postings: HashMap<(u64, i64), Bits>,
    facets: HashMap<[u8; 16], Named>,
    next_facet: i64,
}

impl<'c> PostingWriter<'c> {
    /// Over a connection with an open transaction; new facets are numbered from `next_facet`.
    pub fn new(connection: &'c Connection, next_facet: i64) -> Result<Self, Fault> {
        Ok(Self {
            connection,
            reader: PostingReader::new(connection)?,
            postings: HashMap::new(),
            facets: HashMap::new(),
            next_facet,
        })
    }

    /// A job gets a facet that it did not have.
    pub fn add(&mut self, slot: u64, facet: Facet) -> Result<(), Fault> {
        let id = match facet {
            Facet::Numbered(id) => id,
            Facet::Named(name) => {
                let named = self.named(name)?;
                named.jobs += 1;
                named.id
            }
        };
        let is_new = self.posting(slot, id)?.insert(offset_of(slot));
        is_new.then_some(()).ok_or_else(|| contradiction(slot))
    }

    /// A job loses a facet that it had.
    pub fn remove(&mut self, slot: u64, facet: Facet) -> Result<(), Fault> {
        let id = match facet {
            Facet::Numbered(id) => id,
            Facet::Named(name) => {
                let named = self.named(name)?;
                named.jobs = named.jobs.checked_sub(1).ok_or_else(|| contradiction(slot))?;
                named.id
            }
        };
        let was_there = self.posting(slot, id)?.remove(offset_of(slot));
        was_there.then_some(()).ok_or_else(|| contradiction(slot))
    }

    /// Writes everything and says which number the next new facet gets.
    pub fn finish(mut self) -> Result<i64, Fault> {
        self.write_out()?;
        Ok(self.next_facet)
    }

    fn named(&mut self, name: [u8; 16]) -> Result<&mut Named, Fault> {
        if self.facets.len() >= MAX_HELD_POSTINGS {
            self.write_out()?;
        }
        if !self.facets.contains_key(&name) {
            let found = find_named(self.connection, name)?;
            let named = found.unwrap_or(Named { id: self.next_facet, jobs: 0 });
            self.next_facet += i64::from(found.is_none());
            self.facets.insert(name, named);
        }
        Ok(self.facets.get_mut(&name).expect("it was just put there"))
    }

    fn posting(&mut self, slot: u64, facet: i64) -> Result<&mut Bits, Fault> {
        if self.postings.len() >= MAX_HELD_POSTINGS {
            self.write_out()?;
        }
        let key = (block_of(slot), facet);
        if !self.postings.contains_key(&key) {
            let bits = self.reader.get(key.0, key.1)?.unwrap_or(Bits::EMPTY);
            self.postings.insert(key, bits);
        }
        Ok(self.postings.get_mut(&key).expect("it was just put there"))
    }

    /// Writes what is held, in the order of the file.
    fn write_out(&mut self) -> Result<(), Fault> {
        let mut postings: Vec<_> = self.postings.drain().collect();
        postings.sort_unstable_by_key(|(key, _)| *key);
        let mut put = self.connection.prepare_cached(PUT_POSTING)?;
        let mut drop = self.connection.prepare_cached(DROP_POSTING)?;
        for ((block, facet), bits) in postings {
            let place = place(block, facet)?;
            if bits.is_empty() {
                drop.execute([place])?;
            } else {
                put.execute((place, bits.encode()))?;
            }
        }
        let mut facets: Vec<_> = self.facets.drain().collect();
        facets.sort_unstable_by_key(|(name, _)| *name);
        let mut put = self.connection.prepare_cached(PUT_FACET)?;
        let mut drop = self.connection.prepare_cached(DROP_FACET)?;
        for (name, named) in facets {
            if named.jobs == 0 {
                drop.execute([name])?;
            } else {
                put.execute((name, named.id, to_sql("jobs", named.jobs)?))?;
            }
        }
        Ok(())
    }
}

fn contradiction(slot: u64) -> Fault {
    Fault::Damaged(format!("the sets contradict the job in slot {slot}"))
}
