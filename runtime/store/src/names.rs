//! Where a blob lies, and the walk over all of them.

use hb_disk::{Open, Storage};
use hb_types::Digest;

use crate::{StoreError, store::Store};

/// The directory of everything here.
pub(crate) const ROOT: &str = "blob";
/// The directory of blobs that are being written and whose digest is not yet known.
pub(crate) const TEMP: &str = "blob/tmp";
/// A blob that is being put lies under this name in the directory that it will have its own in.
const SHARD_TEMP: &str = "tmp";
/// Directories that blobs are spread over, by the first byte of their digest.
pub(crate) const SHARDS: usize = 256;

pub(crate) fn shard_dir(shard: usize) -> String {
    format!("{ROOT}/{shard:02x}")
}

pub(crate) fn shard_temp(shard: usize) -> String {
    format!("{}/{SHARD_TEMP}", shard_dir(shard))
}

pub(crate) fn shard_of(digest: Digest) -> usize {
    usize::from(digest.0[0])
}

pub(crate) fn blob_path(digest: Digest) -> String {
    format!("{ROOT}/{:02x}/{digest}", digest.0[0])
}

/// The digest that a file name in a shard's directory stands for, if it is one that this store
/// writes (lower case, in the right directory).
pub(crate) fn parse_name(shard: usize, name: &str) -> Option<Digest> {
    let digest: Digest = name.parse().ok()?;
    (shard_of(digest) == shard && digest.to_string() == name).then_some(digest)
}

/// What one directory of blobs holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// In order.
    pub(crate) blobs: Vec<Digest>,
    /// Whether a half-written blob lies there.
    pub(crate) has_temp: bool,
    /// Paths of files that are none of ours.
    pub(crate) foreign: Vec<String>,
}

pub(crate) fn list_shard(disk: &dyn Storage, shard: usize) -> Result<Listing, StoreError> {
    let dir = shard_dir(shard);
    let mut listing = Listing::default();
    let names = match disk.list(&dir) {
        Ok(names) => names,
        // A store that is read beside its owner may be one that was never opened for writing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(listing),
        Err(source) => return Err(StoreError::io("list", &dir)(source)),
    };
    for name in names {
        match parse_name(shard, &name) {
            Some(digest) => listing.blobs.push(digest),
            None if name == SHARD_TEMP => listing.has_temp = true,
            None => listing.foreign.push(format!("{dir}/{name}")),
        }
    }
    Ok(listing)
}

/// All blobs with their lengths in bytes, in order of digest; made by [`Store::list`].
///
/// Blobs that come or go during the walk may or may not be seen. Files that are no blobs are
/// passed over.
#[derive(Debug)]
pub struct Blobs<'a> {
    store: &'a Store,
    next_shard: usize,
    current: std::vec::IntoIter<Digest>,
}

impl<'a> Blobs<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, next_shard: 0, current: Vec::new().into_iter() }
    }
}

impl Iterator for Blobs<'_> {
    type Item = Result<(Digest, u64), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for digest in self.current.by_ref() {
                match self.store.len(digest) {
                    Ok(Some(len_bytes)) => return Some(Ok((digest, len_bytes))),
                    Ok(None) => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            if self.next_shard == SHARDS {
                return None;
            }
            let shard = self.next_shard;
            self.next_shard += 1;
            match list_shard(self.store.disk(), shard) {
                Ok(listing) => self.current = listing.blobs.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Opens a file, or says that there is none.
pub(crate) fn open_existing(
    disk: &dyn Storage,
    path: &str,
) -> Result<Option<Box<dyn hb_disk::StorageFile>>, StoreError> {
    match disk.open(path, Open::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::io("open", path)(source)),
    }
}
