//! The data of one store: everything that a guest can reach.
//!
//! Owns: putting the parts of a run together and handing each interface the parts that it needs.
//! Knows nothing of how a run is driven or how it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hb_files::World;
use hb_types::{capture::Counters, limits::Limits};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{WasiCliCtxView, WasiCliView as _},
    sockets::{WasiSocketsCtxView, WasiSocketsView as _},
};

use crate::{
    abort::HostFault,
    job::Job,
    lease::Lease,
    limiter::Limiter,
    preview1::Preview1,
    pulse::Pulse,
    session::Launch,
    wasi::{
        clocks::{ClocksView, VirtualClock},
        filesystem::{FilesystemCtx, FilesystemView, Now},
        io::IoView,
        names::NamesView,
        random::Random,
        stdio::{Stdin, Stdio, StdioView},
    },
};

/// The data of one store.
pub(crate) struct Guest {
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) random: Random,
    pub(crate) stdio: Stdio,
    pub(crate) pulse: Pulse,
    pub(crate) job: Job,
    pub(crate) preview1: Preview1,
    now: Arc<dyn Now>,
    wasi: WasiCtx,
}

impl Guest {
    pub(crate) fn new(launch: Launch, lease: Lease, pulse: Pulse) -> Result<Self, HostFault> {
        let clock = VirtualClock::new(launch.start_ns);
        let preview1 = Preview1::new(&launch);
        let world = World::new(launch.scratch, &launch.limits, launch.start_ns, launch.inputs)
            .map_err(|refused| HostFault::new("a job's inputs cannot be offered", refused))?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(capacity(launch.limits.handles));
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&launch.arguments).envs(&launch.environment);
        // No socket is ever made and no name looked up, whatever the address.
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        Ok(Self {
            table,
            limiter: Limiter::new(&launch.limits),
            now: Arc::clone(&clock) as Arc<dyn Now>,
            clock,
            random: Random::new(launch.seed, pulse.clone()),
            stdio: Stdio {
                world: Arc::new(Mutex::new(world)),
                lease: lease.clone(),
                pulse: pulse.clone(),
                stdin: Arc::new(Mutex::new(Stdin::new(launch.stdin))),
            },
            job: Job::new(lease),
            preview1,
            pulse,
            limits: launch.limits,
            wasi: wasi.build(),
        })
    }

    /// The job's files and streams. A panic while the lock was held ends the run anyway.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.stdio.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where everything that a checkpoint puts back stands, given the fuel that is left.
    pub(crate) fn counters(&self, fuel_left: u64) -> Counters {
        Counters {
            fuel_used: self.limits.fuel.saturating_sub(fuel_left),
            clock_ns: self.clock.elapsed_ns(),
            secure_random_bytes: self.random.secure.position(),
            insecure_random_bytes: self.random.insecure.position(),
            stdin_bytes: self.stdio.source().read_bytes(),
            next_content: self.world().next_content(),
        }
    }

    /// Puts clocks and random streams back, and returns the fuel that is left.
    pub(crate) fn set_counters(&mut self, counters: &Counters) -> u64 {
        self.clock.restore(counters.clock_ns);
        self.random.secure.seek(counters.secure_random_bytes);
        self.random.insecure.seek(counters.insecure_random_bytes);
        self.limits.fuel.saturating_sub(counters.fuel_used)
    }

    pub(crate) fn io(&mut self) -> IoView<'_> {
        IoView { table: &mut self.table, pulse: &self.pulse }
    }

    pub(crate) fn clocks(&mut self) -> ClocksView<'_> {
        ClocksView { clock: &self.clock, table: &mut self.table }
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub(crate) fn stdio(&mut self) -> StdioView<'_> {
        StdioView { stdio: &self.stdio, table: &mut self.table }
    }

    pub(crate) fn command_line(&mut self) -> WasiCliCtxView<'_> {
        self.cli()
    }

    pub(crate) fn names(&mut self) -> NamesView<'_> {
        NamesView { pulse: &self.pulse, table: &mut self.table }
    }

    pub(crate) fn network(&mut self) -> WasiSocketsCtxView<'_> {
        self.sockets()
    }
}

/// A number of things as wasmtime wants it.
pub(crate) fn capacity(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl FilesystemView for Guest {
    fn filesystem(&mut self) -> FilesystemCtx<'_> {
        FilesystemCtx {
            world: &self.stdio.world,
            clock: &self.now,
            pulse: &self.pulse,
            table: &mut self.table,
        }
    }
}
