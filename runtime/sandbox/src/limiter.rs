//! Memory, tables and instances of one run.
//!
//! Owns: the sums over all memories and all tables of a store. Growth beyond a limit ends the job
//! with that limit's name; a guest that could look at a refused growth could depend on it.
//!
//! Invariant: what the *machine* lacks is a fault of the host and never an outcome of the job.

use hb_types::limits::{Limit, Limits};
use wasmtime::ResourceLimiter;

use crate::abort::{Abort, HostFault};

/// What the store asks before it grows anything.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    memory_bytes: u64,
    peak_memory_bytes: u64,
    table_elements: u64,
    instances: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            limits: limits.clone(),
            memory_bytes: 0,
            peak_memory_bytes: 0,
            table_elements: 0,
            instances: usize::try_from(limits.get(Limit::Instances)).unwrap_or(usize::MAX),
        }
    }

    /// The most linear memory that was held at once.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        self.peak_memory_bytes
    }

    fn check(&self, limit: Limit, wanted: u64) -> wasmtime::Result<()> {
        if wanted > self.limits.get(limit) {
            return Err(Abort::limit(&self.limits, limit, wanted).into());
        }
        Ok(())
    }
}

/// The sum after one part grew. Parts only grow, and none is given back before the store ends.
fn grown(sum: u64, current: usize, desired: usize) -> u64 {
    sum.saturating_add((desired as u64).saturating_sub(current as u64))
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the module's own maximum the instruction answers -1, as the language says.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = grown(self.memory_bytes, current, desired);
        self.check(Limit::Memory, wanted)?;
        self.memory_bytes = wanted;
        self.peak_memory_bytes = self.peak_memory_bytes.max(wanted);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if is_shortage(&error) {
            let message = format!("the machine has no memory for a job: {error:#}");
            return Err(Abort::Fault(HostFault::message(message)).into());
        }
        // More than the memory's type can ever hold: answered with -1 on every machine.
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = grown(self.table_elements, current, desired);
        self.check(Limit::TableElements, wanted)?;
        self.table_elements = wanted;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.instances
    }
}

/// Whether an error of wasmtime says that the machine has no memory left.
pub(crate) fn is_shortage(error: &wasmtime::Error) -> bool {
    error.is::<std::io::Error>() || error.is::<wasmtime::error::OutOfMemory>()
}
