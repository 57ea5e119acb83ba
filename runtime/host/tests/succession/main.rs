//! What comes after a job: jobs that go on from it, that repeat it, and its removal.
#![allow(clippy::unwrap_used)]

mod forks;
mod proof;
mod pruning;
mod retries;
mod world;
