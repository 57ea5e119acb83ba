//! The compiling child.
//!
//! Owns: its own limits, which it sets before it reads a stranger's first byte, and the order of
//! the steps: scan, adapt, scan again, compile. Whatever goes wrong beyond that ends the process,
//! and the parent finds the words for it.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
    panic,
    process::ExitCode,
    thread,
};

use hb_types::text;
use rustix::process::{Resource, Rlimit, Signal};

use super::protocol::{Operation, Request, Response};
use crate::{
    adapt, engine,
    error::Rejection,
    limiter,
    scan::{self, Kind},
};

/// The exit code for a lack of memory that was noticed.
pub(super) const EXIT_OUT_OF_MEMORY: i32 = 3;
/// The exit code for everything else.
const EXIT_FAILED: u8 = 4;

/// Validators and translators recurse with the nesting of types, which the scan bounds.
const STACK_BYTES: usize = 64 << 20;
/// Bytes of a compiler's message.
const MESSAGE_BYTES: usize = 500;

/// Why the child ends without an answer.
enum Failure {
    Io(io::Error),
    OutOfMemory,
    Engine(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The `main` of the compiling child: takes one request from standard input, answers it on
/// standard output and ends. It reads no argument and no file.
pub fn compiler_main() -> ExitCode {
    let failure = match run() {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    match failure {
        Failure::OutOfMemory => {
            return ExitCode::from(u8::try_from(EXIT_OUT_OF_MEMORY).expect("a small number"));
        }
        Failure::Io(error) => complain(&format!("the compiler cannot work: {error}")),
        Failure::Engine(message) => complain(&message),
    }
    ExitCode::from(EXIT_FAILED)
}

/// Leaves last words for the parent. There is nobody to tell if that fails.
fn complain(message: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "{message}");
}

fn run() -> Result<(), Failure> {
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let request = Request::read(&mut stdin)?;
    confine(&request)?;
    let payload_len = usize::try_from(request.payload_bytes)
        .map_err(|error| Failure::Engine(error.to_string()))?;
    let mut payload = vec![0; payload_len];
    stdin.read_exact(&mut payload)?;
    let result = thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || match request.operation {
            Operation::Text => Ok(to_binary(&payload)),
            Operation::Compile => compile(&payload),
        })?
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))?;
    let response = match &result {
        Ok(bytes) => Response::Done(bytes),
        Err(rejection) => Response::Rejected(rejection.clone()),
    };
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    Ok(response.write(&mut stdout)?)
}

/// Bounds this process, for good.
fn confine(request: &Request) -> io::Result<()> {
    let bounds = [
        (Resource::As, request.memory_bytes, request.memory_bytes),
        // What the compiler writes is smaller than what it holds.
        (Resource::Fsize, request.memory_bytes, request.memory_bytes),
        // The soft limit sends a signal that has a name; the hard one kills.
        (Resource::Cpu, request.cpu_seconds, request.cpu_seconds.saturating_add(5)),
        (Resource::Core, 0, 0),
    ];
    for (resource, current, maximum) in bounds {
        let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
        rustix::process::setrlimit(resource, limit)?;
    }
    die_with_parent(request.parent)
}

/// A compiler without a parent works for nobody.
#[cfg(target_os = "linux")]
fn die_with_parent(parent: u32) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above took effect.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now != Some(parent) {
        return Err(io::Error::other("the process that asked for this compilation is gone"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "the signature of the other system")]
fn die_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}

fn to_binary(source: &[u8]) -> Result<Vec<u8>, Rejection> {
    let Ok(source) = std::str::from_utf8(source) else { return Err(scan::not_wasm(source)) };
    wat::parse_str(source).map_err(|error| {
        let full = error.to_string();
        let position = full
            .split_once("--> ")
            .and_then(|(_, rest)| rest.lines().next())
            .and_then(|place| place.split_once(':'))
            .map_or("its start", |(_, line_and_column)| line_and_column);
        Rejection::Text {
            position: text::printable(position, MESSAGE_BYTES),
            message: text::printable(full.lines().next().unwrap_or_default(), MESSAGE_BYTES),
        }
    })
}

fn compile(bytes: &[u8]) -> Result<Result<Vec<u8>, Rejection>, Failure> {
    let source = match scan::scan(bytes).and_then(|kind| source(kind, bytes)) {
        Ok(source) => source,
        Err(rejection) => return Ok(Err(rejection)),
    };
    let engine = engine::engine().map_err(|error| Failure::Engine(format!("{error:#}")))?;
    let compiled = match source {
        Source::Module(bytes) => engine.precompile_module(bytes),
        Source::Component(bytes) => engine.precompile_component(&bytes),
    };
    match compiled {
        Ok(artifact) => Ok(Ok(artifact)),
        Err(error) if limiter::is_shortage(&error) => Err(Failure::OutOfMemory),
        Err(error) => Ok(Err(Rejection::Invalid {
            message: text::printable(&format!("{error:#}"), MESSAGE_BYTES),
            advice: "build it for wasm32-wasip2 without threads, exceptions, tail calls, \
                     64-bit or multiple memories"
                .to_owned(),
        })),
    }
}

/// What goes into the compiler.
enum Source<'a> {
    Module(&'a [u8]),
    Component(Cow<'a, [u8]>),
}

fn source(kind: Kind, bytes: &[u8]) -> Result<Source<'_>, Rejection> {
    match kind {
        Kind::Preview1 => Ok(Source::Module(bytes)),
        Kind::Component => Ok(Source::Component(bytes.into())),
        Kind::Module => {
            let component = adapt::adapt(bytes)?;
            scan::scan(&component)?;
            Ok(Source::Component(component.into()))
        }
    }
}
