//! Jobs that are over and whose records lie in blobs: what the ledger still keeps of them in
//! memory, some hundred bytes each.
//!
//! Owns: where an archived job is, and how it is found by id and by hash. Knows nothing of how the
//! bytes are read.
//!
//! Invariants: an archived job is final; a blob is named here exactly while one of its jobs is.

use std::collections::BTreeMap;

use crate::{
    Digest, Lsn,
    event::{ArchivePlace, JobNumber},
    job::BlobRef,
    ledger::{Job, references::ReferenceChanges},
    state::Phase,
};

/// The first half of a digest: enough to tell jobs apart, at half the memory.
type Key = [u8; 16];

fn half(digest: Digest) -> Key {
    *digest.0.first_chunk().expect("a digest has 32 bytes")
}

fn id_key(job_id: &str) -> Key {
    half(Digest::of(job_id.as_bytes()))
}

/// What is kept of one archived job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ArchivedJob {
    /// The position of the last record about it.
    pub last: Lsn,
    /// Number of the blob that holds it.
    pack: u64,
    /// Where in the blob.
    offset: u64,
    /// How many bytes.
    len: u32,
    /// Where its life ended.
    pub phase: Phase,
    /// Whether a repetition must end the same way.
    pub reproducible: bool,
    /// When it ended.
    pub ended_ns: u64,
    /// Bytes that are kept because of what it printed and left, about.
    pub kept_bytes: u64,
    /// Whether its labels say that it is to be kept.
    pub is_kept: bool,
    /// Its hash.
    pub job_hash: Digest,
    id_key: Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Pack {
    blob: BlobRef,
    jobs: u64,
}

/// All archived jobs.
#[derive(Clone, Debug, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Archive {
    jobs: BTreeMap<JobNumber, ArchivedJob>,
    by_id: BTreeMap<Key, JobNumber>,
    /// The newest archived job with that hash whose ending a repetition must reproduce.
    by_hash: BTreeMap<Key, JobNumber>,
    packs: BTreeMap<u64, Pack>,
}

impl Archive {
    /// The jobs by number.
    pub fn jobs(&self) -> &BTreeMap<JobNumber, ArchivedJob> {
        &self.jobs
    }

    /// The number of the job with that name.
    pub fn by_id(&self, job_id: &str) -> Option<JobNumber> {
        self.by_id.get(&id_key(job_id)).copied()
    }

    /// The newest job with that hash whose ending a repetition must reproduce.
    pub fn answer(&self, job_hash: Digest) -> Option<JobNumber> {
        self.by_hash.get(&half(job_hash)).copied()
    }

    /// The blob that holds a job, and where in it.
    pub fn place(&self, number: JobNumber) -> Option<(BlobRef, ArchivePlace)> {
        let job = self.jobs.get(&number)?;
        let pack = self.packs.get(&job.pack).expect("an archived job has its blob");
        Some((pack.blob, ArchivePlace { job: number, offset: job.offset, len: job.len }))
    }

    /// Takes jobs in that one blob holds; `lsn` names the blob.
    pub(super) fn take(
        &mut self,
        lsn: Lsn,
        blob: BlobRef,
        jobs: Vec<(Job, ArchivePlace)>,
        changes: &mut ReferenceChanges,
    ) {
        changes.add(blob.digest);
        self.packs.insert(lsn, Pack { blob, jobs: jobs.len() as u64 });
        for (job, place) in jobs {
            let conclusion = job.conclusion.as_ref();
            let archived = ArchivedJob {
                last: job.last,
                pack: lsn,
                offset: place.offset,
                len: place.len,
                phase: job.state.phase,
                reproducible: conclusion.is_some_and(|conclusion| conclusion.reproducible),
                ended_ns: conclusion.map_or(0, |conclusion| conclusion.at_ns),
                kept_bytes: job.kept_bytes(),
                is_kept: job.spec.is_kept(),
                job_hash: job.job_hash,
                id_key: id_key(&job.job_id),
            };
            self.by_id.insert(archived.id_key, job.number);
            if archived.reproducible {
                self.by_hash.insert(half(job.job_hash), job.number);
            }
            self.jobs.insert(job.number, archived);
        }
    }

    /// Removes a job for good.
    pub(super) fn forget(&mut self, number: JobNumber, changes: &mut ReferenceChanges) {
        let Some(job) = self.jobs.remove(&number) else { return };
        self.by_id.remove(&job.id_key);
        if self.by_hash.get(&half(job.job_hash)) == Some(&number) {
            self.by_hash.remove(&half(job.job_hash));
        }
        let pack = self.packs.get_mut(&job.pack).expect("an archived job has its blob");
        pack.jobs -= 1;
        if pack.jobs == 0 {
            changes.remove(pack.blob.digest);
            self.packs.remove(&job.pack);
        }
    }
}
