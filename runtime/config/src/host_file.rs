//! How the host of a data directory is found: the file `host.json`.
//!
//! Owns: what it says, that it is never seen half-written, and that one of a host that is gone
//! is not believed. Knows nothing of how a host is asked.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Its name in a data directory.
pub const NAME: &str = "host.json";

/// The most that a file of ours holds.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// A host that serves a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFile {
    /// Its process.
    pub pid: u32,
    /// Addresses under which it answers, with their schemes.
    pub urls: Vec<String>,
    /// When it was started, as RFC 3339.
    pub started: String,
    /// Its version.
    pub version: String,
}

/// Why the file could not be written, removed or read.
#[derive(Debug, thiserror::Error)]
pub enum HostFileError {
    /// The disk.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this version writes.
    #[error("{} does not say which host serves: remove it if none does", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl HostFile {
    /// Says in a data directory that this host serves it, in place of whoever said so before.
    ///
    /// The caller owns the directory's ledger. The file is a hint for others and need not
    /// survive a power cut, which the host would not either.
    pub fn write(&self, data: &Path) -> Result<(), HostFileError> {
        let path = data.join(NAME);
        let failed = |source| HostFileError::Io { doing: "write", path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(self).expect("numbers and strings");
        text.push(b'\n');
        let partial = data.join(format!("{NAME}.{}.partial", std::process::id()));
        let written = fs::File::create(&partial)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&partial, &path));
        written.map_err(|error| {
            // The first error says what is wrong; that something stays behind adds nothing.
            let _ = fs::remove_file(&partial);
            failed(error)
        })
    }

    /// Takes the file away; that it is not there is no error.
    pub fn remove(data: &Path) -> Result<(), HostFileError> {
        let path = data.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HostFileError::Io { doing: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// The host that serves a data directory, unless its process is gone.
    pub fn read(data: &Path) -> Result<Option<Self>, HostFileError> {
        let path = data.join(NAME);
        let failed = |source| HostFileError::Io { doing: "read", path: path.clone(), source };
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut text = Vec::new();
        file.take(FILE_MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
        let host: Self = serde_json::from_slice(&text)
            .map_err(|source| HostFileError::Malformed { path: path.clone(), source })?;
        Ok(is_running(host.pid).then_some(host))
    }
}

/// Whether there is such a process, of whatever user, and it has not ended.
fn is_running(pid: u32) -> bool {
    let raw = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    let Some(pid) = raw.and_then(rustix::process::Pid::from_raw) else { return false };
    match rustix::process::test_kill_process(pid) {
        Err(rustix::io::Errno::SRCH) => false,
        _ => !is_zombie(raw.unwrap_or_default()),
    }
}

/// One that nobody has waited for yet (proc(5)).
fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name stands in parentheses and may hold anything.
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    fn host(pid: u32) -> HostFile {
        HostFile {
            pid,
            urls: vec!["http://127.0.0.1:4005".to_owned()],
            started: "2026-11-24T06:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_host_is_found_while_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(HostFile::read(dir.path()).unwrap(), None);
        let mine = host(std::process::id());
        mine.write(dir.path()).unwrap();
        mine.write(dir.path()).unwrap();
        assert_eq!(HostFile::read(dir.path()).unwrap(), Some(mine));
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing else stays behind");
        HostFile::remove(dir.path()).unwrap();
        HostFile::remove(dir.path()).unwrap();
        assert_eq!(HostFile::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_host_whose_process_is_gone_or_a_zombie_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        host(child.id()).write(dir.path()).unwrap();
        assert!(HostFile::read(dir.path()).unwrap().is_some());
        child.kill().unwrap();
        while !is_zombie(i32::try_from(child.id()).unwrap()) {
            std::thread::yield_now();
        }
        assert_eq!(HostFile::read(dir.path()).unwrap(), None);
        child.wait().unwrap();
        assert_eq!(HostFile::read(dir.path()).unwrap(), None);
        host(0).write(dir.path()).unwrap();
        assert_eq!(HostFile::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn what_is_no_such_file_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "{").unwrap();
        let error = HostFile::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("host.json") && error.contains("remove it"), "{error}");
        let error = host(1).write(&dir.path().join("none")).unwrap_err().to_string();
        assert!(error.starts_with("cannot write"), "{error}");
    }

    #[test]
    fn readers_see_one_host_or_another_and_never_half_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = host(std::process::id());
        let mut other = one.clone();
        one.urls = vec!["http://a".repeat(500)];
        other.urls = vec!["http://b".to_owned()];
        one.write(dir.path()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200 {
                    other.write(dir.path()).unwrap();
                    one.write(dir.path()).unwrap();
                }
            });
            for _ in 0..200 {
                let seen = HostFile::read(dir.path()).unwrap().unwrap();
                assert!(seen == one || seen == other);
            }
        });
    }
}
