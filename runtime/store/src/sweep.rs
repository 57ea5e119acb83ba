//! Collecting the blobs that nothing needs.

use hb_types::Digest;

use crate::{
    StoreError,
    names::{SHARDS, list_shard, shard_temp},
    store::Store,
};

/// What to do while blobs are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileHeld {
    /// Wait. The caller must not hold them itself.
    Wait,
    /// Leave it.
    Leave,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Blobs that are needed.
    pub kept: u64,
    /// Blobs that were removed.
    pub removed: u64,
    /// Bytes of the removed blobs.
    pub removed_bytes: u64,
}

impl Store {
    /// Removes those of some blobs for which `live` says no; says whether it did. While a
    /// [`Hold`](crate::Hold) is out nothing may be removed: then it waits, or with
    /// [`WhileHeld::Leave`] does nothing. `live` is asked as in [`Store::sweep`].
    pub fn remove_unneeded(
        &self,
        digests: &[Digest],
        live: &dyn Fn(Digest) -> bool,
        while_held: WhileHeld,
    ) -> Result<bool, StoreError> {
        let _collecting = match while_held {
            WhileHeld::Wait => self.gate().collect(),
            WhileHeld::Leave => match self.gate().try_collect() {
                Some(collecting) => collecting,
                None => return Ok(false),
            },
        };
        for digest in digests {
            if !live(*digest) {
                self.remove(*digest)?;
            }
        }
        Ok(true)
    }

    /// Removes every blob for which `live` says no.
    ///
    /// `live` is asked while no [`Hold`](crate::Hold) is out, so that a blob which was put under a
    /// hold is seen with the reference to it; it must therefore answer from the state as it is
    /// *when asked*, not from a copy taken before, and must not take a hold. The work is done one
    /// directory at a time: a hold waits for 1/256 of the blobs at most.
    pub fn sweep(&self, live: &dyn Fn(Digest) -> bool) -> Result<SweepReport, StoreError> {
        let mut report = SweepReport::default();
        for shard in 0..SHARDS {
            let _collecting = self.gate().collect();
            let listing = list_shard(self.disk(), shard)?;
            if listing.has_temp {
                // With the lock nobody is writing it: it was left by a crash.
                let _shard = self.lock_shard(shard);
                self.remove_if_there(&shard_temp(shard))?;
            }
            for digest in listing.blobs {
                if live(digest) {
                    report.kept += 1;
                } else {
                    let len_bytes = self.len(digest)?.unwrap_or(0);
                    self.remove(digest)?;
                    report.removed += 1;
                    report.removed_bytes += len_bytes;
                }
            }
        }
        Ok(report)
    }
}
