//! Facets: the properties of a job that are either there or not.
//!
//! Owns: which facets a job has, and how each is named in the file. A facet is a phase, an outcome,
//! a program, a queue, the name of a label, a label with its value, or three bytes that follow each
//! other in the job's name (trigrams, with two marks before the start).

use std::collections::BTreeSet;

use hb_types::{Digest, state::Phase};

use crate::{JobRow, bounds::SEARCHED_ID_BYTES, stored::phase_code};

/// Three bytes of a name are their own number.
const FIRST_PHASE: i64 = 1 << 24;

/// The first number for a facet that has a name in the file.
pub const FIRST_NAMED: i64 = FIRST_PHASE + 16;

/// Stands twice before a job's name, so that the start of a name makes facets of its own.
const START: u8 = 2;

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Facet {
    /// One whose number is known without asking the file.
    Numbered(i64),
    /// One whose number stands in the file under this name: half of a BLAKE3 digest, so that a
    /// text of any length takes as much room as any other.
    Named([u8; 16]),
}

impl Facet {
    /// A phase.
    pub const fn phase(phase: Phase) -> Self {
        Self::Numbered(FIRST_PHASE + phase_code(phase))
    }

    /// An outcome.
    pub fn outcome(text: &str) -> Self {
        Self::named(b'o', &[text])
    }

    /// A program.
    pub fn program(text: &str) -> Self {
        Self::named(b'p', &[text])
    }

    /// A queue.
    pub fn queue(text: &str) -> Self {
        Self::named(b'q', &[text])
    }

    /// The name of a label.
    pub fn label_name(name: &str) -> Self {
        Self::named(b'n', &[name])
    }

    /// A label with its value.
    pub fn label(name: &str, value: &str) -> Self {
        Self::named(b'l', &[name, value])
    }

    fn named(kind: u8, texts: &[&str]) -> Self {
        let mut bytes = vec![kind];
        for text in texts {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        let digest = Digest::of(&bytes);
        Self::Named(*digest.0.first_chunk().expect("a digest has 32 bytes"))
    }

    /// Every facet of a job.
    pub fn all(job: &JobRow) -> BTreeSet<Self> {
        let mut facets: BTreeSet<Self> = within_id(&marked(&job.job_id)).collect();
        facets.extend([
            Self::phase(job.phase),
            Self::program(&job.program),
            Self::queue(&job.queue),
        ]);
        facets.extend(job.outcome.as_deref().map(Self::outcome));
        for (name, value) in &job.labels {
            facets.extend([Self::label_name(name), Self::label(name, value)]);
        }
        facets
    }

    /// What every job has whose name starts with `prefix`.
    pub fn of_prefix(prefix: &str) -> BTreeSet<Self> {
        within_id(&marked(prefix)).collect()
    }

    /// What every job has whose name contains `part`.
    pub fn of_part(part: &str) -> BTreeSet<Self> {
        within_id(&searched(part)).collect()
    }
}

/// The part of a name that can be searched, as it is compared: without regard to the case of ASCII
/// letters.
pub fn searched(id: &str) -> Vec<u8> {
    id.as_bytes()[..id.len().min(SEARCHED_ID_BYTES)].to_ascii_lowercase()
}

fn marked(id: &str) -> Vec<u8> {
    let mut bytes = vec![START; 2];
    bytes.extend(searched(id));
    bytes
}

fn within_id(bytes: &[u8]) -> impl Iterator<Item = Facet> + '_ {
    bytes
        .array_windows()
        .map(|[a, b, c]| Facet::Numbered(i64::from(u32::from_be_bytes([0, *a, *b, *c]))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_name_is_told_from_its_middle() {
        let whole = Facet::of_prefix("sweep-17");
        assert!(Facet::of_prefix("s").is_subset(&whole));
        assert!(Facet::of_prefix("sweep-1").is_subset(&whole));
        assert!(Facet::of_part("EEP").is_subset(&whole));
        assert!(!Facet::of_prefix("weep").is_subset(&whole));
        assert!(!Facet::of_part("weed").is_subset(&whole));
    }

    #[test]
    fn texts_are_not_run_together() {
        assert_ne!(Facet::label("ab", "c"), Facet::label("a", "bc"));
        assert_ne!(Facet::label("a", ""), Facet::label_name("a"));
        assert_ne!(Facet::program("a"), Facet::queue("a"));
    }

    #[test]
    fn a_name_of_any_length_makes_a_bounded_number_of_facets() {
        assert!(Facet::of_prefix(&"abcdefghijklm".repeat(9999)).len() <= SEARCHED_ID_BYTES);
        assert!(Facet::of_prefix("").is_empty());
    }
}
