//! The log as its owner sees it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use hb_disk::Storage;

use crate::Lsn;
use crate::error::{AppendError, OpenError, ReplayError, SnapshotError};
use crate::layout::uuid_text;
use crate::log::{Log, lock};
use crate::open;
use crate::options::{Options, Stats};
use crate::record::{Record, RecordRef};
use crate::recovery::{Notice, ReadFigures, Replay};
use crate::snapshot::Snapshot;
use crate::threads;

/// An open log. Share it through an `Arc`; dropping it closes it.
///
/// One process owns a log at a time: the owner of the directory holds a lock before it opens it.
pub struct Wal {
    log: Arc<Log>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal").field("durable_lsn", &self.durable_lsn()).finish_non_exhaustive()
    }
}

/// What was found when a log was opened.
#[derive(Debug)]
pub struct Recovery {
    /// The log's identity.
    pub uuid: [u8; 16],
    /// The newest snapshot that verifies.
    pub snapshot: Option<Snapshot>,
    /// The last record; 0 for none.
    pub last_lsn: Lsn,
    /// What was mended or is worth knowing.
    pub notices: Vec<Notice>,
    /// What verifying the log cost.
    pub figures: ReadFigures,
    pub(crate) replay: Replay,
}

impl Recovery {
    /// Visits the records after the snapshot, in order; payloads are aligned to 16 bytes.
    pub fn replay<E>(
        &self,
        visit: impl FnMut(RecordRef<'_>) -> Result<(), E>,
    ) -> Result<(), ReplayError<E>> {
        self.replay.replay(visit)
    }

    /// The log's identity as people write it.
    pub fn uuid_text(&self) -> String {
        uuid_text(&self.uuid)
    }
}

/// Records that were staged and may not be durable yet.
#[derive(Clone)]
pub struct Ticket {
    log: Arc<Log>,
    /// The first record of the batch.
    pub first_lsn: Lsn,
    /// The last record of the batch.
    pub last_lsn: Lsn,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}..={})", self.first_lsn, self.last_lsn)
    }
}

impl Ticket {
    /// Waits until the records are durable.
    pub fn wait(&self) -> Result<(), AppendError> {
        self.log.wait(self.first_lsn, self.last_lsn)
    }

    /// Whether the records are durable by now.
    pub fn is_durable(&self) -> bool {
        self.log.durable_lsn() >= self.last_lsn
    }

    /// Calls back once when the records are durable, or when whether they are can no longer be
    /// known; at once where that is decided. The call comes from the thread that wrote, which
    /// commits nothing meanwhile: it should only pass the news on.
    pub fn on_durable(&self, call: impl FnOnce(Result<(), AppendError>) + Send + 'static) {
        self.log.on_durable(self.first_lsn, self.last_lsn, Box::new(call));
    }
}

impl Wal {
    /// Opens the log in `disk`, creates it where there is none, and mends what may be mended.
    /// Refuses, without having changed anything, where something does not verify.
    pub fn open(disk: Arc<dyn Storage>, options: Options) -> Result<(Self, Recovery), OpenError> {
        let background = options.background;
        let opened = open::open(disk, options)?;
        let log = Arc::new(opened.log);
        let mut notices = opened.notices;
        let threads = if background {
            threads::start(&log, opened.spares).map_err(|source| OpenError::Io {
                what: "start the threads of the log".to_owned(),
                source,
            })?
        } else {
            notices.extend(log.adopt(opened.spares));
            Vec::new()
        };
        let recovery = Recovery {
            uuid: log.id.uuid,
            snapshot: opened.snapshot,
            last_lsn: opened.last_lsn,
            notices,
            figures: opened.figures,
            replay: opened.replay,
        };
        Ok((Self { log, threads: Mutex::new(threads) }, recovery))
    }

    /// Stages a batch: all of it is in the log after a crash, or nothing. Waits for room while
    /// the log is busy and returns before the batch is durable.
    pub fn append(&self, records: &[Record]) -> Result<Ticket, AppendError> {
        let (first_lsn, last_lsn) = self.log.append(records, false)?;
        Ok(Ticket { log: Arc::clone(&self.log), first_lsn, last_lsn })
    }

    /// As [`Wal::append`], from the reserve if need be: for what must be recorded although the
    /// disk is full, such as the end of a job.
    pub fn append_reserved(&self, records: &[Record]) -> Result<Ticket, AppendError> {
        let (first_lsn, last_lsn) = self.log.append(records, true)?;
        Ok(Ticket { log: Arc::clone(&self.log), first_lsn, last_lsn })
    }

    /// Appends a batch and returns its last LSN when it is durable.
    pub fn append_wait(&self, records: &[Record]) -> Result<Lsn, AppendError> {
        self.log.append_wait(records, false)
    }

    /// As [`Wal::append_wait`], from the reserve if need be.
    pub fn append_reserved_wait(&self, records: &[Record]) -> Result<Lsn, AppendError> {
        self.log.append_wait(records, true)
    }

    /// The last record that is durable; 0 for none.
    pub fn durable_lsn(&self) -> Lsn {
        self.log.durable_lsn()
    }

    /// Calls back once when the record at a position is durable, as [`Ticket::on_durable`] does.
    /// The record must have been appended.
    pub fn on_durable(
        &self,
        lsn: Lsn,
        call: impl FnOnce(Result<(), AppendError>) + Send + 'static,
    ) {
        self.log.on_durable(lsn, lsn, Box::new(call));
    }

    /// The last durable record and the link of the chain there: whoever keeps both elsewhere can
    /// tell later that nothing before them was changed.
    pub fn head(&self) -> (Lsn, [u8; 32]) {
        let core = lock(&self.log.core);
        (core.durable_lsn, core.link)
    }

    /// Keeps `state` as what the records up to `at` amount to; on return it is durable. Two are
    /// kept; segments that neither needs are removed.
    pub fn snapshot(&self, at: Lsn, state: &[u8]) -> Result<(), SnapshotError> {
        self.log.snapshot(at, state)
    }

    /// Writes what is staged, seals the log and makes the mark durable, as idleness does.
    pub fn settle(&self) -> Result<(), AppendError> {
        self.log.settle().map(drop)
    }

    /// What failed, once a write or a flush did: nothing more is taken until the log has been opened
    /// again. Waits for neither.
    pub fn failure(&self) -> Option<String> {
        self.log.failure()
    }

    /// Figures since the log was opened.
    pub fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// Settles, stops the threads and takes nothing more. Closing twice is closing once.
    pub fn close(&self) -> Result<(), AppendError> {
        let closed = self.log.close();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        closed
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the log was not settled when it was closed");
        }
    }
}
