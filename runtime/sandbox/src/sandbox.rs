//! The sandbox: from a stranger's bytes to something that can be started.
//!
//! Owns: the engine, the linker, the cache in memory and on disk, and how many compilers run at
//! once. Knows nothing of a single run; that is `run.rs`.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use hb_types::{Digest, limits::Limits, text};
use wasmtime::{Engine, InstancePre, component::Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::{
    abort::HostFault,
    cache::Cache,
    compile::{Compiler, Operation},
    engine,
    error::{PrepareError, Rejection, SandboxError},
    guest::Guest,
    job,
    load::{self, Loaded, OwnCode},
    preview1, run, scan,
    session::{Control, Ended, Launch, Session},
    wasi,
};

/// Components that are kept ready in memory.
const KEPT_READY: usize = 32;
/// Goes up when the compiling child makes something else of the same bytes with the same engine.
/// In 1, core modules of WASI preview 1 became components.
const PIPELINE_VERSION: u8 = 2;
/// Bytes of an engine's message.
const MESSAGE_BYTES: usize = 500;

/// What a sandbox is made of.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Where compiled code and temporary files lie. Nobody else may write there.
    pub cache_dir: PathBuf,
    /// How the compiling child is started.
    pub compiler: Compiler,
}

/// Runs components. One for a process; all methods may be called from several threads.
pub struct Sandbox {
    engine: Engine,
    linker: Linker<Guest>,
    /// For core modules.
    module_linker: wasmtime::Linker<Guest>,
    compatibility: blake3::Hash,
    cache: Cache,
    compiler: Compiler,
    ready: Mutex<VecDeque<(Digest, Prepared)>>,
    compiling: Gate,
}

/// A component that is ready to be started any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Prepared {
    engine: Engine,
    program: Program,
}

/// What is started.
#[derive(Clone)]
pub(crate) enum Program {
    Component(CommandPre<Guest>),
    /// A core module for WASI preview 1.
    Module(InstancePre<Guest>),
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// Runs one attempt to its end, on the calling thread.
    ///
    /// An error says that the host failed and not the job; the attempt then has no outcome.
    pub fn run(
        &self,
        launch: Launch,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault> {
        run::run(&self.engine, &self.program, launch, session, control)
    }
}

impl Sandbox {
    /// Opens a sandbox and makes its cache directory where there is none.
    pub fn open(options: SandboxOptions) -> Result<Self, SandboxError> {
        let on_engine = |error: wasmtime::Error| SandboxError::Engine {
            message: text::printable(&format!("{error:#}"), MESSAGE_BYTES),
        };
        let engine = engine::engine().map_err(on_engine)?;
        let mut linker = Linker::new(&engine);
        wasi::add_to_linker(&mut linker).map_err(on_engine)?;
        job::add_to_linker(&mut linker).map_err(on_engine)?;
        let mut module_linker = wasmtime::Linker::new(&engine);
        preview1::add_to_linker(&mut module_linker).map_err(on_engine)?;
        let path = options.cache_dir;
        let cache =
            Cache::open(path.clone()).map_err(|source| SandboxError::Cache { path, source })?;
        Ok(Self {
            compatibility: engine::compatibility(&engine),
            engine,
            linker,
            module_linker,
            cache,
            compiler: options.compiler,
            ready: Mutex::default(),
            compiling: Gate::default(),
        })
    }

    /// The binary form of a module or component: text is translated in the bounded child, a
    /// binary passes through unchanged and unread.
    pub fn to_binary(&self, bytes: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, PrepareError> {
        check_size(&bytes, limits)?;
        if bytes.starts_with(b"\0asm") {
            return Ok(bytes);
        }
        // The text format begins with a parenthesis or a comment; of anything else a parser
        // would say only that there is none.
        let first = bytes.trim_ascii_start();
        if !first.starts_with(b"(") && !first.starts_with(b";;") {
            return Err(scan::not_wasm(&bytes).into());
        }
        let _turn = self.compiling.enter();
        self.compiler.call(self.cache.directory(), Operation::Text, &bytes, limits)
    }

    /// Makes a component or a preview-1 core module ready to run: from memory, from the cache, or
    /// by scanning, adapting and compiling it in the bounded child.
    ///
    /// `digest` is the digest of `component`; the caller has verified it.
    pub fn prepare(
        &self,
        component: &[u8],
        digest: Digest,
        limits: &Limits,
    ) -> Result<Prepared, PrepareError> {
        check_size(component, limits)?;
        if let Some(prepared) = self.ready_in_memory(digest) {
            return Ok(prepared);
        }
        let key = self.key(digest);
        let on_disk = |source| PrepareError::Cache { path: self.cache.path(key), source };
        if let Some(code) = self.cache.load(key).map_err(on_disk)? {
            match load::load(&self.engine, &OwnCode(code)) {
                Ok(loaded) => return self.link(digest, &loaded),
                // Another build wrote it under the same key; ours replaces it.
                Err(error) => tracing::warn!(%digest, %error, "cached code is made again"),
            }
        }
        let code = {
            let _turn = self.compiling.enter();
            self.compiler.call(self.cache.directory(), Operation::Compile, component, limits)?
        };
        self.cache.store(key, &code).map_err(on_disk)?;
        let loaded = load::load(&self.engine, &OwnCode(code)).map_err(|error| {
            PrepareError::Engine { message: text::printable(&format!("{error:#}"), MESSAGE_BYTES) }
        })?;
        self.link(digest, &loaded)
    }

    /// Removes the least recently used compiled code from the disk until the rest is no longer than
    /// `max_bytes`; returns the bytes that were removed. What is in memory stays ready.
    pub fn shrink_cache(&self, max_bytes: u64) -> std::io::Result<u64> {
        self.cache.shrink(max_bytes)
    }

    /// A component that was made ready before and is still in memory.
    pub fn prepared(&self, digest: Digest) -> Option<Prepared> {
        self.ready_in_memory(digest)
    }

    /// Runs one attempt to its end, on the calling thread.
    ///
    /// An error says that the host failed and not the job; the attempt then has no outcome.
    pub fn run(
        &self,
        prepared: &Prepared,
        launch: Launch,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault> {
        prepared.run(launch, session, control)
    }

    /// Compiled code depends on the component, on what is made of it before it is compiled, and on
    /// the engine's version and settings.
    fn key(&self, digest: Digest) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&digest.0);
        hasher.update(&[PIPELINE_VERSION]);
        hasher.update(self.compatibility.as_bytes());
        hasher.finalize().into()
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<(Digest, Prepared)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready_in_memory(&self, digest: Digest) -> Option<Prepared> {
        let mut ready = self.ready();
        let position = ready.iter().position(|(known, _)| *known == digest)?;
        let entry = ready.remove(position)?;
        let prepared = entry.1.clone();
        ready.push_back(entry);
        Some(prepared)
    }

    fn link(&self, digest: Digest, loaded: &Loaded) -> Result<Prepared, PrepareError> {
        let invalid = |message: &str, advice: &str| Rejection::Invalid {
            message: text::printable(message, MESSAGE_BYTES),
            advice: advice.to_owned(),
        };
        let program = match loaded {
            Loaded::Component(component) => self
                .linker
                .instantiate_pre(component)
                .and_then(CommandPre::new)
                .map(Program::Component)
                .map_err(|error| {
                    let advice = "build it against WASI 0.2 and wit/job.wit as they are";
                    invalid(&format!("{error:#}"), advice)
                })?,
            Loaded::Module(module) => preview1::check_start(module)
                .and_then(|()| {
                    let linked = self.module_linker.instantiate_pre(module);
                    linked.map_err(|error| format!("{error:#}"))
                })
                .map(Program::Module)
                .map_err(|message| invalid(&message, "build it as a command for wasm32-wasip1"))?,
        };
        let prepared = Prepared { engine: self.engine.clone(), program };
        let mut ready = self.ready();
        ready.push_back((digest, prepared.clone()));
        if ready.len() > KEPT_READY {
            ready.pop_front();
        }
        Ok(prepared)
    }
}

fn check_size(bytes: &[u8], limits: &Limits) -> Result<(), PrepareError> {
    let len_bytes = bytes.len() as u64;
    if len_bytes > limits.component_bytes {
        return Err(PrepareError::too_large(limits.component_bytes, len_bytes));
    }
    Ok(())
}

/// Lets so many compilers run at once that half of the processors stay free.
#[derive(Default)]
struct Gate {
    inside: Mutex<usize>,
    left: Condvar,
}

/// Held while a compiler runs.
struct Turn<'a>(&'a Gate);

impl Gate {
    fn enter(&self) -> Turn<'_> {
        let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let room = (processors / 2).max(1);
        let inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inside = self
            .left
            .wait_while(inside, |inside| *inside >= room)
            .unwrap_or_else(PoisonError::into_inner);
        *inside += 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.inside.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.left.notify_one();
    }
}
