//! Reads a whole log and says what it is, before anything is changed.
//!
//! Owns: the order of verification (mark, segments, snapshots, frames, mark again), what is said
//! about what was found, and the replay of the records.
//! Knows nothing of: writing.
//!
//! Invariant: [`verify`] changes nothing; a log that it accepts holds every record up to the
//! high-water mark, in one unbroken chain from the first segment to the last frame.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hb_disk::{Open, Storage};
use rkyv::util::AlignedVec;

use crate::Lsn;
use crate::error::{OpenError, Problem, ProblemKind, ReplayError, io_error};
use crate::frame::{self, AtOffset, FLAG_REPAIR, FrameHeader, read_header};
use crate::layout::{
    BLOCK, BLOCK_U64, LOG_DIR, LogId, MARK_FILE, segment_path, snapshot_path, to_u64,
};
use crate::mark::{self, Mark, MarkState};
use crate::record::{self, RecordRef};
use crate::repair::RepairNotice;
use crate::segment::{self, Healing, OpenFault, Segment, read_exact};
use crate::snapshot::{self, Snapshot};
use crate::walk::{Place, Step, Torn, WalkFault, Walker};

/// Something that was found on opening, and was no reason to refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A frame that was being written when power was lost was cut off. Nothing in it had been
    /// acknowledged.
    TornTail {
        /// The segment.
        segment: u64,
        /// The first byte that was cut off.
        from: u64,
        /// The byte after the last that was cut off.
        until: u64,
        /// Which sector did not verify, and how.
        detail: String,
    },
    /// A segment's header or its copy was damaged and was written anew from the other.
    HeaderHealed {
        /// The segment.
        segment: u64,
    },
    /// One slot of the high-water mark was damaged; the other was used and both written anew.
    MarkSlotHealed,
    /// A snapshot does not verify and was not used.
    SnapshotDamaged {
        /// Its position.
        lsn: Lsn,
        /// What does not verify.
        detail: String,
    },
    /// The log goes further than the high-water mark, as after a loss of power.
    MarkBehind {
        /// What the mark says.
        mark: Lsn,
        /// Where the log ends.
        log: Lsn,
    },
    /// A prepared segment was not all zeros and was prepared anew.
    SpareReplaced {
        /// The segment.
        segment: u64,
        /// The first byte that was not zero.
        offset: u64,
    },
    /// A person gave up a part of this log.
    Repaired(RepairNotice),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { segment, from, until, detail } => write!(
                f,
                "a torn write ends segment {segment:06}, bytes {from} to {until} ({detail}); \
                 nothing in it had been acknowledged, opening the log cuts it off"
            ),
            Self::HeaderHealed { segment } => {
                write!(
                    f,
                    "a header of segment {segment:06} is damaged and its copy is sound; opening \
                     the log restores it"
                )
            }
            Self::MarkSlotHealed => {
                write!(
                    f,
                    "one slot of {MARK_FILE} is damaged; the other one counts, opening the log \
                     writes both anew"
                )
            }
            Self::SnapshotDamaged { lsn, detail } => {
                write!(f, "the snapshot at LSN {lsn} is damaged and not used: {detail}")
            }
            Self::MarkBehind { mark, log } => {
                write!(f, "the log goes up to LSN {log}, the high-water mark to {mark}")
            }
            Self::SpareReplaced { segment, offset } => write!(
                f,
                "the unused segment {segment:06} is not empty at byte {offset}; opening the log \
                 prepares it anew"
            ),
            Self::Repaired(notice) => notice.fmt(f),
        }
    }
}

/// What reading a log cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadFigures {
    /// Bytes of frames.
    pub bytes: u64,
    /// Frames.
    pub frames: u64,
    /// Records, those that a snapshot covers included.
    pub records: u64,
    /// How long it took.
    pub took: Duration,
}

/// A log that verifies.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) id: LogId,
    pub(crate) mark: Mark,
    pub(crate) generation: u64,
    pub(crate) mark_slot_damaged: bool,
    pub(crate) segments: Vec<Segment>,
    /// The segments that have frames, each with its first LSN.
    pub(crate) used: Vec<(u64, Lsn)>,
    pub(crate) snapshot: Option<Snapshot>,
    /// Where the next frame goes.
    pub(crate) end: Place,
    pub(crate) last: Option<FrameHeader>,
    pub(crate) last_lsn: Lsn,
    pub(crate) torn: Option<Torn>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) figures: ReadFigures,
}

/// What [`verify`] finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// No log was ever here, or its creation was cut short before anything could be appended; the
    /// identity is that of the mark, if it got so far.
    Nothing(Option<LogId>),
    Log(Box<Verified>),
}

/// A name that is not there is an empty directory.
pub(crate) fn or_empty<T>(listed: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match listed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

/// Reads everything and changes nothing. `live` says that another process may be writing, so that
/// a frame that is not complete is simply the end.
pub(crate) fn verify(disk: &dyn Storage, how: Open, live: bool) -> Result<Found, OpenError> {
    // The mark first: what it names was flushed before, so the log that is read next reaches it.
    let state = mark::read(disk).map_err(io_error(format!("read {MARK_FILE}")))?;
    let segments = open_segments(disk, how)?;
    if segments.is_empty() {
        return verify_nothing(disk, &state);
    }
    let id = match &state {
        MarkState::Found { mark, .. } => mark.id,
        MarkState::Missing | MarkState::Damaged(_) => segments[0].header.id,
    };
    check_identity(&id, &segments)?;
    let mut notices = Vec::new();
    let snapshot = newest_snapshot(disk, &id, &mut notices)?;
    let covered = snapshot.as_ref().map_or(0, |snapshot| snapshot.lsn);
    let floor = match &state {
        MarkState::Found { mark, .. } => Some(*mark),
        MarkState::Missing | MarkState::Damaged(_) => None,
    };
    let walk = walk(id, &segments, covered, floor, live)?;
    let (mark, generation, mark_slot_damaged) =
        check_mark(&state, floor, &walk, &segments, &mut notices)?;
    if covered > walk.log_lsn {
        let detail = format!(
            "LSN {} to {covered} are missing: a snapshot holds them, the log does not",
            walk.log_lsn + 1
        );
        let seq = segments[walk.end.index].seq;
        return Err(refused(ProblemKind::BehindMark, Some(seq), walk.end.offset, covered, detail));
    }
    for segment in segments.iter().filter(|segment| segment.healing != Healing::None) {
        notices.push(Notice::HeaderHealed { segment: segment.seq });
    }
    if let Some(torn) = &walk.torn {
        notices.push(Notice::TornTail {
            segment: segments[torn.place.index].seq,
            from: torn.place.offset,
            until: torn.until,
            detail: torn.detail.clone(),
        });
    }
    notices.extend(walk.repairs.into_iter().map(Notice::Repaired));
    Ok(Found::Log(Box::new(Verified {
        id,
        mark,
        generation,
        mark_slot_damaged,
        used: walk.used,
        snapshot,
        end: walk.end,
        last: walk.last,
        last_lsn: walk.log_lsn,
        torn: walk.torn,
        notices,
        figures: walk.figures,
        segments,
    })))
}

/// How often reading beside a writer is begun again.
const LIVE_ATTEMPTS: usize = 5;

/// As [`verify`], beside a process that may be writing.
///
/// Between two reads the writer may have removed a file that was just listed, or gone on to the
/// next segment. What does not verify because of that verifies when it is read again; damage
/// does not.
pub(crate) fn verify_live(disk: &dyn Storage) -> Result<Found, OpenError> {
    let moved = |error: &OpenError| match error {
        OpenError::Refused(_) => true,
        OpenError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        OpenError::Format { .. } | OpenError::Full { .. } | OpenError::Options(_) => false,
    };
    for _ in 1..LIVE_ATTEMPTS {
        match verify(disk, Open::Read, true) {
            Err(error) if moved(&error) => {}
            result => return result,
        }
    }
    verify(disk, Open::Read, true)
}

fn refused(
    kind: ProblemKind,
    segment: Option<u64>,
    offset: u64,
    last_good_lsn: Lsn,
    detail: String,
) -> OpenError {
    let file = segment.map_or_else(|| MARK_FILE.to_owned(), segment_path);
    OpenError::Refused(Problem { kind, file, segment, offset, last_good_lsn, detail })
}

fn verify_nothing(disk: &dyn Storage, state: &MarkState) -> Result<Found, OpenError> {
    let io = io_error(format!("list {LOG_DIR}/snap"));
    let snapshots = or_empty(snapshot::list(disk)).map_err(io)?;
    let detail = match state {
        MarkState::Missing if snapshots.is_empty() => return Ok(Found::Nothing(None)),
        MarkState::Found { mark, .. } if mark.frame_seq == 0 && snapshots.is_empty() => {
            return Ok(Found::Nothing(Some(mark.id)));
        }
        MarkState::Damaged(detail) => format!("{detail}, and there is no segment"),
        MarkState::Found { mark, .. } => {
            format!("LSN 1 to {} were acknowledged, and there is no segment", mark.acked_lsn)
        }
        MarkState::Missing => "there are snapshots and there is no segment".to_owned(),
    };
    let last = snapshots.last().copied().unwrap_or(0);
    Err(refused(ProblemKind::BehindMark, None, 0, last, detail))
}

/// Opens the segments and checks that none is missing between them.
fn open_segments(disk: &dyn Storage, how: Open) -> Result<Vec<Segment>, OpenError> {
    let listed = or_empty(segment::list(disk)).map_err(io_error(format!("list {LOG_DIR}")))?;
    let mut segments: Vec<Segment> = Vec::with_capacity(listed.len());
    for seq in listed {
        if let Some(before) = segments.last()
            && before.seq + 1 != seq
        {
            let missing = before.seq + 1;
            let detail = format!("the file is missing, and segment {seq:06} is there");
            return Err(refused(ProblemKind::SegmentMissing, Some(missing), 0, 0, detail));
        }
        match Segment::open(disk, seq, how) {
            Ok(segment) => segments.push(segment),
            Err(fault) => return Err(segment_fault(seq, fault)),
        }
    }
    Ok(segments)
}

pub(crate) fn segment_fault(seq: u64, fault: OpenFault) -> OpenError {
    match fault {
        OpenFault::Io(source) => {
            OpenError::Io { what: format!("open {}", segment_path(seq)), source }
        }
        OpenFault::Format(found) => OpenError::Format { file: segment_path(seq), found },
        OpenFault::Damaged(offset, detail) => {
            let kind =
                if offset == 0 { ProblemKind::SegmentHeader } else { ProblemKind::SegmentLength };
            refused(kind, Some(seq), offset, 0, detail)
        }
    }
}

fn check_identity(id: &LogId, segments: &[Segment]) -> Result<(), OpenError> {
    let Some(foreign) = segments.iter().find(|segment| segment.header.id != *id) else {
        return Ok(());
    };
    let detail = format!("log {} expected, {} found", id.name(), foreign.header.id.name());
    Err(refused(ProblemKind::Foreign, Some(foreign.seq), 0, 0, detail))
}

fn newest_snapshot(
    disk: &dyn Storage,
    id: &LogId,
    notices: &mut Vec<Notice>,
) -> Result<Option<Snapshot>, OpenError> {
    let listed = or_empty(snapshot::list(disk));
    for lsn in listed.map_err(io_error(format!("list {LOG_DIR}/snap")))?.into_iter().rev() {
        let io = io_error(format!("read {}", snapshot_path(lsn)));
        match snapshot::read(disk, Some(id), lsn).map_err(io)? {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(detail) => notices.push(Notice::SnapshotDamaged { lsn, detail }),
        }
    }
    Ok(None)
}

/// What walking over all frames gave.
struct Walked {
    end: Place,
    last: Option<FrameHeader>,
    /// The last record in the log itself, whatever a snapshot covers.
    log_lsn: Lsn,
    used: Vec<(u64, Lsn)>,
    /// The first frame, and the frame that the mark names, where they were met.
    first_frame_seq: Option<u64>,
    marked: Option<[u8; 32]>,
    torn: Option<Torn>,
    repairs: Vec<RepairNotice>,
    figures: ReadFigures,
}

fn walk(
    id: LogId,
    segments: &[Segment],
    covered: Lsn,
    mark: Option<Mark>,
    live: bool,
) -> Result<Walked, OpenError> {
    let started = std::time::Instant::now();
    let mut walker = Walker::new(id, segments, covered);
    let mut found = Walked {
        end: walker.place(),
        last: None,
        log_lsn: 0,
        used: Vec::new(),
        first_frame_seq: None,
        marked: None,
        torn: None,
        repairs: Vec::new(),
        figures: ReadFigures::default(),
    };
    loop {
        let at = walker.place();
        let step = match walker.step() {
            Err(WalkFault::Problem(_)) if live => retry_live(&mut walker, mark)?,
            result => result.map_err(walk_error)?,
        };
        match step {
            Step::Frame(header) => {
                if found.used.last().is_none_or(|(seq, _)| *seq != header.segment) {
                    found.used.push((header.segment, header.first_lsn));
                }
                if header.is(FLAG_REPAIR) {
                    found.repairs.extend(RepairNotice::read(walker.frame(&header), &header));
                }
                if mark.is_some_and(|mark| mark.frame_seq == header.frame_seq) {
                    found.marked = Some(header.link);
                }
                found.first_frame_seq.get_or_insert(header.frame_seq);
                found.figures.bytes += to_u64(header.len());
                found.figures.frames += 1;
                found.figures.records += u64::from(header.count);
                found.log_lsn = header.last_lsn();
                found.last = Some(header);
            }
            Step::Clean => {
                found.end = walker.place();
                break;
            }
            Step::Torn(torn) => {
                found.end = torn.place;
                // Beside a writer it is a frame on its way, and not ours to cut.
                found.torn = (!live).then_some(torn);
                break;
            }
        }
        debug_assert!(walker.place() > at, "every frame moves the walk on");
    }
    found.figures.took = started.elapsed();
    Ok(found)
}

/// A problem beside a writer. What follows it is looked for first and the frame read again after
/// that: a frame that is still bad although a later one was there is bad for good, as one frame is
/// in flight at a time; a bad frame that nothing followed is on its way, and the end.
fn retry_live(walker: &mut Walker<'_>, mark: Option<Mark>) -> Result<Step, OpenError> {
    walker.forget();
    let follows = walker.anything_follows().map_err(walk_error)?;
    walker.forget();
    match walker.step() {
        Err(WalkFault::Problem(problem)) => {
            let acknowledged = mark.is_some_and(|mark| mark.acked_lsn > walker.last_lsn());
            if acknowledged || follows { Err(OpenError::Refused(problem)) } else { Ok(Step::Clean) }
        }
        result => result.map_err(walk_error),
    }
}

pub(crate) fn walk_error(fault: WalkFault) -> OpenError {
    match fault {
        WalkFault::Problem(problem) => OpenError::Refused(problem),
        WalkFault::Io { segment, source } => {
            OpenError::Io { what: format!("read {}", segment_path(segment)), source }
        }
    }
}

/// Compares the log with what was acknowledged.
fn check_mark(
    state: &MarkState,
    mark: Option<Mark>,
    walked: &Walked,
    segments: &[Segment],
    notices: &mut Vec<Notice>,
) -> Result<(Mark, u64, bool), OpenError> {
    let log = walked.log_lsn;
    let refuse = |kind, detail| Err(refused(kind, None, 0, log, detail));
    let (Some(mark), MarkState::Found { generation, other_damaged, .. }) = (mark, state) else {
        let (kind, what) = match state {
            MarkState::Damaged(detail) => (ProblemKind::MarkDamaged, detail.as_str()),
            _ => (ProblemKind::MarkMissing, "the file is missing"),
        };
        let detail = format!(
            "{what}; whether the log reaches what was acknowledged cannot be said (it ends with \
             LSN {log})"
        );
        return refuse(kind, detail);
    };
    let frame_seq = walked.last.as_ref().map_or(0, |last| last.frame_seq);
    if frame_seq < mark.frame_seq {
        let seq = segments[walked.end.index].seq;
        let ends = format!("the log ends in segment {seq:06} at byte {}", walked.end.offset);
        let detail = if log < mark.acked_lsn {
            format!(
                "LSN {} to {} were acknowledged and are missing: {ends}",
                log + 1,
                mark.acked_lsn
            )
        } else {
            let missing = mark.frame_seq;
            format!(
                "no record is missing, and the log was cut: frame {missing} is not there; {ends}"
            )
        };
        return refuse(ProblemKind::BehindMark, detail);
    }
    // A mark before the first frame that is left names nothing that could be compared.
    let comparable = walked.first_frame_seq.is_some_and(|first| mark.frame_seq >= first);
    if comparable && walked.marked != Some(mark.link) {
        let detail = format!(
            "frame {} is not the one that was acknowledged: the log was replaced or changed",
            mark.frame_seq
        );
        return Err(refused(ProblemKind::MarkDisagrees, None, 0, 0, detail));
    }
    if log > mark.acked_lsn {
        notices.push(Notice::MarkBehind { mark: mark.acked_lsn, log });
    }
    if *other_damaged {
        notices.push(Notice::MarkSlotHealed);
    }
    Ok((mark, *generation, *other_damaged))
}

/// The records of a verified log, to be read once more in order.
#[derive(Debug)]
pub struct Replay {
    pub(crate) id: LogId,
    pub(crate) segments: Arc<Vec<Segment>>,
    pub(crate) after: Lsn,
    pub(crate) end: Place,
}

impl Replay {
    /// Visits the records after the snapshot, in order. The payloads are aligned to 16 bytes.
    ///
    /// Every record's checksum is verified once more: what was sound when the log was opened may
    /// be read differently now.
    pub fn replay<E>(
        &self,
        mut visit: impl FnMut(RecordRef<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        let mut buffer = AlignedVec::<16>::new();
        for (index, segment) in self.segments.iter().enumerate().take(self.end.index + 1) {
            let end = if index == self.end.index { self.end.offset } else { segment.end() };
            let mut offset = BLOCK_U64;
            while offset + BLOCK_U64 <= end {
                let len = self.read_frame(segment, offset, &mut buffer, &mut visit)?;
                if len == 0 {
                    break;
                }
                offset += len;
            }
        }
        Ok(())
    }

    /// Visits the records of one frame; returns its length, 0 where there is none.
    fn read_frame<E>(
        &self,
        segment: &Segment,
        offset: u64,
        buffer: &mut AlignedVec<16>,
        visit: &mut impl FnMut(RecordRef<'_>) -> Result<(), E>,
    ) -> Result<u64, ReplayError<E>> {
        let io = |source| ReplayError::Io { segment: segment.seq, source };
        let refuse = |kind, offset, detail| {
            let (file, last_good_lsn) = (segment_path(segment.seq), 0);
            let segment = Some(segment.seq);
            ReplayError::Refused(Problem { kind, file, segment, offset, last_good_lsn, detail })
        };
        buffer.resize(BLOCK, 0);
        read_exact(segment.file.as_ref(), offset, buffer).map_err(io)?;
        let header = match read_header(buffer, &self.id, segment.seq, offset) {
            AtOffset::Zero => return Ok(0),
            AtOffset::Damaged(detail) => {
                return Err(refuse(ProblemKind::FrameHeader, offset, detail));
            }
            AtOffset::Valid(header) => header,
        };
        let len = to_u64(header.len());
        if header.count == 0 || header.last_lsn() <= self.after {
            return Ok(len);
        }
        if header.len() > BLOCK {
            buffer.resize(header.len(), 0);
            read_exact(segment.file.as_ref(), offset + BLOCK_U64, &mut buffer[BLOCK..])
                .map_err(io)?;
        }
        let mut stopped = None;
        let body = frame::body(buffer, &header);
        record::decode(body, header.first_lsn, header.count, |record| {
            if stopped.is_none() && record.lsn > self.after {
                stopped = visit(record).err().map(|source| (record.lsn, source));
            }
        })
        .map_err(|bad| {
            let at = offset + to_u64(BLOCK / 8 + bad.at);
            refuse(ProblemKind::Record, at, format!("LSN {}: {}", bad.lsn, bad.detail))
        })?;
        match stopped {
            Some((lsn, source)) => Err(ReplayError::Visitor { lsn, source }),
            None => Ok(len),
        }
    }
}
