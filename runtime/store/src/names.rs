//! Where a blob lies, and the walk over all of them.

use hb_disk::{Open, Storage};
use hb_types::Digest;

use crate::{StoreError, store::Store};

/// The directory of everything here.
pub(crate) const ROOT: &str = "blob";
/// The directory of half-written blobs.
pub(crate) const TEMP: &str = "blob/tmp";
/// Directories that blobs are spread over, by the first byte of their digest.
pub(crate) const SHARDS: usize = 256;

pub(crate) fn shard_dir(shard: usize) -> String {
    format!("{ROOT}/{shard:02x}")
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

/// What one shard's directory holds: blobs, and names that are none.
pub(crate) fn list_shard(
    disk: &dyn Storage,
    shard: usize,
) -> Result<(Vec<Digest>, Vec<String>), StoreError> {
    let dir = shard_dir(shard);
    let names = disk.list(&dir).map_err(StoreError::io("list", &dir))?;
    let mut foreign = Vec::new();
    let digests = names
        .into_iter()
        .filter_map(|name| {
            let digest = parse_name(shard, &name);
            if digest.is_none() {
                foreign.push(format!("{dir}/{name}"));
            }
            digest
        })
        .collect();
    Ok((digests, foreign))
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
                Ok((digests, _)) => self.current = digests.into_iter(),
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
