//! Compiled code on disk.
//!
//! Owns: one directory of compiled components, each file the BLAKE3 digest of the code and then
//! the code. Files are made under a temporary name and renamed, read whole and verified before
//! use, and the same bytes that were verified are the ones that are loaded. Nothing is flushed: a
//! file that a power cut damaged does not verify, is removed and made again.
//!
//! Invariant: bytes come out only if this installation put them in, undamaged.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hb_types::Digest;

const DIGEST_BYTES: usize = 32;
const EXTENSION: &str = "cwasm";
/// All files together. The least recently used go first.
const MAX_BYTES: u64 = 1 << 30;
/// What a file that has not got its name yet is called at first.
const UNNAMED_PREFIX: &str = ".tmp";
/// A file that has no name after this time belongs to a process that is gone.
const UNNAMED_AGE: Duration = Duration::from_hours(1);

/// A directory of compiled code.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    max_bytes: u64,
}

impl Cache {
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory, max_bytes: MAX_BYTES })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, key: Digest) -> PathBuf {
        self.directory.join(format!("{key}.{EXTENSION}"))
    }

    /// The code under `key`, if it is there and whole. What is damaged is removed.
    pub(crate) fn load(&self, key: Digest) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(key);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut digest = [0; DIGEST_BYTES];
        let mut code = Vec::new();
        let is_whole = match file.read_exact(&mut digest) {
            Ok(()) => {
                file.read_to_end(&mut code)?;
                Digest::of(&code) == Digest(digest)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        if !is_whole {
            tracing::warn!(path = %path.display(), "compiled code is damaged and made again");
            self.remove(key)?;
            return Ok(None);
        }
        // Only the order of eviction depends on it.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(code))
    }

    pub(crate) fn store(&self, key: Digest, code: &[u8]) -> io::Result<()> {
        let mut file =
            tempfile::Builder::new().prefix(UNNAMED_PREFIX).tempfile_in(&self.directory)?;
        file.write_all(&Digest::of(code).0)?;
        file.write_all(code)?;
        file.persist(self.path(key)).map_err(|error| error.error)?;
        self.evict(self.max_bytes, Some(key)).map(drop)
    }

    /// Removes the least recently used files until the rest is no longer than `max_bytes`, and
    /// what processes left behind that died while they wrote; returns the bytes that were removed.
    pub(crate) fn shrink(&self, max_bytes: u64) -> io::Result<u64> {
        Ok(self.remove_unnamed()? + self.evict(max_bytes, None)?)
    }

    fn remove_unnamed(&self) -> io::Result<u64> {
        let mut removed_bytes = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if !entry.file_name().as_encoded_bytes().starts_with(UNNAMED_PREFIX.as_bytes()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let is_old = metadata.modified()?.elapsed().is_ok_and(|age| age >= UNNAMED_AGE);
            if is_old && fs::remove_file(entry.path()).is_ok() {
                removed_bytes += metadata.len();
            }
        }
        Ok(removed_bytes)
    }

    pub(crate) fn remove(&self, key: Digest) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the least recently used files until the rest fits; never `newest`. Returns the bytes
    /// that were removed.
    fn evict(&self, max_bytes: u64, newest: Option<Digest>) -> io::Result<u64> {
        let newest = newest.map(|key| self.path(key));
        let mut files = Vec::new();
        let (mut total_bytes, mut removed_bytes) = (0, 0);
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != EXTENSION) {
                continue;
            }
            // Another process may have evicted it meanwhile.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            total_bytes += metadata.len();
            files.push((metadata.modified()?, path, metadata.len()));
        }
        files.sort();
        for (_, path, len_bytes) in files {
            if total_bytes <= max_bytes {
                break;
            }
            if Some(&path) != newest.as_ref() && fs::remove_file(&path).is_ok() {
                total_bytes -= len_bytes;
                removed_bytes += len_bytes;
            }
        }
        Ok(removed_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cache(directory: &Path) -> Cache {
        Cache::open(directory.join("cache")).unwrap()
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed_and_the_file_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        let key = Digest::of(b"key");
        cache.store(key, b"code").unwrap();
        let whole = fs::read(cache.path(key)).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            for bytes in [&damaged[..], &whole[..at]] {
                fs::write(cache.path(key), bytes).unwrap();
                assert_eq!(cache.load(key).unwrap(), None, "byte {at}");
                assert!(!cache.path(key).exists());
            }
        }
        cache.store(key, b"code").unwrap();
        assert_eq!(cache.load(key).unwrap().unwrap(), b"code");
    }

    #[test]
    fn the_least_recently_used_code_goes_when_the_directory_is_full() {
        let directory = tempfile::tempdir().unwrap();
        let mut cache = cache(directory.path());
        cache.max_bytes = 3 * (DIGEST_BYTES as u64 + 4);
        let keys = [1, 2, 3, 4].map(|number: u8| Digest::of(&[number]));
        let long_ago = SystemTime::now() - Duration::from_secs(1000);
        for (key, age) in keys.iter().zip([2, 3, 1]) {
            cache.store(*key, b"code").unwrap();
            let then = long_ago - Duration::from_secs(age);
            File::open(cache.path(*key)).unwrap().set_modified(then).unwrap();
        }
        cache.store(keys[3], b"code").unwrap();
        let left = keys.map(|key| cache.load(key).unwrap().is_some());
        assert_eq!(left, [true, false, true, true]);
    }

    #[test]
    fn a_cache_can_be_shrunk_and_loses_what_the_dead_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        let long_ago = SystemTime::now() - 2 * UNNAMED_AGE;
        let keys = [1, 2, 3].map(|number: u8| Digest::of(&[number]));
        for (key, age) in keys.iter().zip([30, 10, 20]) {
            cache.store(*key, b"code").unwrap();
            let then = long_ago - Duration::from_secs(age);
            File::open(cache.path(*key)).unwrap().set_modified(then).unwrap();
        }
        let unnamed = ["old", "new"].map(|name| cache.directory().join(format!(".tmp{name}")));
        for path in &unnamed {
            fs::write(path, b"half").unwrap();
        }
        File::open(&unnamed[0]).unwrap().set_modified(long_ago).unwrap();
        let each = DIGEST_BYTES as u64 + 4;
        assert_eq!(cache.shrink(2 * each + 1).unwrap(), 4 + each);
        assert_eq!(unnamed.map(|path| path.exists()), [false, true]);
        let left = keys.map(|key| cache.path(key).exists());
        assert_eq!(left, [false, true, true]);
        assert_eq!(cache.shrink(0).unwrap(), 2 * each);
    }
}
