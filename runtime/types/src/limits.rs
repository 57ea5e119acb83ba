//! Every bound that a job runs under, in one table.
//!
//! Owns: name, unit, default, ceiling and flag of each limit, and the sentence that is said when
//! one is reached. The operator may lower or raise ceilings; the defaults are for a stranger's
//! job on a small machine.

use std::fmt;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Wasm operators, as wasmtime counts them.
    Fuel,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Milliseconds of real time.
    Milliseconds,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct LimitSpec {
    /// Name in a manifest.
    pub name: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// Used where the manifest says nothing.
    pub default: u64,
    /// The most that a manifest may ask for, unless the operator says otherwise.
    pub ceiling: u64,
    /// The flag of `hb run` that sets it.
    pub flag: &'static str,
    /// What it bounds, as a noun phrase.
    pub what: &'static str,
    /// Whether it may change a job's result and is therefore part of the job hash.
    pub hashed: bool,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident $variant:ident $unit:ident $default:expr, $ceiling:expr, $flag:literal, $hashed:literal, $what:literal;)*) => {
        /// Which limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Limit { $($(#[$doc])* $variant,)* }

        /// A value for every limit.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits { $($(#[$doc])* pub $field: u64,)* }

        impl Default for Limits {
            fn default() -> Self { Self { $($field: $default,)* } }
        }

        impl Limit {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The row of the table.
            pub const fn spec(self) -> LimitSpec {
                match self {
                    $(Self::$variant => LimitSpec {
                        name: stringify!($field), unit: Unit::$unit, default: $default,
                        ceiling: $ceiling, flag: $flag, what: $what, hashed: $hashed,
                    },)*
                }
            }
        }

        impl Limits {
            /// The value of one limit.
            pub const fn get(&self, limit: Limit) -> u64 {
                match limit { $(Limit::$variant => self.$field,)* }
            }

            /// Sets the value of one limit.
            pub const fn set(&mut self, limit: Limit, value: u64) {
                match limit { $(Limit::$variant => self.$field = value,)* }
            }
        }
    };
}

limits! {
    // field             variant          unit         default        ceiling        flag                     hashed what
    /// Operators that the guest may execute.
    fuel                 Fuel             Fuel         1_000_000_000_000_000_000, 1_000_000_000_000_000_000, "--fuel", true, "fuel";
    /// Bytes of linear memory, all memories together.
    memory_bytes         Memory           Bytes        512 * MIB,     16 * GIB,      "--max-memory",          true, "linear memory";
    /// Elements of all tables together.
    table_elements       TableElements    Count        100_000,       10_000_000,    "--max-table-elements",  true, "table elements";
    /// Core instances, memories and tables, each.
    instances            Instances        Count        1_000,         10_000,        "--max-instances",       true, "instances";
    /// Bytes of stack for wasm frames.
    stack_bytes          Stack            Bytes        512 * KIB,     512 * KIB,     "--max-stack",           true, "wasm stack";
    /// Real time of one attempt.
    deadline_ms          Deadline         Milliseconds u64::MAX,      u64::MAX,      "--timeout",             false, "wall-clock time";
    /// Bytes on standard output.
    stdout_bytes         Stdout           Bytes        64 * MIB,      64 * GIB,      "--max-stdout",          true, "standard output";
    /// Bytes on standard error.
    stderr_bytes         Stderr           Bytes        16 * MIB,      64 * GIB,      "--max-stderr",          true, "standard error";
    /// Bytes of a checkpoint's state.
    checkpoint_bytes     CheckpointBytes  Bytes        256 * MIB,     4 * GIB,       "--max-checkpoint",      true, "checkpoint state";
    /// Checkpoints of one job.
    checkpoints          Checkpoints      Count        1_000_000,     10_000_000,    "--max-checkpoints",     false, "checkpoints";
    /// Bytes below `/job` and `/out` together.
    files_bytes          FilesBytes       Bytes        256 * MIB,     1024 * GIB,    "--max-files-bytes",     true, "bytes below /job and /out";
    /// Files and directories below `/job` and `/out` together.
    files                Files            Count        10_000,        1_000_000,     "--max-files",           true, "files below /job and /out";
    /// Files and directories open at once.
    open_files           OpenFiles        Count        128,           10_000,        "--max-open-files",      true, "open files";
    /// Handles to host resources (streams, descriptors, pollables) at once.
    handles              Handles          Count        10_000,        1_000_000,     "--max-handles",         true, "resource handles";
    /// Bytes that one host call may copy between guest and host.
    hostcall_bytes       HostcallBytes    Bytes        256 * MIB + MIB, 5 * GIB,     "--max-hostcall-bytes",  true, "bytes copied by one host call";
    /// Bytes of a component, as submitted.
    component_bytes      ComponentBytes   Bytes        64 * MIB,      GIB,           "--max-component",       false, "component size";
    /// Bytes of address space for compiling a component.
    compile_memory_bytes CompileMemory    Bytes        2 * GIB,       64 * GIB,      "--max-compile-memory",  false, "memory for compiling";
    /// Real time for compiling a component.
    compile_ms           CompileTime      Milliseconds 90_000,        3_600_000,     "--max-compile-time",    false, "time for compiling";
}

/// A value that lies above the operator's ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} of {asked} asked for, but this host allows at most {ceiling}: lower {} or ask the operator to raise the ceiling",
    limit.spec().what, limit.spec().flag
)]
pub struct AboveCeiling {
    /// Which limit.
    pub limit: Limit,
    /// What was asked for.
    pub asked: u64,
    /// What is allowed.
    pub ceiling: u64,
}

impl Limits {
    /// The ceilings that hold where the operator said nothing.
    pub fn ceilings() -> Self {
        let mut ceilings = Self::default();
        for limit in Limit::ALL {
            ceilings.set(*limit, limit.spec().ceiling);
        }
        ceilings
    }

    /// Checks every value against the operator's ceilings.
    pub fn check(&self, ceilings: &Self) -> Result<(), AboveCeiling> {
        for limit in Limit::ALL {
            let (asked, ceiling) = (self.get(*limit), ceilings.get(*limit));
            if asked > ceiling {
                return Err(AboveCeiling { limit: *limit, asked, ceiling });
            }
        }
        Ok(())
    }
}

/// A limit that was reached: which, its value, and what was wanted (zero where unknown).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    thiserror::Error,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct LimitReached {
    /// Which limit.
    pub limit: Limit,
    /// Its value for this job.
    pub value: u64,
    /// What the guest wanted in all; zero where that is unknown.
    pub wanted: u64,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = self.limit.spec();
        write!(f, "limit reached: {} of at most {}", spec.what, Amount(self.value, spec.unit))?;
        if self.wanted > self.value {
            write!(f, ", {} wanted", Amount(self.wanted, spec.unit))?;
        }
        write!(f, "; raise it with {}", spec.flag)
    }
}

/// A number with its unit, exact and readable.
pub struct Amount(pub u64, pub Unit);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, unit) = *self;
        match unit {
            Unit::Count => write!(f, "{value}"),
            Unit::Fuel => write!(f, "{value} units"),
            Unit::Milliseconds if value.is_multiple_of(1000) => write!(f, "{} s", value / 1000),
            Unit::Milliseconds => write!(f, "{value} ms"),
            Unit::Bytes if value >= GIB && value.is_multiple_of(GIB) => {
                write!(f, "{} GiB", value / GIB)
            }
            Unit::Bytes if value >= MIB && value.is_multiple_of(MIB) => {
                write!(f, "{} MiB", value / MIB)
            }
            Unit::Bytes if value >= KIB && value.is_multiple_of(KIB) => {
                write!(f, "{} KiB", value / KIB)
            }
            Unit::Bytes => write!(f, "{value} B"),
        }
    }
}
