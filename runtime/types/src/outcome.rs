//! How a job ended: one closed vocabulary.
//!
//! Only what the manifest determines is part of an outcome's identity (see
//! [`Outcome::canonical`]); what helps a person to understand it stands in [`Explanation`].

// The derived archives of enums with named fields have no place for documentation.
#![allow(missing_docs)]

use serde::{Deserialize, Serialize};

use crate::{
    exit,
    limits::{Limit, LimitReached},
};

/// Why the guest's code stopped by a fault of its own.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum TrapKind {
    /// `unreachable` was executed; a panic or an abort in most languages.
    Unreachable,
    /// A load or store outside of memory.
    MemoryOutOfBounds,
    /// A table access outside of the table.
    TableOutOfBounds,
    /// An indirect call to nothing.
    IndirectCallToNull,
    /// An indirect call with another signature.
    BadSignature,
    /// Integer division by zero.
    DivisionByZero,
    /// Integer overflow.
    IntegerOverflow,
    /// A float that no integer can hold.
    BadConversionToInteger,
    /// The stack was used up.
    StackOverflow,
    /// The guest used an interface in a way that its contract forbids.
    ContractBroken,
    /// Anything else that the engine traps on.
    Other,
}

/// How a job ended.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// It ended with success.
    Success,
    /// It ended with a failure of its own naming, never zero.
    Exit {
        /// The exit code.
        code: u8,
    },
    /// It did something that cannot be done.
    Trap {
        /// What.
        trap: TrapKind,
    },
    /// It reached one of its limits: fuel, memory, deadline, output, and so on.
    Limit {
        /// Which, and how far.
        #[serde(flatten)]
        reached: LimitReached,
    },
    /// A user cancelled it.
    Cancelled,
    /// It took its host down too often and was set aside.
    Poisoned,
    /// Its component cannot be run here; nothing of it was.
    NotRunnable,
}

impl Outcome {
    /// The text that the seal is computed over: everything that a repetition must reproduce.
    pub fn canonical(&self) -> String {
        match self {
            Self::Success => "exit 0".to_owned(),
            Self::Exit { code } => format!("exit {code}"),
            Self::Trap { trap } => format!("trap {}", trap.name()),
            Self::Limit { reached } => format!("limit {}", reached.limit.spec().name),
            Self::Cancelled => "cancelled".to_owned(),
            Self::Poisoned => "poisoned".to_owned(),
            Self::NotRunnable => "not runnable".to_owned(),
        }
    }

    /// Whether a repetition of a hermetic job must end the same way.
    pub fn is_reproducible(&self) -> bool {
        match self {
            // How deep a stack goes depends on how a processor's frames are laid out.
            Self::Trap { trap } => *trap != TrapKind::StackOverflow,
            Self::Success | Self::Exit { .. } => true,
            // How long a second is depends on the machine.
            Self::Limit { reached } => reached.limit.spec().hashed,
            Self::Cancelled | Self::Poisoned | Self::NotRunnable => false,
        }
    }

    /// Whether the job completed, in the sense of the state space (contract 5).
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// The exit code of `hb` for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Success => exit::OK,
            Self::Exit { code } => *code,
            Self::Trap { .. } => exit::TRAP,
            Self::Limit { reached } => match reached.limit {
                Limit::Fuel => exit::FUEL,
                Limit::Deadline => exit::DEADLINE,
                _ => exit::MEMORY,
            },
            Self::Cancelled => exit::CANCELLED,
            Self::Poisoned => exit::HOST_FAILED,
            Self::NotRunnable => exit::NOT_RUNNABLE,
        }
    }
}

impl TrapKind {
    /// Name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::MemoryOutOfBounds => "memory-out-of-bounds",
            Self::TableOutOfBounds => "table-out-of-bounds",
            Self::IndirectCallToNull => "indirect-call-to-null",
            Self::BadSignature => "bad-signature",
            Self::DivisionByZero => "division-by-zero",
            Self::IntegerOverflow => "integer-overflow",
            Self::BadConversionToInteger => "bad-conversion-to-integer",
            Self::StackOverflow => "stack-overflow",
            Self::ContractBroken => "contract-broken",
            Self::Other => "other",
        }
    }
}

/// What helps a person to understand an outcome. All text is printable (see [`crate::text`]).
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Explanation {
    /// One line.
    pub message: String,
    /// The guest's stack, innermost frame first, at most 64 frames.
    pub backtrace: Vec<String>,
}
