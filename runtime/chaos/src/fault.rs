//! What can be done to a host, as it is typed.
//!
//! Owns the vocabulary; how each is done is in `rounds.rs` and `disk.rs`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` at a random moment, or at a chosen point of a write, a rename or a recovery.
    Kill,
    /// A write of which only some sectors reach the disk, and then `kill -9`.
    Torn,
    /// No space is left on the disk for a while.
    Full,
    /// A bit flips in a file of the ledger while no host runs.
    Bitrot,
    /// The power fails: whatever was not flushed may be gone, in any combination of sectors and
    /// names.
    Power,
    /// The process is stopped for a while and goes on (`SIGSTOP`, `SIGCONT`).
    Pause,
    /// A flush fails, and what it should have kept may be gone.
    Flush,
    /// Flushes keep nothing, and then the power fails. No log survives such a disk: what is shown by
    /// it is that the loss is noticed.
    Lie,
}

impl Fault {
    /// All kinds that a host survives.
    pub const ALL: [Self; 7] =
        [Self::Kill, Self::Torn, Self::Full, Self::Bitrot, Self::Power, Self::Pause, Self::Flush];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Torn => "torn",
            Self::Full => "full",
            Self::Bitrot => "bitrot",
            Self::Power => "power",
            Self::Pause => "pause",
            Self::Flush => "flush",
            Self::Lie => "lie",
        }
    }

    /// What is done, for people.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Kill => "killed with kill -9",
            Self::Torn => "a write torn, then killed",
            Self::Full => "the disk full, then killed",
            Self::Bitrot => "killed, and a bit of the ledger flipped",
            Self::Power => "the power cut: unflushed bytes and names lost",
            Self::Pause => "stopped and continued, then killed",
            Self::Flush => "a flush failed",
            Self::Lie => "flushes that lied, then the power cut",
        }
    }

    /// Its letter in the picture.
    pub const fn letter(self) -> char {
        match self {
            Self::Kill => 'k',
            Self::Torn => 't',
            Self::Full => 'f',
            Self::Bitrot => 'b',
            Self::Power => 'p',
            Self::Pause => 's',
            Self::Flush => 'e',
            Self::Lie => 'l',
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fault: there are kill, torn, full, bitrot, power, pause, flush, and lie")]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let known = Self::ALL.into_iter().chain([Self::Lie]).find(|fault| fault.name() == text);
        known.ok_or_else(|| UnknownFault(hb_types::text::printable(text, 40)))
    }
}

/// Reads a list such as `kill,torn`; each counts once.
pub fn parse_faults(text: &str) -> Result<Vec<Fault>, UnknownFault> {
    let mut faults =
        text.split(',').map(|word| word.trim().parse()).collect::<Result<Vec<Fault>, _>>()?;
    faults.sort_unstable();
    faults.dedup();
    Ok(faults)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_of_faults_is_read_and_another_word_is_refused_by_name() {
        assert_eq!(parse_faults("torn, kill,torn").unwrap(), [Fault::Kill, Fault::Torn]);
        let error = parse_faults("kill,fire").unwrap_err().to_string();
        assert!(error.contains("\"fire\"") && error.contains("bitrot"), "{error}");
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
    }
}
