//! Compilation, in a process of its own.
//!
//! Compiling a stranger's bytes is not bounded by the engine: little input can take all memory or
//! overflow a stack. So parsing, adapting and compiling happen in a child with limits of the
//! operating system, which may die without harm.
//!
//! Owns: the child's life as the parent sees it and the words for each way in which it can end.
//! The child's side is in [`child`], what they say to each other in `protocol`.

pub(crate) mod child;
mod protocol;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use hb_types::{
    limits::{Limit, LimitReached, Limits},
    text,
};

pub(crate) use self::protocol::Operation;
use self::protocol::{Request, Response};
use crate::error::PrepareError;

/// The environment variable by which the compiler's thread pool takes its size.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";
/// Each compiling thread costs address space, of which the child has a limited amount.
const MAX_THREADS: usize = 4;
/// How often the parent looks after its child. A compilation takes 100 ms and more.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of the child's last words that are looked at, and that are shown.
const LAST_WORDS_BYTES: u64 = 64 * 1024;
const SHOWN_BYTES: usize = 300;

/// How the compiling child is started: a program whose `main` calls
/// [`compiler_main`](crate::compiler_main) when it sees these arguments.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// How a child ended.
enum End {
    Exited(ExitStatus),
    TimeOver,
}

impl Compiler {
    /// Has `payload` worked on by a child; temporary files lie in `directory`.
    pub(crate) fn call(
        &self,
        directory: &Path,
        operation: Operation,
        payload: &[u8],
        limits: &Limits,
    ) -> Result<Vec<u8>, PrepareError> {
        let request = Request {
            operation,
            memory_bytes: limits.compile_memory_bytes,
            cpu_seconds: limits.compile_ms.div_ceil(1000).max(1),
            parent: std::process::id(),
            payload_bytes: payload.len() as u64,
        };
        let on_disk = |source| PrepareError::Cache { path: directory.to_owned(), source };
        let mut input = tempfile::tempfile_in(directory).map_err(on_disk)?;
        request.write(&mut input, payload).map_err(on_disk)?;
        input.rewind().map_err(on_disk)?;
        let mut output = tempfile::tempfile_in(directory).map_err(on_disk)?;
        let mut last_words = tempfile::tempfile_in(directory).map_err(on_disk)?;

        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env(THREADS_VARIABLE, threads().to_string())
            .current_dir(directory)
            .stdin(input)
            .stdout(output.try_clone().map_err(on_disk)?)
            .stderr(Stdio::from(last_words.try_clone().map_err(on_disk)?))
            .spawn()
            .map_err(|source| PrepareError::CompilerMissing {
                program: self.program.clone(),
                source,
            })?;
        let time = Duration::from_millis(limits.compile_ms);
        let status = match wait(&mut child, time).map_err(on_disk)? {
            End::Exited(status) => status,
            End::TimeOver => return Err(time_over(limits)),
        };
        if !status.success() {
            let words = read_from_start(&mut last_words, LAST_WORDS_BYTES).map_err(on_disk)?;
            return Err(died(status, &words, limits));
        }
        let answer = read_from_start(&mut output, u64::MAX).map_err(on_disk)?;
        match Response::read(&answer) {
            Some(Response::Done(artifact)) => Ok(artifact.to_vec()),
            Some(Response::Rejected(rejection)) => Err(rejection.into()),
            None => Err(PrepareError::CompilerDied {
                how: format!("it answered {} bytes that are no answer", answer.len()),
            }),
        }
    }
}

/// Half of the processors, so that jobs go on while a component is compiled.
fn threads() -> usize {
    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors / 2).clamp(1, MAX_THREADS)
}

/// The standard library has no wait with a time limit, and a signal handler is not a library's
/// business; looking every few milliseconds costs nothing beside a compilation.
fn wait(child: &mut Child, time: Duration) -> io::Result<End> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exited(status));
        }
        if start.elapsed() >= time {
            child.kill()?;
            child.wait()?;
            return Ok(End::TimeOver);
        }
        thread::sleep(LOOK);
    }
}

fn read_from_start(file: &mut File, max_bytes: u64) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn time_over(limits: &Limits) -> PrepareError {
    PrepareError::CompilerTime(reached(limits, Limit::CompileTime))
}

fn reached(limits: &Limits, limit: Limit) -> LimitReached {
    LimitReached { limit, value: limits.get(limit), wanted: 0 }
}

fn died(status: ExitStatus, words: &[u8], limits: &Limits) -> PrepareError {
    const CPU_TIME_SIGNAL: i32 = 24;
    let out_of_memory = status.code() == Some(child::EXIT_OUT_OF_MEMORY)
        || contains(words, b"memory allocation of")
        || contains(words, b"Cannot allocate memory");
    if status.signal() == Some(CPU_TIME_SIGNAL) {
        return time_over(limits);
    }
    if out_of_memory {
        return PrepareError::CompilerMemory(reached(limits, Limit::CompileMemory));
    }
    let words = text::printable_bytes(words, SHOWN_BYTES);
    let how = if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
    PrepareError::CompilerDied { how }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Writes all of `parts`.
fn write_all(file: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))
}
