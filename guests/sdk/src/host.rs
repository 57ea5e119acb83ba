//! The host as a trait: what a job may ask, with the real host behind [`Live`].
//!
//! Owns nothing. It exists so that a job's logic names no import and can be tested natively.

use crate::checkpoint::Snapshot;
use crate::{checkpoint, progress};

/// What a job may ask of its host; see [`checkpoint`] and [`progress`] for the contract.
pub trait Host {
    /// The newest durable checkpoint; called once, first of all.
    fn restore(&mut self) -> Option<Snapshot>;
    /// Whether a checkpoint is wanted now.
    fn due(&mut self, step: u64) -> bool;
    /// Makes the present condition durable.
    fn save(&mut self, step: u64, state: &[u8]) -> u64;
    /// How much is done, and of how much.
    fn report(&mut self, done: u64, total: Option<u64>);
    /// The present value of a named quantity.
    fn metric(&mut self, name: &str, value: f64);
    /// A short remark.
    fn note(&mut self, text: &str);
}

/// The host that this component runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live;

impl Host for Live {
    fn restore(&mut self) -> Option<Snapshot> {
        checkpoint::restore()
    }

    fn due(&mut self, step: u64) -> bool {
        checkpoint::due(step)
    }

    fn save(&mut self, step: u64, state: &[u8]) -> u64 {
        checkpoint::save(step, state)
    }

    fn report(&mut self, done: u64, total: Option<u64>) {
        progress::report(done, total);
    }

    fn metric(&mut self, name: &str, value: f64) {
        progress::metric(name, value);
    }

    fn note(&mut self, text: &str) {
        progress::note(text);
    }
}
