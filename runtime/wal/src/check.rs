//! Looks at every byte of a log and reports what does not verify.
//!
//! Owns: [`check`]. Goes on after a problem where opening stops. Changes nothing.
//! Knows nothing of: mending.

use std::time::{Duration, Instant};

use hb_disk::{Open, Storage};

use crate::Lsn;
use crate::error::{OpenError, Problem, ProblemKind, io_error};
use crate::frame;
use crate::layout::{
    BLOCK_U64, LOG_DIR, MARK_FILE, segment_path, snapshot_path, to_u64, uuid_text,
};
use crate::mark::{self, MarkState};
use crate::record;
use crate::recovery::{Found, Notice, or_empty, verify, verify_live, walk_error};
use crate::segment::{self, Segment};
use crate::snapshot;
use crate::walk::{Step, WalkFault, Walker};

/// One segment in a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its number.
    pub seq: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Bytes of frames that verify.
    pub used_bytes: u64,
    /// Frames that verify.
    pub frames: u64,
    /// Records that verify.
    pub records: u64,
    /// The first LSN, where it has frames.
    pub first_lsn: Option<Lsn>,
    /// The last LSN up to the end of this segment, where it has frames.
    pub last_lsn: Option<Lsn>,
}

/// What [`check`] found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// The log's identity; `None` where there is no log.
    pub uuid: Option<String>,
    /// The segments that could be opened.
    pub segments: Vec<SegmentReport>,
    /// The snapshots that verify.
    pub snapshots: Vec<Lsn>,
    /// The last record that verifies, in unbroken order from the start.
    pub last_good_lsn: Lsn,
    /// What was acknowledged, if the mark can be read.
    pub acknowledged_lsn: Option<Lsn>,
    /// What keeps the log from being opened, first things first.
    pub problems: Vec<Problem>,
    /// What opening mends by itself, or what is worth knowing.
    pub notices: Vec<Notice>,
    /// Bytes of frames read.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

impl CheckReport {
    /// Whether the log can be opened.
    pub fn healthy(&self) -> bool {
        self.problems.is_empty()
    }

    fn push(&mut self, problem: Problem) {
        let same = |p: &Problem| {
            (&p.file, p.offset, p.kind) == (&problem.file, problem.offset, problem.kind)
        };
        if !self.problems.iter().any(same) {
            self.problems.push(problem);
        }
    }
}

/// Verifies every segment, every record, the snapshots and the mark. `live` says that another
/// process has the log open, so that a frame that is not complete is the end.
pub fn check(disk: &dyn Storage, live: bool) -> Result<CheckReport, OpenError> {
    let started = Instant::now();
    let mut report = CheckReport::default();
    let verified = if live { verify_live(disk) } else { verify(disk, Open::Read, false) };
    match verified {
        Ok(Found::Nothing(id)) => {
            report.uuid = id.map(|id| id.name());
            return Ok(report);
        }
        Ok(Found::Log(verified)) => {
            report.uuid = Some(verified.id.name());
            report.notices = verified.notices;
        }
        Err(OpenError::Refused(problem)) => report.push(problem),
        Err(error) => return Err(error),
    }
    let state = mark::read(disk).map_err(io_error(format!("read {MARK_FILE}")))?;
    if let MarkState::Found { mark, .. } = &state {
        report.acknowledged_lsn = Some(mark.acked_lsn);
    }
    let segments = open_all(disk, &mut report)?;
    let id = match (&state, segments.first()) {
        (MarkState::Found { mark, .. }, _) => mark.id,
        (_, Some(segment)) => segment.header.id,
        (_, None) => {
            report.took = started.elapsed();
            return Ok(report);
        }
    };
    report.uuid = Some(uuid_text(&id.uuid));
    check_snapshots(disk, &id, &mut report)?;
    let covered = report.snapshots.last().copied().unwrap_or(0);
    let mut walker = Walker::new(id, &segments, covered);
    walk(&mut walker, &segments, live, &mut report)?;
    // What opening refused before it read any frame is no reason to give up those that verify.
    for problem in &mut report.problems {
        problem.last_good_lsn = problem.last_good_lsn.max(report.last_good_lsn);
    }
    report.took = started.elapsed();
    Ok(report)
}

fn open_all(disk: &dyn Storage, report: &mut CheckReport) -> Result<Vec<Segment>, OpenError> {
    let listed = or_empty(segment::list(disk)).map_err(io_error(format!("list {LOG_DIR}")))?;
    let mut segments = Vec::with_capacity(listed.len());
    for seq in listed {
        match Segment::open(disk, seq, Open::Read) {
            Ok(segment) => {
                let (bytes, seq) = (segment.header.len, segment.seq);
                report.segments.push(SegmentReport { seq, bytes, ..SegmentReport::default() });
                segments.push(segment);
            }
            Err(fault) => match crate::recovery::segment_fault(seq, fault) {
                OpenError::Refused(problem) => report.push(problem),
                error => return Err(error),
            },
        }
    }
    Ok(segments)
}

fn check_snapshots(
    disk: &dyn Storage,
    id: &crate::layout::LogId,
    report: &mut CheckReport,
) -> Result<(), OpenError> {
    let listed = or_empty(snapshot::list(disk)).map_err(io_error("list the snapshots"))?;
    for lsn in listed {
        let read = snapshot::read(disk, Some(id), lsn);
        match read.map_err(io_error(format!("read {}", snapshot_path(lsn))))? {
            Ok(_) => report.snapshots.push(lsn),
            Err(detail) => {
                let notice = Notice::SnapshotDamaged { lsn, detail };
                if !report.notices.contains(&notice) {
                    report.notices.push(notice);
                }
            }
        }
    }
    Ok(())
}

/// Walks over everything, past problems, with a look into every record.
fn walk(
    walker: &mut Walker<'_>,
    segments: &[Segment],
    live: bool,
    report: &mut CheckReport,
) -> Result<(), OpenError> {
    let mut intact = true;
    loop {
        match walker.step() {
            Ok(Step::Frame(header)) => {
                let body = frame::body(walker.frame(&header), &header);
                let decoded = if header.count == 0 {
                    Ok(())
                } else {
                    record::decode(body, header.first_lsn, header.count, |_| {})
                };
                if let Err(bad) = decoded {
                    let detail = format!("LSN {}: {}", bad.lsn, bad.detail);
                    let mut problem = walker.describe(ProblemKind::Record, detail);
                    problem.offset = header.offset + to_u64(bad.at);
                    report.push(problem);
                    intact = false;
                }
                count(report, &header);
                if intact {
                    report.last_good_lsn = walker.last_lsn();
                }
            }
            Ok(Step::Clean | Step::Torn(_)) => break,
            Err(WalkFault::Problem(problem)) => {
                // All of a log that another process writes has verified before: this is what it
                // is writing now.
                if live && report.healthy() {
                    break;
                }
                report.push(problem);
                intact = false;
                if !walker.skip_to_next_valid().map_err(walk_error)? {
                    return Ok(());
                }
            }
            Err(fault) => return Err(walk_error(fault)),
        }
    }
    // What follows the end must be empty: opening looks only at the start of each.
    for segment in segments.iter().skip(walker.place().index + 1) {
        let dirty = segment.first_dirty(BLOCK_U64);
        let dirty = dirty.map_err(io_error(format!("read {}", segment_path(segment.seq))))?;
        if let Some(offset) = dirty.filter(|_| !live) {
            report.notices.push(Notice::SpareReplaced { segment: segment.seq, offset });
        }
    }
    Ok(())
}

fn count(report: &mut CheckReport, header: &frame::FrameHeader) {
    report.bytes += to_u64(header.len());
    let found = report.segments.iter_mut().find(|segment| segment.seq == header.segment);
    let Some(segment) = found else { return };
    segment.used_bytes += to_u64(header.len());
    segment.frames += 1;
    segment.records += u64::from(header.count);
    segment.first_lsn.get_or_insert(header.first_lsn);
    segment.last_lsn = Some(header.last_lsn());
}
