//! WASI preview 1 for core modules, over the same world that components get.
//!
//! Owns: all functions of `wasi_snapshot_preview1`, and running a module that imports nothing
//! else. Knows nothing of: components, checkpoints (such a module has no interface for them and
//! starts again after a crash), the machine's files, clocks and network.
//!
//! Why it exists beside the adapter to WASI 0.2: the adapter keeps its state in memory that it
//! takes from the module by `memory.grow`, and an allocator that takes all memory for its own
//! (C of 2022, Go) overwrites it. Here nothing of ours lies in a guest's memory.
//!
//! Invariants: every pointer is checked (`memory.rs`), and no argument whatever makes the host
//! panic; every call asks whether the run may go on, because calls use no fuel; every answer
//! follows from the job's description and what the guest did before.
//!
//! Specification: the files `wasi_snapshot_preview1.witx` and `typenames.witx` of WASI's legacy
//! preview 1. Where it leaves a choice, the answer is what WASI 0.2 gives here.

mod clocks;
mod descriptors;
mod directories;
mod errno;
mod files;
mod memory;
mod paths;
mod poll;
mod process;
mod sockets;
mod status;

use hb_types::limits::Limit;
use wasmtime::{Caller, Extern, ExternType, InstancePre, Linker, Module, Store};

use self::{
    descriptors::Descriptors,
    errno::{Answer, Failure},
    memory::Memory,
    process::Strings,
};
use crate::{
    abort::Abort,
    guest::{Guest, capacity},
    session::Launch,
};

/// The name of the module that all functions are imported from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
const MEMORY: &str = "memory";
const START: &str = "_start";

/// What a guest has through preview 1 only.
pub(crate) struct Preview1 {
    arguments: Strings,
    environment: Strings,
    /// Empty in a component.
    descriptors: Descriptors,
}

impl Preview1 {
    pub(crate) fn new(launch: &Launch) -> Self {
        Self {
            arguments: Strings::arguments(&launch.arguments),
            environment: Strings::environment(&launch.environment),
            descriptors: Descriptors::default(),
        }
    }
}

/// One call of a guest: its memory and everything else.
struct Call<'a> {
    memory: Memory<'a>,
    guest: &'a mut Guest,
}

impl Call<'_> {
    /// The most bytes of `wanted` that this call may move; at least one.
    fn share(&self, wanted: usize) -> Result<usize, Abort> {
        let share = wanted.min(capacity(self.guest.limits.hostcall_bytes));
        if share == 0 && wanted > 0 {
            return Err(Abort::limit(&self.guest.limits, Limit::HostcallBytes, wanted as u64));
        }
        Ok(share)
    }

    /// For what cannot be done by halves.
    fn within_hostcall_bytes(&self, wanted: usize) -> Result<(), Abort> {
        if self.share(wanted)? < wanted {
            return Err(Abort::limit(&self.guest.limits, Limit::HostcallBytes, wanted as u64));
        }
        Ok(())
    }
}

/// The table of functions: each is a method of [`Call`] and answers an error number.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The names of all functions but `proc_exit`.
        const FUNCTIONS: &[&str] = &[$(stringify!($name)),*];

        fn add_functions(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
            $(linker.func_wrap(
                MODULE,
                stringify!($name),
                |caller: Caller<'_, Guest>, $($argument: $type),*| {
                    answer(caller, |call| call.$name($($argument),*))
                },
            )?;)*
            Ok(())
        }
    };
}

functions! {
    args_get(pointers: u32, buffer: u32);
    args_sizes_get(count: u32, bytes: u32);
    clock_res_get(clock: u32, out: u32);
    clock_time_get(clock: u32, precision_ns: u64, out: u32);
    environ_get(pointers: u32, buffer: u32);
    environ_sizes_get(count: u32, bytes: u32);
    fd_advise(fd: u32, offset: u64, len: u64, advice: u32);
    fd_allocate(fd: u32, offset: u64, len: u64);
    fd_close(fd: u32);
    fd_datasync(fd: u32);
    fd_fdstat_get(fd: u32, out: u32);
    fd_fdstat_set_flags(fd: u32, flags: u32);
    fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64);
    fd_filestat_get(fd: u32, out: u32);
    fd_filestat_set_size(fd: u32, size: u64);
    fd_filestat_set_times(fd: u32, accessed_ns: u64, modified_ns: u64, flags: u32);
    fd_pread(fd: u32, vectors: u32, count: u32, offset: u64, out: u32);
    fd_prestat_dir_name(fd: u32, path: u32, len: u32);
    fd_prestat_get(fd: u32, out: u32);
    fd_pwrite(fd: u32, vectors: u32, count: u32, offset: u64, out: u32);
    fd_read(fd: u32, vectors: u32, count: u32, out: u32);
    fd_readdir(fd: u32, buffer: u32, len: u32, cookie: u64, out: u32);
    fd_renumber(from: u32, to: u32);
    fd_seek(fd: u32, offset: i64, whence: u32, out: u32);
    fd_sync(fd: u32);
    fd_tell(fd: u32, out: u32);
    fd_write(fd: u32, vectors: u32, count: u32, out: u32);
    path_create_directory(fd: u32, path: u32, len: u32);
    path_filestat_get(fd: u32, lookup: u32, path: u32, len: u32, out: u32);
    path_filestat_set_times(
        fd: u32, lookup: u32, path: u32, len: u32, accessed_ns: u64, modified_ns: u64, flags: u32
    );
    path_link(
        old_fd: u32, lookup: u32, old_path: u32, old_len: u32, new_fd: u32, new_path: u32,
        new_len: u32
    );
    path_open(
        fd: u32, lookup: u32, path: u32, len: u32, how: u32, base: u64, inheriting: u64,
        flags: u32, out: u32
    );
    path_readlink(fd: u32, path: u32, len: u32, buffer: u32, buffer_len: u32, out: u32);
    path_remove_directory(fd: u32, path: u32, len: u32);
    path_rename(fd: u32, old: u32, old_len: u32, new_fd: u32, new: u32, new_len: u32);
    path_symlink(old: u32, old_len: u32, fd: u32, new: u32, new_len: u32);
    path_unlink_file(fd: u32, path: u32, len: u32);
    poll_oneoff(subscriptions: u32, events: u32, count: u32, out: u32);
    proc_raise(signal: u32);
    random_get(buffer: u32, len: u32);
    sched_yield();
    sock_accept(fd: u32, flags: u32, out: u32);
    sock_recv(fd: u32, vectors: u32, count: u32, flags: u32, out_bytes: u32, out_flags: u32);
    sock_send(fd: u32, vectors: u32, count: u32, flags: u32, out_bytes: u32);
    sock_shutdown(fd: u32, how: u32);
}

const EXIT: &str = "proc_exit";

/// Whether `wasi_snapshot_preview1` has a function of this name.
pub(crate) fn is_function(name: &str) -> bool {
    name == EXIT || FUNCTIONS.contains(&name)
}

/// Links all functions.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_functions(linker)?;
    // The one function without an answer.
    linker.func_wrap(MODULE, EXIT, |caller: Caller<'_, Guest>, code: u32| {
        answer(caller, |call| call.proc_exit(code)).map(drop)
    })?;
    Ok(())
}

/// Does one call and gives its error number.
fn answer(
    mut caller: Caller<'_, Guest>,
    body: impl FnOnce(&mut Call<'_>) -> Answer,
) -> wasmtime::Result<u32> {
    caller.data().pulse.check()?;
    let memory = caller.get_export(MEMORY).and_then(Extern::into_memory);
    let (bytes, guest) = match memory {
        Some(memory) => memory.data_and_store_mut(&mut caller),
        None => (&mut [][..], caller.data_mut()),
    };
    match body(&mut Call { memory: Memory::new(bytes), guest }) {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(errno.number().into()),
        Err(Failure::End(error)) => Err(error),
    }
}

/// Whether a module has the start function of a program, which takes and gives nothing.
pub(crate) fn check_start(module: &Module) -> Result<(), String> {
    match module.get_export(START) {
        Some(ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => {
            Ok(())
        }
        Some(other) => Err(format!(
            "`{START}` should be a function without parameters and results, but is {other:?}"
        )),
        None => Err(format!("`{START}` is not exported")),
    }
}

/// Runs a module to its end.
pub(crate) async fn run(
    module: &InstancePre<Guest>,
    store: &mut Store<Guest>,
) -> wasmtime::Result<()> {
    let guest = store.data_mut();
    guest.preview1.descriptors = Descriptors::open(&guest.stdio.world, &guest.limits)?;
    let instance = module.instantiate_async(&mut *store).await?;
    let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
    start.call_async(&mut *store, ()).await
}
