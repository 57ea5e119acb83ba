//! A failure of the host, told apart from every failure of a job.

use std::{error::Error, fmt};

/// The host failed while it ran a job: its disk, its memory, a lost ledger.
///
/// It says nothing about the job. The attempt ends without an outcome and may be made again.
pub struct HostFault {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl HostFault {
    /// `what` failed because of `source`.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }

    /// `what` failed, with nothing more to say.
    pub fn message(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }
}

impl fmt::Debug for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFault").field("what", &self.what).field("source", &self.source).finish()
    }
}

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for HostFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
