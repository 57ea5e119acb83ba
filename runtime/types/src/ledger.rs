//! The ledger as a value: every job and every reference to a blob, derived from the records.
//!
//! Owns: the jobs, who refers to which blob, which blobs nobody refers to any more, schedules.
//! Knows nothing of: where records come from and whether they are durable.
//!
//! Invariants: the same records in the same order give the same ledger, byte for byte, whether
//! live or in replay. [`Ledger::apply`] applies a record whole or changes nothing.

mod archive;
mod job;
mod references;

use std::collections::BTreeMap;

use rkyv::rancor::Error as ArchiveError;

pub use archive::{Archive, ArchivedJob};
pub use job::{Attempt, CheckpointMark, Conclusion, HoldMark, Job, KeptSeal, Stop, Stopped};

use crate::{
    Digest, Lsn,
    content::DeltaMismatch,
    event::{
        About, Archived, Assembled, Event, Forgotten, JobNumber, Received, SCHEMA, ScheduleFired,
        ScheduleSet,
    },
    schedule::Schedule,
    state::{self, IllegalTransition, State},
};
use references::ReferenceChanges;

/// What a snapshot begins with: who reads another number must not guess at what follows.
const SNAPSHOT_MAGIC: &[u8; 16] = b"hb ledger v2\0\0\0\0";

/// All jobs and references.
#[derive(Clone, Debug, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Ledger {
    /// The LSN of the last record that was applied.
    pub applied: Lsn,
    /// The jobs by number; those that are archived are not here.
    pub jobs: BTreeMap<JobNumber, Job>,
    /// Jobs whose records lie in blobs.
    pub archive: Archive,
    /// The schedules by name.
    pub schedules: BTreeMap<String, Schedule>,
    /// Whether no job is to be started.
    pub starts_paused: bool,
    /// The numbers of `jobs` by name.
    ids: BTreeMap<String, JobNumber>,
    /// The numbers of `jobs` by hash, ascending.
    hashes: BTreeMap<Digest, Vec<JobNumber>>,
    /// How often each blob is referred to; never zero.
    references: BTreeMap<Digest, u64>,
}

/// A record that cannot follow those before it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The job's state does not allow it.
    #[error("record {lsn} ({record}) does not fit job {job}")]
    Illegal {
        /// The record's position.
        lsn: Lsn,
        /// Its kind.
        record: &'static str,
        /// Which job.
        job: JobNumber,
        /// Why.
        source: IllegalTransition,
    },
    /// Its contents do not follow what the job holds.
    #[error("record {lsn} does not fit what job {job} holds")]
    Mismatch {
        /// The record's position.
        lsn: Lsn,
        /// Which job.
        job: JobNumber,
        /// Why.
        source: DeltaMismatch,
    },
    /// The name is taken.
    #[error("record {lsn} names a job {job_id:?} that exists already")]
    NameTaken {
        /// The record's position.
        lsn: Lsn,
        /// The name.
        job_id: String,
    },
    /// Parts that do not make the record that they should.
    #[error("record {lsn} does not find the parts of the record that it stands for")]
    Parts {
        /// The record's position.
        lsn: Lsn,
    },
    /// A record about the whole that does not fit what is there.
    #[error("record {lsn} ({record}) does not fit: {why}")]
    Unfit {
        /// The record's position.
        lsn: Lsn,
        /// Its kind.
        record: &'static str,
        /// What does not fit.
        why: String,
    },
    /// A position that does not follow.
    #[error("record {lsn} cannot follow record {applied}")]
    Order {
        /// The record's position.
        lsn: Lsn,
        /// The last position.
        applied: Lsn,
    },
}

/// A job that was looked up.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// It is in memory.
    Here(&'a Job),
    /// Its record lies in a blob.
    Archived(JobNumber, &'a ArchivedJob),
}

impl Found<'_> {
    /// Its number.
    pub fn number(&self) -> JobNumber {
        match self {
            Self::Here(job) => job.number,
            Self::Archived(number, _) => *number,
        }
    }

    /// Its hash.
    pub fn job_hash(&self) -> Digest {
        match self {
            Self::Here(job) => job.job_hash,
            Self::Archived(_, job) => job.job_hash,
        }
    }

    /// Whether it still has something to do.
    pub fn is_unfinished(&self) -> bool {
        match self {
            Self::Here(job) => job.is_unfinished(),
            Self::Archived(..) => false,
        }
    }
}

impl Ledger {
    /// Applies one record and returns the blobs that nothing refers to any more.
    pub fn apply(&mut self, lsn: Lsn, event: &Event) -> Result<Vec<Digest>, ApplyError> {
        if lsn <= self.applied {
            return Err(ApplyError::Order { lsn, applied: self.applied });
        }
        let assembled;
        let event = match event {
            Event::Assembled(record) => {
                assembled = self.assemble(lsn, record)?;
                &assembled
            }
            other => other,
        };
        let mut changes = ReferenceChanges::default();
        match event.about(lsn) {
            About::Job(number) => self.apply_to_job(lsn, number, event, &mut changes)?,
            About::Ledger => {
                self.check_whole(lsn, event)?;
                self.apply_to_whole(lsn, event, &mut changes);
            }
        }
        self.applied = lsn;
        Ok(changes.settle(&mut self.references))
    }

    fn apply_to_job(
        &mut self,
        lsn: Lsn,
        number: JobNumber,
        event: &Event,
        changes: &mut ReferenceChanges,
    ) -> Result<(), ApplyError> {
        let before = self.jobs.get(&number).map(|job| job.state);
        let state = next_state(lsn, number, before, event)?;
        match (event, self.jobs.get_mut(&number)) {
            (Event::Received(record), _) => self.receive(number, record, state, changes),
            (event, Some(job)) => job.apply(lsn, event, state, changes),
            (_, None) => unreachable!("state::apply refuses a job that is not there"),
        }
    }

    fn receive(
        &mut self,
        number: JobNumber,
        record: &Received,
        state: State,
        changes: &mut ReferenceChanges,
    ) -> Result<(), ApplyError> {
        if self.by_id(&record.job_id).is_some() {
            return Err(ApplyError::NameTaken { lsn: number, job_id: record.job_id.clone() });
        }
        changes.add_spec(&record.spec);
        self.ids.insert(record.job_id.clone(), number);
        self.hashes.entry(record.job_hash).or_default().push(number);
        self.jobs.insert(number, Job::new(number, record, state));
        Ok(())
    }

    fn apply_to_whole(&mut self, lsn: Lsn, event: &Event, changes: &mut ReferenceChanges) {
        match event {
            Event::Archived(record) => self.archive(lsn, record, changes),
            Event::Forgotten(record) => self.forget(record, changes),
            Event::ScheduleSet(record) => {
                changes.add_spec(&record.schedule.spec);
                let before = self.schedules.insert(record.name.clone(), record.schedule.clone());
                if let Some(schedule) = before {
                    changes.remove_spec(&schedule.spec);
                }
            }
            Event::ScheduleRemoved(record) => {
                let before = self.schedules.remove(&record.name);
                if let Some(schedule) = before {
                    changes.remove_spec(&schedule.spec);
                }
            }
            Event::ScheduleFired(record) => {
                if let Some(schedule) = self.schedules.get_mut(&record.name) {
                    schedule.fired_ns = schedule.fired_ns.max(record.moment_ns);
                }
            }
            Event::StartsPaused(record) => self.starts_paused = record.paused,
            Event::Received(_)
            | Event::Scheduled(_)
            | Event::Started(_)
            | Event::Checkpointed(_)
            | Event::Interrupted(_)
            | Event::Ended(_)
            | Event::Sealed(_)
            | Event::Part(_)
            | Event::Assembled(_)
            | Event::Retried(_)
            | Event::Held(_)
            | Event::Released(_) => unreachable!("these are about one job"),
        }
    }

    fn archive(&mut self, lsn: Lsn, record: &Archived, changes: &mut ReferenceChanges) {
        let taken = record.jobs.iter().map(|place| {
            let job = self.jobs.remove(&place.job).expect("it was checked that the job is here");
            self.ids.remove(&job.job_id);
            remove_hash(&mut self.hashes, job.job_hash, job.number);
            (job, *place)
        });
        let taken = taken.collect();
        self.archive.take(lsn, record.pack, taken, changes);
    }

    fn forget(&mut self, record: &Forgotten, changes: &mut ReferenceChanges) {
        for forgetting in &record.jobs {
            if let Some(job) = self.jobs.remove(&forgetting.job) {
                self.ids.remove(&job.job_id);
                remove_hash(&mut self.hashes, job.job_hash, job.number);
            } else {
                self.archive.forget(forgetting.job, changes);
            }
            forgetting.releases.iter().for_each(|digest| changes.remove(*digest));
        }
    }

    /// Checks a record about the whole: that every job it names is here and over, and that every
    /// use that ends had begun.
    fn check_whole(&self, lsn: Lsn, event: &Event) -> Result<(), ApplyError> {
        let unfit = |why: String| Err(ApplyError::Unfit { lsn, record: event.name(), why });
        match event {
            Event::Archived(record) => {
                for place in &record.jobs {
                    if !self.jobs.get(&place.job).is_some_and(Job::is_over) {
                        return unfit(format!("job {} is not over, or not here", place.job));
                    }
                }
            }
            Event::Forgotten(record) => {
                let mut changes = ReferenceChanges::default();
                for forgetting in &record.jobs {
                    let archived = self.archive.jobs().contains_key(&forgetting.job);
                    if !archived && !self.jobs.get(&forgetting.job).is_some_and(Job::is_over) {
                        return unfit(format!("job {} is not over, or not here", forgetting.job));
                    }
                    forgetting.releases.iter().for_each(|digest| changes.remove(*digest));
                }
                if !changes.fits(&self.references) {
                    return unfit("it ends uses of blobs that had not begun".to_owned());
                }
            }
            Event::ScheduleSet(ScheduleSet { .. })
            | Event::ScheduleFired(ScheduleFired { .. })
            | Event::StartsPaused(_) => {}
            Event::ScheduleRemoved(record) => {
                if !self.schedules.contains_key(&record.name) {
                    return unfit(format!("there is no schedule {:?}", record.name));
                }
            }
            _ => unreachable!("these are about one job"),
        }
        Ok(())
    }

    /// The record that the parts of a job are.
    fn assemble(&self, lsn: Lsn, record: &Assembled) -> Result<Event, ApplyError> {
        let wrong = || ApplyError::Parts { lsn };
        let job = self.jobs.get(&record.job).ok_or_else(wrong)?;
        if Digest::of(&job.parts) != record.digest {
            return Err(wrong());
        }
        let event = Event::decode(record.kind, SCHEMA, &job.parts).map_err(|_| wrong())?;
        if event.about(lsn) != About::Job(record.job) {
            return Err(wrong());
        }
        Ok(event)
    }

    /// Checks that records may follow, in this order, without applying them: any number about
    /// jobs, or one about the whole.
    pub fn check(&self, events: &[Event]) -> Result<(), ApplyError> {
        let lsn = self.applied + 1;
        let mut states: BTreeMap<JobNumber, State> = BTreeMap::new();
        for event in events {
            let About::Job(number) = event.about(lsn) else {
                self.check_whole(lsn, event)?;
                continue;
            };
            let before = states.get(&number).copied();
            let before = before.or_else(|| self.jobs.get(&number).map(|job| job.state));
            states.insert(number, next_state(lsn, number, before, event)?);
            if let Event::Received(record) = event
                && self.by_id(&record.job_id).is_some()
            {
                return Err(ApplyError::NameTaken { lsn, job_id: record.job_id.clone() });
            }
        }
        Ok(())
    }

    /// The job with that name.
    pub fn by_id(&self, job_id: &str) -> Option<Found<'_>> {
        if let Some(job) = self.ids.get(job_id).and_then(|number| self.jobs.get(number)) {
            return Some(Found::Here(job));
        }
        self.by_number(self.archive.by_id(job_id)?)
    }

    /// The job with that number.
    pub fn by_number(&self, number: JobNumber) -> Option<Found<'_>> {
        let archived = || Some(Found::Archived(number, self.archive.jobs().get(&number)?));
        self.jobs.get(&number).map(Found::Here).or_else(archived)
    }

    /// The jobs in memory with that hash, oldest first.
    pub fn by_hash(&self, job_hash: Digest) -> impl Iterator<Item = &Job> {
        let numbers = self.hashes.get(&job_hash).map_or(&[][..], Vec::as_slice);
        numbers.iter().filter_map(|number| self.jobs.get(number))
    }

    /// How many jobs there are.
    pub fn count(&self) -> usize {
        self.jobs.len() + self.archive.jobs().len()
    }

    /// Whether anything refers to that blob.
    pub fn refers_to(&self, digest: Digest) -> bool {
        self.references.contains_key(&digest)
    }

    /// Every blob that something refers to.
    pub fn referenced(&self) -> impl Iterator<Item = Digest> + '_ {
        self.references.keys().copied()
    }

    /// The whole as bytes, for a snapshot.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = rkyv::util::AlignedVec::<16>::new();
        bytes.extend_from_slice(SNAPSHOT_MAGIC);
        rkyv::api::high::to_bytes_in::<_, ArchiveError>(self, bytes)
            .expect("serialising to memory fails only when memory is used up")
            .into_vec()
    }

    /// The ledger behind validated bytes; `None` where they are not those of a ledger of this
    /// version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(SNAPSHOT_MAGIC)?;
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        rkyv::from_bytes::<Self, ArchiveError>(&aligned).ok()
    }
}

fn next_state(
    lsn: Lsn,
    job: JobNumber,
    before: Option<State>,
    event: &Event,
) -> Result<State, ApplyError> {
    let transition = event.transition(lsn).ok_or(ApplyError::Parts { lsn })?;
    let record = event.name();
    state::apply(before, transition).map_err(|source| ApplyError::Illegal {
        lsn,
        record,
        job,
        source,
    })
}

fn remove_hash(hashes: &mut BTreeMap<Digest, Vec<JobNumber>>, job_hash: Digest, number: JobNumber) {
    if let Some(numbers) = hashes.get_mut(&job_hash) {
        numbers.retain(|other| *other != number);
        if numbers.is_empty() {
            hashes.remove(&job_hash);
        }
    }
}
