//! Counts who uses which blob.
//!
//! Invariant: a count is the number of uses by specifications, holdings, seals, schedules and
//! archives; it is never zero.

use std::collections::BTreeMap;

use crate::{Digest, job::JobSpec};

/// Uses that come and go with one record.
#[derive(Default)]
pub(super) struct ReferenceChanges(BTreeMap<Digest, i64>);

impl ReferenceChanges {
    pub(super) fn add_spec(&mut self, spec: &JobSpec) {
        spec.blobs().for_each(|blob| self.add(blob.digest));
    }

    pub(super) fn remove_spec(&mut self, spec: &JobSpec) {
        spec.blobs().for_each(|blob| self.remove(blob.digest));
    }

    pub(super) fn add(&mut self, digest: Digest) {
        *self.0.entry(digest).or_default() += 1;
    }

    pub(super) fn remove(&mut self, digest: Digest) {
        *self.0.entry(digest).or_default() -= 1;
    }

    pub(super) fn replace(&mut self, before: BTreeMap<Digest, u64>, after: BTreeMap<Digest, u64>) {
        for pack in after.into_keys() {
            self.add(pack);
        }
        for pack in before.into_keys() {
            self.remove(pack);
        }
    }

    /// Whether every use that ends had begun.
    pub(super) fn fits(&self, references: &BTreeMap<Digest, u64>) -> bool {
        self.0.iter().all(|(digest, change)| {
            let count = references.get(digest).copied().unwrap_or(0);
            count.checked_add_signed(*change).is_some()
        })
    }

    /// Counts them and returns what nothing uses any more.
    pub(super) fn settle(self, references: &mut BTreeMap<Digest, u64>) -> Vec<Digest> {
        let mut unused = Vec::new();
        for (digest, change) in self.0 {
            let count = references.get(&digest).copied().unwrap_or(0);
            let count = count.checked_add_signed(change).expect("a use ends only after it began");
            if count > 0 {
                references.insert(digest, count);
            } else if references.remove(&digest).is_some() {
                unused.push(digest);
            }
        }
        unused
    }
}
