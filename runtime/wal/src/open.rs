//! Opens a log for writing.
//!
//! Owns: the creation of a log, and what is mended after a log was verified.
//! Knows nothing of: verification itself.
//!
//! Invariants: nothing is changed before everything has verified. Every step may be cut short and
//! done again: a log is created mark first, so a segment without a mark is never our doing.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};

use hb_disk::{Open, Storage};

use crate::Lsn;
use crate::commit::{Core, Written};
use crate::error::{OpenError, io_error};
use crate::frame::FLAG_SEAL;
use crate::layout::{
    BLOCK_U64, LOG_DIR, LogId, MARK_DIR, SNAPSHOT_DIR, TEMPORARY, array, segment_path, to_u64,
};
use crate::log::Log;
use crate::mark::{Mark, MarkFile};
use crate::options::Options;
use crate::recovery::{Found, Notice, ReadFigures, Replay, Verified, segment_fault, verify};
use crate::segment::{self, PrepareFault, Segment, SegmentHeader, read_exact, write_zeros};
use crate::snapshot::{self, Snapshot};
use crate::stage::{Room, Stage};
use crate::walk::{Place, Torn};

/// A log that is ready, before its threads run.
pub(crate) struct Opened {
    pub(crate) log: Log,
    /// Empty segments that are still to be looked through.
    pub(crate) spares: Vec<Segment>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) last_lsn: Lsn,
    pub(crate) notices: Vec<Notice>,
    pub(crate) figures: ReadFigures,
    pub(crate) replay: Replay,
}

pub(crate) fn open(disk: Arc<dyn Storage>, options: Options) -> Result<Opened, OpenError> {
    options.check()?;
    match verify(disk.as_ref(), Open::Write, false)? {
        Found::Nothing(id) => create(disk, options, id),
        Found::Log(verified) => resume(disk, options, *verified),
    }
}

fn new_id(seed: Option<u64>) -> Result<LogId, OpenError> {
    let mut bytes = [0; 48];
    match seed {
        Some(seed) => {
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        }
        None => getrandom::fill(&mut bytes).map_err(|error| OpenError::Io {
            what: "draw the identity of a new log".to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?,
    }
    // Version 4, variant 1 (RFC 9562), so that other tools accept it as a UUID.
    bytes[6] = (bytes[6] & 0x0F) | 0x40;
    bytes[8] = (bytes[8] & 0x3F) | 0x80;
    Ok(LogId { uuid: array(&bytes, 0), salt: array(&bytes, 16) })
}

/// The directories, and whatever an earlier process did in them, durable: a segment that was
/// renamed by a process that died before it synced must not vanish after it has been used.
fn directories(disk: &dyn Storage) -> Result<(), OpenError> {
    for dir in [LOG_DIR, SNAPSHOT_DIR, MARK_DIR] {
        disk.create_dir(dir).map_err(io_error(format!("create the directory {dir}")))?;
    }
    for dir in ["", LOG_DIR, SNAPSHOT_DIR, MARK_DIR] {
        // The root has no name of its own.
        let named = if dir.is_empty() { "." } else { dir };
        disk.sync_dir(dir).map_err(io_error(format!("make the names in {named} durable")))?;
    }
    for dir in [LOG_DIR, SNAPSHOT_DIR, MARK_DIR] {
        let names = disk.list(dir).map_err(io_error(format!("list {dir}")))?;
        for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
            let path = format!("{dir}/{name}");
            disk.remove(&path).map_err(io_error(format!("remove the unfinished file {path}")))?;
        }
    }
    Ok(())
}

fn create(
    disk: Arc<dyn Storage>,
    options: Options,
    id: Option<LogId>,
) -> Result<Opened, OpenError> {
    directories(disk.as_ref())?;
    let id = match id {
        Some(id) => id,
        None => new_id(options.seed)?,
    };
    let none = Mark { id, acked_lsn: 0, frame_seq: 0, link: [0; 32] };
    let mark = MarkFile::create(disk.as_ref(), &none).map_err(io_error("create the mark"))?;
    let header =
        SegmentHeader { id, seq: 1, len: options.first_len(), created_ns: (options.clock_ns)() };
    let prepared = segment::prepare(disk.as_ref(), &header, &|| true);
    let file = prepared.map_err(|fault| match fault {
        PrepareFault::Full { needed_bytes, free_bytes } => {
            OpenError::Full { needed_bytes, free_bytes }
        }
        PrepareFault::Io(source) => {
            OpenError::Io { what: format!("prepare {}", segment_path(1)), source }
        }
        PrepareFault::Stopped => unreachable!("a first segment is always needed"),
    })?;
    let mark = Arc::new(mark);
    let core = Core {
        id,
        file,
        segment: 1,
        next_frame_seq: 1,
        link: [0; 32],
        durable_lsn: 0,
        used: Vec::new(),
        mark: Arc::clone(&mark),
        clock_ns: options.clock_ns,
        written: Written::default(),
    };
    let room = Room {
        offset: BLOCK_U64,
        end: header.len - BLOCK_U64,
        spares: VecDeque::new(),
        next_seq: 2,
        full: None,
        preparing: false,
        awaited: false,
    };
    let end = Place { index: 0, offset: BLOCK_U64 };
    let replay = Replay { id, segments: Arc::default(), after: 0, end };
    Ok(Opened {
        log: log(disk, options, core, Stage::new(1, room, false), mark, Vec::new()),
        spares: Vec::new(),
        snapshot: None,
        last_lsn: 0,
        notices: Vec::new(),
        figures: ReadFigures::default(),
        replay,
    })
}

fn resume(
    disk: Arc<dyn Storage>,
    options: Options,
    mut verified: Verified,
) -> Result<Opened, OpenError> {
    directories(disk.as_ref())?;
    for segment in &verified.segments {
        let what = format!("mend the header of {}", segment_path(segment.seq));
        segment.heal().map_err(io_error(what))?;
    }
    if let Some(torn) = &verified.torn {
        cut(&verified.segments[torn.place.index], torn)?;
    }
    rewrite_unmarked(&verified)?;
    let mark = Arc::new(raise_mark(disk.as_ref(), &verified)?);

    let Place { index, offset } = verified.end;
    let spares = verified.segments.split_off(index + 1);
    let active = &verified.segments[index];
    let reopened = Segment::open(disk.as_ref(), active.seq, Open::Write);
    let active = reopened.map_err(|fault| segment_fault(active.seq, fault))?;
    let covered = verified.snapshot.as_ref().map_or(0, |snapshot| snapshot.lsn);
    let kept = snapshot::list(disk.as_ref()).map_err(io_error("list the snapshots"))?;
    let kept = kept.into_iter().filter(|lsn| *lsn <= covered).collect();
    let room = Room {
        offset,
        end: active.end(),
        spares: VecDeque::new(),
        next_seq: active.seq + 1,
        full: None,
        preparing: false,
        awaited: false,
    };
    let unsealed = verified.last.as_ref().is_some_and(|last| !last.is(FLAG_SEAL));
    let stage = Stage::new(verified.last_lsn + 1, room, unsealed);
    let core = Core {
        id: verified.id,
        file: active.file,
        segment: active.seq,
        next_frame_seq: verified.last.as_ref().map_or(1, |last| last.frame_seq + 1),
        link: verified.last.as_ref().map_or([0; 32], |last| last.link),
        durable_lsn: verified.last_lsn,
        used: verified.used,
        mark: Arc::clone(&mark),
        clock_ns: options.clock_ns,
        written: Written::default(),
    };
    let segments = Arc::new(verified.segments);
    let replay = Replay { id: verified.id, segments, after: covered, end: verified.end };
    Ok(Opened {
        log: log(disk, options, core, stage, mark, kept),
        spares,
        snapshot: verified.snapshot,
        last_lsn: verified.last_lsn,
        notices: verified.notices,
        figures: verified.figures,
        replay,
    })
}

fn log(
    disk: Arc<dyn Storage>,
    options: Options,
    core: Core,
    stage: Stage,
    mark: Arc<MarkFile>,
    snapshots: Vec<Lsn>,
) -> Log {
    Log {
        disk,
        id: core.id,
        options,
        durable: AtomicU64::new(core.durable_lsn),
        stage: Mutex::new(stage),
        core: Mutex::new(core),
        mark,
        mark_flushes: AtomicU64::new(0),
        snapshots: Mutex::new(snapshots),
        writer_wakes: Condvar::new(),
        keeper_wakes: Condvar::new(),
        room_wakes: Condvar::new(),
    }
}

/// Makes zeros of a torn write. A cut that is itself cut short leaves zeros and old sectors,
/// which is a torn write again.
fn cut(segment: &Segment, torn: &Torn) -> Result<(), OpenError> {
    let until = torn.until.next_multiple_of(BLOCK_U64).min(segment.end());
    write_zeros(segment.file.as_ref(), torn.place.offset, until)
        .and_then(|()| segment.file.flush())
        .map_err(io_error(format!("cut the torn end of {}", segment_path(segment.seq))))
}

/// Writes the last frame once more, with the same bytes, unless the mark says that it was
/// flushed. A process that died, or a flush that failed, may have left it in the page cache
/// alone, where it looks sound and is not durable; pages that a failed flush left behind count as
/// clean, so a flush without a write would do nothing. Frames before it were flushed, or it would
/// not have been written.
fn rewrite_unmarked(verified: &Verified) -> Result<(), OpenError> {
    let Some(last) = verified.last.as_ref().filter(|l| l.frame_seq > verified.mark.frame_seq)
    else {
        return Ok(());
    };
    let segment = verified.segments.iter().find(|segment| segment.seq == last.segment);
    let segment = segment.expect("the last frame lies in a segment that was opened");
    let mut frame = vec![0; last.len()];
    read_exact(segment.file.as_ref(), last.offset, &mut frame)
        .and_then(|()| segment.file.write_at(last.offset, &frame))
        .and_then(|()| segment.file.flush())
        .map_err(io_error(format!(
            "make the last {} bytes of {} durable",
            to_u64(frame.len()),
            segment_path(segment.seq)
        )))
}

/// Brings the mark up to the log: what is replayed now may be acted upon, as if acknowledged.
fn raise_mark(disk: &dyn Storage, verified: &Verified) -> Result<MarkFile, OpenError> {
    let open = MarkFile::open(disk, verified.generation);
    let mark = open.map_err(io_error("open the high-water mark"))?;
    let newer = verified.last.as_ref().filter(|l| l.frame_seq > verified.mark.frame_seq);
    let raised = newer.map_or(verified.mark, |last| Mark {
        id: verified.id,
        acked_lsn: last.last_lsn(),
        frame_seq: last.frame_seq,
        link: last.link,
    });
    let writes = match (verified.mark_slot_damaged, newer.is_some()) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let write = || -> std::io::Result<()> {
        for _ in 0..writes {
            mark.write(&raised)?;
            // Between the two, so that power can take one slot at most.
            mark.flush()?;
        }
        Ok(())
    };
    write().map_err(io_error("raise the high-water mark"))?;
    Ok(mark)
}
