//! The names of a simulated disk.
//!
//! Owns: changes of names, when they are durable, and which of them a power cut may leave.
//! Knows nothing of: bytes.
//!
//! Invariants: a rename happens wholly or not at all; a change of a file's name never outlives
//! an earlier change of the same file that is lost; a rename between directories is durable when
//! both are synced.

use std::collections::BTreeMap;

use crate::path;

pub(super) type Names = BTreeMap<String, Entry>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Dir,
    File(u64),
}

#[derive(Clone, Debug)]
pub(super) struct NameChange {
    entry: Entry,
    from: Option<String>,
    to: Option<String>,
    /// Directories that are still to be synced.
    unsynced: Vec<String>,
}

impl NameChange {
    pub(super) fn create(path: &str, entry: Entry) -> Self {
        Self::new(entry, None, Some(path))
    }

    pub(super) fn rename(from: &str, to: &str, inode: u64) -> Self {
        Self::new(Entry::File(inode), Some(from), Some(to))
    }

    pub(super) fn remove(path: &str, inode: u64) -> Self {
        Self::new(Entry::File(inode), Some(path), None)
    }

    fn new(entry: Entry, from: Option<&str>, to: Option<&str>) -> Self {
        let mut unsynced: Vec<String> =
            from.iter().chain(to.iter()).map(|path| path::parent(path).to_owned()).collect();
        unsynced.dedup();
        Self { entry, from: from.map(str::to_owned), to: to.map(str::to_owned), unsynced }
    }

    pub(super) fn apply(&self, names: &mut Names) {
        if let Some(from) = &self.from
            && names.get(from) == Some(&self.entry)
        {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.entry);
        }
    }

    fn same_file(&self, other: &Self) -> bool {
        matches!(self.entry, Entry::File(_)) && self.entry == other.entry
    }
}

/// Makes the changes in `dir` durable.
pub(super) fn sync(dir: &str, durable: &mut Names, pending: &mut Vec<NameChange>) {
    let mut kept: Vec<NameChange> = Vec::new();
    for mut change in pending.drain(..) {
        change.unsynced.retain(|unsynced| unsynced != dir);
        let waits = kept.iter().any(|earlier| earlier.same_file(&change));
        if change.unsynced.is_empty() && !waits {
            change.apply(durable);
        } else {
            kept.push(change);
        }
    }
    *pending = kept;
}

/// The names that a power cut leaves when the `chosen` pending changes happened.
pub(super) fn after_cut(durable: &Names, pending: &[NameChange], chosen: &[bool]) -> Names {
    let mut names = durable.clone();
    for (at, change) in pending.iter().enumerate() {
        let earlier = pending[..at].iter().zip(chosen);
        let orphaned = earlier.into_iter().any(|(other, kept)| !kept && other.same_file(change));
        if chosen[at] && !orphaned {
            change.apply(&mut names);
        }
    }
    // A name in a directory that is gone is gone too; parents sort before their children.
    let mut left = Names::new();
    for (path, entry) in names {
        let parent = path::parent(&path);
        if parent.is_empty() || left.get(parent) == Some(&Entry::Dir) {
            left.insert(path, entry);
        }
    }
    left
}
