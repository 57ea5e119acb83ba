//! Uploads that go on where they broke off.
//!
//! Owns: the files with what came so far, one for each digest, and who writes to which. What is here is
//! a hint until all of it hashes to its name: only then it becomes a blob. So these bytes need not be
//! durable, and a host that crashed offers what the disk still has of them.
//!
//! Invariant: one request at a time writes to a file; files are bounded in number and age.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hb_types::Digest;

/// Uploads that may be unfinished at once.
const UNFINISHED_MAX: usize = 64;
/// How long an upload may rest.
const REST: Duration = Duration::from_hours(24);
const ENDING: &str = ".part";

/// All unfinished uploads of a host.
#[derive(Debug)]
pub(crate) struct Uploads {
    directory: PathBuf,
    busy: Mutex<HashSet<Digest>>,
}

/// An upload that this request alone writes to.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    uploads: &'a Uploads,
    digest: Digest,
}

/// Why an upload cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// Somebody else sends the same bytes.
    #[error("another request is sending the same bytes: wait for it, then ask how far it came")]
    Busy,
    /// Too many have begun.
    #[error("{UNFINISHED_MAX} uploads are unfinished already: finish one, or wait")]
    TooMany,
    /// The disk.
    #[error("the upload cannot be kept")]
    Io(#[from] io::Error),
}

impl Uploads {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, busy: Mutex::default() }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.directory.join(format!("{digest}{ENDING}"))
    }

    /// How many bytes of a blob came so far.
    pub fn offset(&self, digest: Digest) -> u64 {
        fs::metadata(self.path(digest)).map_or(0, |metadata| metadata.len())
    }

    /// Takes the turn at a blob's upload.
    pub fn turn(&self, digest: Digest) -> Result<Turn<'_>, UploadError> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(digest) {
            return Err(UploadError::Busy);
        }
        drop(busy);
        // From here on the turn is given back whatever happens.
        let turn = Turn { uploads: self, digest };
        fs::create_dir_all(&self.directory)?;
        if !self.path(digest).exists() && self.sweep(SystemTime::now())? >= UNFINISHED_MAX {
            return Err(UploadError::TooMany);
        }
        Ok(turn)
    }

    /// Removes uploads that have rested too long; how many are left.
    fn sweep(&self, now: SystemTime) -> io::Result<usize> {
        let mut left = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let rests = written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > REST));
            if rests {
                fs::remove_file(entry.path())?;
            } else {
                left += 1;
            }
        }
        Ok(left)
    }
}

impl Turn<'_> {
    /// The file, to append to; `offset` is where the caller believes that it ends.
    pub fn append_at(&self, offset: u64) -> io::Result<Result<File, u64>> {
        let path = self.uploads.path(self.digest);
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let len_bytes = file.metadata()?.len();
        Ok(if len_bytes == offset { Ok(file) } else { Err(len_bytes) })
    }

    /// The file, to read from its beginning.
    pub fn read(&self) -> io::Result<File> {
        File::open(self.uploads.path(self.digest))
    }

    /// Removes what came.
    pub fn discard(&self) -> io::Result<()> {
        match fs::remove_file(self.uploads.path(self.digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.uploads.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn an_upload_goes_on_where_it_broke_off_and_only_there() {
        let root = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(root.path().join("uploads"));
        let digest = Digest::of(b"hello world");
        assert_eq!(uploads.offset(digest), 0);
        let turn = uploads.turn(digest).unwrap();
        assert!(matches!(uploads.turn(digest), Err(UploadError::Busy)));
        turn.append_at(0).unwrap().unwrap().write_all(b"hello ").unwrap();
        drop(turn);
        // As after a new start.
        let uploads = Uploads::new(root.path().join("uploads"));
        assert_eq!(uploads.offset(digest), 6);
        let turn = uploads.turn(digest).unwrap();
        assert_eq!(turn.append_at(0).unwrap().unwrap_err(), 6);
        turn.append_at(6).unwrap().unwrap().write_all(b"world").unwrap();
        let mut bytes = String::new();
        turn.read().unwrap().read_to_string(&mut bytes).unwrap();
        assert_eq!(bytes, "hello world");
        turn.discard().unwrap();
        turn.discard().unwrap();
        assert_eq!(uploads.offset(digest), 0);
    }

    #[test]
    fn unfinished_uploads_are_bounded_in_number_and_age() {
        let root = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(root.path().to_owned());
        let digest = |index: usize| Digest::of(&index.to_le_bytes());
        for index in 0..UNFINISHED_MAX {
            drop(uploads.turn(digest(index)).unwrap().append_at(0).unwrap());
        }
        let one_more = uploads.turn(digest(UNFINISHED_MAX));
        assert!(matches!(one_more, Err(UploadError::TooMany)));
        drop(one_more);
        uploads.turn(digest(3)).unwrap();
        assert_eq!(uploads.sweep(SystemTime::now() + REST * 2).unwrap(), 0);
        uploads.turn(digest(UNFINISHED_MAX)).unwrap();
    }
}
