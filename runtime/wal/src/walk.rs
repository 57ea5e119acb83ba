//! Walks the frames of a log in order and judges the first place that is not one.
//!
//! Owns: the recovery decision: frame, clean end, torn end, or problem.
//! Knows nothing of: the high-water mark, snapshots' content, what is done about a torn end.
//!
//! Invariants: one frame is in flight at a time, so nothing can follow a torn frame; a tear
//! leaves whole sectors, new or zero, so one bad sector that is neither is rot; nothing is written
//! here. When in doubt it is a problem, never an end.

use std::io;

use rkyv::util::AlignedVec;

use crate::Lsn;
use crate::error::{Problem, ProblemKind};
use crate::frame::{AtOffset, FLAG_REPAIR, FrameHeader, bad_sectors, link_holds, read_header};
use crate::layout::{
    BLOCK, BLOCK_U64, Link, LogId, is_zero, segment_path, to_u64, to_usize, used_len,
};
use crate::repair::RepairNotice;
use crate::segment::{Segment, read_exact};

/// Segments are read in pieces of this many bytes.
const WINDOW_BYTES: usize = 1 << 20;

/// A place in the list of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) offset: u64,
}

/// What must come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expect {
    frame_seq: u64,
    first_lsn: Lsn,
    link: Link,
}

/// A frame that was being written when the power went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) place: Place,
    /// Where its last byte that is not zero ends.
    pub(crate) until: u64,
    pub(crate) detail: String,
}

/// One step of the walk.
#[derive(Debug)]
pub(crate) enum Step {
    Frame(FrameHeader),
    Clean,
    Torn(Torn),
}

/// Why a step was not possible.
#[derive(Debug)]
pub(crate) enum WalkFault {
    Io { segment: u64, source: io::Error },
    Problem(Problem),
}

#[derive(Debug)]
pub(crate) struct Walker<'a> {
    id: LogId,
    segments: &'a [Segment],
    place: Place,
    expect: Option<Expect>,
    /// What the log may start after; `None` where any frame may be the first.
    covered_lsn: Option<Lsn>,
    last_lsn: Lsn,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    index: usize,
    start: u64,
    bytes: AlignedVec<16>,
}

impl<'a> Walker<'a> {
    /// Walks from the first segment on. Records up to `covered_lsn` may be missing, because a
    /// snapshot holds them.
    pub(crate) fn new(id: LogId, segments: &'a [Segment], covered_lsn: Lsn) -> Self {
        Self {
            id,
            segments,
            place: Place { index: 0, offset: BLOCK_U64 },
            expect: None,
            covered_lsn: Some(covered_lsn),
            last_lsn: covered_lsn,
            window: Window::default(),
        }
    }

    /// The next place that is looked at; after a clean end, where the next frame goes.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The last record that was seen, or what the snapshot covers.
    pub(crate) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// The bytes of the frame that [`Walker::step`] just returned.
    pub(crate) fn frame(&self, header: &FrameHeader) -> &[u8] {
        let from = to_usize(header.offset - self.window.start);
        &self.window.bytes[from..from + header.len()]
    }

    /// Forgets what was read, for a log that another process is writing.
    pub(crate) fn forget(&mut self) {
        self.window = Window::default();
    }

    /// Verifies what comes next. After an end or a problem the place stays where it was found.
    pub(crate) fn step(&mut self) -> Result<Step, WalkFault> {
        if self.segments.is_empty() {
            return Ok(Step::Clean);
        }
        loop {
            let Place { index, offset } = self.place;
            let segment = &self.segments[index];
            if offset + BLOCK_U64 > segment.end() {
                if !self.next_segment()? {
                    return Ok(Step::Clean);
                }
                continue;
            }
            let id = self.id;
            let sector = self.read(index, offset, BLOCK)?;
            return match read_header(sector, &id, segment.seq, offset) {
                AtOffset::Valid(header) => self.judge_frame(header),
                AtOffset::Damaged(detail) => Err(self.problem(ProblemKind::FrameHeader, detail)),
                AtOffset::Zero => {
                    let dirty = segment.first_dirty(offset).map_err(|error| self.io(error))?;
                    match dirty {
                        Some(dirty) => self.judge_headless(dirty),
                        None if self.next_segment()? => continue,
                        None => Ok(Step::Clean),
                    }
                }
            };
        }
    }

    /// Goes to the next segment if something was written to it.
    fn next_segment(&mut self) -> Result<bool, WalkFault> {
        let Some(used) = self.later_segment_used()? else { return Ok(false) };
        if used != self.place.index + 1 {
            let detail = format!(
                "segment {:06} is empty and segment {:06} is not",
                self.segments[self.place.index + 1].seq,
                self.segments[used].seq
            );
            return Err(self.problem(ProblemKind::Sequence, detail));
        }
        self.place = Place { index: used, offset: BLOCK_U64 };
        Ok(true)
    }

    /// The first later segment with anything in the block of its first frame.
    fn later_segment_used(&self) -> Result<Option<usize>, WalkFault> {
        let mut block = [0; BLOCK];
        for (index, segment) in self.segments.iter().enumerate().skip(self.place.index + 1) {
            let read = read_exact(segment.file.as_ref(), BLOCK_U64, &mut block);
            read.map_err(|source| WalkFault::Io { segment: segment.seq, source })?;
            if !is_zero(&block) {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn judge_frame(&mut self, header: FrameHeader) -> Result<Step, WalkFault> {
        let Place { index, offset } = self.place;
        let segment = &self.segments[index];
        if to_u64(header.len()) > segment.end() - offset {
            let detail = format!("a frame of {} bytes leaves the segment", header.len());
            return Err(self.problem(ProblemKind::FrameHeader, detail));
        }
        self.check_order(&header)?;
        let bad = bad_sectors(self.read(index, offset, header.len())?, &header);
        if let Some(first) = bad.first() {
            return self.judge_bad_frame(
                &header,
                first.at,
                &first.detail,
                bad.iter().all(|b| b.zero),
            );
        }
        let id = self.id;
        let frame = self.read(index, offset, header.len())?;
        if !link_holds(frame, &id, &header) {
            let detail = "all checksums hold and the chain does not: the frame was changed";
            return Err(self.problem(ProblemKind::Chain, detail.to_owned()));
        }
        if header.is(FLAG_REPAIR) && RepairNotice::read(frame, &header).is_none() {
            let detail = "the notice of a repair cannot be read".to_owned();
            return Err(self.problem(ProblemKind::Record, detail));
        }
        self.place.offset += to_u64(header.len());
        self.last_lsn = self.last_lsn.max(header.last_lsn());
        self.expect = Some(Expect {
            frame_seq: header.frame_seq + 1,
            first_lsn: header.last_lsn() + 1,
            link: header.link,
        });
        Ok(Step::Frame(header))
    }

    /// Whether the frame is the one that must follow. A repair gives LSNs up, so the notice of
    /// one may skip some.
    fn check_order(&mut self, header: &FrameHeader) -> Result<(), WalkFault> {
        let Some(expect) = self.expect else { return self.check_first(header) };
        let skips = header.is(FLAG_REPAIR) && header.first_lsn > expect.first_lsn;
        if header.frame_seq != expect.frame_seq || (header.first_lsn != expect.first_lsn && !skips)
        {
            let detail = format!(
                "frame {} with LSN {} expected, frame {} with LSN {} found",
                expect.frame_seq, expect.first_lsn, header.frame_seq, header.first_lsn
            );
            return Err(self.problem(ProblemKind::Sequence, detail));
        }
        if header.previous != expect.link {
            let detail = "the frame does not continue the chain: the log was changed".to_owned();
            return Err(self.problem(ProblemKind::Chain, detail));
        }
        Ok(())
    }

    fn check_first(&mut self, header: &FrameHeader) -> Result<(), WalkFault> {
        let Some(covered) = self.covered_lsn else { return Ok(()) };
        let first_of_all = (header.frame_seq, header.previous) == (1, [0; 32]);
        if header.first_lsn <= covered + 1 && (covered > 0 || first_of_all) {
            return Ok(());
        }
        if header.is(FLAG_REPAIR) {
            let frame = self.read(self.place.index, self.place.offset, header.len())?;
            if RepairNotice::read(frame, header).is_some_and(|notice| notice.kept_to <= covered) {
                return Ok(());
            }
        }
        let detail = format!(
            "the log begins with LSN {}, and no snapshot holds what comes before",
            header.first_lsn
        );
        Err(self.problem(ProblemKind::SegmentMissing, detail))
    }

    /// A frame with a valid header and bad sectors.
    fn judge_bad_frame(
        &mut self,
        header: &FrameHeader,
        at: usize,
        detail: &str,
        all_zero: bool,
    ) -> Result<Step, WalkFault> {
        let place = self.place;
        let detail = format!("sector at byte {}: {detail}", place.offset + to_u64(at));
        let problem = |walker: &Self, why: &str| {
            let detail = format!("{detail}{why}");
            let mut problem = walker.describe(ProblemKind::Sector, detail);
            problem.offset = place.offset + to_u64(at);
            Err(WalkFault::Problem(problem))
        };
        if !all_zero {
            return problem(self, "");
        }
        let end = place.offset + to_u64(header.len());
        let dirty = self.segments[place.index].first_dirty(end).map_err(|error| self.io(error))?;
        if dirty.is_some() || self.later_segment_used()?.is_some() {
            return problem(self, "; later frames show that it was durable");
        }
        let used = used_len(self.read(place.index, place.offset, header.len())?);
        Ok(Step::Torn(Torn { place, until: place.offset + to_u64(used), detail }))
    }

    /// Zeros where a header would be, and something after them.
    fn judge_headless(&mut self, dirty: u64) -> Result<Step, WalkFault> {
        let place = self.place;
        let detail = format!("zeros instead of a frame header, and data at byte {dirty}");
        let later = self.later_segment_used()?.is_some();
        if later || self.next_valid(place.offset + BLOCK_U64)?.is_some() {
            return Err(self.problem(ProblemKind::FrameHeader, detail));
        }
        let segment = &self.segments[place.index];
        let until = segment.used_until(dirty).map_err(|error| self.io(error))?;
        Ok(Step::Torn(Torn { place, until, detail }))
    }

    /// The next block of this segment, from `offset` on, that holds a valid frame header.
    fn next_valid(&mut self, offset: u64) -> Result<Option<u64>, WalkFault> {
        let index = self.place.index;
        let (seq, end) = (self.segments[index].seq, self.segments[index].end());
        let mut at = offset;
        while at + BLOCK_U64 <= end {
            let id = self.id;
            let block = self.read(index, at, BLOCK)?;
            if matches!(read_header(block, &id, seq, at), AtOffset::Valid(_)) {
                return Ok(Some(at));
            }
            at += BLOCK_U64;
        }
        Ok(None)
    }

    /// After a problem: whether anything valid follows it. Goes there, and takes that frame as it
    /// is; the walk is for a report from then on.
    pub(crate) fn skip_to_next_valid(&mut self) -> Result<bool, WalkFault> {
        (self.expect, self.covered_lsn) = (None, None);
        if let Some(offset) = self.next_valid(self.place.offset + BLOCK_U64)? {
            self.place.offset = offset;
            return Ok(true);
        }
        while self.place.index + 1 < self.segments.len() {
            self.place = Place { index: self.place.index + 1, offset: BLOCK_U64 };
            if let Some(offset) = self.next_valid(BLOCK_U64)? {
                self.place.offset = offset;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether anything valid follows the place; the walk stays where it is.
    pub(crate) fn anything_follows(&mut self) -> Result<bool, WalkFault> {
        Ok(self.later_segment_used()?.is_some()
            || self.next_valid(self.place.offset + BLOCK_U64)?.is_some())
    }

    /// `len` bytes of a segment, aligned to 16.
    fn read(&mut self, index: usize, offset: u64, len: usize) -> Result<&[u8], WalkFault> {
        let window = &self.window;
        let inside = window.index == index
            && offset >= window.start
            && offset + to_u64(len) <= window.start + to_u64(window.bytes.len());
        if !inside {
            let segment = &self.segments[index];
            let rest = to_usize(segment.end() - offset);
            let filled = len.max(WINDOW_BYTES).min(rest);
            self.window.bytes.resize(filled, 0);
            (self.window.index, self.window.start) = (index, offset);
            let read = read_exact(segment.file.as_ref(), offset, &mut self.window.bytes);
            if let Err(source) = read {
                self.window = Window::default();
                return Err(WalkFault::Io { segment: segment.seq, source });
            }
        }
        let from = to_usize(offset - self.window.start);
        Ok(&self.window.bytes[from..from + len])
    }

    fn io(&self, source: io::Error) -> WalkFault {
        WalkFault::Io { segment: self.segments[self.place.index].seq, source }
    }

    pub(crate) fn describe(&self, kind: ProblemKind, detail: String) -> Problem {
        let seq = self.segments[self.place.index].seq;
        Problem {
            kind,
            file: segment_path(seq),
            segment: Some(seq),
            offset: self.place.offset,
            last_good_lsn: self.last_lsn,
            detail,
        }
    }

    fn problem(&self, kind: ProblemKind, detail: String) -> WalkFault {
        WalkFault::Problem(self.describe(kind, detail))
    }
}
