//! A small model of the state space of jobs, checked exhaustively.
//!
//! Owns: the transitions of one job, written down a second time and differently from the product
//! ([`job`]); a world of a few jobs with a log that is flushed or lost, attempts that are paused and
//! come back, and clients who are told things ([`world`]); the search through all of it
//! ([`explore`]). `docs/state-space.md` says the same in words.
//! Knows nothing of: bytes, disks, threads, time.

pub mod explore;
pub mod job;
pub mod world;
