//! What a disk may forget when the power fails.
//!
//! Owns: the old bytes of everything that was written and not yet flushed, the old names of everything
//! that was named and not yet made durable, and how a choice of them is put back. Knows nothing of
//! when that happens.
//!
//! Bytes are forgotten by sectors, each by itself, and of several writes to one sector the later
//! ones first. Names are forgotten by directory, the later ones first, as a file system with a
//! journal does it. Directories themselves are never forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use hb_disk::{Open, SECTOR_BYTES, Storage, StorageFile};

use crate::dice::Dice;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// Where what was removed or replaced lies until that is durable.
pub(crate) const UNDO_DIR: &str = "chaos-undo";

#[derive(Debug)]
struct OldBytes {
    offset: u64,
    bytes: Vec<u8>,
    len: u64,
}

#[derive(Debug)]
enum OldName {
    Created { path: String },
    Renamed { from: String, to: String, replaced: Option<PathBuf> },
    Removed { path: String, kept: PathBuf },
}

/// What is not durable, in one data directory.
#[derive(Debug)]
pub(crate) struct Volatile {
    root: PathBuf,
    bytes: BTreeMap<String, Vec<OldBytes>>,
    names: BTreeMap<String, Vec<OldName>>,
    kept: u64,
}

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Volatile {
    /// Nothing is volatile yet. What an earlier process left to undo is of no use any more: it was
    /// killed, and a kill forgets nothing.
    pub fn new(root: &Path) -> io::Result<Self> {
        let dir = root.join(UNDO_DIR);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&dir)?,
        }
        let (bytes, names) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { root: root.to_owned(), bytes, names, kept: 0 })
    }

    /// To be called before `len` bytes are written, or the length is set.
    pub fn remember_bytes(
        &mut self,
        path: &str,
        file: &dyn StorageFile,
        offset: u64,
        len: u64,
    ) -> io::Result<()> {
        let file_len = file.len()?;
        let there = file_len.saturating_sub(offset).min(len);
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(usize::MAX)];
        let read = file.read_at(offset, &mut bytes)?;
        bytes.truncate(read);
        let old = OldBytes { offset, bytes, len: file_len };
        self.bytes.entry(path.to_owned()).or_default().push(old);
        Ok(())
    }

    /// The bytes of a file are durable.
    pub fn flushed(&mut self, path: &str) {
        self.bytes.remove(path);
    }

    /// A file was made.
    pub fn created(&mut self, path: &str) {
        let old = OldName::Created { path: path.to_owned() };
        self.names.entry(directory_of(path).to_owned()).or_default().push(old);
    }

    /// To be called before a file gets another name.
    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let replaced = if self.root.join(to).exists() { Some(self.keep(to)?) } else { None };
        let old = OldName::Renamed { from: from.to_owned(), to: to.to_owned(), replaced };
        self.names.entry(directory_of(to).to_owned()).or_default().push(old);
        self.bytes.remove(to);
        if let Some(bytes) = self.bytes.remove(from) {
            self.bytes.insert(to.to_owned(), bytes);
        }
        Ok(())
    }

    /// To be called before a file is removed.
    pub fn remove(&mut self, path: &str) -> io::Result<()> {
        let kept = self.keep(path)?;
        let old = OldName::Removed { path: path.to_owned(), kept };
        self.names.entry(directory_of(path).to_owned()).or_default().push(old);
        self.bytes.remove(path);
        Ok(())
    }

    /// A second name for a file: what is removed or replaced lives on under it. A link, so that
    /// there is no moment in which the file has no name.
    fn keep(&mut self, path: &str) -> io::Result<PathBuf> {
        self.kept += 1;
        let kept = self.root.join(UNDO_DIR).join(self.kept.to_string());
        fs::hard_link(self.root.join(path), &kept)?;
        Ok(kept)
    }

    /// The names in a directory are durable.
    pub fn synced(&mut self, dir: &str) {
        for old in self.names.remove(dir).unwrap_or_default() {
            let kept = match old {
                OldName::Created { .. } => None,
                OldName::Renamed { replaced, .. } => replaced,
                OldName::Removed { kept, .. } => Some(kept),
            };
            // It is only room: the next start clears the directory.
            let _ = kept.map(fs::remove_file);
        }
    }

    /// Forgets a choice of what is not durable in one file.
    pub fn forget_bytes(&mut self, disk: &dyn Storage, path: &str, dice: &mut Dice) {
        let Some(writes) = self.bytes.remove(path) else { return };
        let Ok(file) = disk.open(path, Open::Write) else { return };
        let mut kept_from_here = BTreeSet::new();
        let mut len = None;
        for old in writes.iter().rev() {
            let end = old.offset + old.bytes.len() as u64;
            let mut at = old.offset;
            while at < end {
                let sector = at / SECTOR;
                let stop = ((sector + 1) * SECTOR).min(end);
                if !kept_from_here.contains(&sector) {
                    if dice.coin() {
                        kept_from_here.insert(sector);
                    } else {
                        let from = usize::try_from(at - old.offset).unwrap_or_default();
                        let to = usize::try_from(stop - old.offset).unwrap_or_default();
                        let _ = file.write_at(at, &old.bytes[from..to]);
                    }
                }
                at = stop;
            }
            len = Some(old.len);
        }
        if let Some(len) = len
            && file.len().is_ok_and(|now| now != len)
            && dice.coin()
        {
            let _ = file.set_len(len);
        }
    }

    /// The power fails: forgets a choice of everything that is not durable.
    pub fn forget(&mut self, disk: &dyn Storage, dice: &mut Dice) {
        let paths: Vec<String> = self.bytes.keys().cloned().collect();
        for path in paths {
            self.forget_bytes(disk, &path, dice);
        }
        for (_, mut names) in std::mem::take(&mut self.names) {
            let keep = dice.below(names.len() as u64 + 1);
            for old in names.drain(usize::try_from(keep).unwrap_or_default()..).rev() {
                self.undo(old);
            }
        }
    }

    fn undo(&self, old: OldName) {
        let at = |path: &str| self.root.join(path);
        // A name that has gone elsewhere meanwhile has nothing to undo here.
        let _ = match old {
            OldName::Created { path } => fs::remove_file(at(&path)),
            OldName::Removed { path, kept } => fs::rename(kept, at(&path)),
            OldName::Renamed { from, to, replaced } => {
                let back = fs::rename(at(&to), at(&from));
                replaced.map_or(back, |kept| fs::rename(kept, at(&to)))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hb_disk::RealDisk;

    use super::*;

    fn world() -> (tempfile::TempDir, RealDisk, Volatile) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        let volatile = Volatile::new(dir.path()).unwrap();
        (dir, disk, volatile)
    }

    #[test]
    fn what_was_flushed_stays_and_what_was_not_is_old_or_new_by_sectors() {
        let mut seen = BTreeSet::new();
        for seed in 0..40 {
            let (_dir, disk, mut volatile) = world();
            let file = disk.open("f", Open::Create).unwrap();
            file.write_at(0, &[1; 2048]).unwrap();
            volatile.remember_bytes("f", &*file, 512, 1024).unwrap();
            file.write_at(512, &[2; 1024]).unwrap();
            volatile.forget(&disk, &mut Dice::new(seed));
            let mut bytes = vec![0; 2048];
            file.read_at(0, &mut bytes).unwrap();
            let sectors: Vec<u8> = bytes
                .chunks(512)
                .map(|sector| {
                    assert!(sector.iter().all(|byte| *byte == sector[0]));
                    sector[0]
                })
                .collect();
            assert_eq!((sectors[0], sectors[3]), (1, 1));
            seen.insert((sectors[1], sectors[2]));
        }
        assert_eq!(seen.len(), 4, "every combination comes");
    }

    #[test]
    fn names_go_back_from_the_last_to_any_before_and_a_synced_one_stays() {
        let mut seen = BTreeSet::new();
        for seed in 0..40 {
            let (dir, disk, mut volatile) = world();
            fs::write(dir.path().join("b"), "old").unwrap();
            fs::write(dir.path().join("a"), "new").unwrap();
            volatile.rename("a", "b").unwrap();
            disk.rename("a", "b").unwrap();
            volatile.remove("b").unwrap();
            disk.remove("b").unwrap();
            volatile.forget(&disk, &mut Dice::new(seed));
            let read = |name| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
            seen.insert((read("a"), read("b")));
        }
        let text = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(seen, [text("new", "old"), text("", "new"), text("", "")].into());

        let (dir, disk, mut volatile) = world();
        fs::write(dir.path().join("a"), "x").unwrap();
        volatile.remove("a").unwrap();
        disk.remove("a").unwrap();
        volatile.synced("");
        volatile.forget(&disk, &mut Dice::new(1));
        assert!(!dir.path().join("a").exists());
        assert_eq!(fs::read_dir(dir.path().join(UNDO_DIR)).unwrap().count(), 0);
    }
}
