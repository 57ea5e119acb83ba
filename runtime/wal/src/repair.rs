//! Gives up what follows a position: a person's decision.
//!
//! Owns: [`repair`] and the notice that it leaves in the log.
//! Knows nothing of: when a repair is right.
//!
//! Invariants: what is given up is moved to `wal/removed-…`, never destroyed; until the new mark
//! is in place, which is the last step, the log refuses to open, so a repair that is cut short is
//! simply done again; positions that were given up are never used again, because others may
//! remember them.

use std::fmt;
use std::io;

use hb_disk::{Open, Storage, StorageFile};

use crate::Lsn;
use crate::error::{OpenError, io_error};
use crate::frame::{self, FLAG_REPAIR, FrameHeader};
use crate::layout::{
    BLOCK_U64, LOG_DIR, Link, LogId, MARK_FILE, SECTOR, SNAPSHOT_DIR, put_u64, segment_name,
    segment_path, snapshot_name, snapshot_path, to_usize, u64_at,
};
use crate::mark::{self, Mark, MarkFile, MarkState};
use crate::options::Options;
use crate::recovery::{Found, or_empty, verify, walk_error};
use crate::segment::{self, PrepareFault, Segment, SegmentHeader, read_exact, write_zeros};
use crate::snapshot;
use crate::walk::{Place, Step, WalkFault, Walker};

const NOTICE_BYTES: usize = 32;
const COPY_BYTES: u64 = 1 << 20;

/// What a repair left in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairNotice {
    /// The last record that was kept.
    pub kept_to: Lsn,
    /// The next record after the repair. Those between were given up.
    pub resumed_at: Lsn,
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
}

impl RepairNotice {
    pub(crate) fn read(frame: &[u8], header: &FrameHeader) -> Option<Self> {
        let body = frame::body(frame, header);
        let shaped = header.is(FLAG_REPAIR) && header.count == 0 && body.len() == NOTICE_BYTES;
        shaped.then(|| Self {
            kept_to: u64_at(body, 0),
            resumed_at: header.first_lsn,
            time_ns: header.time_ns,
        })
    }
}

impl fmt::Display for RepairNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kept_to, resumed_at, .. } = self;
        write!(f, "the log was repaired: kept up to LSN {kept_to}, resumed at {resumed_at}")
    }
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairReport {
    /// The last record that was kept.
    pub kept_to: Lsn,
    /// The next record; `None` where the log was sound up to there and nothing was done.
    pub resumed_at: Option<Lsn>,
    /// Where the files went that were given up.
    pub removed_dir: Option<String>,
    /// Their names.
    pub moved: Vec<String>,
}

/// Why a log was not repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// There is no log.
    #[error("there is no log here: neither a segment nor a mark says which log it was")]
    NoLog,
    /// Batches are kept whole or given up whole.
    #[error("LSN {to} is inside the batch that ends at {above}: choose {below} or {above}")]
    InsideBatch {
        /// What was asked for.
        to: Lsn,
        /// The end of the batch before.
        below: Lsn,
        /// The end of the batch.
        above: Lsn,
    },
    /// The log does not verify that far.
    #[error(
        "LSN {to} cannot be kept: the log can be read up to LSN {reached}; choose that or less"
    )]
    Unreachable {
        /// What was asked for.
        to: Lsn,
        /// How far the log goes.
        reached: Lsn,
    },
    /// There is no room for the copy of what is given up.
    #[error("the disk is full: {needed_bytes} bytes needed, {free_bytes} are free")]
    Full {
        /// What is needed.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The log could not be read or written.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// What is known before anything is moved.
struct Plan {
    id: LogId,
    /// Segments that can be read, from the first on.
    segments: Vec<Segment>,
    /// All segments there are.
    all: Vec<u64>,
    /// Where the kept frames end and what the last of them is; `None` where a snapshot, or
    /// nothing, is all that is kept.
    cut: Option<(Place, FrameHeader)>,
    /// The highest LSN and frame that anyone may have seen.
    seen_lsn: Lsn,
    seen_frame_seq: u64,
    damaged_snapshots: Vec<Lsn>,
}

/// Keeps the log up to `to` and gives up what follows. `options` give the clock, and the length of
/// a segment should a new one be needed. Nobody else may have the log open.
pub fn repair(disk: &dyn Storage, to: Lsn, options: &Options) -> Result<RepairReport, RepairError> {
    if let Ok(Found::Log(verified)) = verify(disk, Open::Read, false)
        && verified.last_lsn == to
    {
        let (resumed_at, removed_dir, moved) = (None, None, Vec::new());
        return Ok(RepairReport { kept_to: to, resumed_at, removed_dir, moved });
    }
    let state = mark::read(disk).map_err(io_error(format!("read {MARK_FILE}")))?;
    let plan = plan(disk, &state, to)?;
    if !matches!(state, MarkState::Found { .. }) {
        // Until the repair is complete something must refuse the log, and know its name.
        let frame_seq = u64::MAX / 2;
        let mark = Mark { id: plan.id, acked_lsn: plan.seen_lsn, frame_seq, link: [0; 32] };
        let dir = disk.create_dir(crate::layout::MARK_DIR).and_then(|()| disk.sync_dir(""));
        dir.and_then(|()| MarkFile::create(disk, &mark)).map_err(io_error("create the mark"))?;
    }
    let (dir, moved) = set_aside(disk, &plan, to, options)?;
    let resumed_at = plan.seen_lsn.max(to) + 1;
    let header = write_notice(disk, &plan, to, resumed_at, options)?;
    let mark = Mark {
        id: plan.id,
        acked_lsn: header.last_lsn(),
        frame_seq: header.frame_seq,
        link: header.link,
    };
    MarkFile::create(disk, &mark).map_err(io_error("write the high-water mark"))?;
    Ok(RepairReport { kept_to: to, resumed_at: Some(resumed_at), removed_dir: Some(dir), moved })
}

fn plan(disk: &dyn Storage, state: &MarkState, to: Lsn) -> Result<Plan, RepairError> {
    let all = or_empty(segment::list(disk)).map_err(io_error(format!("list {LOG_DIR}")))?;
    let marked = match state {
        MarkState::Found { mark, .. } => Some(*mark),
        MarkState::Missing | MarkState::Damaged(_) => None,
    };
    let (segments, id) = readable_prefix(disk, &all, marked.map(|mark| mark.id))?;
    let listed = or_empty(snapshot::list(disk)).map_err(io_error("list the snapshots"))?;
    let (mut covered, mut damaged_snapshots) = (0, Vec::new());
    for lsn in listed {
        let read = snapshot::read(disk, Some(&id), lsn);
        match read.map_err(io_error(format!("read {}", snapshot_path(lsn))))? {
            Ok(_) if lsn <= to => covered = lsn,
            Ok(_) => {}
            Err(_) => damaged_snapshots.push(lsn),
        }
    }
    let mut plan = Plan {
        id,
        segments,
        all,
        cut: None,
        seen_lsn: marked.map_or(0, |mark| mark.acked_lsn),
        seen_frame_seq: marked.map_or(0, |mark| mark.frame_seq),
        damaged_snapshots,
    };
    let reached = find_cut(&mut plan, covered, to)?;
    if reached < to {
        if covered == to {
            plan.cut = None;
        } else {
            return Err(RepairError::Unreachable { to, reached: reached.max(covered) });
        }
    }
    Ok(plan)
}

/// The segments from the first on that can be opened and belong together.
fn readable_prefix(
    disk: &dyn Storage,
    all: &[u64],
    id: Option<LogId>,
) -> Result<(Vec<Segment>, LogId), RepairError> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut id = id;
    for seq in all {
        if segments.last().is_some_and(|before| before.seq + 1 != *seq) {
            break;
        }
        let Ok(segment) = Segment::open(disk, *seq, Open::Write) else {
            if id.is_none() {
                // Its place may be lost, the log's name can still be learnt from a later one.
                continue;
            }
            break;
        };
        if *id.get_or_insert(segment.header.id) != segment.header.id {
            break;
        }
        segments.push(segment);
    }
    // A prefix begins with the first segment or is none.
    if segments.first().map(|segment| segment.seq) != all.first().copied() {
        segments.clear();
    }
    Ok((segments, id.ok_or(RepairError::NoLog)?))
}

/// Finds the end of the last frame with nothing beyond `to`; returns how far the log can be read.
fn find_cut(plan: &mut Plan, covered: Lsn, to: Lsn) -> Result<Lsn, RepairError> {
    let mut walker = Walker::new(plan.id, &plan.segments, covered);
    let mut reached = 0;
    let mut intact = true;
    loop {
        match walker.step() {
            Ok(Step::Frame(header)) => {
                let last = header.last_lsn();
                plan.seen_lsn = plan.seen_lsn.max(last);
                plan.seen_frame_seq = plan.seen_frame_seq.max(header.frame_seq);
                if intact && last <= to {
                    reached = last;
                    plan.cut = Some((walker.place(), header));
                } else if intact && header.count > 0 && header.first_lsn <= to {
                    let below = header.first_lsn - 1;
                    return Err(RepairError::InsideBatch { to, below, above: last });
                } else {
                    intact = false;
                }
            }
            Ok(Step::Clean | Step::Torn(_)) => return Ok(reached),
            Err(WalkFault::Problem(_)) => {
                intact = false;
                if !walker.skip_to_next_valid().map_err(walk_error)? {
                    return Ok(reached);
                }
            }
            Err(fault) => return Err(walk_error(fault).into()),
        }
    }
}

/// Moves what is not kept to a directory of its own.
fn set_aside(
    disk: &dyn Storage,
    plan: &Plan,
    to: Lsn,
    options: &Options,
) -> Result<(String, Vec<String>), RepairError> {
    let dir = fresh_dir(disk, options).map_err(io_error("make a directory for what is removed"))?;
    let mut moved = Vec::new();
    let kept_seq = plan.cut.as_ref().map(|(place, _)| plan.segments[place.index].seq);
    // From the last to the first, each durably, so that the segments that are left have no gap.
    for seq in plan.all.iter().rev().filter(|seq| kept_seq.is_none_or(|kept| **seq > kept)) {
        let name = segment_name(*seq);
        move_to(disk, LOG_DIR, &dir, &name)
            .map_err(io_error(format!("move {} to {dir}", segment_path(*seq))))?;
        moved.push(name);
    }
    let snapshots = or_empty(snapshot::list(disk)).map_err(io_error("list the snapshots"))?;
    for lsn in snapshots {
        if lsn > to || plan.damaged_snapshots.contains(&lsn) {
            let name = snapshot_name(lsn);
            move_to(disk, SNAPSHOT_DIR, &dir, &name)
                .map_err(io_error(format!("move {} to {dir}", snapshot_path(lsn))))?;
            moved.push(name);
        }
    }
    if let Some((place, _)) = &plan.cut {
        let segment = &plan.segments[place.index];
        let what = format!("cut {} at byte {}", segment_path(segment.seq), place.offset);
        segment.heal().map_err(io_error(what.clone()))?;
        let used = segment.used_until(place.offset).map_err(io_error(what.clone()))?;
        if used > place.offset {
            let (needed_bytes, free_bytes) =
                (segment.header.len, disk.free_bytes().map_err(io_error("look for room"))?);
            if free_bytes < needed_bytes {
                return Err(RepairError::Full { needed_bytes, free_bytes });
            }
            let name = segment_name(segment.seq);
            copy(disk, segment.file.as_ref(), &format!("{dir}/{name}"))
                .and_then(|()| disk.sync_dir(&dir))
                .map_err(io_error(format!("copy {} to {dir}", segment_path(segment.seq))))?;
            let until = used.next_multiple_of(BLOCK_U64).min(segment.end());
            write_zeros(segment.file.as_ref(), place.offset, until)
                .and_then(|()| segment.file.flush())
                .map_err(io_error(what))?;
            moved.push(name);
        }
    }
    Ok((dir, moved))
}

fn fresh_dir(disk: &dyn Storage, options: &Options) -> io::Result<String> {
    disk.create_dir(LOG_DIR)?;
    let taken = disk.list(LOG_DIR)?;
    let base = format!("removed-{}", (options.clock_ns)() / 1_000_000_000);
    let mut name = base.clone();
    let mut number = 2;
    while taken.contains(&name) {
        name = format!("{base}-{number}");
        number += 1;
    }
    let dir = format!("{LOG_DIR}/{name}");
    disk.create_dir(&dir)?;
    disk.sync_dir(LOG_DIR)?;
    Ok(dir)
}

fn move_to(disk: &dyn Storage, from: &str, to: &str, name: &str) -> io::Result<()> {
    disk.rename(&format!("{from}/{name}"), &format!("{to}/{name}"))?;
    disk.sync_dir(to)?;
    disk.sync_dir(from)
}

fn copy(disk: &dyn Storage, from: &dyn StorageFile, path: &str) -> io::Result<()> {
    let to = disk.open(path, Open::Create)?;
    let len = from.len()?;
    let mut at = 0;
    while at < len {
        let mut piece = vec![0; to_usize((len - at).min(COPY_BYTES))];
        read_exact(from, at, &mut piece)?;
        to.write_at(at, &piece)?;
        at += piece.len() as u64;
    }
    to.flush()
}

/// Continues the chain with a frame that says what was given up.
fn write_notice(
    disk: &dyn Storage,
    plan: &Plan,
    to: Lsn,
    resumed_at: Lsn,
    options: &Options,
) -> Result<FrameHeader, RepairError> {
    let kept = plan.cut.as_ref().map(|(cut, _)| (&plan.segments[cut.index], cut.offset));
    let fresh;
    let (segment, offset, file) = match kept {
        Some((kept, offset)) if offset + BLOCK_U64 <= kept.end() => {
            (kept.seq, offset, kept.file.as_ref())
        }
        _ => {
            let before = kept.map(|(kept, _)| kept.seq).or(plan.all.last().copied());
            let seq = before.unwrap_or(0) + 1;
            fresh = prepare(disk, plan, seq, options)?;
            (seq, BLOCK_U64, fresh.as_ref())
        }
    };
    let zero_link: Link = [0; 32];
    let mut header = FrameHeader {
        frame_seq: plan.cut.as_ref().map_or(plan.seen_frame_seq, |(_, last)| last.frame_seq) + 1,
        first_lsn: resumed_at,
        count: 0,
        durable_lsn: to,
        body_len: 0,
        flags: FLAG_REPAIR,
        time_ns: (options.clock_ns)(),
        segment,
        offset,
        previous: plan.cut.as_ref().map_or(zero_link, |(_, last)| last.link),
        link: zero_link,
    };
    let mut buffer = vec![0; SECTOR + NOTICE_BYTES];
    put_u64(&mut buffer, SECTOR, to);
    put_u64(&mut buffer, SECTOR + 8, plan.seen_lsn);
    frame::finish(&mut buffer, &plan.id, &mut header);
    file.write_at(offset, &buffer)
        .and_then(|()| file.flush())
        .map_err(io_error(format!("write the notice to {}", segment_path(segment))))?;
    Ok(header)
}

fn prepare(
    disk: &dyn Storage,
    plan: &Plan,
    seq: u64,
    options: &Options,
) -> Result<Box<dyn StorageFile>, RepairError> {
    let created_ns = (options.clock_ns)();
    let header = SegmentHeader { id: plan.id, seq, len: options.segment_bytes, created_ns };
    segment::prepare(disk, &header, &|| true).map_err(|fault| match fault {
        PrepareFault::Full { needed_bytes, free_bytes } => {
            RepairError::Full { needed_bytes, free_bytes }
        }
        PrepareFault::Io(source) => {
            OpenError::Io { what: format!("prepare {}", segment_path(seq)), source }.into()
        }
        PrepareFault::Stopped => unreachable!("the notice always needs its segment"),
    })
}
