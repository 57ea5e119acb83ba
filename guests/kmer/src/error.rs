//! Why there is no spectrum. Each message says what was expected, what was found and what to do.

use std::{io, path::Path};

use crate::{FastaError, MAX_K, StateError};

/// Why the job ends without a spectrum.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The length of a k-mer cannot be counted.
    #[error("-k is {found}, but must be a whole number from 1 to {MAX_K}")]
    BadK {
        /// What was asked for.
        found: u32,
    },
    /// The buffer has no room or too much.
    #[error("--buffer is {found}, but must be a number of k-mers from 1 to 268435456")]
    BadBuffer {
        /// What was asked for.
        found: usize,
    },
    /// So many runs cannot be merged at once.
    #[error("--fan-in is {found}, but must be a number of runs from 2 to 100")]
    BadFanIn {
        /// What was asked for.
        found: usize,
    },
    /// The genome cannot be opened.
    #[error(
        "cannot open {path}: {source}; give the genome as the input named genome, a FASTA file, plain or gzip"
    )]
    NoInput {
        /// Where it should be.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The genome cannot be read on.
    #[error("cannot read {path} after byte {at}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Bytes read before, after inflation.
        at: u64,
        /// The cause.
        source: io::Error,
    },
    /// The compressed genome is damaged.
    #[error(
        "{path} is a gzip file that is corrupt or cut off: it inflates to {at} good bytes, then {source}; fetch it again and test it with gzip -t"
    )]
    BadGzip {
        /// The file.
        path: String,
        /// Bytes inflated before.
        at: u64,
        /// The cause.
        source: io::Error,
    },
    /// The genome is no FASTA.
    #[error("the input is no FASTA: {0}")]
    Fasta(#[from] FastaError),
    /// The input has become shorter than it was when the checkpoint was made.
    #[error(
        "{path} ends at byte {found}, but the checkpoint was made at byte {expected}: it is not the file that the job began with"
    )]
    InputChanged {
        /// The file.
        path: String,
        /// Where the checkpoint stands.
        expected: u64,
        /// Where the file ends.
        found: u64,
    },
    /// A file below `/job` or `/out` cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Files {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// A run or an artifact is not what the checkpoint says.
    #[error("{path} is damaged: {what}; start the job anew")]
    Damaged {
        /// The file.
        path: String,
        /// What was expected and found.
        what: String,
    },
    /// The checkpoint's state is not this job's.
    #[error("the checkpoint cannot be used: {0}")]
    State(#[from] StateError),
}

impl Error {
    pub(crate) fn files(path: &Path, source: io::Error) -> Self {
        Self::Files { path: path.display().to_string(), source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), what: what.into() }
    }
}
