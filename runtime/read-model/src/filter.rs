//! What a page is asked for.
//!
//! Owns: the filter, what makes one valid, and whether a job satisfies it. Knows nothing of how
//! jobs are found.

use std::{collections::BTreeSet, fmt, str::FromStr};

use hb_types::{Digest, state::Phase, text::printable};

use crate::{
    JobRow,
    bounds::{MAX_LABELS, MIN_CONTAINS_BYTES, SEARCHED_ID_BYTES},
    facet::searched,
};

/// Conditions that a job must satisfy, all of them. The default is satisfied by every job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In any of these phases; in whichever where empty.
    pub phases: BTreeSet<Phase>,
    /// By its name.
    pub id: Option<IdMatch>,
    /// The first digits of its hash.
    pub job_hash: Option<HexPrefix>,
    /// The first digits of its seal.
    pub seal: Option<HexPrefix>,
    /// What runs.
    pub program: Option<String>,
    /// The queue it came through.
    pub queue: Option<String>,
    /// How it ended, as [`hb_types::outcome::Outcome::canonical`] says it.
    pub outcome: Option<String>,
    /// Labels that it has, all of them.
    pub labels: Vec<LabelMatch>,
    /// When it was accepted.
    pub received: TimeRange,
    /// When it ended; a job that has not ended is in no range but the one without ends.
    pub ended: TimeRange,
}

/// A part of a job's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdMatch {
    /// The name starts with this.
    Prefix(String),
    /// The first 128 bytes of the name (and a valid name has no more) contain this, whatever the
    /// case of its ASCII letters.
    Contains(String),
}

/// A label that a job has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelMatch {
    /// Its name.
    pub name: String,
    /// Its value; whichever where absent.
    pub value: Option<String>,
}

/// A range of times, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// From this time on.
    pub from_ns: Option<u64>,
    /// Before this time.
    pub before_ns: Option<u64>,
}

/// A filter that cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Not the start of a digest.
    #[error("{text:?} is not the start of a digest: give 1 to 64 hexadecimal digits")]
    NotHex {
        /// What was given, printable.
        text: String,
    },
    /// A part of a name that no index can find.
    #[error(
        "{len_bytes} bytes are too few to search within names: give at least {MIN_CONTAINS_BYTES}, or \
         search for the start of a name"
    )]
    ShortPart {
        /// Its length.
        len_bytes: usize,
    },
    /// A part that no name can contain.
    #[error(
        "{len_bytes} bytes are too many to search within names: give at most {SEARCHED_ID_BYTES}"
    )]
    LongPart {
        /// Its length.
        len_bytes: usize,
    },
    /// Too many labels.
    #[error("{labels} labels are too many for one filter: give at most {MAX_LABELS}")]
    TooManyLabels {
        /// How many there are.
        labels: usize,
    },
}

impl Filter {
    /// Checks that the filter can be asked.
    pub fn check(&self) -> Result<(), InvalidFilter> {
        if self.labels.len() > MAX_LABELS {
            return Err(InvalidFilter::TooManyLabels { labels: self.labels.len() });
        }
        match &self.id {
            Some(IdMatch::Contains(part)) if part.len() < MIN_CONTAINS_BYTES => {
                Err(InvalidFilter::ShortPart { len_bytes: part.len() })
            }
            Some(IdMatch::Contains(part)) if part.len() > SEARCHED_ID_BYTES => {
                Err(InvalidFilter::LongPart { len_bytes: part.len() })
            }
            _ => Ok(()),
        }
    }

    /// Whether a job satisfies it.
    pub fn matches(&self, job: &JobRow) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        (self.phases.is_empty() || self.phases.contains(&job.phase))
            && self.id.as_ref().is_none_or(|id| id.matches(&job.job_id))
            && self.job_hash.as_ref().is_none_or(|prefix| prefix.matches(job.job_hash))
            && self
                .seal
                .as_ref()
                .is_none_or(|prefix| job.seal.is_some_and(|seal| prefix.matches(seal)))
            && is(&self.program, Some(&job.program))
            && is(&self.queue, Some(&job.queue))
            && is(&self.outcome, job.outcome.as_deref())
            && self.labels.iter().all(|label| label.matches(job))
            && self.received.contains(job.received_ns)
            && (self.ended.is_all() || job.ended_ns.is_some_and(|ns| self.ended.contains(ns)))
    }

    /// A few bytes that tell this filter from others, the same in every process.
    pub(crate) fn fingerprint(&self) -> [u8; 4] {
        let mut bytes = Vec::new();
        let mut text = |text: &str| {
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&self.phases.iter().map(|phase| phase.name()).collect::<Vec<_>>().join(" "));
        let (kind, id) = match &self.id {
            None => ("", ""),
            Some(IdMatch::Prefix(id)) => ("prefix", id.as_str()),
            Some(IdMatch::Contains(id)) => ("contains", id.as_str()),
        };
        text(kind);
        text(id);
        let digits = |prefix: &Option<HexPrefix>| prefix.as_ref().map(HexPrefix::to_string);
        for one in [digits(&self.job_hash), digits(&self.seal)] {
            text(&one.unwrap_or_default());
        }
        let optional = |value: &Option<String>| value.as_ref().map(|value| format!("={value}"));
        for one in [&self.program, &self.queue, &self.outcome] {
            text(&optional(one).unwrap_or_default());
        }
        for range in [self.received, self.ended] {
            text(&format!("{:?} {:?}", range.from_ns, range.before_ns));
        }
        for label in &self.labels {
            text(&label.name);
            text(&optional(&label.value).unwrap_or_default());
        }
        *Digest::of(&bytes).0.first_chunk().expect("a digest has 32 bytes")
    }
}

impl IdMatch {
    fn matches(&self, job_id: &str) -> bool {
        match self {
            Self::Prefix(prefix) => job_id.starts_with(prefix),
            Self::Contains(part) => {
                let part = part.to_ascii_lowercase();
                searched(job_id).windows(part.len().max(1)).any(|found| found == part.as_bytes())
            }
        }
    }
}

impl LabelMatch {
    fn matches(&self, job: &JobRow) -> bool {
        let found = job.labels.get(&self.name);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| found == value))
    }
}

impl TimeRange {
    /// Whether it has neither end.
    pub fn is_all(self) -> bool {
        self == Self::default()
    }

    /// Whether a time lies in it.
    pub fn contains(self, ns: u64) -> bool {
        self.touches(ns, ns)
    }

    /// Whether any time from `first_ns` to `last_ns` may lie in it.
    pub(crate) fn touches(self, first_ns: u64, last_ns: u64) -> bool {
        self.from_ns.is_none_or(|from| last_ns >= from)
            && self.before_ns.is_none_or(|before| first_ns < before)
    }

    /// Its first and last time as `SQLite` compares them.
    pub(crate) fn to_sql(self) -> (i64, i64) {
        let first = i64::try_from(self.from_ns.unwrap_or(0)).unwrap_or(i64::MAX);
        let last = self
            .before_ns
            .map_or(i64::MAX, |before| i64::try_from(before).map_or(i64::MAX, |before| before - 1));
        (first, last)
    }
}

/// The first digits of a digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexPrefix {
    /// The digits; zero from where they end.
    bytes: [u8; 32],
    digits: u8,
}

impl HexPrefix {
    /// How many digits there are, from 1 to 64.
    pub fn digits(&self) -> usize {
        usize::from(self.digits)
    }

    /// Whether a digest starts with them.
    pub fn matches(&self, digest: Digest) -> bool {
        let whole = self.digits() / 2;
        digest.0[..whole] == self.bytes[..whole]
            && (self.digits().is_multiple_of(2) || digest.0[whole] >> 4 == self.bytes[whole] >> 4)
    }

    /// The least and the greatest head of `N` bytes that a digest with these digits can have.
    pub(crate) fn heads<const N: usize>(&self) -> ([u8; N], [u8; N]) {
        let least = *self.bytes.first_chunk().expect("heads are shorter than digests");
        let mut greatest: [u8; N] = least;
        for (at, byte) in greatest.iter_mut().enumerate() {
            match self.digits().saturating_sub(at * 2) {
                0 => *byte = 0xff,
                1 => *byte |= 0x0f,
                _ => {}
            }
        }
        (least, greatest)
    }
}

impl FromStr for HexPrefix {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidFilter::NotHex { text: printable(text, 80) };
        let mut bytes = [0; 32];
        if text.is_empty() || text.len() > 64 || !text.is_ascii() {
            return Err(invalid());
        }
        hex::decode_to_slice(format!("{text:0<64}"), &mut bytes).map_err(|_| invalid())?;
        Ok(Self { bytes, digits: u8::try_from(text.len()).map_err(|_| invalid())? })
    }
}

impl fmt::Display for HexPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.bytes)[..self.digits()])
    }
}

impl fmt::Debug for HexPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_of_an_odd_number_of_digits_ends_within_a_byte() {
        let prefix: HexPrefix = "aBc".parse().unwrap();
        assert_eq!(prefix.to_string(), "abc");
        assert_eq!(prefix.heads(), ([0xab, 0xc0, 0x00], [0xab, 0xcf, 0xff]));
        let mut digest = Digest([0xab; 32]);
        assert!(!prefix.matches(digest));
        digest.0[1] = 0xc7;
        assert!(prefix.matches(digest));
    }

    #[test]
    fn a_whole_digest_is_a_prefix_of_itself() {
        let digest = Digest::of(b"x");
        let prefix: HexPrefix = digest.to_string().parse().unwrap();
        assert!(prefix.matches(digest));
        assert!(!prefix.matches(Digest::of(b"y")));
        let head = *digest.0.first_chunk::<6>().unwrap();
        assert_eq!(prefix.heads(), (head, head));
    }

    #[test]
    fn what_is_no_start_of_a_digest_is_refused() {
        for text in ["", "g", "12 ", "é", &"0".repeat(65)] {
            let error = text.parse::<HexPrefix>().unwrap_err();
            assert!(error.to_string().contains("1 to 64 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn a_range_includes_its_start_and_excludes_its_end() {
        let range = TimeRange { from_ns: Some(5), before_ns: Some(7) };
        assert_eq!([4, 5, 6, 7].map(|ns| range.contains(ns)), [false, true, true, false]);
        assert_eq!(range.to_sql(), (5, 6));
        let nothing = TimeRange { from_ns: None, before_ns: Some(0) };
        assert!(!nothing.contains(0));
        assert_eq!(nothing.to_sql(), (0, -1));
    }

    #[test]
    fn filters_that_differ_have_other_fingerprints() {
        let program = |name: &str| Filter { program: Some(name.into()), ..Filter::default() };
        let queue = |name: &str| Filter { queue: Some(name.into()), ..Filter::default() };
        let filters = [Filter::default(), program(""), program("a"), queue("a")];
        let fingerprints: BTreeSet<_> = filters.iter().map(Filter::fingerprint).collect();
        assert_eq!(fingerprints.len(), filters.len());
    }
}
