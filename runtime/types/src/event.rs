//! The records of the ledger: what happened to jobs, in the order in which it was decided.
//!
//! Each kind has a number that is written into the log beside its bytes and never used for
//! anything else. Bytes are rkyv archives, validated before they are used.
//!
//! Invariant: a record that [`Event::encode`] made is decoded by [`Event::decode`] to an equal
//! one; bytes that are no such archive are an error, never a panic.

use std::collections::BTreeMap;

use rkyv::{rancor::Error as ArchiveError, util::AlignedVec};

use crate::{
    Digest, Lsn,
    capture::{ContentId, Counters, Progress},
    content::{Delta, Kept},
    job::{BlobRef, JobSpec},
    outcome::{Explanation, Outcome},
    schedule::Schedule,
    state::{Interruption, Transition, Verdict},
    terms::Terms,
};

/// A job's number in its ledger: the LSN of its `Received` record.
pub type JobNumber = Lsn;

/// Version of the layouts below.
pub const SCHEMA: u16 = 3;

macro_rules! events {
    ($($kind:literal $(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

            impl From<$name> for Event {
                fn from(record: $name) -> Self { Self::$name(record) }
            }
        )*

        /// One record.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event { $($(#[$doc])* $name($name),)* }

        impl Event {
            /// The number of its kind, and its bytes.
            pub fn encode(&self) -> (u16, AlignedVec) {
                match self {
                    $(Self::$name(record) => ($kind, rkyv::to_bytes::<ArchiveError>(record)
                        .expect("serialising to memory fails only when memory is used up")),)*
                }
            }

            /// The record behind validated bytes.
            pub fn decode(kind: u16, schema: u16, bytes: &[u8]) -> Result<Self, UnknownRecord> {
                if schema != SCHEMA {
                    return Err(UnknownRecord::Schema { kind, schema });
                }
                match kind {
                    $($kind => read::<$name>(kind, bytes).map(Self::$name),)*
                    _ => Err(UnknownRecord::Kind { kind }),
                }
            }

            /// Name of its kind.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }
        }

        fn read<T>(kind: u16, bytes: &[u8]) -> Result<T, UnknownRecord>
        where
            T: rkyv::Archive,
            T::Archived: for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, ArchiveError>>
                + rkyv::Deserialize<T, rkyv::api::high::HighDeserializer<ArchiveError>>,
        {
            // The archive's own error says nothing that a person could use.
            let damaged = |_: ArchiveError| UnknownRecord::Bytes { kind };
            // Archives are read in place and need the alignment that they were written with.
            if bytes.as_ptr().addr().is_multiple_of(16) {
                return rkyv::from_bytes::<T, ArchiveError>(bytes).map_err(damaged);
            }
            let mut aligned = AlignedVec::<16>::with_capacity(bytes.len());
            aligned.extend_from_slice(bytes);
            rkyv::from_bytes::<T, ArchiveError>(&aligned).map_err(damaged)
        }
    };
}

/// Bytes that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum UnknownRecord {
    /// A kind of a later version.
    #[error(
        "record kind {kind} is not known to this version of hb: use the version that wrote it or a newer one"
    )]
    Kind {
        /// The number.
        kind: u16,
    },
    /// A layout of a later version.
    #[error(
        "record kind {kind} has schema {schema}, this version of hb reads {SCHEMA}: use the version that wrote it or a newer one"
    )]
    Schema {
        /// The number.
        kind: u16,
        /// The layout's number.
        schema: u16,
    },
    /// Bytes that are not what their kind says.
    #[error(
        "a record of kind {kind} is not one that this version of hb writes: use the version that wrote it"
    )]
    Bytes {
        /// The number.
        kind: u16,
    },
}

/// An artifact of a finished job.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Artifact {
    /// Which content holds its bytes.
    pub content: ContentId,
    /// Digest and length of all its bytes.
    pub blob: BlobRef,
}

/// The most bytes of one record in the log; larger ones are appended in parts.
pub const PART_MAX_BYTES: usize = 1024 * 1024;

events! {
    1 /// A job was accepted.
    Received {
        /// The name its user gave it.
        job_id: String,
        /// Its hash, computed once.
        job_hash: Digest,
        /// What was asked for.
        spec: JobSpec,
        /// When and with what.
        terms: Terms,
        /// Real time, in nanoseconds since the Unix epoch; so in all records.
        at_ns: u64,
    }
    2 /// A job may run.
    Scheduled {
        /// Which job.
        job: JobNumber,
        /// When.
        at_ns: u64,
    }
    3 /// An attempt claims a job. The record's own LSN is the claim's token.
    Started {
        /// Which job.
        job: JobNumber,
        /// The process that runs it.
        process: u32,
        /// When.
        at_ns: u64,
    }
    4 /// A checkpoint.
    Checkpointed {
        /// Which job.
        job: JobNumber,
        /// The claim.
        token: Lsn,
        /// The checkpoint's number, from 1.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Digest of everything it holds, fuel apart.
        digest: Digest,
        /// Fuel, clock and random positions.
        counters: Counters,
        /// What the job said of itself.
        progress: Progress,
        /// What changed since the checkpoint before it.
        delta: Delta,
        /// When.
        at_ns: u64,
    }
    5 /// An attempt ended without an outcome.
    Interrupted {
        /// Which job.
        job: JobNumber,
        /// The claim.
        token: Lsn,
        /// Why.
        why: Interruption,
        /// What is known of the cause, in one line.
        detail: String,
        /// When it was found.
        at_ns: u64,
    }
    6 /// A job ended.
    Ended {
        /// Which job.
        job: JobNumber,
        /// The claim, if an attempt held it.
        token: Option<Lsn>,
        /// How.
        outcome: Outcome,
        /// For people.
        explanation: Explanation,
        /// Fuel, clock and random positions.
        counters: Counters,
        /// What the job said of itself.
        progress: Progress,
        /// What changed since the newest checkpoint.
        delta: Delta,
        /// All of standard output.
        stdout: BlobRef,
        /// All of standard error.
        stderr: BlobRef,
        /// What it left below `/out`.
        artifacts: BTreeMap<String, Artifact>,
        /// The most linear memory it held.
        peak_memory_bytes: u64,
        /// Whether a repetition must end the same way.
        reproducible: bool,
        /// When.
        at_ns: u64,
    }
    7 /// An outcome was sealed.
    Sealed {
        /// Which job.
        job: JobNumber,
        /// The seal.
        seal: Digest,
        /// The signed envelope, as JSON.
        envelope: Kept,
        /// When.
        at_ns: u64,
    }
    8 /// A piece of a record that is too large for one; it does nothing by itself.
    Part {
        /// Which job.
        job: JobNumber,
        /// The claim, if an attempt holds the job.
        token: Option<Lsn>,
        /// Whether it is the first; pieces before it belong to a record that never came to be.
        first: bool,
        /// The piece.
        bytes: Vec<u8>,
    }
    9 /// The pieces before it are one record, which happens here.
    Assembled {
        /// Which job.
        job: JobNumber,
        /// Number of the record's kind.
        kind: u16,
        /// Digest of all its bytes.
        digest: Digest,
    }
    10 /// An attempt failed, and the job is tried again.
    Retried {
        /// Which job.
        job: JobNumber,
        /// The claim.
        token: Lsn,
        /// How the attempt ended.
        outcome: Outcome,
        /// For people.
        message: String,
        /// When it may start again.
        not_before_ns: u64,
        /// When.
        at_ns: u64,
    }
    11 /// A job is not to be started until it is released.
    Held {
        /// Which job.
        job: JobNumber,
        /// When.
        at_ns: u64,
    }
    12 /// A job may be started again.
    Released {
        /// Which job.
        job: JobNumber,
        /// When.
        at_ns: u64,
    }
    13 /// Jobs that are over were moved out of the ledger's memory into a blob.
    Archived {
        /// The blob.
        pack: BlobRef,
        /// Which jobs, in order of number.
        jobs: Vec<ArchivePlace>,
        /// When.
        at_ns: u64,
    }
    14 /// Jobs that are over were removed for good.
    Forgotten {
        /// Which, and what each of them referred to.
        jobs: Vec<Forgetting>,
        /// When.
        at_ns: u64,
    }
    15 /// A schedule was made or replaced.
    ScheduleSet {
        /// Its name.
        name: String,
        /// What it says.
        schedule: Schedule,
        /// When.
        at_ns: u64,
    }
    16 /// A schedule was removed.
    ScheduleRemoved {
        /// Its name.
        name: String,
        /// When.
        at_ns: u64,
    }
    17 /// The job of one moment of a schedule was submitted.
    ScheduleFired {
        /// Its name.
        name: String,
        /// The moment.
        moment_ns: u64,
        /// When.
        at_ns: u64,
    }
    18 /// The host stops or goes on starting jobs.
    StartsPaused {
        /// Whether it stopped.
        paused: bool,
        /// When.
        at_ns: u64,
    }
}

/// Where in an archive's blob a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ArchivePlace {
    /// Which job.
    pub job: JobNumber,
    /// Where its bytes begin.
    pub offset: u64,
    /// How many they are.
    pub len: u32,
}

/// A job that is removed for good.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Forgetting {
    /// Which job.
    pub job: JobNumber,
    /// Every use of a blob that ends with it.
    pub releases: Vec<Digest>,
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// One job.
    Job(JobNumber),
    /// The ledger as a whole.
    Ledger,
}

impl Event {
    /// What it is about; for `Received` the job's number is its own LSN.
    pub fn about(&self, lsn: Lsn) -> About {
        let job = match self {
            Self::Received(_) => lsn,
            Self::Scheduled(record) => record.job,
            Self::Started(record) => record.job,
            Self::Checkpointed(record) => record.job,
            Self::Interrupted(record) => record.job,
            Self::Ended(record) => record.job,
            Self::Sealed(record) => record.job,
            Self::Part(record) => record.job,
            Self::Assembled(record) => record.job,
            Self::Retried(record) => record.job,
            Self::Held(record) => record.job,
            Self::Released(record) => record.job,
            Self::Archived(_)
            | Self::Forgotten(_)
            | Self::ScheduleSet(_)
            | Self::ScheduleRemoved(_)
            | Self::ScheduleFired(_)
            | Self::StartsPaused(_) => return About::Ledger,
        };
        About::Job(job)
    }

    /// The records by which this one can be appended if it is too large for one: the parts, and the
    /// record that makes them one. `None` where it is not.
    pub fn split(&self) -> Option<(Vec<Self>, Self)> {
        let (kind, bytes) = self.encode();
        if bytes.len() <= PART_MAX_BYTES {
            return None;
        }
        let (job, token) = match self {
            Self::Checkpointed(record) => (record.job, Some(record.token)),
            Self::Ended(record) => (record.job, record.token),
            Self::Received(_)
            | Self::Scheduled(_)
            | Self::Started(_)
            | Self::Interrupted(_)
            | Self::Sealed(_)
            | Self::Part(_)
            | Self::Assembled(_)
            | Self::Retried(_)
            | Self::Held(_)
            | Self::Released(_)
            | Self::Archived(_)
            | Self::Forgotten(_)
            | Self::ScheduleSet(_)
            | Self::ScheduleRemoved(_)
            | Self::ScheduleFired(_)
            | Self::StartsPaused(_) => return None,
        };
        let piece = |(index, bytes): (usize, &[u8])| {
            Part { job, token, first: index == 0, bytes: bytes.to_vec() }.into()
        };
        let parts = bytes.chunks(PART_MAX_BYTES).enumerate().map(piece).collect();
        Some((parts, Assembled { job, kind, digest: Digest::of(&bytes) }.into()))
    }

    /// What it does to the job's state, if it stands at `lsn`; `None` where it is not about one
    /// job. For `Assembled` that is what the record does that it stands for, which only the ledger
    /// knows.
    pub fn transition(&self, lsn: Lsn) -> Option<Transition> {
        let transition = match self {
            Self::Received(_) => Transition::Receive,
            Self::Scheduled(_) => Transition::Schedule,
            Self::Started(_) => Transition::Start { token: lsn },
            Self::Checkpointed(record) => Transition::Checkpoint {
                token: record.token,
                sequence: record.sequence,
                step: record.step,
                fresh: record.delta.fresh,
            },
            Self::Interrupted(record) => {
                Transition::Interrupt { token: record.token, why: record.why }
            }
            Self::Ended(record) => {
                Transition::End { token: record.token, verdict: verdict(&record.outcome) }
            }
            Self::Sealed(_) => Transition::Seal,
            Self::Part(record) => Transition::Part { token: record.token },
            Self::Retried(record) => Transition::Retry { token: record.token },
            Self::Held(_) => Transition::Hold,
            Self::Released(_) => Transition::Release,
            Self::Assembled(_)
            | Self::Archived(_)
            | Self::Forgotten(_)
            | Self::ScheduleSet(_)
            | Self::ScheduleRemoved(_)
            | Self::ScheduleFired(_)
            | Self::StartsPaused(_) => return None,
        };
        Some(transition)
    }
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Success => Verdict::Success,
        Outcome::Cancelled => Verdict::Cancelled,
        Outcome::Exit { .. }
        | Outcome::Trap { .. }
        | Outcome::Limit { .. }
        | Outcome::Poisoned
        | Outcome::NotRunnable => Verdict::Failure,
    }
}
