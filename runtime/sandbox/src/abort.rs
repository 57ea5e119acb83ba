//! Why a host function ends the guest.
//!
//! A host function that must not return to its guest fails with an [`Abort`]; wasmtime carries it
//! through the guest's frames to the caller of the run, where `outcome.rs` reads it back. It owns
//! the reasons, not their translation into outcomes.

pub use hb_session::HostFault;
use hb_types::limits::{Limit, LimitReached, Limits};

/// A reason to end the guest that a host function found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Abort {
    /// The guest asked to end with this code; 0 is success.
    #[error("the guest asked to end with exit code {0}")]
    Exit(u8),
    /// The guest reached one of its limits.
    #[error("{0}")]
    Limit(LimitReached),
    /// The guest used an interface in a way that its contract forbids.
    #[error("{0}")]
    Contract(String),
    /// A user cancelled the job.
    #[error("cancelled")]
    Cancelled,
    /// The host asked to end the attempt here, without an outcome.
    #[error("stopped by the host")]
    Stopped,
    /// The host itself cannot go on; nothing that the guest did.
    #[error("the host cannot go on")]
    Fault(#[source] HostFault),
}

impl Abort {
    /// The guest reached `limit`, wanting `wanted` in all (zero where unknown).
    pub(crate) fn limit(limits: &Limits, limit: Limit, wanted: u64) -> Self {
        Self::Limit(LimitReached { limit, value: limits.get(limit), wanted })
    }
}

impl From<HostFault> for Abort {
    fn from(fault: HostFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<LimitReached> for Abort {
    fn from(reached: LimitReached) -> Self {
        Self::Limit(reached)
    }
}
