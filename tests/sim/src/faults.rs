//! What goes wrong during one life of a host.
//!
//! Owns: the choice, and its limits: which faults a host must survive without losing anything, and
//! which ones it only has to notice.

use hb_disk::{FlushMode, SimulatedDisk};

use crate::draw::Draw;

/// `EIO`.
const EIO: i32 = 5;
/// `ENOSPC`.
const ENOSPC: i32 = 28;

/// What kind of history it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Power cuts, kills, failing operations, full disks: nothing may be lost.
    Survivable,
    /// Bits flip on the disk between two lives: what is not healed must be refused or said.
    Rot,
    /// Flushes succeed and do nothing: what the log still knows to be missing must be refused.
    Lies,
}

impl Kind {
    /// Some kind.
    pub fn drawn(draw: &mut Draw) -> Self {
        match draw.below(12) {
            0 => Self::Rot,
            1 => Self::Lies,
            _ => Self::Survivable,
        }
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfLife {
    /// Power is lost.
    PowerCut,
    /// The process is killed.
    Kill,
    /// It is asked to stop and does.
    Drain,
}

/// The faults of one life.
#[derive(Clone, Debug)]
pub struct Faults {
    /// How it ends.
    pub end: EndOfLife,
    /// Operations of the disk after which it ends, wherever it then is.
    pub end_after: u64,
    /// Whether operations fail or the disk is full.
    pub failing: bool,
    /// What a flush takes.
    pub flush_ns: u64,
}

impl Faults {
    /// Draws faults and prepares the disk for them.
    pub fn drawn(draw: &mut Draw, disk: &SimulatedDisk, kind: Kind) -> Self {
        let horizon = *draw.pick(&[20, 100, 300, 1000]);
        let end_after = draw.between(1, horizon);
        let end = *draw.pick(&[
            EndOfLife::PowerCut,
            EndOfLife::PowerCut,
            EndOfLife::Kill,
            EndOfLife::Drain,
        ]);
        let now = disk.operations();
        let mut failing = false;
        disk.set_seed(draw.any());
        if kind == Kind::Lies {
            disk.set_flush_mode(FlushMode::Lying);
            disk.set_sync_dir_lies(draw.chance(1, 3));
        }
        if draw.chance(1, 3) && kind == Kind::Survivable {
            failing = true;
            for _ in 0..draw.between(1, 3) {
                let errno = *draw.pick(&[EIO, EIO, ENOSPC]);
                disk.fail_at(now + draw.between(1, horizon), errno);
            }
        }
        if draw.chance(1, 8) && kind == Kind::Survivable {
            failing = true;
            let used: u64 = disk.contents().values().map(|bytes| bytes.len() as u64).sum();
            disk.set_capacity(Some(used + *draw.pick(&[0, 5_000, 100_000, 300_000])));
        }
        if end == EndOfLife::PowerCut {
            disk.crash_at(now + end_after);
        }
        let flush_ns = *draw.pick(&[0, 0, 30_000, 5_000_000, 7_000_000_000]);
        Self { end, end_after, failing, flush_ns }
    }

    /// Operations that the process is given.
    pub fn operations(&self) -> u64 {
        if self.end == EndOfLife::Kill { self.end_after } else { u64::MAX }
    }
}

/// Flips some bits of one file; says which.
pub fn rot(draw: &mut Draw, disk: &SimulatedDisk) -> String {
    let files: Vec<(String, usize)> = disk
        .contents()
        .into_iter()
        .filter(|(_, bytes)| !bytes.is_empty())
        .map(|(path, bytes)| (path, bytes.len()))
        .collect();
    if files.is_empty() {
        return "nothing".to_owned();
    }
    let (path, len) = draw.pick(&files);
    let at = draw.index(*len);
    let flips = draw.between(1, 4);
    disk.tamper(path, |bytes| {
        for flip in 0..flips {
            let byte = (at + usize::try_from(flip * 97).unwrap_or(0)) % len;
            bytes[byte] ^= 1 << draw.below(8);
        }
    });
    format!("{path} at byte {at}")
}
