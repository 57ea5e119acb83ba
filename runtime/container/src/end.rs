//! Why an attempt is over before its program ended by itself.

use hb_files::Refused;
use hb_session::HostFault;
use hb_types::limits::{Limit, LimitReached, Limits};

/// A reason to end a program.
#[derive(Debug)]
pub(crate) enum End {
    /// It reached one of its limits.
    Limit(LimitReached),
    /// It used the protocol, or its directories, in a way that the contract forbids.
    Contract(String),
    /// A user cancelled the job.
    Cancelled,
    /// The host asked to end the attempt here, without an outcome.
    Stopped,
    /// It cannot be run here.
    NotRunnable(String),
    /// The host cannot go on.
    Fault(HostFault),
}

impl End {
    /// The program reached `limit`, wanting `wanted` in all (zero where unknown).
    pub(crate) fn limit(limits: &Limits, limit: Limit, wanted: u64) -> Self {
        Self::Limit(LimitReached { limit, value: limits.get(limit), wanted })
    }

    /// A failure of the host's own files.
    pub(crate) fn io(what: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Fault(HostFault::new(what, error))
    }
}

impl From<HostFault> for End {
    fn from(fault: HostFault) -> Self {
        Self::Fault(fault)
    }
}

/// What the job's own files refused.
pub(crate) fn refused(path: &str, refused: Refused) -> End {
    match refused {
        Refused::Quota(reached) | Refused::OutputLimit(reached) | Refused::TooManyOpen(reached) => {
            End::Limit(reached)
        }
        Refused::Host(fault) => End::Fault(HostFault::new("a job's files cannot be kept", fault)),
        other => End::Contract(format!("/{path} cannot be kept: {other}")),
    }
}
