//! End-to-end tests of `hb`: a real program, real processes, real signals, real files.
//!
//! Each module asks one question of the whole. What a single crate can show is tested there.

#![allow(clippy::unwrap_used)]

mod answers;
mod faults;
mod guests;
mod hostile;
mod kills;
mod ledger;
mod refusals;
mod rollback;
mod support;
mod verification;
