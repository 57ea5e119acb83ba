//! Why a component cannot be run, and why a sandbox cannot be opened.
//!
//! Every message is one line, printable, and names what to do. A [`Rejection`] is the fault of
//! the bytes and travels from the compiling child to its parent; the rest of [`PrepareError`] is
//! the fault of a bound or of this machine.

use std::{io, path::PathBuf};

use hb_types::limits::{Limit, LimitReached};
use serde::{Deserialize, Serialize};

/// The bytes are not something that can be run here, and never will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    /// No WebAssembly and no WebAssembly text.
    #[error(
        "this is not WebAssembly: it starts with {found}, expected \"\\0asm\" or the text of a module or component; give a .wasm or .wat file"
    )]
    NotWasm {
        /// The first bytes, printable.
        found: String,
    },
    /// The bytes end too early.
    #[error(
        "the component ends at byte {at} in the middle of a section; it was cut off: copy or build it again"
    )]
    Truncated {
        /// Where it ends.
        at: u64,
    },
    /// The bytes are damaged or made by a tool that this parser does not understand.
    #[error("the component is malformed at byte {at}: {message}; build it again")]
    Malformed {
        /// Where.
        at: u64,
        /// What the parser says.
        message: String,
    },
    /// The text does not parse.
    #[error("the WebAssembly text is wrong at {position}: {message}")]
    Text {
        /// Line and column.
        position: String,
        /// What the parser says.
        message: String,
    },
    /// It is WebAssembly, but not a program.
    #[error("{found}; {expected}")]
    WrongWorld {
        /// What it is.
        found: String,
        /// What would be a program.
        expected: String,
    },
    /// It wants something that no host here has.
    #[error(
        "the component imports what this host does not have: {}{}; build it for wasm32-wasip2 with the interfaces of wit/job.wit at most",
        names.join(", "),
        if *more > 0 { format!(" and {more} more") } else { String::new() }
    )]
    UnknownImports {
        /// The first few, printable.
        names: Vec<String>,
        /// How many others.
        more: u64,
    },
    /// Its structure is out of any proportion that a program has.
    #[error(
        "the component has {found} {what}, at most {allowed} are allowed; split it or build it without composing so much"
    )]
    Structure {
        /// What was counted.
        what: String,
        /// How many, where the counting stopped.
        found: u64,
        /// How many are allowed.
        allowed: u64,
    },
    /// It is well-formed, but uses what is switched off here or does not fit together.
    #[error("the component is not valid here: {message}; {advice}")]
    Invalid {
        /// What the validator says.
        message: String,
        /// What to do.
        advice: String,
    },
}

/// A component could not be made ready to run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The bytes are at fault.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is larger than the job allows.
    #[error("the component is too large: {}", .0)]
    TooLarge(LimitReached),
    /// Compiling it needs more memory than the job allows.
    #[error("compiling the component ran out of memory: {}", .0)]
    CompilerMemory(LimitReached),
    /// Compiling it takes more time than the job allows.
    #[error("compiling the component took too long: {}", .0)]
    CompilerTime(LimitReached),
    /// The compiler ended in a way that has no other name.
    #[error(
        "the compiler died on this component ({how}); the component is refused, nothing else is affected: report it with the component"
    )]
    CompilerDied {
        /// Signal or exit code, and what it last said.
        how: String,
    },
    /// The compiler could not be started.
    #[error(
        "the compiler {} could not be started; check that the file exists and may be executed", program.display()
    )]
    CompilerMissing {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The cache or a temporary file failed.
    #[error("the compiled-code cache at {} failed; check its disk and permissions", path.display())]
    Cache {
        /// The cache's directory or the file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The engine refused what its own compiler made, twice.
    #[error(
        "the engine does not accept its own compiled code: {message}; remove the cache directory"
    )]
    Engine {
        /// What it says.
        message: String,
    },
}

impl PrepareError {
    /// Whether the component itself is at fault, so that another attempt cannot help.
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// Whether the component, under the limits of its job, is what cannot be run; otherwise the
    /// machine or the host failed.
    pub fn is_component(&self) -> bool {
        match self {
            Self::Rejected(_)
            | Self::TooLarge(_)
            | Self::CompilerMemory(_)
            | Self::CompilerTime(_)
            | Self::CompilerDied { .. } => true,
            Self::CompilerMissing { .. } | Self::Cache { .. } | Self::Engine { .. } => false,
        }
    }

    pub(crate) fn too_large(limit: u64, wanted: u64) -> Self {
        Self::TooLarge(LimitReached { limit: Limit::ComponentBytes, value: limit, wanted })
    }
}

/// A sandbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine refuses its configuration on this machine.
    #[error("the WebAssembly engine cannot run on this machine: {message}")]
    Engine {
        /// What it says.
        message: String,
    },
    /// The cache directory cannot be made.
    #[error("the compiled-code cache at {} cannot be made; choose another data directory", path.display())]
    Cache {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
