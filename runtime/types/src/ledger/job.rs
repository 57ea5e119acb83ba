//! Everything that is known of one job, and what each record adds to it.
//!
//! Invariant: a record changes a job whole or not at all.

use std::collections::BTreeMap;

use rkyv::rancor::Error as ArchiveError;

use crate::{
    Digest, Lsn,
    capture::{ContentId, Counters, Progress},
    content::{Holdings, Kept},
    event::{Artifact, Ended, Event, JobNumber, Received, Retried},
    job::{BlobRef, JobSpec},
    ledger::{ApplyError, references::ReferenceChanges},
    outcome::{Explanation, Outcome},
    state::{Interruption, Phase, State},
    terms::Terms,
};

/// Why an attempt ended without being the job's last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Stop {
    /// It was interrupted.
    Interrupted(Interruption),
    /// It failed and the job was tried again.
    Retried(Outcome),
}

/// How an attempt ended without being the job's last.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Stopped {
    /// Position of the record that says so.
    pub lsn: Lsn,
    /// Why.
    pub why: Stop,
    /// What is known of the cause.
    pub detail: String,
    /// When it was found.
    pub at_ns: u64,
}

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
    /// How it was stopped, if it was.
    pub stopped: Option<Stopped>,
}

/// One checkpoint, for people and for verification.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckpointMark {
    /// Position of its record.
    pub lsn: Lsn,
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
    /// Bytes on standard output up to it.
    pub stdout_bytes: u64,
    /// Bytes on standard error up to it.
    pub stderr_bytes: u64,
    /// What the job remarked since the checkpoint before it.
    pub notes: Vec<String>,
    /// When.
    pub at_ns: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Conclusion {
    /// Position of the record.
    pub lsn: Lsn,
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
    /// Position of the record.
    pub lsn: Lsn,
    /// The seal.
    pub seal: Digest,
    /// The signed envelope, as JSON.
    pub envelope: Kept,
    /// When.
    pub at_ns: u64,
}

/// A moment at which a job was put on hold or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HoldMark {
    /// Position of the record.
    pub lsn: Lsn,
    /// Whether it was put on hold.
    pub held: bool,
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
    /// When and with what.
    pub terms: Terms,
    /// When it was accepted.
    pub received_ns: u64,
    /// Position and time of the record that made it ready to run.
    pub scheduled: Option<(Lsn, u64)>,
    /// The position of the last record about it.
    pub last: Lsn,
    /// Where it is in its life.
    pub state: State,
    /// It is not started before this time.
    pub not_before_ns: u64,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
    /// Every checkpoint.
    pub checkpoints: Vec<CheckpointMark>,
    /// When it was put on hold and released.
    pub holds: Vec<HoldMark>,
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
    pub(super) parts: Vec<u8>,
}

impl Job {
    pub(super) fn new(number: JobNumber, record: &Received, state: State) -> Self {
        Self {
            number,
            job_id: record.job_id.clone(),
            job_hash: record.job_hash,
            spec: record.spec.clone(),
            not_before_ns: record.terms.not_before_ns,
            terms: record.terms.clone(),
            received_ns: record.at_ns,
            scheduled: None,
            last: number,
            state,
            attempts: Vec::new(),
            checkpoints: Vec::new(),
            holds: Vec::new(),
            holdings: Holdings::default(),
            counters: Counters::default(),
            progress: Progress::default(),
            conclusion: None,
            seal: None,
            parts: Vec::new(),
        }
    }

    pub(super) fn apply(
        &mut self,
        lsn: Lsn,
        event: &Event,
        state: State,
        changes: &mut ReferenceChanges,
    ) -> Result<(), ApplyError> {
        let delta = match event {
            Event::Checkpointed(record) => Some(&record.delta),
            Event::Ended(record) => Some(&record.delta),
            _ => None,
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
            Event::Received(_)
            | Event::Part(_)
            | Event::Assembled(_)
            | Event::Archived(_)
            | Event::Forgotten(_)
            | Event::ScheduleSet(_)
            | Event::ScheduleRemoved(_)
            | Event::ScheduleFired(_)
            | Event::StartsPaused(_) => {}
            Event::Scheduled(record) => self.scheduled = Some((lsn, record.at_ns)),
            Event::Started(record) => self.attempts.push(Attempt {
                token: lsn,
                process: record.process,
                started_ns: record.at_ns,
                from_sequence: self.state.sequence,
                stopped: None,
            }),
            Event::Checkpointed(record) => {
                self.counters = record.counters;
                self.progress = record.progress.clone();
                self.checkpoints.push(CheckpointMark {
                    lsn,
                    sequence: record.sequence,
                    step: record.step,
                    digest: record.digest,
                    fuel_used: record.counters.fuel_used,
                    token: record.token,
                    fresh: record.delta.fresh,
                    stdout_bytes: self.len_bytes(ContentId::STDOUT),
                    stderr_bytes: self.len_bytes(ContentId::STDERR),
                    notes: record.progress.notes.clone(),
                    at_ns: record.at_ns,
                });
            }
            Event::Interrupted(record) => {
                let why = Stop::Interrupted(record.why);
                self.stop(Stopped { lsn, why, detail: record.detail.clone(), at_ns: record.at_ns });
            }
            Event::Retried(record) => self.retry(lsn, record),
            Event::Held(record) => self.hold(HoldMark { lsn, held: true, at_ns: record.at_ns }),
            Event::Released(record) => {
                self.hold(HoldMark { lsn, held: false, at_ns: record.at_ns });
            }
            Event::Ended(record) => self.conclude(lsn, record),
            Event::Sealed(record) => {
                let (seal, envelope) = (record.seal, record.envelope.clone());
                self.seal = Some(KeptSeal { lsn, seal, envelope, at_ns: record.at_ns });
            }
        }
    }

    fn stop(&mut self, stopped: Stopped) {
        let attempt = self.attempts.last_mut().expect("a running job has an attempt");
        attempt.stopped = Some(stopped);
    }

    fn retry(&mut self, lsn: Lsn, record: &Retried) {
        let why = Stop::Retried(record.outcome);
        self.stop(Stopped { lsn, why, detail: record.message.clone(), at_ns: record.at_ns });
        self.not_before_ns = record.not_before_ns;
    }

    fn hold(&mut self, mark: HoldMark) {
        self.holds.push(mark);
    }

    fn conclude(&mut self, lsn: Lsn, record: &Ended) {
        self.counters = record.counters;
        self.progress = record.progress.clone();
        self.conclusion = Some(Conclusion {
            lsn,
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

    /// The durable length of one of its contents.
    pub fn len_bytes(&self, id: ContentId) -> u64 {
        self.holdings.content(id).map_or(0, |content| content.len_bytes)
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

    /// Whether nothing can happen to it any more: it is over, and its outcome is sealed.
    pub fn is_over(&self) -> bool {
        self.state.phase.is_final() && self.state.sealed
    }

    /// Every use of a blob that ends when the job is removed for good.
    pub fn uses(&self) -> Vec<Digest> {
        let envelope = self.seal.as_ref().and_then(|kept| match &kept.envelope {
            Kept::Blob(blob) => Some(blob.digest),
            Kept::Inline(_) => None,
        });
        let spec = self.spec.blobs().map(|blob| blob.digest);
        spec.chain(self.holdings.packs().into_keys()).chain(envelope).collect()
    }

    /// Bytes that are kept because of what it printed and left, about.
    pub fn kept_bytes(&self) -> u64 {
        self.holdings.contents.values().map(|content| content.len_bytes).sum()
    }

    /// The job as bytes, for an archive.
    pub fn to_bytes(&self) -> Vec<u8> {
        rkyv::to_bytes::<ArchiveError>(self)
            .expect("serialising to memory fails only when memory is used up")
            .into_vec()
    }

    /// The job behind validated bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        rkyv::from_bytes::<Self, ArchiveError>(&aligned)
    }
}
