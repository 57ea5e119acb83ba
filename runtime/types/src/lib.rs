//! Names, records, states and limits: data and pure functions.
//!
//! Owns: what a job, a checkpoint, an outcome and a seal *are*, the job hash, and the one
//! transition function of the ledger.
//! Knows nothing of: files, clocks, threads, wasm, terminals.

pub mod capture;
pub mod container;
pub mod content;
pub mod digest;
pub mod event;
pub mod exit;
pub mod history;
pub mod job;
pub mod ledger;
pub mod limits;
pub mod outcome;
pub mod schedule;
pub mod state;
pub mod terms;
pub mod text;
pub mod units;

pub use digest::Digest;

/// Log sequence number: the position of a record in a ledger's log, from 1; without gaps, except
/// where a person gave up a part of the log.
pub type Lsn = u64;
