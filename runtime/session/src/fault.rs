//! A failure of the host, told apart from every failure of a job.

use std::{error::Error, fmt};

/// The host failed while it ran a job: its disk, its memory, a lost ledger.
///
/// It says nothing about the job. The attempt ends without an outcome and may be made again.
#[derive(Debug)]
pub struct HostFault {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    is_death: bool,
}

impl HostFault {
    /// `what` failed because of `source`.
    pub fn new(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: Some(source.into()), is_death: false }
    }

    /// `what` failed, with nothing more to say.
    pub fn message(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, is_death: false }
    }

    /// The attempt was killed, by whom is not known. A program that brings this about itself, each time
    /// anew, must not be run for ever: such ends are counted as those that a host takes along.
    pub fn death(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, is_death: true }
    }

    /// Whether the attempt was killed.
    pub fn is_death(&self) -> bool {
        self.is_death
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
