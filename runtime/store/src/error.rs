//! What can go wrong with blobs, and what to do about it.

use std::io;

use hb_types::Digest;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no blob of that name.
    #[error(
        "blob {digest} is not in the store: it was never put or has been collected; put it again, \
         or restore the data directory from a copy that holds it"
    )]
    Missing {
        /// The blob that was asked for.
        digest: Digest,
    },
    /// The bytes under a name are not the bytes that the name stands for.
    #[error(
        "blob {digest} is damaged: its {found_len_bytes} bytes have the digest {found}; put the \
         original bytes again, which replaces it, or restore it from a copy"
    )]
    Damaged {
        /// The name, which is the digest that the bytes should have.
        digest: Digest,
        /// The digest that they have.
        found: Digest,
        /// How many bytes there are.
        found_len_bytes: u64,
    },
    /// A part was asked for that lies outside of the blob.
    #[error(
        "blob {digest} has {found_len_bytes} bytes, but {len_bytes} bytes from byte {offset_bytes} \
         were expected: the blob was cut off or the reference to it is wrong; run `hb ledger check`"
    )]
    OutOfRange {
        /// The blob.
        digest: Digest,
        /// First byte that was asked for.
        offset_bytes: u64,
        /// How many were asked for.
        len_bytes: u64,
        /// How many bytes the blob has.
        found_len_bytes: u64,
    },
    /// There is no room. Nothing was left behind, and the store goes on when there is room again.
    #[error(
        "the disk is full: {needed_bytes} bytes needed for a blob, {free_bytes} bytes free; free \
         some space in the data directory's file system and repeat"
    )]
    Full {
        /// Bytes of the blob, as far as they were known.
        needed_bytes: u64,
        /// Bytes that were free right after the failure.
        free_bytes: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The names of blobs could not be made durable, so nothing more is acknowledged.
    #[error(
        "the blob store stopped after directory {dir} could not be made durable: what is on disk is \
         not known any more; check the disk, then start hb again"
    )]
    Stopped {
        /// The directory whose flush failed.
        dir: String,
    },
    /// Any other failure of the disk.
    #[error("could not {doing} {path}: check the disk and the permissions of the data directory")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On which path, relative to the data directory.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The bytes that were to be put could not be read from where they come from.
    #[error("could not read the bytes to be stored")]
    Source {
        /// What the reader said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// Whether an error means that there is no room (`ENOSPC`, `EDQUOT`).
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
