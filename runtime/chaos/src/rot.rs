//! One bit of a ledger flips while no host runs.
//!
//! Owns the choice of the bit, and putting it back.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use crate::dice::Dice;

/// A flipped bit.
#[derive(Debug)]
pub(crate) struct Flip {
    path: PathBuf,
    offset: u64,
    bit: u8,
}

impl Flip {
    /// Flips a bit of a file of the log, of a snapshot or of a blob. Where a file is partly zeros that
    /// nobody has written yet, a byte that was written is taken.
    pub fn make(data: &Path, dice: &mut Dice) -> io::Result<Option<Self>> {
        let mut files = Vec::new();
        for dir in ["wal", "blob"] {
            collect(&data.join(dir), &mut files)?;
        }
        files.sort();
        for _ in 0..20 {
            if files.is_empty() {
                break;
            }
            let path = files[usize::try_from(dice.below(files.len() as u64)).unwrap_or(0)].clone();
            let bytes = fs::read(&path)?;
            let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if written == 0 {
                continue;
            }
            let offset = dice.below(written as u64);
            let bit = 1 << dice.below(8);
            let flip = Self { path, offset, bit };
            flip.toggle()?;
            return Ok(Some(flip));
        }
        Ok(None)
    }

    /// Flips the bit back.
    pub fn take_back(&self) -> io::Result<()> {
        self.toggle()
    }

    /// Where it is, for people.
    pub fn place(&self, data: &Path) -> String {
        let path = self.path.strip_prefix(data).unwrap_or(&self.path);
        format!("{} at byte {}", path.display(), self.offset)
    }

    fn toggle(&self) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&self.path)?;
        let mut byte = [0];
        file.seek(SeekFrom::Start(self.offset))?;
        file.read_exact(&mut byte)?;
        byte[0] ^= self.bit;
        file.seek(SeekFrom::Start(self.offset))?;
        file.write_all(&byte)
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
