//! The files in which a configuration may stand.
//!
//! Owns: which files are looked at and in what order, and when one is not trusted. Knows nothing
//! of what they say.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{Place, Problem, Wrong},
    settings::Surroundings,
};

/// The most that a file may hold.
const FILE_MAX_BYTES: u64 = 1024 * 1024;
/// The file in the working directory.
const LOCAL: &str = "hb.toml";
/// The file below the directories for configuration.
const BELOW: &str = "hackbrain/config.toml";
/// The one for the whole machine.
const SYSTEM: &str = "/etc/hackbrain/config.toml";

/// One of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where.
    pub path: PathBuf,
    /// What became of it.
    pub state: FileState,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It is there and was read.
    Read,
    /// It is not there.
    Absent,
}

/// A file to look at.
pub(crate) struct Candidate {
    pub path: PathBuf,
    /// Whether somebody named it, so that it has to be there.
    pub named: bool,
    /// Whether anybody may have put it where it is.
    pub stray: bool,
}

/// The files to look at, the strongest first.
pub(crate) fn candidates(around: &Surroundings, named: Option<&Path>) -> Vec<Candidate> {
    if let Some(path) = named {
        let path = around.directory.join(path);
        return vec![Candidate { path, named: true, stray: false }];
    }
    let standard = |path| Candidate { path, named: false, stray: false };
    let own = around
        .directory_variable("XDG_CONFIG_HOME")
        .or_else(|| around.directory_variable("HOME").map(|home| home.join(".config")));
    let local = around.directory.join(LOCAL);
    let mut candidates = vec![Candidate { path: local, named: false, stray: true }];
    candidates.extend(own.map(|own| standard(own.join(BELOW))));
    candidates.push(standard(PathBuf::from(SYSTEM)));
    candidates
}

/// The text of a file; `None` where it is not there and need not be.
pub(crate) fn read(candidate: &Candidate) -> Result<Option<String>, Problem> {
    let problem = |wrong| Problem { place: Place::file(&candidate.path), wrong };
    let mut file = match File::open(&candidate.path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) && !candidate.named => return Ok(None),
        Err(error) => return Err(problem(Wrong::Unreadable(error))),
    };
    let metadata = file.metadata().map_err(|error| problem(Wrong::Unreadable(error)))?;
    if metadata.is_dir() {
        let error = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(problem(Wrong::Unreadable(error)));
    }
    // A directory that others can write to may hold a file that others put there.
    let me = rustix::process::geteuid().as_raw();
    if candidate.stray && metadata.uid() != me && metadata.uid() != 0 {
        return Err(problem(Wrong::Foreign { owner: metadata.uid() }));
    }
    let mut text = String::new();
    (&mut file)
        .take(FILE_MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| problem(Wrong::Unreadable(error)))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(problem(Wrong::TooLarge { most: FILE_MAX_BYTES }));
    }
    Ok(Some(text))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
