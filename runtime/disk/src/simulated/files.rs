//! The bytes of one simulated file.
//!
//! Owns: the live and the durable bytes of a file and the changes between them.
//! Knows nothing of: names, faults.
//!
//! Invariant: applying every pending change to the durable bytes, in order, gives the live
//! bytes, unless a flush has failed.

use super::{FlushMode, Landing, Picker, SECTOR_BYTES};

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
    /// How many of the pending changes an earlier late flush has promised.
    promised: usize,
}

impl Change {
    /// The length that the file has at least after this change.
    pub(super) fn end(&self) -> u64 {
        match self {
            Self::Write { offset, bytes } => offset + bytes.len() as u64,
            Self::SetLen(len) => *len,
        }
    }

    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { .. } => self.apply_sectors(file, |_| true),
            Self::SetLen(len) => file.resize(index(*len), 0),
        }
    }

    /// Writes the sectors that `lands` names, counted from the first that the write touches. The
    /// length grows even where the bytes do not land: it is journalled apart from them.
    fn apply_sectors(&self, file: &mut Vec<u8>, mut lands: impl FnMut(usize) -> bool) {
        let Self::Write { offset, bytes } = self else { return };
        let start = index(*offset);
        if file.len() < start + bytes.len() {
            file.resize(start + bytes.len(), 0);
        }
        for sector in 0..self.sectors() {
            let base = (start / SECTOR_BYTES + sector) * SECTOR_BYTES;
            let from = base.max(start);
            let to = (base + SECTOR_BYTES).min(start + bytes.len());
            if lands(sector) {
                file[from..to].copy_from_slice(&bytes[from - start..to - start]);
            }
        }
    }

    fn sectors(&self) -> usize {
        match self {
            Self::Write { bytes, .. } if bytes.is_empty() => 0,
            Self::Write { offset, bytes } => {
                let first = index(*offset) / SECTOR_BYTES;
                (index(*offset) + bytes.len()).div_ceil(SECTOR_BYTES) - first
            }
            Self::SetLen(_) => 1,
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits in memory")
}

impl Inode {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.pending.push(change);
    }

    pub(super) fn units(&self, sectors: bool) -> usize {
        if sectors { self.pending.iter().map(Change::sectors).sum() } else { self.pending.len() }
    }

    pub(super) fn flush(&mut self, mode: FlushMode) {
        let covered = match mode {
            FlushMode::Honest => self.pending.len(),
            FlushMode::Late => self.promised,
            FlushMode::Lying => 0,
        };
        for change in self.pending.drain(..covered) {
            change.apply(&mut self.durable);
        }
        self.promised = self.pending.len();
    }

    /// Some sectors land, the others are forgotten by all but the page cache.
    pub(super) fn fail_flush(&mut self, draw: u64) {
        for (number, change) in self.pending.drain(..).enumerate() {
            match &change {
                Change::Write { .. } => {
                    change.apply_sectors(&mut self.durable, |sector| {
                        draw.rotate_right(u32::try_from((number + sector) % 64).unwrap_or(0)) & 1
                            == 1
                    });
                }
                Change::SetLen(_) => change.apply(&mut self.durable),
            }
        }
        self.promised = 0;
    }

    /// The file that a power cut leaves.
    pub(super) fn after_cut(&self, picker: &mut Picker) -> Self {
        let mut left = self.durable.clone();
        for change in &self.pending {
            match change {
                Change::SetLen(_) => {
                    if picker.whole() {
                        change.apply(&mut left);
                    }
                }
                Change::Write { .. } => match picker.landing() {
                    Landing::Nothing => {}
                    Landing::Whole => change.apply(&mut left),
                    Landing::BySector => {
                        let lands: Vec<bool> =
                            (0..change.sectors()).map(|_| picker.whole()).collect();
                        if lands.contains(&true) {
                            change.apply_sectors(&mut left, |sector| lands[sector]);
                        }
                    }
                },
            }
        }
        Self::settled(left)
    }

    /// A file whose bytes are all durable.
    pub(super) fn settled(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), live: bytes, pending: Vec::new(), promised: 0 }
    }
}
