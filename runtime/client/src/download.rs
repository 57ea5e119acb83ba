//! Bytes on their way from a host.
//!
//! Owns: that a download goes on where it broke off, and that what arrives is what was announced.
//! Knows nothing of where the bytes go.

use std::{
    io::{self, Read, Write},
    thread,
};

use hb_api::job::ArtifactView;
use hb_types::Digest;
use ureq::http::{StatusCode, header};

use crate::{
    Client, ClientError, Output,
    exchange::{Call, header_text},
    jobs::{artifact_path, job_path},
    retry::Tries,
};

/// Bytes that are passed on at once.
const BUFFER_BYTES: usize = 256 * 1024;

impl Client {
    /// Copies what a job durably printed, as far as it is, and says how much that was.
    pub fn copy_output(
        &self,
        job: &str,
        output: Output,
        sink: &mut dyn Write,
    ) -> Result<u64, ClientError> {
        self.copy(&job_path(job, &format!("/{}", output.name())), sink)
    }

    /// Copies a file that a job left below `/out`, and checks that it is the one that was
    /// announced. What is wrong is known only when all of it was written.
    pub fn copy_artifact(
        &self,
        job: &str,
        artifact: &ArtifactView,
        sink: &mut dyn Write,
    ) -> Result<(), ClientError> {
        let path = artifact_path(job, &artifact.name);
        let expected: Digest = artifact.digest.parse().map_err(|error| ClientError::Garbage {
            server: self.server(),
            why: format!("an artifact has no digest: {error}"),
        })?;
        let mut checked = Checked { sink, hasher: blake3::Hasher::new() };
        self.copy(&path, &mut checked)?;
        let found = Digest::from(checked.hasher.finalize());
        if found == expected {
            return Ok(());
        }
        let what = format!("artifact {}", hb_types::text::printable(&artifact.name, 200));
        Err(ClientError::Damaged { what, expected, found })
    }

    fn copy(&self, path: &str, sink: &mut dyn Write) -> Result<u64, ClientError> {
        let mut tries = Tries::new(self.patience);
        let mut done = 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let Some(mut reader) = self.open_at(path, done)? else { return Ok(done) };
            let error = loop {
                match reader.read(&mut buffer) {
                    Ok(0) => return Ok(done),
                    Ok(count) => {
                        sink.write_all(&buffer[..count]).map_err(ClientError::Sink)?;
                        done += count as u64;
                        tries.succeeded();
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break error,
                }
            };
            let source = Box::new(ureq::Error::Io(error));
            let Some(pause) = tries.next_pause(None) else {
                return Err(ClientError::Broken { server: self.server(), source });
            };
            thread::sleep(pause);
        }
    }

    /// The bytes from `offset` on; `None` where there are no more.
    fn open_at(&self, path: &str, offset: u64) -> Result<Option<impl Read>, ClientError> {
        let mut call = Call::get(path);
        if offset > 0 {
            call = call.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = self.send_expecting(&call, &[StatusCode::RANGE_NOT_SATISFIABLE])?;
        let status = response.status();
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            return if offset > 0 { Ok(None) } else { Err(self.odd(path, status)) };
        }
        if offset > 0 {
            let range = header_text(&response, header::CONTENT_RANGE).unwrap_or_default();
            let is_meant = status == StatusCode::PARTIAL_CONTENT
                && range.starts_with(&format!("bytes {offset}-"));
            if !is_meant {
                return Err(self.odd(path, status));
            }
        }
        Ok(Some(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    fn odd(&self, path: &str, status: StatusCode) -> ClientError {
        let why = format!("{path}: a part was asked for, and the answer is {status} without it");
        ClientError::Garbage { server: self.server(), why }
    }
}

/// Passes bytes on and remembers their digest.
struct Checked<'a> {
    sink: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
