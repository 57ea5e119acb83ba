//! What runs programs: the sandbox for components, containers for native ones.
//!
//! Owns: which of the two it is, and that nothing else of the host needs to know. Knows nothing of
//! ledgers.

use std::sync::Arc;

use hb_container::{Containers, Identity, Task};
use hb_sandbox::{Control, Ended, HostFault, Launch, Session};
use hb_store::Store;
use hb_types::{Digest, job::JobSpec};

use crate::{
    error::RunError,
    executor::{Executor, Program},
};

/// What runs the jobs whose blobs are in one store.
#[derive(Clone, Copy)]
pub struct Programs<'a> {
    /// Where components are.
    pub store: &'a Store,
    /// What runs components.
    pub executor: &'a dyn Executor,
    /// What runs native programs.
    pub containers: &'a Containers,
}

/// A program that is ready to be started any number of times.
pub(crate) enum Ready {
    /// A component.
    Component(Arc<dyn Program>),
    /// A native program: everything it needs is gathered when it starts.
    Native,
}

/// Whose attempt it is.
pub(crate) struct Whose {
    pub identity: Identity,
    pub job_hash: Digest,
    /// Thousandths of a processor that it may use.
    pub cpu_milli: u32,
}

impl Whose {
    /// A repetition that nothing is written down of.
    pub(crate) fn repetition(job_hash: Digest) -> Self {
        let cpu_milli = hb_types::terms::Resources::default().cpu_milli;
        Self { identity: Identity::Repetition, job_hash, cpu_milli }
    }
}

impl Programs<'_> {
    /// Makes a program ready to run: a component from memory, from the cache, or scanned and compiled
    /// in a bounded child, which `tell` is told of before.
    pub(crate) fn ready(&self, spec: &JobSpec, tell: &mut dyn FnMut()) -> Result<Ready, RunError> {
        if spec.container.is_some() {
            return Ok(Ready::Native);
        }
        let digest = spec.component.digest;
        if let Some(prepared) = self.executor.prepared(digest) {
            return Ok(Ready::Component(prepared));
        }
        tell();
        let bytes = self.store.get(digest)?;
        Ok(Ready::Component(self.executor.prepare(&bytes, digest, &spec.limits)?))
    }

    /// Runs one attempt to its end, on the calling thread.
    pub(crate) fn run(
        &self,
        ready: &Ready,
        spec: &JobSpec,
        launch: Launch,
        whose: Whose,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault> {
        match (ready, &spec.container) {
            (Ready::Component(prepared), _) => prepared.run(launch, session, control),
            (Ready::Native, Some(container)) => {
                let Whose { identity, job_hash, cpu_milli } = whose;
                let task = Task::new(container, launch, identity, job_hash, cpu_milli);
                self.containers.run(task, session, control)
            }
            (Ready::Native, None) => unreachable!("only what has a container is native"),
        }
    }
}
