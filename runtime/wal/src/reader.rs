//! Reads a log that another process may be writing.
//!
//! Owns: [`Reader`]. Takes no lock, changes nothing, verifies as opening does.
//! Knows nothing of: the writer.
//!
//! Invariant: what the mark named before the first byte was read is in what is read, or the
//! reader refuses; a frame that is not complete is the end.

use std::sync::Arc;

use hb_disk::Storage;

use crate::Lsn;
use crate::error::{OpenError, ReplayError};
use crate::layout::uuid_text;
use crate::record::RecordRef;
use crate::recovery::{Found, Notice, ReadFigures, Replay, verify_live};
use crate::snapshot::Snapshot;

/// A log as it was when it was read.
#[derive(Debug)]
pub struct Reader {
    /// The log's identity; `None` where there is no log.
    pub uuid: Option<[u8; 16]>,
    /// The newest snapshot that verifies.
    pub snapshot: Option<Snapshot>,
    /// The last record; 0 for none.
    pub last_lsn: Lsn,
    /// What is worth knowing. Nothing was mended.
    pub notices: Vec<Notice>,
    /// What verifying the log cost.
    pub figures: ReadFigures,
    replay: Option<Replay>,
}

impl Reader {
    /// Visits the records after the snapshot, in order; payloads are aligned to 16 bytes.
    pub fn replay<E>(
        &self,
        visit: impl FnMut(RecordRef<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        self.replay.as_ref().map_or(Ok(()), |replay| replay.replay(visit))
    }

    /// The log's identity as people write it.
    pub fn uuid_text(&self) -> Option<String> {
        self.uuid.as_ref().map(uuid_text)
    }
}

/// Reads a log without a lock and without mending anything.
pub fn read_only(disk: &dyn Storage) -> Result<Reader, OpenError> {
    let verified = match verify_live(disk)? {
        Found::Log(verified) => verified,
        Found::Nothing(id) => {
            return Ok(Reader {
                uuid: id.map(|id| id.uuid),
                snapshot: None,
                last_lsn: 0,
                notices: Vec::new(),
                figures: ReadFigures::default(),
                replay: None,
            });
        }
    };
    let after = verified.snapshot.as_ref().map_or(0, |snapshot| snapshot.lsn);
    let segments = Arc::new(verified.segments);
    let replay = Replay { id: verified.id, segments, after, end: verified.end };
    Ok(Reader {
        uuid: Some(verified.id.uuid),
        snapshot: verified.snapshot,
        last_lsn: verified.last_lsn,
        notices: verified.notices,
        figures: verified.figures,
        replay: Some(replay),
    })
}
