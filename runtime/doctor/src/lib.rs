//! Looks at a machine: what it has for running jobs, what is missing, and what mends it.
//!
//! Owns: every check of `hb doctor`, what it looks at, where it draws its lines and why, and the
//! command that mends what is wrong. Each check looks at the real thing: a file is written and
//! flushed, a component compiled and run, a socket bound.
//! Knows nothing of: terminals; mending, which is left to a person.
//!
//! Each file has two halves: what is looked at, and a pure function that judges what was found.

mod check;
mod clock;
mod container;
mod directory;
mod examine;
mod filesystem;
mod flush;
mod http;
mod ledger;
mod limits;
mod listen;
mod machine;
mod sandbox;
mod tls;

pub use check::{Check, Status, shell_word};
pub use examine::{Examination, examine};
