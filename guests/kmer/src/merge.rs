//! Several runs as one: k-mers in rising order, counts of equal ones added up.
//!
//! Between two k-mers all of its condition is in the cursors, so that it can stop and go on there.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    ops::Range,
};

use crate::{
    Error, Places,
    run::{Cursor, RunReader},
};

/// A merge under way.
pub struct Merge {
    readers: Vec<RunReader>,
    /// The k-mer at the head of each run that has one, with the index of its reader.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Merge {
    /// Opens the runs with these numbers, at their beginnings or at the cursors if there are any.
    pub fn open(runs: Range<u64>, places: &Places, cursors: &[Cursor]) -> Result<Self, Error> {
        let mut cursors = cursors.iter().copied();
        let readers: Vec<RunReader> = runs
            .map(|number| RunReader::open(&places.run(number), cursors.next()))
            .collect::<Result<_, _>>()?;
        let heads = readers
            .iter()
            .enumerate()
            .filter_map(|(at, reader)| reader.head().map(|(kmer, _)| Reverse((kmer, at))))
            .collect();
        Ok(Self { readers, heads })
    }

    /// The next k-mer and its count over all runs.
    pub fn next(&mut self) -> Result<Option<(u64, u64)>, Error> {
        let Some(&Reverse((kmer, _))) = self.heads.peek() else {
            return Ok(None);
        };
        let mut total = 0;
        while let Some(mut top) = self.heads.peek_mut() {
            let Reverse((head, at)) = *top;
            if head != kmer {
                break;
            }
            let reader = &mut self.readers[at];
            total += reader.cursor().count;
            reader.advance()?;
            match reader.head() {
                // In place, which costs one way through the heap instead of two.
                Some((next, _)) => *top = Reverse((next, at)),
                None => drop(PeekMut::pop(top)),
            }
        }
        Ok(Some((kmer, total)))
    }

    /// How far each run has been read.
    pub fn cursors(&self) -> Vec<Cursor> {
        self.readers.iter().map(RunReader::cursor).collect()
    }
}
