//! What clients were told, and what they find in the end.
//!
//! Owns the shapes of both; knows nothing of how they were obtained.

use std::collections::BTreeMap;

use hb_api::{event::EventView, job::BlobView};

/// What one client was told about one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobTold {
    /// The name under which it was submitted.
    pub job_id: String,
    /// Which of the subjects it is.
    pub subject: usize,
    /// Its hash, as the host said when it accepted it.
    pub job_hash: String,
    /// Whether the host said that this request made it.
    pub created: bool,
    /// The events that came, in the order in which they came.
    pub events: Vec<EventView>,
    /// What was printed, as it was streamed.
    pub stdout: BlobTold,
    /// The same of standard error.
    pub stderr: BlobTold,
    /// Whether the stream came to its end.
    pub over: bool,
    /// How often the connection was lost.
    pub lost_connections: u32,
    /// Why the client gave up, if it did.
    pub trouble: Option<String>,
}

/// Length and digest of what was streamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobTold {
    /// Bytes.
    pub bytes: u64,
    /// BLAKE3, once the stream was at its end.
    pub digest: String,
}

impl BlobTold {
    /// Whether the host has the same.
    pub fn is(&self, blob: &BlobView) -> bool {
        self.bytes == blob.bytes && self.digest == blob.digest
    }
}

/// Everything that clients were told.
pub type Told = Vec<JobTold>;

/// What the host says of a job in the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    /// Its hash.
    pub job_hash: String,
    /// Its state.
    pub state: String,
    /// How it ended.
    pub outcome: String,
    /// The exit code.
    pub exit_code: Option<u8>,
    /// Its seal.
    pub seal: String,
    /// What it printed.
    pub stdout: Option<BlobView>,
    /// The same of standard error.
    pub stderr: Option<BlobView>,
    /// How many attempts died with their host.
    pub crashes: u32,
    /// Its whole history.
    pub history: Vec<EventView>,
}

/// What the host says of all jobs in the end, by their names.
pub type Finals = BTreeMap<String, Final>;
