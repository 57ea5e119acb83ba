//! What an operator can set, and where each value came from.
//!
//! Owns: the one table of keys ([`key`]), the files, variables and flags in which values stand,
//! their precedence, and the words for what is wrong with them; what a machine has to give
//! ([`machine`]); and the file by which a host in a data directory is found ([`host_file`]).
//! Knows nothing of: what the values are used for, terminals, wasm, ledgers.

pub mod host_file;
pub mod key;
pub mod machine;
pub mod quantity;

mod config;
mod document;
mod error;
mod files;
mod reference;
mod settings;
mod value;

pub use config::{Auth, Config, Log, LogFormat, Queue, Retention, Run, Serve, Telemetry};
pub use error::{ConfigError, Place, Problem, Wrong};
pub use files::{ConfigFile, FileState};
pub use reference::markdown;
pub use settings::{Flag, Loaded, Origin, Setting, Surroundings, load, load_alone, locate};
pub use value::Value;
