//! The store: putting, finding, reading and removing blobs.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hb_disk::{Open, Storage, StorageFile};
use hb_types::Digest;

use crate::{
    Blob, BlobWriter, Blobs, Hold, StoreError,
    error::is_full,
    gate::Gate,
    names::{
        ROOT, SHARDS, TEMP, blob_path, list_shard, open_existing, shard_dir, shard_of, shard_temp,
    },
};

/// All blobs of one data directory. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Storage>,
    gate: Arc<Gate>,
    next_temp: AtomicU64,
    shards: Vec<Mutex<Shard>>,
    /// The directory whose flush failed, once one did.
    stopped: OnceLock<String>,
}

/// What is known of one directory of blobs.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Whether every name in it is durable. A name that an earlier process wrote and could not
    /// flush any more looks like any other, so this starts as no.
    settled: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("disk", &self.inner.disk).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store of a data directory, or founds it, and removes what was half-written.
    ///
    /// The caller holds the lock of the data directory: a second process would lose what it is
    /// just writing.
    pub fn open(disk: Arc<dyn Storage>) -> Result<Self, StoreError> {
        let make = |dir: &str| disk.create_dir(dir).map_err(StoreError::io("create", dir));
        make(ROOT)?;
        let present = disk.list(ROOT).map_err(StoreError::io("list", ROOT))?;
        for dir in (0..SHARDS).map(shard_dir).chain([TEMP.to_owned()]) {
            if present.binary_search(&dir[ROOT.len() + 1..].to_owned()).is_err() {
                make(&dir)?;
            }
        }
        for name in disk.list(TEMP).map_err(StoreError::io("list", TEMP))? {
            let path = format!("{TEMP}/{name}");
            disk.remove(&path).map_err(StoreError::io("remove", &path))?;
        }
        // Also when nothing was missing or removed: a process that was killed may have made the
        // directories, or moved a blob out of the temporary one, without living to make it durable.
        for dir in ["", ROOT, TEMP] {
            // The root has no name of its own.
            let named = if dir.is_empty() { "." } else { dir };
            disk.sync_dir(dir).map_err(StoreError::io("make durable the names in", named))?;
        }
        Ok(Self::attach(disk))
    }

    /// The store of a data directory as it stands, for reading beside the process that owns it:
    /// nothing is made, mended or removed.
    pub fn attach(disk: Arc<dyn Storage>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let inner = Inner {
            disk,
            gate: Arc::default(),
            next_temp: AtomicU64::new(0),
            shards,
            stopped: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Puts a blob: durable when this returns. One that is there and whole is not written again;
    /// one that is there and damaged is replaced.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let (digest, len_bytes) = (Digest::of(bytes), bytes.len() as u64);
        // Held while writing: the temporary file lies in the blob's own directory, one at a time,
        // so that one directory flush makes everything durable and a crash leaves at most one
        // half-written file for each directory.
        let mut shard = self.lock(digest);
        if self.has_durably(&mut shard, digest, len_bytes)? {
            return Ok(digest);
        }
        let path = shard_temp(shard_of(digest));
        self.remove_if_there(&path)?;
        let mut temp = self.create_temp(path, len_bytes)?;
        temp.file()
            .write_at(0, bytes)
            .map_err(|error| self.write_error("write", temp.path(), len_bytes, error))?;
        self.flush(&temp, len_bytes)?;
        self.publish(&mut shard, &mut temp, digest, len_bytes)?;
        Ok(digest)
    }

    /// Starts a blob that is written piece by piece, for content that should not be held in
    /// memory.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        BlobWriter::new(self.clone())
    }

    /// The whole blob, verified.
    pub fn get(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let blob = self.open_unverified(digest)?;
        let mut bytes = Vec::new();
        let refuse = |_| {
            let message = format!("{} bytes do not fit into memory", blob.len());
            let error = io::Error::new(io::ErrorKind::OutOfMemory, message);
            StoreError::io("read", &blob_path(digest))(error)
        };
        let len = usize::try_from(blob.len()).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(len).map_err(refuse)?;
        blob.verify(|piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// Opens a blob after having read all of it once and compared it with its name. What is read
    /// later comes through the same handle.
    pub fn open_verified(&self, digest: Digest) -> Result<Blob, StoreError> {
        let blob = self.open_unverified(digest)?;
        blob.verify(|_| ())?;
        Ok(blob)
    }

    /// Opens a blob without verifying it: for packs of many parts, whose reader has a digest of
    /// each part and checks it after [`Blob::read_range`].
    pub fn open_unverified(&self, digest: Digest) -> Result<Blob, StoreError> {
        match open_existing(self.disk(), &blob_path(digest))? {
            Some(file) => Blob::new(digest, file),
            None => Err(StoreError::Missing { digest }),
        }
    }

    /// Exactly `len_bytes` of a blob from `offset_bytes`, **not verified**: the caller has a
    /// digest of the part and checks it.
    pub fn read_range(
        &self,
        digest: Digest,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.open_unverified(digest)?.read_range(offset_bytes, len_bytes)
    }

    /// Whether there is a blob of that name. Says nothing of its bytes.
    pub fn contains(&self, digest: Digest) -> Result<bool, StoreError> {
        Ok(open_existing(self.disk(), &blob_path(digest))?.is_some())
    }

    /// Length of a blob in bytes, as the disk has it; `None` when there is no such blob.
    pub fn len(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let path = blob_path(digest);
        match open_existing(self.disk(), &path)? {
            Some(file) => Ok(Some(file.len().map_err(StoreError::io("measure", &path))?)),
            None => Ok(None),
        }
    }

    /// As [`Store::len`], for those who are about to refer to the blob: its name is durable when this
    /// returns. A name that is seen may be one whose flush failed, or was never reached.
    pub fn durable_len(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let mut shard = self.lock(digest);
        self.check_running()?;
        let len_bytes = self.len(digest)?;
        if len_bytes.is_some() {
            self.settle(&mut shard, digest)?;
        }
        Ok(len_bytes)
    }

    /// Whether there is no blob at all.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        for shard in 0..SHARDS {
            if !list_shard(self.disk(), shard)?.blobs.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All blobs with their lengths, in order of digest.
    pub fn list(&self) -> Blobs<'_> {
        Blobs::new(self)
    }

    /// Removes a blob; one that is not there is no error. Not made durable: a blob that comes back
    /// after a crash is whole, and is collected again.
    pub fn remove(&self, digest: Digest) -> Result<(), StoreError> {
        // The lock keeps a put of the same bytes from finding the blob just before it goes.
        let _shard = self.lock(digest);
        self.remove_if_there(&blob_path(digest))
    }

    /// Keeps everything from being collected until the result is dropped; see [`Hold`].
    pub fn hold(&self) -> Hold {
        self.inner.gate.hold()
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    pub(crate) fn disk(&self) -> &dyn Storage {
        &*self.inner.disk
    }

    pub(crate) fn lock(&self, digest: Digest) -> MutexGuard<'_, Shard> {
        self.lock_shard(shard_of(digest))
    }

    // A panic while the lock was held leaves `settled` false at worst, which is safe.
    pub(crate) fn lock_shard(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.inner.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is there, whole, and its name is durable when this returns.
    pub(crate) fn has_durably(
        &self,
        shard: &mut Shard,
        digest: Digest,
        len_bytes: u64,
    ) -> Result<bool, StoreError> {
        self.check_running()?;
        let Some(file) = open_existing(self.disk(), &blob_path(digest))? else { return Ok(false) };
        let blob = Blob::new(digest, file)?;
        if blob.len() != len_bytes {
            return Ok(false);
        }
        match blob.verify(|_| ()) {
            Ok(()) => {}
            // Unreadable is as bad as wrong: the caller has the right bytes at hand.
            Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.settle(shard, digest)?;
        Ok(true)
    }

    /// Makes the names in a blob's directory durable, unless it is known that they are.
    fn settle(&self, shard: &mut Shard, digest: Digest) -> Result<(), StoreError> {
        if !shard.settled {
            self.make_durable(&shard_dir(shard_of(digest)))?;
            shard.settled = true;
        }
        Ok(())
    }

    pub(crate) fn next_temp_path(&self) -> String {
        format!("{TEMP}/{:016x}", self.inner.next_temp.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn create_temp(&self, path: String, needed_bytes: u64) -> Result<Temp, StoreError> {
        self.check_running()?;
        let file = self
            .disk()
            .open(&path, Open::Create)
            .map_err(|error| self.write_error("create", &path, needed_bytes, error))?;
        Ok(Temp { disk: Arc::clone(&self.inner.disk), path, file, published: false })
    }

    /// Before a file gets its name, so that a name never stands for bytes that a crash could take
    /// back. A flush that failed needs no care beyond its error: the file is thrown away.
    pub(crate) fn flush(&self, temp: &Temp, len_bytes: u64) -> Result<(), StoreError> {
        temp.file.flush().map_err(|error| self.write_error("flush", &temp.path, len_bytes, error))
    }

    /// Gives a flushed temporary file its name and makes that durable.
    pub(crate) fn publish(
        &self,
        shard: &mut Shard,
        temp: &mut Temp,
        digest: Digest,
        len_bytes: u64,
    ) -> Result<(), StoreError> {
        self.check_running()?;
        shard.settled = false;
        let path = blob_path(digest);
        self.disk()
            .rename(&temp.path, &path)
            .map_err(|error| self.write_error("name", &path, len_bytes, error))?;
        temp.published = true;
        let dir = shard_dir(shard_of(digest));
        self.make_durable(&dir)?;
        if !temp.path.starts_with(&dir) {
            // A file that moved between directories is certain to have moved only when both are
            // durable.
            self.make_durable(TEMP)?;
        }
        shard.settled = true;
        Ok(())
    }

    /// Makes the names in a directory durable.
    fn make_durable(&self, dir: &str) -> Result<(), StoreError> {
        self.disk().sync_dir(dir).map_err(|source| {
            // A second flush may claim success for what the first one lost. Nothing more is
            // acknowledged until the store has been opened again.
            let _ = self.inner.stopped.set(dir.to_owned());
            StoreError::io("make durable the names in", dir)(source)
        })
    }

    pub(crate) fn remove_if_there(&self, path: &str) -> Result<(), StoreError> {
        match self.disk().remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// The directory whose names could not be made durable, once there is one: from then on nothing
    /// is put any more, until the store has been opened again.
    pub fn stopped(&self) -> Option<&str> {
        self.inner.stopped.get().map(String::as_str)
    }

    fn check_running(&self) -> Result<(), StoreError> {
        match self.stopped() {
            Some(dir) => Err(StoreError::Stopped { dir: dir.to_owned() }),
            None => Ok(()),
        }
    }

    pub(crate) fn write_error(
        &self,
        doing: &'static str,
        path: &str,
        needed_bytes: u64,
        source: io::Error,
    ) -> StoreError {
        if is_full(&source) {
            let free_bytes = self.disk().free_bytes().unwrap_or(0);
            StoreError::Full { needed_bytes, free_bytes, source }
        } else {
            StoreError::io(doing, path)(source)
        }
    }
}

/// A file that has no digest yet. Removed when dropped, unless it was given its name.
#[derive(Debug)]
pub(crate) struct Temp {
    disk: Arc<dyn Storage>,
    path: String,
    file: Box<dyn StorageFile>,
    published: bool,
}

impl Temp {
    pub(crate) fn file(&self) -> &dyn StorageFile {
        &*self.file
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(path = self.path, %error, "half-written blob stays until the next start");
        }
    }
}
