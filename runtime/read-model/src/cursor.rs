//! Where a page ends and the next one begins, as opaque text.
//!
//! A cursor names the last job of its page, not a count of rows: jobs that arrive meanwhile have
//! greater numbers, so none is repeated and none is left out. It holds for one filter and survives
//! a rebuild.

use std::{fmt, str::FromStr};

use hb_types::{Digest, text::printable};

use crate::Filter;

const VERSION: &str = "1.";

/// A place between two jobs of a filter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    after: u64,
    filter: [u8; 4],
}

/// A text that is not a cursor, or not for this question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// Not made here.
    #[error("{text:?} is not a cursor: pass on the one that came with a page, unchanged, or none")]
    Garbage {
        /// What was given, printable.
        text: String,
    },
    /// Made by another version.
    #[error(
        "the cursor {text:?} was made by another version of hb: start again from the first page"
    )]
    Version {
        /// What was given, printable.
        text: String,
    },
    /// Made for another question.
    #[error(
        "the cursor belongs to another filter: repeat the filter of its page, or start again without it"
    )]
    OtherFilter,
}

impl Cursor {
    /// The place after the job with that number.
    pub(crate) fn after(number: u64, filter: &Filter) -> Self {
        Self { after: number, filter: filter.fingerprint() }
    }

    /// The number of the job that it stands after.
    pub(crate) fn place(self, filter: &Filter) -> Result<u64, InvalidCursor> {
        if self.filter == filter.fingerprint() {
            Ok(self.after)
        } else {
            Err(InvalidCursor::OtherFilter)
        }
    }

    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.after.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.filter);
        let check = Digest::of(&bytes[..12]);
        bytes[12..].copy_from_slice(&check.0[..4]);
        bytes
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}{}", hex::encode(self.bytes()))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let garbage = || InvalidCursor::Garbage { text: printable(text, 80) };
        let Some(digits) = text.strip_prefix(VERSION) else {
            let (version, _) = text.split_once('.').ok_or_else(garbage)?;
            let is_number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            let other = InvalidCursor::Version { text: printable(text, 80) };
            return Err(if is_number { other } else { garbage() });
        };
        let mut bytes = [0; 16];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| garbage())?;
        let (after, rest) = bytes.split_first_chunk().expect("16 bytes hold 8");
        let (filter, _) = rest.split_first_chunk().expect("8 bytes hold 4");
        let cursor = Self { after: u64::from_be_bytes(*after), filter: *filter };
        if cursor.bytes() == bytes { Ok(cursor) } else { Err(garbage()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_any_other_text_is_refused() {
        let filter = Filter::default();
        let cursor = Cursor::after(u64::MAX - 3, &filter);
        let text = cursor.to_string();
        assert_eq!(text.parse::<Cursor>().unwrap(), cursor);
        assert_eq!(cursor.place(&filter), Ok(u64::MAX - 3));
        for at in 2..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            let error = changed.parse::<Cursor>().unwrap_err();
            assert!(matches!(error, InvalidCursor::Garbage { .. }), "{changed}: {error}");
        }
        for text in ["", ".", "1.", "x.00", "1.zz", "' OR 1=1 --", &text[..20], "1.\u{202e}"] {
            let error = text.parse::<Cursor>().unwrap_err();
            assert!(matches!(error, InvalidCursor::Garbage { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_cursor_of_another_version_or_filter_says_so() {
        let error = "2.0000".parse::<Cursor>().unwrap_err();
        assert!(matches!(error, InvalidCursor::Version { .. }), "{error}");
        let other = Filter { queue: Some("gpu".to_owned()), ..Filter::default() };
        let cursor = Cursor::after(7, &Filter::default());
        assert_eq!(cursor.place(&other), Err(InvalidCursor::OtherFilter));
    }
}
