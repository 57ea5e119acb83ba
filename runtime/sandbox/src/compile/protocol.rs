//! What parent and compiling child say to each other.
//!
//! A request is a header of fixed width and a payload; an answer is one byte and the rest.
//! Numbers are little-endian. Both are files, so that neither side can block the other.
//!
//! | request bytes | what |
//! | --- | --- |
//! | 8 | magic |
//! | 1 | operation: 0 text to binary, 1 compile |
//! | 8 | address space of the child, in bytes |
//! | 8 | processor time of the child, in seconds |
//! | 4 | process id of the parent |
//! | 8 | length of the payload |
//! | … | payload |
//!
//! An answer begins with 0 and the result, or with 1 and a [`Rejection`] as JSON.

use std::io::{self, Read, Write};

use super::write_all;
use crate::error::Rejection;

const MAGIC: &[u8; 8] = b"hbcomp01";
const DONE: u8 = 0;
const REJECTED: u8 = 1;

/// What the child is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// WebAssembly text to binary.
    Text,
    /// A module or component to compiled code.
    Compile,
}

/// A request's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) memory_bytes: u64,
    pub(super) cpu_seconds: u64,
    pub(super) parent: u32,
    pub(super) payload_bytes: u64,
}

impl Request {
    pub(super) fn write(&self, to: &mut impl Write, payload: &[u8]) -> io::Result<()> {
        let operation = match self.operation {
            Operation::Text => 0,
            Operation::Compile => 1,
        };
        write_all(
            to,
            &[
                MAGIC,
                &[operation],
                &self.memory_bytes.to_le_bytes(),
                &self.cpu_seconds.to_le_bytes(),
                &self.parent.to_le_bytes(),
                &self.payload_bytes.to_le_bytes(),
                payload,
            ],
        )
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if take::<8>(from)? != *MAGIC {
            return Err(bad("no request of this version on standard input"));
        }
        let operation = match take::<1>(from)? {
            [0] => Operation::Text,
            [1] => Operation::Compile,
            [other] => return Err(bad(&format!("unknown operation {other}"))),
        };
        Ok(Self {
            operation,
            memory_bytes: u64::from_le_bytes(take(from)?),
            cpu_seconds: u64::from_le_bytes(take(from)?),
            parent: u32::from_le_bytes(take(from)?),
            payload_bytes: u64::from_le_bytes(take(from)?),
        })
    }
}

fn take<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response<'a> {
    Done(&'a [u8]),
    Rejected(Rejection),
}

impl<'a> Response<'a> {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Done(bytes) => write_all(to, &[&[DONE], bytes]),
            Self::Rejected(rejection) => {
                write_all(to, &[&[REJECTED], &serde_json::to_vec(rejection)?])
            }
        }
    }

    /// `None` where the bytes are no answer.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&DONE, artifact) => Some(Self::Done(artifact)),
            (&REJECTED, json) => serde_json::from_slice(json).ok().map(Self::Rejected),
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let request = Request {
            operation: Operation::Compile,
            memory_bytes: 1 << 40,
            cpu_seconds: 7,
            parent: 42,
            payload_bytes: 3,
        };
        let mut bytes = Vec::new();
        request.write(&mut bytes, b"abc").unwrap();
        let mut rest = &bytes[..];
        assert_eq!(Request::read(&mut rest).unwrap(), request);
        assert_eq!(rest, b"abc");

        let rejected = Response::Rejected(Rejection::Truncated { at: 9 });
        let mut bytes = Vec::new();
        rejected.write(&mut bytes).unwrap();
        assert_eq!(Response::read(&bytes), Some(rejected));
        assert_eq!(Response::read(b"\0xyz"), Some(Response::Done(b"xyz")));
        assert_eq!(Response::read(b""), None);
        assert_eq!(Response::read(b"\x01not json"), None);
    }

    #[test]
    fn another_version_and_a_cut_request_are_refused() {
        assert!(Request::read(&mut &b"hbcomp02________________________________"[..]).is_err());
        assert!(Request::read(&mut &b"hbcomp01\x01abc"[..]).is_err());
    }
}
