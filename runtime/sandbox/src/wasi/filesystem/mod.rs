//! `wasi:filesystem` over the job's own files.
//!
//! Owns: the translation between WASI 0.2 and [`hb_files`]: descriptors, streams, error codes.
//! Knows nothing of: the machine's file system (only the scratch file and the inputs behind the
//! [`World`] are ever touched), checkpoints, fuel.
//!
//! What a guest finds: `/job` and `/out`, which it may change, and `/in`, which it may read, in
//! this order. There is nothing else, no working directory either: the C library takes `/` for
//! it, and as `/` is not given, a relative path finds nothing unless it starts with `job/`,
//! `out/` or `in/`.
//!
//! Invariants: every answer follows from the world and the virtual clock; nothing blocks; one
//! call moves at most [`MAX_TRANSFER_BYTES`] to the guest; a fault of the host's disk never
//! becomes an error code but ends the guest with [`Abort::Fault`](crate::abort::Abort). Calls use
//! no fuel, so each asks whether the run may go on.

mod descriptor;
mod error;
mod streams;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hb_files::World;
use wasmtime::component::{HasData, Linker, ResourceTable};

/// Bindings for `wasi:filesystem`, generated over our own descriptors.
#[allow(missing_docs, clippy::pedantic)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/filesystem",
        world: "wasi:filesystem/imports",
        imports: { default: trappable },
        require_store_data_send: true,
        with: {
            "wasi:io": wasmtime_wasi_io::bindings::wasi::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
            "wasi:filesystem/types.descriptor": super::descriptor::Descriptor,
            "wasi:filesystem/types.directory-entry-stream": super::descriptor::Entries,
        },
        trappable_error_type: {
            "wasi:filesystem/types.error-code" => super::error::FilesystemError,
        },
    });
}

use crate::pulse::Pulse;
use bindings::wasi::filesystem::{preopens, types};

pub(crate) use self::{
    descriptor::OpenNode,
    error::{FilesystemError, end_of_guest},
    types::ErrorCode,
};

/// The most bytes that one call gives to the guest, and the most that a stream takes at once.
/// Whoever asks for more gets this much, as POSIX allows.
const MAX_TRANSFER_BYTES: usize = 1024 * 1024;

/// A job's files, shared between the store and the streams in its resource table. All of them
/// live on one thread at a time, so the lock is never waited for.
pub(crate) type SharedWorld = Arc<Mutex<World>>;

/// The virtual wall clock, read without advancing it: time stamps must not make time pass.
pub(crate) trait Now: Send + Sync {
    /// Nanoseconds since the Unix epoch.
    fn now_ns(&self) -> u64;
}

/// What the host functions need of a store's data.
pub(crate) struct FilesystemCtx<'a> {
    /// The job's files.
    pub(crate) world: &'a SharedWorld,
    /// Where time stamps come from.
    pub(crate) clock: &'a Arc<dyn Now>,
    /// Whether the run may go on.
    pub(crate) pulse: &'a Pulse,
    /// The guest's handles.
    pub(crate) table: &'a mut ResourceTable,
}

/// A store's data that has files.
pub(crate) trait FilesystemView: Send {
    /// The parts.
    fn filesystem(&mut self) -> FilesystemCtx<'_>;
}

struct Filesystem;

impl HasData for Filesystem {
    type Data<'a> = FilesystemCtx<'a>;
}

/// Adds `wasi:filesystem/types` and `wasi:filesystem/preopens`. The streams that they hand out
/// are those of `wasmtime_wasi_io`, which the caller adds.
pub(crate) fn add_to_linker<T: FilesystemView + 'static>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, Filesystem>(linker, T::filesystem)?;
    preopens::add_to_linker::<T, Filesystem>(linker, T::filesystem)
}

/// A panic while the lock was held ends the run anyway, and files must still be closed then.
pub(crate) fn lock(world: &SharedWorld) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}
