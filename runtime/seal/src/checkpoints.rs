//! The checkpoints of a job as its statement tells them: all of them by one digest, and a bounded
//! number by name.

use hb_types::Digest;
use serde::{Deserialize, Serialize};

/// Checkpoints that are named at most.
pub const MAX_LISTED: usize = 1024;

/// First bytes of what [`Checkpoints::digest`] is the digest of.
const DOMAIN: &[u8; 24] = b"hackbrain.dev/marks/v01\n";

/// One checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMark {
    /// The number that `save` returned, from 1.
    pub sequence: u64,
    /// The step that the guest named.
    pub step: u64,
    /// Digest of everything the checkpoint holds.
    pub digest: Digest,
}

/// All checkpoints of a job, in the order of their making.
///
/// A job may have a million of them and a statement must stay small. Past [`MAX_LISTED`] only every
/// second, fourth, eighth … is named, so that the named ones stay evenly spread, and always the
/// last. All of them go into the digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// How many there were.
    pub total: u64,
    /// BLAKE3 over 24 bytes of domain, then for each checkpoint its sequence and step (u64,
    /// little-endian) and its digest (32 bytes).
    pub digest: Digest,
    /// The named ones.
    pub listed: Vec<CheckpointMark>,
}

impl Checkpoints {
    /// Gathers the checkpoints of a job.
    pub fn of(marks: impl IntoIterator<Item = CheckpointMark>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN);
        let (mut total, mut stride) = (0u64, 1u64);
        let mut listed = Vec::new();
        let mut last = None;
        for mark in marks {
            hasher.update(&mark.sequence.to_le_bytes());
            hasher.update(&mark.step.to_le_bytes());
            hasher.update(&mark.digest.0);
            if total.is_multiple_of(stride) {
                // One place stays free for the last.
                if listed.len() == MAX_LISTED - 1 {
                    stride *= 2;
                    let mut index = 0;
                    listed.retain(|_| {
                        index += 1;
                        index % 2 == 1
                    });
                }
                if total.is_multiple_of(stride) {
                    listed.push(mark);
                }
            }
            total += 1;
            last = Some(mark);
        }
        if listed.last() != last.as_ref() {
            listed.extend(last);
        }
        Self { total, digest: hasher.finalize().into(), listed }
    }
}
