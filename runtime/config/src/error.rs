//! What can be wrong with a configuration, and where.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use hb_types::text::printable;

/// Bytes of a name, or of a path, that are shown.
const SHOWN_BYTES: usize = 200;

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// Line, from 1; 0 for the file as a whole.
        line: usize,
        /// Character in the line, from 1.
        column: usize,
    },
    /// In an environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// On the command line.
    Flag {
        /// As it is typed.
        flag: String,
    },
    /// Nowhere: it is the default.
    Default,
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(path: &Path) -> Self {
        Self::File { path: path.to_owned(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |path: &Path| printable(&path.to_string_lossy(), SHOWN_BYTES);
        match self {
            Self::File { path, line: 0, .. } => f.write_str(&show(path)),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", show(path)),
            Self::Environment { variable } => {
                write!(f, "environment variable {}", printable(variable, SHOWN_BYTES))
            }
            Self::Flag { flag } => f.write_str(flag),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {wrong}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    #[source]
    pub wrong: Wrong,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file is too large to be one.
    #[error("holds more than {most} bytes, which no configuration does: check the path")]
    TooLarge {
        /// The most.
        most: u64,
    },
    /// The file in the working directory belongs to somebody else.
    #[error(
        "belongs to user {owner}, who would decide how hb runs for you: take it over with `chown`, or name it with --config if you trust it"
    )]
    Foreign {
        /// Who has it.
        owner: u32,
    },
    /// The file is not TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// There is no such key.
    #[error("there is no key {}{}", printable(name, SHOWN_BYTES), suggestion(*nearest))]
    UnknownKey {
        /// What is there.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// There is no such environment variable.
    #[error("no key is set by it{}", suggestion(nearest.as_deref()))]
    UnknownVariable {
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// The value is not of the key's kind.
    #[error("{key}: expected {expected}, found {found}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A section is not a table, or a key is one.
    #[error("{name}: expected {expected}, found {found}")]
    Shape {
        /// Which section or key.
        name: String,
        /// What would have been right.
        expected: String,
        /// What is there.
        found: &'static str,
    },
    /// A key is of no use without another.
    #[error("{key} is set but {other} is not: set both or none")]
    Alone {
        /// The key that is set.
        key: &'static str,
        /// The one that is missing.
        other: &'static str,
    },
    /// There is no value and no default.
    #[error("data: there is no home directory to put it in: set HB_DATA or give --data DIR")]
    NoData,
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!(": did you mean {nearest}?"))
}

/// The most problems that are collected.
pub(crate) const PROBLEMS_MAX: usize = 50;

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    /// What is wrong, at least one thing and at most fifty.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

/// The first problem in full, the others by number.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.problems.first() else { return f.write_str("no problem") };
        write!(f, "{first}")?;
        match self.problems.len() - 1 {
            0 => Ok(()),
            more => write!(f, " (and {more} more: `hb config check`)"),
        }
    }
}
