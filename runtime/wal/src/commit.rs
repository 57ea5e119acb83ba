//! Writes frames, one at a time.
//!
//! Owns: the current segment, the head of the chain, and the order of a commit: write, flush,
//! mark, tell.
//! Knows nothing of: who is waiting, which thread it runs on.
//!
//! Invariant: nobody learns that a frame is durable before its flush has succeeded and the mark
//! names it. An error of either is final for this opening of the log.

use std::io;
use std::sync::Arc;

use hb_disk::StorageFile;

use crate::Lsn;
use crate::frame::{FLAG_SEAL, FrameHeader, finish};
use crate::layout::{BLOCK_U64, Link, LogId, segment_path, to_u64};
use crate::mark::{Mark, MarkFile};
use crate::stage::{Job, Target};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: LogId,
    pub(crate) file: Box<dyn StorageFile>,
    pub(crate) segment: u64,
    pub(crate) next_frame_seq: u64,
    pub(crate) link: Link,
    pub(crate) durable_lsn: Lsn,
    /// Segments with frames, each with its first LSN.
    pub(crate) used: Vec<(u64, Lsn)>,
    pub(crate) mark: Arc<MarkFile>,
    pub(crate) clock_ns: fn() -> u64,
    pub(crate) written: Written,
}

/// What was written since the log was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written {
    pub(crate) frames: u64,
    pub(crate) seals: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Core {
    /// Writes a frame; when this returns `Ok` it is durable and marked. Gives the buffer back.
    pub(crate) fn write(&mut self, job: Job) -> (Vec<u8>, Result<(), String>) {
        let Job { mut buffer, first_lsn, count, flags, target } = job;
        let offset = match target {
            Target::Here(offset) => offset,
            Target::Next(spare) => {
                (self.file, self.segment) = (spare.file, spare.seq);
                BLOCK_U64
            }
        };
        if self.used.last().is_none_or(|(seq, _)| *seq != self.segment) {
            self.used.push((self.segment, first_lsn));
        }
        let mut header = FrameHeader {
            frame_seq: self.next_frame_seq,
            first_lsn,
            count,
            durable_lsn: self.durable_lsn,
            body_len: 0,
            flags,
            time_ns: (self.clock_ns)(),
            segment: self.segment,
            offset,
            previous: self.link,
            link: [0; 32],
        };
        finish(&mut buffer, &self.id, &mut header);
        let result = self.commit(&header, &buffer);
        (buffer, result)
    }

    fn commit(&mut self, header: &FrameHeader, frame: &[u8]) -> Result<(), String> {
        let failed = |what: &str, error: &io::Error| {
            format!(
                "{what} {} at byte {} failed: {error}",
                segment_path(header.segment),
                header.offset
            )
        };
        let write = self.file.write_at(header.offset, frame);
        write.map_err(|error| failed("writing", &error))?;
        // A flush is never tried again: after a failure the kernel holds the pages for clean.
        self.file.flush().map_err(|error| failed("flushing", &error))?;
        let acked_lsn = header.last_lsn();
        let (id, frame_seq, link) = (self.id, header.frame_seq, header.link);
        let mark = self.mark.write(&Mark { id, acked_lsn, frame_seq, link });
        mark.map_err(|error| format!("writing the high-water mark failed: {error}"))?;
        self.next_frame_seq += 1;
        self.link = link;
        self.durable_lsn = acked_lsn;
        self.written.frames += 1;
        self.written.seals += u64::from(header.is(FLAG_SEAL));
        self.written.records += u64::from(header.count);
        self.written.bytes += to_u64(frame.len());
        Ok(())
    }
}
