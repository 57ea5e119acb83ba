//! Jobs that are over, moved out of memory.
//!
//! Owns: the blobs that hold the records of many such jobs, when they are made, and reading one
//! job back. Knows nothing of what is asked about a job.
//!
//! A blob is a row of entries at multiples of 16 bytes; an entry is the BLAKE3 digest of what
//! follows, then the job's archive. So one job can be read and verified without the others.

use hb_store::{Store, StoreError};
use hb_types::{
    Digest,
    event::{ArchivePlace, Archived, JobNumber},
    job::BlobRef,
    ledger::{Found, Job, Ledger},
};

use crate::{
    Host,
    error::{DecideError, LoadError},
    journal::{Subject, Urgency},
};

/// When jobs that are over leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// Jobs that are over and stay: those that are likely to be asked for next.
    pub kept_in_memory: usize,
    /// Jobs that one blob takes.
    pub batch: usize,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { kept_in_memory: 256, batch: 512 }
    }
}

/// Bytes after which a blob takes no more jobs.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
const DIGEST_BYTES: usize = 32;
const ALIGNMENT: usize = 16;

/// A job, wherever its record lies; `None` where there is none of that number.
pub(crate) fn load(
    store: &Store,
    ledger: &Ledger,
    number: JobNumber,
) -> Result<Option<Job>, LoadError> {
    match ledger.by_number(number) {
        None => Ok(None),
        Some(Found::Here(job)) => Ok(Some(job.clone())),
        Some(Found::Archived(..)) => {
            let (blob, place) = ledger.archive.place(number).expect("it is archived");
            read(store, blob, place).map(Some)
        }
    }
}

/// Reads one job out of a blob.
fn read(store: &Store, blob: BlobRef, place: ArchivePlace) -> Result<Job, LoadError> {
    let bytes = store.read_range(blob.digest, place.offset, place.len as usize)?;
    let damaged = || LoadError::Damaged { job: place.job, blob: blob.digest };
    let (digest, job) = bytes.split_at_checked(DIGEST_BYTES).ok_or_else(damaged)?;
    if Digest::of(job).0 != digest {
        return Err(damaged());
    }
    Job::from_bytes(job).map_err(|_| damaged())
}

/// The bytes of a blob with these jobs, and where each of them is.
fn pack(jobs: impl Iterator<Item = Job>) -> (Vec<u8>, Vec<ArchivePlace>) {
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    for job in jobs {
        let record = job.to_bytes();
        let offset = bytes.len() as u64;
        bytes.extend_from_slice(&Digest::of(&record).0);
        bytes.extend_from_slice(&record);
        let len = u32::try_from(DIGEST_BYTES + record.len()).unwrap_or(u32::MAX);
        places.push(ArchivePlace { job: job.number, offset, len });
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        if bytes.len() > BATCH_BYTES {
            break;
        }
    }
    (bytes, places)
}

impl Host {
    /// A job, wherever its record lies; `None` where there is none of that number.
    pub fn load(&self, number: JobNumber) -> Result<Option<Job>, LoadError> {
        let place = self.with_ledger(|ledger| match ledger.by_number(number) {
            None => Ok(None),
            Some(Found::Here(job)) => Ok(Some(job.clone())),
            Some(Found::Archived(..)) => Err(ledger.archive.place(number)),
        });
        match place {
            Ok(job) => Ok(job),
            Err(place) => {
                let (blob, place) = place.expect("it is archived");
                read(self.store(), blob, place).map(Some)
            }
        }
    }

    /// Moves jobs that are over out of memory, once there are enough of them. Says whether it
    /// did; then there may be more.
    pub fn archive_if_due(&self) -> Result<bool, DecideError> {
        let ArchiveOptions { kept_in_memory, batch } = self.archive_options();
        let due = kept_in_memory.saturating_add(batch.max(1));
        let over: Vec<JobNumber> = self.with_ledger(|ledger| {
            if ledger.jobs.len() < due {
                return Vec::new();
            }
            let over = ledger.jobs.values().filter(|job| job.is_over());
            over.map(|job| job.number).take(due).collect()
        });
        if over.len() < due {
            return Ok(false);
        }
        // Until the record refers to it, nothing else keeps the blob.
        let hold = self.store().hold();
        let over = &over[..batch.max(1)];
        let jobs = over.iter().filter_map(|number| self.job(*number));
        let mut subjects = Vec::with_capacity(2 * over.len());
        let (bytes, places) = pack(jobs.inspect(|job| {
            subjects.extend([Subject::Job(job.number), Subject::Id(job.job_id.clone())]);
        }));
        let digest = match self.store().put(&bytes) {
            Ok(digest) => digest,
            Err(error) => {
                // Memory is all that it costs; the next try may have more luck.
                tracing::warn!(%error, "jobs that are over could not be archived");
                return Ok(false);
            }
        };
        let pack = BlobRef { digest, len_bytes: bytes.len() as u64 };
        let record = Archived { pack, jobs: places, at_ns: self.now_ns() };
        let decided = match self.decide_whole(record.into(), Urgency::Closing) {
            Ok(decided) => decided,
            Err(error) => {
                if let DecideError::Apply(_) = error {
                    // One of them was removed meanwhile, so nothing refers to the blob.
                    self.let_go(vec![digest], 0);
                }
                return Err(error);
            }
        };
        drop(hold);
        self.journal.release(subjects);
        self.settle(decided)?;
        Ok(true)
    }
}

impl From<StoreError> for LoadError {
    fn from(source: StoreError) -> Self {
        Self::Store(source)
    }
}
