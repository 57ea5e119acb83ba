//! Where things are in a data directory.
//!
//! ```text
//! LOCK          held by the process that owns the ledger
//! wal/          the log: segments and snapshots
//! mark/         how far the log was acknowledged, kept apart from it
//! blob/         content-addressed blobs
//! keys/         the host's signing key
//! cache/        compiled components; may be removed at any time
//! ```

use std::path::{Path, PathBuf};

/// Name of the lock.
pub(crate) const LOCK: &str = "LOCK";
/// Name of the signing key below `keys/`.
pub(crate) const KEY: &str = "host-ed25519.pem";

/// The paths below one data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Compiled components.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }
}
