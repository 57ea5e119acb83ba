//! What a disk was told, step by step, and what it holds after its power was cut.
//!
//! Owns: images of a disk, the record of its writes and flushes, and which of the writes that no flush
//! covered reach the disk. Knows nothing of files, mounts and jobs.
//!
//! Invariant: everything up to the last flush before a cut is in the image of that cut, unless the disk
//! is told to lie; what came later is there in part, by sectors, as the seed says.

use std::sync::Arc;

/// The least that a disk writes at once or not at all.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// The bytes of a disk. A copy shares its pages.
#[derive(Clone)]
pub struct Image {
    /// A page that is missing holds zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
}

impl Image {
    /// Zeros.
    pub fn empty(bytes: u64) -> Self {
        let pages = usize::try_from(bytes).unwrap().div_ceil(PAGE);
        Self { pages: vec![None; pages] }
    }

    pub fn bytes(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// What is there, up to the end of the disk.
    pub fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let end = self.bytes().min(offset.saturating_add(bytes as u64));
        let mut read = Vec::with_capacity(bytes);
        for (page, within) in pieces(offset, end.saturating_sub(offset)) {
            match &self.pages[page] {
                Some(held) => read.extend_from_slice(&held[within]),
                None => read.resize(read.len() + within.len(), 0),
            }
        }
        read
    }

    /// Replaces what is there; nothing beyond the end.
    pub fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let room = self.bytes().saturating_sub(offset).min(bytes.len() as u64);
        for (page, within) in pieces(offset, room) {
            let (piece, rest) = bytes.split_at(within.len());
            bytes = rest;
            if piece.len() == PAGE && is_zero(piece) {
                self.pages[page] = None;
                continue;
            }
            let held = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(held)[within].copy_from_slice(piece);
        }
    }
}

/// Pages that a range touches, and where it does.
fn pieces(offset: u64, bytes: u64) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    let (mut at, end) =
        (usize::try_from(offset).unwrap(), usize::try_from(offset + bytes).unwrap());
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (page, from) = (at / PAGE, at % PAGE);
        let to = PAGE.min(from + (end - at));
        at += to - from;
        Some((page, from..to))
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// What a disk was told.
#[derive(Clone)]
pub enum Step {
    /// To write this here.
    Write { offset: u64, bytes: Bytes },
    /// To keep what was written.
    Flush,
}

/// Bytes of a write; zeros, of which a log is made in advance, take no room.
#[derive(Clone)]
pub enum Bytes {
    Zeros(usize),
    Other(Arc<[u8]>),
}

impl Bytes {
    pub fn of(bytes: &[u8]) -> Self {
        if is_zero(bytes) { Self::Zeros(bytes.len()) } else { Self::Other(bytes.into()) }
    }

    fn len(&self) -> usize {
        match self {
            Self::Zeros(count) => *count,
            Self::Other(bytes) => bytes.len(),
        }
    }

    fn write_to(&self, image: &mut Image, offset: u64, part: std::ops::Range<usize>) {
        let at = offset + part.start as u64;
        match self {
            Self::Zeros(_) => image.write(at, &vec![0; part.len()]),
            Self::Other(bytes) => image.write(at, &bytes[part]),
        }
    }
}

/// How the disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    /// What a flush covers is kept.
    Honest,
    /// The last so many flushes did nothing, and nothing of what they cover is kept.
    ForgetsFlushes(usize),
    /// What the flush before this step covers is not kept; what came before and after is.
    ForgetsBefore(usize),
}

/// Where and how the power is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Steps that the disk was told.
    pub at: usize,
    /// Which of the writes that no flush covered are kept.
    pub seed: u64,
    /// What this disk writes at once or not at all.
    pub sector: usize,
    pub honesty: Honesty,
}

/// All that a disk was told since it held `first`.
pub struct Record {
    pub first: Image,
    pub steps: Vec<Step>,
}

impl Record {
    /// What the disk holds after this cut.
    pub fn image(&self, cut: Cut) -> Image {
        let mut image = self.first.clone();
        let told = &self.steps[..cut.at];
        let covered = match cut.honesty {
            Honesty::ForgetsFlushes(count) => nth_last_flush(told, count),
            Honesty::Honest | Honesty::ForgetsBefore(_) => nth_last_flush(told, 0),
        };
        let forgotten = match cut.honesty {
            Honesty::ForgetsBefore(step) => {
                nth_last_flush(&self.steps[..step], 1)..nth_last_flush(&self.steps[..step], 0)
            }
            Honesty::Honest | Honesty::ForgetsFlushes(_) => 0..0,
        };
        for (number, step) in told[..covered].iter().enumerate() {
            if let Step::Write { offset, bytes } = step
                && !forgotten.contains(&number)
            {
                bytes.write_to(&mut image, *offset, 0..bytes.len());
            }
        }
        if matches!(cut.honesty, Honesty::Honest) {
            keep_some(&told[covered..], &mut image, cut);
        }
        image
    }

    /// Flushes up to a step.
    pub fn flushes(&self, at: usize) -> usize {
        self.steps[..at].iter().filter(|step| matches!(step, Step::Flush)).count()
    }
}

/// How many of these steps the flush covers that has so many flushes after it.
fn nth_last_flush(steps: &[Step], after: usize) -> usize {
    let flushes = steps.iter().enumerate().rev().filter(|(_, step)| matches!(step, Step::Flush));
    flushes.map(|(number, _)| number).nth(after).unwrap_or(0)
}

/// Keeps each write whole, in part or not at all; how many, the seed says too.
fn keep_some(steps: &[Step], image: &mut Image, cut: Cut) {
    let mut chance = Chance(cut.seed);
    let kept_percent = [0, 10, 50, 90, 100][chance.below(5)];
    for step in steps {
        let Step::Write { offset, bytes } = step else {
            continue;
        };
        if chance.below(4) == 0 {
            // Torn: each sector by itself.
            for from in (0..bytes.len()).step_by(cut.sector) {
                if chance.below(100) < kept_percent {
                    bytes.write_to(image, *offset, from..bytes.len().min(from + cut.sector));
                }
            }
        } else if chance.below(100) < kept_percent {
            bytes.write_to(image, *offset, 0..bytes.len());
        }
    }
}

/// A small generator (`SplitMix64`; Steele, Lea, Flood 2014).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).unwrap()
    }
}

fn write(offset: u64, byte: u8, count: usize) -> Step {
    Step::Write { offset, bytes: Bytes::of(&vec![byte; count]) }
}

#[test]
fn a_cut_keeps_what_a_flush_covers_and_any_sectors_of_the_rest() {
    let steps = vec![write(0, 1, 8192), Step::Flush, write(4096, 2, 4096), write(8192, 3, 1024)];
    let record = Record { first: Image::empty(16384), steps };
    let (mut fewest, mut most) = (usize::MAX, 0);
    for seed in 0..200 {
        let bytes = record
            .image(Cut { at: 4, seed, sector: SECTOR, honesty: Honesty::Honest })
            .read(0, 16384);
        assert!(bytes[..4096].iter().all(|byte| *byte == 1));
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|one| one.iter().all(|byte| *byte == one[0])));
        assert!(sectors[8..16].iter().all(|sector| matches!(sector, 1 | 2)));
        assert!(sectors[16..18].iter().all(|sector| matches!(sector, 0 | 3)));
        let late = sectors.iter().filter(|sector| **sector > 1).count();
        (fewest, most) = (fewest.min(late), most.max(late));
    }
    assert_eq!((fewest, most), (0, 10));
}

#[test]
fn a_lying_disk_forgets_what_it_said_it_keeps() {
    let steps = vec![
        write(0, 1, 512),
        Step::Flush,
        write(512, 2, 512),
        Step::Flush,
        write(1024, 3, 512),
        Step::Flush,
    ];
    let record = Record { first: Image::empty(4096), steps };
    let held = |honesty| {
        let image = record.image(Cut { at: 6, seed: 0, sector: SECTOR, honesty });
        [0, 512, 1024].map(|offset| image.read(offset, 1)[0])
    };
    assert_eq!(held(Honesty::Honest), [1, 2, 3]);
    assert_eq!(held(Honesty::ForgetsFlushes(1)), [1, 2, 0]);
    assert_eq!(held(Honesty::ForgetsFlushes(2)), [1, 0, 0]);
    assert_eq!(held(Honesty::ForgetsBefore(4)), [1, 0, 3]);
    assert_eq!(record.flushes(6), 3);
}
