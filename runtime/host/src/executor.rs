//! What runs programs, as the host sees it.
//!
//! Owns the interface between the decisions about an attempt and the run itself. The sandbox is what
//! stands behind it; a simulation puts programs of its own there and drives them step by step.

use std::sync::Arc;

use hb_sandbox::{Control, Ended, HostFault, Launch, PrepareError, Prepared, Sandbox, Session};
use hb_types::{Digest, limits::Limits};

/// Makes components ready and runs them.
pub trait Executor: Send + Sync {
    /// The binary form of a component that was handed in.
    fn to_binary(&self, bytes: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, PrepareError>;

    /// Makes a component ready to run; `digest` is that of `component`.
    fn prepare(
        &self,
        component: &[u8],
        digest: Digest,
        limits: &Limits,
    ) -> Result<Arc<dyn Program>, PrepareError>;

    /// A component that was made ready before and still is.
    fn prepared(&self, digest: Digest) -> Option<Arc<dyn Program>>;

    /// Removes what was prepared and not used for longest, until the rest takes no more than
    /// `max_bytes` on the disk; returns the bytes that were removed.
    fn shrink_cache(&self, max_bytes: u64) -> std::io::Result<u64>;
}

/// A component that is ready to run.
pub trait Program: Send + Sync {
    /// Runs one attempt to its end, on the calling thread.
    ///
    /// An error says that the host failed and not the job; the attempt then has no outcome.
    fn run(
        &self,
        launch: Launch,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault>;
}

impl Executor for Sandbox {
    fn to_binary(&self, bytes: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, PrepareError> {
        Self::to_binary(self, bytes, limits)
    }

    fn prepare(
        &self,
        component: &[u8],
        digest: Digest,
        limits: &Limits,
    ) -> Result<Arc<dyn Program>, PrepareError> {
        Ok(Arc::new(Self::prepare(self, component, digest, limits)?))
    }

    fn prepared(&self, digest: Digest) -> Option<Arc<dyn Program>> {
        Some(Arc::new(Self::prepared(self, digest)?))
    }

    fn shrink_cache(&self, max_bytes: u64) -> std::io::Result<u64> {
        Self::shrink_cache(self, max_bytes)
    }
}

impl Program for Prepared {
    fn run(
        &self,
        launch: Launch,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault> {
        Self::run(self, launch, session, control)
    }
}
