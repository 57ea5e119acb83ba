//! Standard input, output and error.
//!
//! Owns: how bytes get from the guest into the job's contents and to those who watch, and from
//! the given file to the guest. What is written belongs to the next checkpoint; a watcher sees it
//! at once. All handles on a stream share its one position.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hb_files::{Refused, World};
use hb_types::capture::ContentId;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError,
    StreamResult,
    bindings::cli::{stderr, stdin, stdout},
};
use wasmtime_wasi_io::bytes::Bytes;

use crate::{
    abort::{Abort, HostFault},
    lease::Lease,
    pulse::Pulse,
    session::Stream,
};

/// What one write may bring and one read may ask for.
const CHUNK_BYTES: usize = 64 * 1024;

/// What the standard streams of a job are connected to.
#[derive(Clone)]
pub(crate) struct Stdio {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) lease: Lease,
    pub(crate) pulse: Pulse,
    pub(crate) stdin: Arc<Mutex<Stdin>>,
}

impl Stdio {
    /// Standard input. A panic while the lock was held ends the run anyway.
    pub(crate) fn source(&self) -> MutexGuard<'_, Stdin> {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what comes next of standard input; zero bytes mean the end.
    pub(crate) fn read(&self, bytes: &mut [u8]) -> Result<usize, Abort> {
        self.pulse.check()?;
        self.source().read(bytes).map_err(|error| {
            HostFault::new("a job's standard input could not be read", error).into()
        })
    }

    /// Appends to an output. What goes beyond the limit ends the job; what fits before it is kept
    /// and shown.
    pub(crate) fn append(&self, stream: Stream, bytes: &[u8]) -> Result<(), Abort> {
        self.pulse.check()?;
        let id = match stream {
            Stream::Stdout => ContentId::STDOUT,
            Stream::Stderr => ContentId::STDERR,
        };
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let before_bytes = world.content_len(id).unwrap_or(0);
        let result = world.append_output(id, bytes);
        let kept_bytes = world.content_len(id).unwrap_or(0).saturating_sub(before_bytes);
        drop(world);
        let kept = &bytes[..usize::try_from(kept_bytes).unwrap_or(usize::MAX).min(bytes.len())];
        if !kept.is_empty() {
            self.lease.with(|session| session.output(stream, kept));
        }
        result.map_err(|refused| match refused {
            Refused::OutputLimit(reached) => Abort::Limit(reached),
            other => Abort::Fault(HostFault::new("a job's output could not be kept", other)),
        })
    }
}

/// What is read as standard input, and how far it was read.
pub(crate) struct Stdin {
    file: Option<File>,
    read_bytes: u64,
}

impl Stdin {
    pub(crate) fn new(file: Option<File>) -> Self {
        Self { file, read_bytes: 0 }
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Zero bytes mean the end.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        loop {
            match file.read(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => {
                    self.read_bytes += *result.as_ref().unwrap_or(&0) as u64;
                    return result;
                }
            }
        }
    }

    /// Goes to where an earlier attempt stood; what cannot seek can at least be read on.
    pub(crate) fn seek(&mut self, read_bytes: u64) -> io::Result<()> {
        if read_bytes == self.read_bytes {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Err(ErrorKind::UnexpectedEof.into()) };
        let distance = read_bytes.wrapping_sub(self.read_bytes).cast_signed();
        if file.seek(SeekFrom::Current(distance)).is_err() {
            let skipped_bytes = read_bytes
                .checked_sub(self.read_bytes)
                .ok_or(ErrorKind::NotSeekable)
                .and_then(|distance| {
                    io::copy(&mut file.take(distance), &mut io::sink())
                        .map_err(|error| error.kind())
                })?;
            if self.read_bytes + skipped_bytes < read_bytes {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        self.read_bytes = read_bytes;
        Ok(())
    }
}

pub(crate) struct StdioView<'a> {
    pub(crate) stdio: &'a Stdio,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasStdio;

impl HasData for HasStdio {
    type Data<'a> = StdioView<'a>;
}

impl stdin::Host for StdioView<'_> {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(Source(self.stdio.clone()));
        Ok(self.table.push(stream)?)
    }
}

impl stdout::Host for StdioView<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Sink(self.stdio.clone(), Stream::Stdout));
        Ok(self.table.push(stream)?)
    }
}

impl stderr::Host for StdioView<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Sink(self.stdio.clone(), Stream::Stderr));
        Ok(self.table.push(stream)?)
    }
}

/// A handle on standard output or standard error.
struct Sink(Stdio, Stream);

#[wasmtime_wasi::async_trait]
impl Pollable for Sink {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Sink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > CHUNK_BYTES {
            let message = format!(
                "it writes {} bytes at once where check-write allowed {CHUNK_BYTES}",
                bytes.len()
            );
            return Err(StreamError::Trap(Abort::Contract(message).into()));
        }
        let Self(stdio, stream) = self;
        stdio.append(*stream, &bytes).map_err(|abort| StreamError::Trap(abort.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK_BYTES)
    }
}

/// A handle on standard input.
struct Source(Stdio);

#[wasmtime_wasi::async_trait]
impl Pollable for Source {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl InputStream for Source {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let Self(stdio) = self;
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = vec![0; size.min(CHUNK_BYTES)];
        let len = stdio.read(&mut bytes).map_err(|abort| StreamError::Trap(abort.into()))?;
        if len == 0 {
            return Err(StreamError::Closed);
        }
        bytes.truncate(len);
        Ok(bytes.into())
    }
}
