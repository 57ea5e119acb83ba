//! End-to-end tests of `hb`: a real program, real processes, real signals, real files.
//!
//! Each module asks one question of the whole. What a single crate can show is tested there.

#![allow(clippy::unwrap_used)]

mod answers;
mod chaos;
mod container;
mod faults;
mod guests;
mod host;
mod hostile;
mod http;
mod kills;
mod ledger;
mod operations;
mod power;
mod refusals;
mod remote;
mod rollback;
mod support;
mod verification;
