//! Reading everything once and comparing it with its name.

use hb_types::Digest;

use crate::{
    StoreError,
    names::{SHARDS, list_shard},
    store::Store,
};

/// Findings kept in full by an audit; what goes beyond is only counted.
const MAX_FINDINGS: usize = 1000;

/// A blob that is not what its name says.
#[derive(Debug)]
pub struct DamagedBlob {
    /// Its name.
    pub digest: Digest,
    /// What is wrong: [`StoreError::Damaged`], or [`StoreError::Io`] where it cannot be read.
    pub error: StoreError,
}

/// What [`Store::verify_all`] found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Blobs whose bytes fit their names.
    pub whole: u64,
    /// Bytes of those.
    pub whole_bytes: u64,
    /// How many do not.
    pub damaged: u64,
    /// The first 1,000 of them, in order of digest.
    pub findings: Vec<DamagedBlob>,
    /// Files among the blobs that are none, at most 1,000: not written by the store, never read.
    pub foreign: Vec<String>,
}

impl Store {
    /// Reads all blobs and compares each with its name. `Err` only when a directory cannot be
    /// read; damage is what this is meant to find.
    pub fn verify_all(&self) -> Result<Audit, StoreError> {
        let mut audit = Audit::default();
        for shard in 0..SHARDS {
            let listing = list_shard(self.disk(), shard)?;
            let room = MAX_FINDINGS - audit.foreign.len();
            audit.foreign.extend(listing.foreign.into_iter().take(room));
            for digest in listing.blobs {
                match self.open_verified(digest) {
                    Ok(blob) => {
                        audit.whole += 1;
                        audit.whole_bytes += blob.len();
                    }
                    // Collected since the directory was read.
                    Err(StoreError::Missing { .. }) => {}
                    Err(error) => {
                        audit.damaged += 1;
                        if audit.findings.len() < MAX_FINDINGS {
                            audit.findings.push(DamagedBlob { digest, error });
                        }
                    }
                }
            }
        }
        Ok(audit)
    }
}
