//! Which jobs of a block a filter can mean.
//!
//! Owns: the way from a filter to sets of slots. A question is answered block by block from the
//! newest on (about 250 blocks for a million jobs); in each block every condition is a set of
//! bits, and the sets are intersected:
//!
//! - a block whose times lie outside of a range is passed over without looking at it;
//! - digests by an index of the block: one seek and the jobs that it finds;
//! - phases, outcomes, programs, queues, labels and names by postings: one look-up each, the
//!   rarest first, until nothing is left;
//! - times by an index of the block, and only in blocks that lie partly in the range.
//!
//! So the time for a page is bounded by the number of blocks, however few jobs satisfy all
//! conditions and however many satisfy each. What the sets cannot tell (the order of the letters of
//! a name, the later digits of a digest) is checked with the row.

use std::collections::BTreeSet;

use hb_types::state::Phase;
use rusqlite::{CachedStatement, Connection};

use crate::{
    Filter, HexPrefix, IdMatch, TimeRange,
    bits::{BLOCK_SLOTS, Bits, block_of, offset_of},
    blocks::{Block, Within},
    error::Fault,
    facet::Facet,
    postings::{PostingReader, find_named},
    schema::DIGEST_HEAD_BYTES,
    stored::{from_sql, to_sql},
};

/// So few candidates are looked at themselves rather than in an index of times.
const FEW: u32 = 32;

pub const BY_HASH: &str = "SELECT slot FROM job INDEXED BY job_by_hash \
    WHERE block = ?1 AND substr(job_hash, 1, 6) BETWEEN ?2 AND ?3";
pub const BY_SEAL: &str = "SELECT slot FROM job INDEXED BY job_by_seal \
    WHERE block = ?1 AND substr(seal, 1, 6) BETWEEN ?2 AND ?3";
pub const BY_END: &str = "SELECT slot FROM job INDEXED BY job_by_end \
    WHERE block = ?1 AND ended_ns BETWEEN ?2 AND ?3";
/// Without an index: jobs of one block were received at about the same time, so only the blocks
/// at the ends of a range are ever looked at.
pub const BY_RECEIPT: &str =
    "SELECT slot FROM job WHERE slot BETWEEN ?1 AND ?2 AND received_ns BETWEEN ?3 AND ?4";

/// The jobs of a block that may satisfy a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Their slots. None that satisfies the filter is missing.
    pub bits: Bits,
    /// Whether all of them do.
    pub exact: bool,
}

impl Candidates {
    const NONE: Self = Self { bits: Bits::EMPTY, exact: true };
}

/// A filter made ready to look at blocks.
pub struct Plan<'c> {
    /// Of each group a job must have at least one facet; the rarest group first.
    groups: Vec<Vec<i64>>,
    postings: PostingReader<'c>,
    digests: Vec<(CachedStatement<'c>, HexPrefix)>,
    received: (TimeRange, CachedStatement<'c>),
    ended: (TimeRange, CachedStatement<'c>),
    exact: bool,
}

impl<'c> Plan<'c> {
    /// Looks the filter's names up. `None` where a name is unknown, so that no job satisfies it.
    pub fn new(connection: &'c Connection, filter: &Filter) -> Result<Option<Self>, Fault> {
        let Some(groups) = groups(connection, filter)? else { return Ok(None) };
        let mut digests = Vec::new();
        for (prefix, sql) in [(filter.job_hash, BY_HASH), (filter.seal, BY_SEAL)] {
            if let Some(prefix) = prefix {
                digests.push((connection.prepare_cached(sql)?, prefix));
            }
        }
        let heads_tell = digests.iter().all(|(_, prefix)| prefix.digits() <= DIGEST_HEAD_BYTES * 2);
        Ok(Some(Self {
            groups,
            postings: PostingReader::new(connection)?,
            digests,
            received: (filter.received, connection.prepare_cached(BY_RECEIPT)?),
            ended: (filter.ended, connection.prepare_cached(BY_END)?),
            exact: heads_tell && filter.id.is_none(),
        }))
    }

    /// The candidates of a block, those from `below` on left out.
    pub fn candidates(&mut self, block: &Block, below: Option<u16>) -> Result<Candidates, Fault> {
        let received = block.received_within(self.received.0);
        let ended = block.ended_within(self.ended.0);
        if received == Within::None || ended == Within::None {
            return Ok(Candidates::NONE);
        }
        let mut bits = Bits::FULL;
        if let Some(below) = below {
            bits.keep_below(below);
        }
        for (statement, prefix) in &mut self.digests {
            let (least, greatest) = prefix.heads::<DIGEST_HEAD_BYTES>();
            let found = slots(statement, (to_sql("block", block.id)?, least, greatest), block.id)?;
            bits.intersect(&found);
        }
        for group in &self.groups {
            if bits.is_empty() {
                return Ok(Candidates::NONE);
            }
            bits.intersect(&any_of(&mut self.postings, block.id, group)?);
        }
        let mut exact = self.exact;
        if ended == Within::Some && !bits.is_empty() {
            let (first, last) = self.ended.0.to_sql();
            let parameters = (to_sql("block", block.id)?, first, last);
            exact &= narrow(&mut bits, &mut self.ended.1, parameters, block.id)?;
        }
        if received == Within::Some && !bits.is_empty() {
            let (first, last) = self.received.0.to_sql();
            let first_slot = to_sql("slot", block.id * BLOCK_SLOTS)?;
            let last_slot = to_sql("slot", block.id * BLOCK_SLOTS + (BLOCK_SLOTS - 1))?;
            let parameters = (first_slot, last_slot, first, last);
            exact &= narrow(&mut bits, &mut self.received.1, parameters, block.id)?;
        }
        Ok(Candidates { bits, exact })
    }
}

/// What the filter says of facets, the rarest group first; `None` where nothing can satisfy it.
fn groups(connection: &Connection, filter: &Filter) -> Result<Option<Vec<Vec<i64>>>, Fault> {
    let mut named = BTreeSet::new();
    named.extend(filter.outcome.as_deref().map(Facet::outcome));
    named.extend(filter.program.as_deref().map(Facet::program));
    named.extend(filter.queue.as_deref().map(Facet::queue));
    named.extend(filter.labels.iter().map(|label| match &label.value {
        None => Facet::label_name(&label.name),
        Some(value) => Facet::label(&label.name, value),
    }));
    named.extend(match &filter.id {
        None => BTreeSet::new(),
        Some(IdMatch::Prefix(prefix)) => Facet::of_prefix(prefix),
        Some(IdMatch::Contains(part)) => Facet::of_part(part),
    });
    let mut groups = Vec::new();
    for facet in named {
        match facet {
            // How many jobs have one of these is not counted.
            Facet::Numbered(id) => groups.push((u64::MAX, vec![id])),
            Facet::Named(name) => match find_named(connection, name)? {
                None => return Ok(None),
                Some(found) => groups.push((found.jobs, vec![found.id])),
            },
        }
    }
    // Every job has a phase, so all of them together tell which slots are taken.
    let phases: Vec<Phase> = match filter.phases.is_empty() {
        true if groups.is_empty() => Phase::ALL.to_vec(),
        true => Vec::new(),
        false => filter.phases.iter().copied().collect(),
    };
    if !phases.is_empty() {
        let jobs = phases.iter().map(|phase| crate::history::count_phase(connection, *phase));
        let jobs: u64 = jobs.sum::<Result<_, _>>()?;
        if jobs == 0 {
            return Ok(None);
        }
        let facets = phases.into_iter().filter_map(|phase| match Facet::phase(phase) {
            Facet::Numbered(id) => Some(id),
            Facet::Named(_) => None,
        });
        groups.push((jobs, facets.collect()));
    }
    groups.sort();
    Ok(Some(groups.into_iter().map(|(_, group)| group).collect()))
}

fn any_of(postings: &mut PostingReader<'_>, block: u64, facets: &[i64]) -> Result<Bits, Fault> {
    let mut either = Bits::EMPTY;
    for facet in facets {
        if let Some(bits) = postings.get(block, *facet)? {
            either.unite(&bits);
        }
    }
    Ok(either)
}

/// Keeps what a statement finds, unless only few are left: then they are left to be looked at.
/// Says whether it looked.
fn narrow(
    bits: &mut Bits,
    statement: &mut CachedStatement<'_>,
    parameters: impl rusqlite::Params,
    block: u64,
) -> Result<bool, Fault> {
    if bits.len() <= FEW {
        return Ok(false);
    }
    bits.intersect(&slots(statement, parameters, block)?);
    Ok(true)
}

/// The slots that a statement finds in a block.
fn slots(
    statement: &mut CachedStatement<'_>,
    parameters: impl rusqlite::Params,
    block: u64,
) -> Result<Bits, Fault> {
    let mut rows = statement.query(parameters)?;
    let mut bits = Bits::EMPTY;
    while let Some(row) = rows.next()? {
        let slot = from_sql(row.get(0)?)?;
        if block_of(slot) != block {
            return Err(Fault::Damaged(format!("slot {slot} in block {block}")));
        }
        bits.insert(offset_of(slot));
    }
    Ok(bits)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rusqlite::params_from_iter;

    use super::*;
    use crate::{blocks, history, postings, query, stored};

    /// How `SQLite` means to answer a statement.
    fn way(connection: &Connection, sql: &str) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = params_from_iter(vec![0; statement.parameter_count()]);
        let steps = statement.query_map(parameters, |row| row.get::<_, String>(3)).unwrap();
        steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn no_question_walks_a_table_or_sorts() {
        let directory = tempfile::tempdir().unwrap();
        let connection = crate::open::create(&directory.path().join("x"), [0; 16]).unwrap();
        for (sql, expected) in [
            (
                BY_HASH,
                "SEARCH job USING COVERING INDEX job_by_hash (block=? AND <expr>>? AND <expr><?)",
            ),
            (
                BY_SEAL,
                "SEARCH job USING COVERING INDEX job_by_seal (block=? AND <expr>>? AND <expr><?)",
            ),
            (
                BY_END,
                "SEARCH job USING COVERING INDEX job_by_end (block=? AND ended_ns>? AND ended_ns<?)",
            ),
            (BY_RECEIPT, "SEARCH job USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
            (blocks::BLOCKS_DOWN, "SEARCH block USING INTEGER PRIMARY KEY (rowid<?)"),
            (postings::GET_POSTING, "SEARCH posting USING INTEGER PRIMARY KEY (rowid=?)"),
            (postings::GET_FACET, "SEARCH facet USING PRIMARY KEY (name=?)"),
            (query::SLOT_BEFORE, "SEARCH job USING COVERING INDEX job_by_number (number<?)"),
            (stored::JOB_BY_SLOT, "SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"),
            (stored::JOB_BY_NUMBER, "SEARCH job USING INDEX job_by_number (number=?)"),
            (
                stored::JOBS_BY_END,
                "SEARCH job USING INDEX final_job_by_end ((ended_ns,number)>(?,?) AND ended_ns<?)",
            ),
            (history::EVENTS, "SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"),
            (history::EVENTS_OF_JOB, "SEARCH event USING INDEX event_by_job (job=? AND rowid>?)"),
        ] {
            assert_eq!(way(&connection, sql), expected, "{sql}");
        }
    }
}
