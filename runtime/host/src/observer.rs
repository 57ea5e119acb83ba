//! What a host tells those who watch it work. The host never prints.

use hb_sandbox::Stream;
use hb_types::{Digest, capture::Progress, outcome::Outcome};

/// Something that happened to a job that is being run.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The component is being compiled; the next time it comes from the cache.
    Preparing,
    /// An attempt has begun, as number `attempt`, counted from 1.
    Started {
        /// Its number.
        attempt: u32,
    },
    /// The checkpoint that the job begins at is made again, by running the job that it is of; told
    /// at most about a hundred times for each job that is run for it.
    Materialising {
        /// The hash of the job that is run.
        job_hash: Digest,
        /// The step of the checkpoint that it is run to.
        step: u64,
        /// The step that it has reached.
        reached: u64,
    },
    /// The guest asked for its checkpoint and got it.
    Resumed {
        /// The checkpoint's number.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Bytes on standard output up to it.
        stdout_bytes: u64,
        /// Bytes on standard error up to it.
        stderr_bytes: u64,
    },
    /// A checkpoint is durable.
    Checkpoint {
        /// Its number.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Bytes that were written for it.
        written_bytes: u64,
    },
    /// The outcome is durable.
    Ended {
        /// The outcome.
        outcome: Outcome,
        /// The seal.
        seal: Option<Digest>,
    },
}

/// Watches one attempt.
pub trait Observer: Send {
    /// Something happened.
    fn notice(&mut self, notice: Notice);
    /// Whether what earlier attempts durably wrote is given once more when the job resumes.
    fn wants_earlier_output(&self) -> bool {
        true
    }
    /// The job's output. From its beginning, what earlier attempts durably wrote comes first,
    /// where that is wanted; else from where the attempt resumed.
    fn output(&mut self, stream: Stream, bytes: &[u8]);
    /// What the job says of itself.
    fn progress(&mut self, progress: &Progress);
}
