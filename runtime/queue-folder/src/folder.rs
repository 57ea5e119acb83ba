//! The folder itself: what may be read, what is written, and that both survive a crash.
//!
//! Owns: names, bounds, atomic replacement. Everything goes through one capability, so that no name and
//! no link leads out of the folder. Knows nothing of manifests.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions},
};
use hb_types::text::printable;

/// Where manifests are dropped.
pub const QUEUE: &str = "queue";
/// Where their reports are.
pub const TELEMETRY: &str = "telemetry";
/// Where manifests go whose jobs are over.
pub const ARCHIVE: &str = "archive";
/// Where manifests go that make no sense.
pub const REJECTED: &str = "rejected";

/// Bytes of a manifest.
pub const MANIFEST_MAX_BYTES: u64 = 1024 * 1024;
/// Files that one scan looks at.
pub const SCAN_MAX: usize = 10_000;
/// Bytes of a file's name.
const NAME_MAX_BYTES: usize = 128;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: check that it is a directory of this user on a disk with room", path.display())]
pub struct FolderError {
    /// What was tried.
    pub doing: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// One queue folder.
#[derive(Debug)]
pub struct Folder {
    root: Dir,
    path: PathBuf,
}

/// How a file was when it was looked at: a writer changes one of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its length in bytes.
    pub len_bytes: u64,
    /// When it was last written.
    pub modified: Option<SystemTime>,
}

/// What a file holds.
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>, Stamp),
    /// More than a manifest may have.
    TooLarge(Stamp),
    /// It is gone, or no file that could be read.
    Nothing(String),
}

impl Folder {
    /// Opens a queue folder, and makes what is missing of it.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |doing| {
            let path = path.to_owned();
            move |source| FolderError { doing, path, source }
        };
        std::fs::create_dir_all(path).map_err(failed("make"))?;
        let root = Dir::open_ambient_dir(path, ambient_authority()).map_err(failed("open"))?;
        for part in [QUEUE, TELEMETRY, ARCHIVE, REJECTED] {
            root.create_dir_all(part).map_err(failed("make the parts of"))?;
        }
        Ok(Self { root, path: path.to_owned() })
    }

    fn failed(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> FolderError {
        let path = self.path.join(name);
        move |source| FolderError { doing, path, source }
    }

    /// The manifests that lie in the queue, by name. Hidden files and those with the names of
    /// unfinished ones are not looked at.
    pub fn manifests(&self) -> Result<Vec<String>, FolderError> {
        let entries = self.root.read_dir(QUEUE).map_err(self.failed("list", QUEUE))?;
        let mut names = Vec::new();
        for entry in entries.take(SCAN_MAX) {
            let entry = entry.map_err(self.failed("list", QUEUE))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_manifest(&name) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What lies in the queue under a name.
    pub fn read(&self, name: &str) -> Content {
        let path = format!("{QUEUE}/{name}");
        let nothing = |error: io::Error| Content::Nothing(error.to_string());
        // A link could lead to anything of the same folder: only files count.
        match self.root.symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => return Content::Nothing("it is not a regular file".to_owned()),
            Err(error) => return nothing(error),
        }
        let file = match self.root.open(&path) {
            Ok(file) => file,
            Err(error) => return nothing(error),
        };
        let stamp = match file.metadata() {
            Ok(metadata) => Stamp {
                len_bytes: metadata.len(),
                modified: metadata.modified().ok().map(cap_std::time::SystemTime::into_std),
            },
            Err(error) => return nothing(error),
        };
        if stamp.len_bytes > MANIFEST_MAX_BYTES {
            return Content::TooLarge(stamp);
        }
        let mut bytes = Vec::new();
        match file.take(MANIFEST_MAX_BYTES + 1).read_to_end(&mut bytes) {
            Ok(_) => Content::Bytes(bytes, stamp),
            Err(error) => nothing(error),
        }
    }

    /// A file that a manifest names, relative to the queue; never outside of the folder.
    pub fn open_named(&self, name: &str) -> io::Result<std::fs::File> {
        let queue = self.root.open_dir(QUEUE)?;
        let file = queue.open(name)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(file.into_std())
    }

    /// What was reported of a manifest, if anything was.
    pub fn report(&self, name: &str) -> Option<Vec<u8>> {
        self.root.read(format!("{TELEMETRY}/{name}")).ok()
    }

    /// Replaces the report of a manifest: whoever reads it sees the old one or the new one, also
    /// after a power cut.
    pub fn write_report(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let (path, temporary) = (format!("{TELEMETRY}/{name}"), format!("{TELEMETRY}/.{name}.new"));
        let failed = || self.failed("write", &path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = self.root.open_with(&temporary, &options).map_err(failed())?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed())?;
        self.root.rename(&temporary, &self.root, &path).map_err(failed())?;
        self.sync(TELEMETRY)
    }

    /// Moves a manifest out of the queue; an older one of the same name gives way.
    pub fn move_to(&self, part: &str, name: &str) -> Result<(), FolderError> {
        let (from, to) = (format!("{QUEUE}/{name}"), format!("{part}/{name}"));
        match self.root.rename(&from, &self.root, &to) {
            // Whoever dropped it took it away again: there is nothing to move.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(self.failed("move", &from))?,
        }
        self.sync(part)?;
        self.sync(QUEUE)
    }

    fn sync(&self, part: &str) -> Result<(), FolderError> {
        // Opened as a file: what a `Dir` holds may be a handle that only names the directory.
        let dir = self.root.open(part).map_err(self.failed("open", part))?;
        dir.sync_all().map_err(self.failed("make durable", part))
    }
}

/// Whether a file of that name is looked at.
fn is_manifest(name: &str) -> bool {
    let unfinished = [".tmp", ".part", ".new", ".swp", "~"];
    !name.starts_with('.')
        && name.len() <= NAME_MAX_BYTES
        && printable(name, NAME_MAX_BYTES) == name
        && Path::new(name).extension().is_some_and(|end| end.eq_ignore_ascii_case("json"))
        && !unfinished.iter().any(|end| name.ends_with(end))
}
