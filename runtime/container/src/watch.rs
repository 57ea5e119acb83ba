//! How much of the disk a running program uses.
//!
//! Owns: the sum over its directories, and over files that it removed and still holds open. Knows
//! nothing of what follows from it.
//!
//! A program writes into the kernel's own files; nobody stands in between to refuse a byte. So its use
//! is looked at again and again, and one that is above its limit is ended. No single file can grow
//! beyond the limit (`RLIMIT_FSIZE`), and only a short time lies between two looks.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use hb_types::limits::{Limit, Limits};

use crate::{
    end::End,
    place::Place,
    walk::{self, Found, WalkError},
};

/// Blocks that a file may have beyond its length: what file systems round up and put aside.
const SLACK_BYTES: u64 = 128 * 1024;
/// Bytes of a block, as `stat` counts.
const BLOCK_BYTES: u64 = 512;
/// Processes whose open files are looked at.
const PROCESSES_MAX: usize = 4096;

/// Fails where the program holds more than it may.
pub(crate) fn check(place: &Place, limits: &Limits, pid: Option<i64>) -> Result<(), End> {
    let (mut bytes, mut files) = (0u64, 0u64);
    for name in ["job", "out"] {
        let top = fs::File::open(place.path(name)).map_err(End::io("a job's files are gone"))?;
        let walked = walk::walk(&top.into(), name, &mut |entry| {
            files += 1;
            if entry.found == Found::File {
                bytes = bytes.saturating_add(used_bytes(
                    u64::try_from(entry.stat.st_size).unwrap_or(0),
                    u64::try_from(entry.stat.st_blocks).unwrap_or(0),
                ));
            }
            if files > limits.files {
                return Err(End::limit(limits, Limit::Files, files));
            }
            if bytes > limits.files_bytes {
                return Err(End::limit(limits, Limit::FilesBytes, bytes));
            }
            Ok(())
        });
        match walked {
            Err(WalkError::Visit(end)) => return Err(end),
            // What cannot be kept is noticed where it is to be kept.
            Ok(()) | Err(WalkError::Refused(_)) => {}
            // A program may take its own rights away.
            Err(WalkError::Io(error)) => tracing::debug!(%error, "a job's files cannot be counted"),
        }
    }
    let unnamed = pid.map_or(0, |pid| unnamed_bytes(place, pid));
    let bytes = bytes.saturating_add(unnamed);
    if bytes > limits.files_bytes {
        return Err(End::limit(limits, Limit::FilesBytes, bytes));
    }
    Ok(())
}

fn used_bytes(len_bytes: u64, blocks: u64) -> u64 {
    len_bytes.max((blocks * BLOCK_BYTES).saturating_sub(SLACK_BYTES))
}

/// Bytes of files on the disk of the job's directories that have no name any more and that it holds
/// open. Where another user's processes cannot be looked at there are none.
fn unnamed_bytes(place: &Place, pid: i64) -> u64 {
    let Ok(disk) = fs::metadata(place.path("job")).map(|metadata| metadata.dev()) else { return 0 };
    let mut seen = BTreeSet::new();
    let mut bytes = 0u64;
    for process in descendants(pid) {
        let Ok(entries) = fs::read_dir(format!("/proc/{process}/fd")) else { continue };
        for entry in entries.flatten() {
            // Follows the kernel's own link, so it is the open file itself.
            let Ok(file) = fs::metadata(entry.path()) else { continue };
            let unnamed = file.is_file() && file.nlink() == 0 && file.dev() == disk;
            if unnamed && seen.insert(file.ino()) {
                bytes = bytes.saturating_add(used_bytes(file.len(), file.blocks()));
            }
        }
    }
    bytes
}

/// A process and all that come of it.
fn descendants(pid: i64) -> Vec<i64> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        next += 1;
        found.extend(children(process).unwrap_or_default());
        if found.len() > PROCESSES_MAX {
            break;
        }
    }
    found
}

fn children(pid: i64) -> io::Result<Vec<i64>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path: PathBuf = thread?.path().join("children");
        let text = fs::read_to_string(path).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(|word| word.parse::<i64>().ok()));
    }
    Ok(found)
}
