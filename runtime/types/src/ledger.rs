//! The ledger as a value: every job and every reference to a blob, derived from the records.
//!
//! Owns: the jobs, who refers to which blob, which blobs nobody refers to any more.
//! Knows nothing of: where records come from and whether they are durable.
//!
//! Invariants: the same records in the same order give the same ledger, byte for byte, whether
//! live or in replay. [`Ledger::apply`] applies a record whole or changes nothing. A blob's count
//! is the number of its uses by specifications and holdings of jobs.

use std::collections::BTreeMap;

use rkyv::rancor::Error as ArchiveError;

use crate::{
    Digest, Lsn,
    capture::{Counters, Progress},
    content::{DeltaMismatch, Holdings, Kept},
    event::{Artifact, Assembled, Ended, Event, JobNumber, Received, SCHEMA},
    job::{BlobRef, JobSpec},
    outcome::{Explanation, Outcome},
    state::{self, IllegalTransition, Interruption, Phase, State},
};

/// One attempt, for people.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Attempt {
    /// The claim.
    pub token: Lsn,
    /// The process that ran it.
    pub process: u32,
    /// When it began.
    pub started_ns: u64,
    /// The checkpoint that was newest when it began; zero where there was none.
    pub from_sequence: u64,
    /// How and when it was interrupted, if it was, and what is known of the cause.
    pub interrupted: Option<(Interruption, u64, String)>,
}

/// One checkpoint, for people and for verification.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckpointMark {
    /// Its number, from 1.
    pub sequence: u64,
    /// Its step.
    pub step: u64,
    /// Digest of everything it holds, fuel apart.
    pub digest: Digest,
    /// Fuel used up to it.
    pub fuel_used: u64,
    /// The attempt that saved it.
    pub token: Lsn,
    /// Whether it is the first of an attempt that started from the beginning.
    pub fresh: bool,
    /// What the job remarked since the checkpoint before it.
    pub notes: Vec<String>,
    /// When.
    pub at_ns: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Conclusion {
    /// The outcome.
    pub outcome: Outcome,
    /// For people.
    pub explanation: Explanation,
    /// All of standard output.
    pub stdout: BlobRef,
    /// All of standard error.
    pub stderr: BlobRef,
    /// What it left below `/out`.
    pub artifacts: BTreeMap<String, Artifact>,
    /// The most linear memory it held.
    pub peak_memory_bytes: u64,
    /// Whether the last attempt started from the beginning and saved nothing.
    pub fresh: bool,
    /// Whether a repetition must end the same way.
    pub reproducible: bool,
    /// When.
    pub at_ns: u64,
}

/// A seal, as kept.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct KeptSeal {
    /// The seal.
    pub seal: Digest,
    /// The signed envelope, as JSON.
    pub envelope: Kept,
    /// When.
    pub at_ns: u64,
}

/// Everything that is known of a job.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Job {
    /// Its number.
    pub number: JobNumber,
    /// The name its user gave it.
    pub job_id: String,
    /// Its hash.
    pub job_hash: Digest,
    /// What was asked for.
    pub spec: JobSpec,
    /// When it was accepted.
    pub received_ns: u64,
    /// The position of the last record about it.
    pub last: Lsn,
    /// Where it is in its life.
    pub state: State,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// Every checkpoint.
    pub checkpoints: Vec<CheckpointMark>,
    /// What the newest checkpoint, or the ending, holds.
    pub holdings: Holdings,
    /// Fuel, clock and random positions there.
    pub counters: Counters,
    /// What the job had said of itself there.
    pub progress: Progress,
    /// How it ended, if it did.
    pub conclusion: Option<Conclusion>,
    /// Its seal, if it has one.
    pub seal: Option<KeptSeal>,
    /// The parts of a record that is not complete yet.
    parts: Vec<u8>,
}

/// All jobs and references.
#[derive(Clone, Debug, Default, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Ledger {
    /// The LSN of the last record that was applied.
    pub applied: Lsn,
    /// The jobs by number.
    pub jobs: BTreeMap<JobNumber, Job>,
    /// Their numbers by name.
    pub ids: BTreeMap<String, JobNumber>,
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
    /// A position that does not follow.
    #[error("record {lsn} cannot follow record {applied}")]
    Order {
        /// The record's position.
        lsn: Lsn,
        /// The last position.
        applied: Lsn,
    },
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
        let number = event.job(lsn);
        let before = self.jobs.get(&number).map(|job| job.state);
        let transition = event.transition(lsn).ok_or(ApplyError::Parts { lsn })?;
        let state = state::apply(before, transition).map_err(|source| ApplyError::Illegal {
            lsn,
            record: event.name(),
            job: number,
            source,
        })?;
        let mut changes = ReferenceChanges::default();
        match (event, self.jobs.get_mut(&number)) {
            (Event::Received(record), _) => self.receive(number, record, state, &mut changes)?,
            (event, Some(job)) => job.apply(lsn, event, state, &mut changes)?,
            (_, None) => unreachable!("state::apply refuses a job that is not there"),
        }
        self.applied = lsn;
        Ok(changes.settle(&mut self.references))
    }

    fn receive(
        &mut self,
        number: JobNumber,
        record: &Received,
        state: State,
        changes: &mut ReferenceChanges,
    ) -> Result<(), ApplyError> {
        if self.ids.contains_key(&record.job_id) {
            return Err(ApplyError::NameTaken { lsn: number, job_id: record.job_id.clone() });
        }
        changes.add_spec(&record.spec);
        self.ids.insert(record.job_id.clone(), number);
        self.jobs.insert(number, Job::new(number, record, state));
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
        if event.job(lsn) != record.job {
            return Err(wrong());
        }
        Ok(event)
    }

    /// Checks that records about one job may follow, in this order, without applying them.
    pub fn check(&self, events: &[Event]) -> Result<(), ApplyError> {
        let lsn = self.applied + 1;
        let mut states: BTreeMap<JobNumber, State> = BTreeMap::new();
        for event in events {
            let number = event.job(lsn);
            let before = states.get(&number).copied();
            let before = before.or_else(|| self.jobs.get(&number).map(|job| job.state));
            let transition = event.transition(lsn).ok_or(ApplyError::Parts { lsn })?;
            let after = state::apply(before, transition).map_err(|source| ApplyError::Illegal {
                lsn,
                record: event.name(),
                job: number,
                source,
            })?;
            states.insert(number, after);
            if let Event::Received(record) = event
                && self.ids.contains_key(&record.job_id)
            {
                return Err(ApplyError::NameTaken { lsn, job_id: record.job_id.clone() });
            }
        }
        Ok(())
    }

    /// The job with that name.
    pub fn by_id(&self, job_id: &str) -> Option<&Job> {
        self.ids.get(job_id).and_then(|number| self.jobs.get(number))
    }

    /// The jobs with that hash, oldest first.
    pub fn by_hash(&self, job_hash: Digest) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.job_hash == job_hash)
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
        rkyv::to_bytes::<ArchiveError>(self)
            .expect("serialising to memory fails only when memory is used up")
            .into_vec()
    }

    /// The ledger behind validated bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        rkyv::from_bytes::<Self, ArchiveError>(&aligned)
    }
}

impl Job {
    fn new(number: JobNumber, record: &Received, state: State) -> Self {
        Self {
            number,
            job_id: record.job_id.clone(),
            job_hash: record.job_hash,
            spec: record.spec.clone(),
            received_ns: record.at_ns,
            last: number,
            state,
            attempts: Vec::new(),
            checkpoints: Vec::new(),
            holdings: Holdings::default(),
            counters: Counters::default(),
            progress: Progress::default(),
            conclusion: None,
            seal: None,
            parts: Vec::new(),
        }
    }

    fn apply(
        &mut self,
        lsn: Lsn,
        event: &Event,
        state: State,
        changes: &mut ReferenceChanges,
    ) -> Result<(), ApplyError> {
        let delta = match event {
            Event::Checkpointed(record) => Some(&record.delta),
            Event::Ended(record) => Some(&record.delta),
            Event::Received(_)
            | Event::Scheduled(_)
            | Event::Started(_)
            | Event::Interrupted(_)
            | Event::Sealed(_)
            | Event::Part(_)
            | Event::Assembled(_) => None,
        };
        if let Some(delta) = delta {
            let packs = self.holdings.packs();
            let job = self.number;
            let mismatch = |source| ApplyError::Mismatch { lsn, job, source };
            self.holdings.apply(delta).map_err(mismatch)?;
            changes.replace(packs, self.holdings.packs());
        }
        if let Event::Sealed(record) = event
            && let Kept::Blob(blob) = &record.envelope
        {
            changes.add(blob.digest);
        }
        if let Event::Part(record) = event {
            if record.first {
                self.parts.clear();
            }
            self.parts.extend_from_slice(&record.bytes);
        } else {
            // Whatever else happens, parts that were not made one belong to nothing any more.
            self.parts = Vec::new();
        }
        self.state = state;
        self.last = lsn;
        self.note(lsn, event);
        Ok(())
    }

    /// Writes down what people and verification want to know of a record.
    fn note(&mut self, lsn: Lsn, event: &Event) {
        match event {
            Event::Received(_) | Event::Scheduled(_) | Event::Part(_) | Event::Assembled(_) => {}
            Event::Started(record) => self.attempts.push(Attempt {
                token: lsn,
                process: record.process,
                started_ns: record.at_ns,
                from_sequence: self.state.sequence,
                interrupted: None,
            }),
            Event::Checkpointed(record) => {
                self.counters = record.counters;
                self.progress = record.progress.clone();
                self.checkpoints.push(CheckpointMark {
                    sequence: record.sequence,
                    step: record.step,
                    digest: record.digest,
                    fuel_used: record.counters.fuel_used,
                    token: record.token,
                    fresh: record.delta.fresh,
                    notes: record.progress.notes.clone(),
                    at_ns: record.at_ns,
                });
            }
            Event::Interrupted(record) => {
                let attempt = self.attempts.last_mut().expect("a running job has an attempt");
                attempt.interrupted = Some((record.why, record.at_ns, record.detail.clone()));
            }
            Event::Ended(record) => self.conclude(record),
            Event::Sealed(record) => {
                self.seal = Some(KeptSeal {
                    seal: record.seal,
                    envelope: record.envelope.clone(),
                    at_ns: record.at_ns,
                });
            }
        }
    }

    fn conclude(&mut self, record: &Ended) {
        self.counters = record.counters;
        self.progress = record.progress.clone();
        self.conclusion = Some(Conclusion {
            outcome: record.outcome,
            explanation: record.explanation.clone(),
            stdout: record.stdout,
            stderr: record.stderr,
            artifacts: record.artifacts.clone(),
            peak_memory_bytes: record.peak_memory_bytes,
            fresh: record.delta.fresh,
            reproducible: record.reproducible,
            at_ns: record.at_ns,
        });
    }

    /// The checkpoints that lead to the ending: those since an attempt last started from nothing.
    pub fn checkpoint_chain(&self) -> &[CheckpointMark] {
        if self.conclusion.as_ref().is_some_and(|conclusion| conclusion.fresh) {
            return &[];
        }
        let start = self.checkpoints.iter().rposition(|mark| mark.fresh).unwrap_or(0);
        &self.checkpoints[start..]
    }

    /// Whether the job still has something to do.
    pub fn is_unfinished(&self) -> bool {
        matches!(self.state.phase, Phase::Received | Phase::Scheduled | Phase::Running)
    }
}

/// Uses that come and go with one record.
#[derive(Default)]
struct ReferenceChanges(BTreeMap<Digest, i64>);

impl ReferenceChanges {
    fn add_spec(&mut self, spec: &JobSpec) {
        spec.blobs().for_each(|blob| self.add(blob.digest));
    }

    fn add(&mut self, digest: Digest) {
        *self.0.entry(digest).or_default() += 1;
    }

    fn replace(&mut self, before: BTreeMap<Digest, u64>, after: BTreeMap<Digest, u64>) {
        for pack in after.into_keys() {
            self.add(pack);
        }
        for pack in before.into_keys() {
            *self.0.entry(pack).or_default() -= 1;
        }
    }

    /// Counts them and returns what nothing uses any more.
    fn settle(self, references: &mut BTreeMap<Digest, u64>) -> Vec<Digest> {
        let mut unused = Vec::new();
        for (digest, change) in self.0 {
            let count = references.get(&digest).copied().unwrap_or(0);
            let count = count.checked_add_signed(change).expect("a use ends only after it began");
            if count > 0 {
                references.insert(digest, count);
            } else if references.remove(&digest).is_some() {
                unused.push(digest);
            }
        }
        unused
    }
}
