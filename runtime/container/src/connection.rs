//! Connections of a program to its host, without waiting on any of them.
//!
//! Owns: how frames come together and go out, and how much of the host's memory a stranger can fill.
//! Knows nothing of what requests mean.
//!
//! Invariant: only one connection at a time may have a large frame under way, so that all together
//! hold one state at most.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
};

use crate::frame::{HEAD_BYTES, Head, JSON_MAX_BYTES, Request};

/// Connections at once.
const CONNECTIONS: usize = 16;
/// A frame up to this size may come on every connection at once.
const SMALL_BYTES: usize = 64 * 1024;
/// What one read brings at most.
const PIECE_BYTES: usize = 256 * 1024;

/// One connection.
pub(crate) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// The other side sends no more.
    is_over: bool,
}

/// What a connection brought.
pub(crate) enum Brought {
    /// A whole request and its payload.
    Request(Request, Vec<u8>),
    /// Not yet.
    Nothing,
    /// A payload longer than any may be.
    TooLong(u64),
    /// What is no request.
    Nonsense(String),
}

impl Connection {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, input: Vec::new(), output: Vec::new(), sent: 0, is_over: false })
    }

    /// Whether an answer waits to be taken.
    pub(crate) fn has_output(&self) -> bool {
        self.sent < self.output.len()
    }

    /// Whether nothing more will come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    fn is_large(&self) -> bool {
        self.input.len() > SMALL_BYTES
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self) {
        let before = self.input.len();
        self.input.resize(before + PIECE_BYTES, 0);
        match self.stream.read(&mut self.input[before..]) {
            Ok(0) => {
                self.input.truncate(before);
                self.is_over = true;
            }
            Ok(len) => self.input.truncate(before + len),
            Err(error) => {
                self.input.truncate(before);
                let again = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
                self.is_over = !again.contains(&error.kind());
            }
        }
    }

    /// The next request, once it is whole.
    pub(crate) fn next(&mut self, payload_max: u64) -> Brought {
        let Some(head) = Head::read(&self.input) else { return Brought::Nothing };
        if head.json_bytes > JSON_MAX_BYTES {
            return Brought::Nonsense(format!("a request of {} bytes", head.json_bytes));
        }
        if head.payload_bytes > payload_max {
            return Brought::TooLong(head.payload_bytes);
        }
        let json_end = HEAD_BYTES + head.json_bytes as usize;
        let end =
            json_end.saturating_add(usize::try_from(head.payload_bytes).unwrap_or(usize::MAX));
        if self.input.len() < end {
            return Brought::Nothing;
        }
        let request = serde_json::from_slice(&self.input[HEAD_BYTES..json_end]);
        let rest = self.input.split_off(end);
        let payload = std::mem::replace(&mut self.input, rest).split_off(json_end);
        match request {
            Ok(request) => Brought::Request(request, payload),
            Err(error) => Brought::Nonsense(error.to_string()),
        }
    }

    /// Puts an answer on its way.
    pub(crate) fn answer(&mut self, frame: &[u8]) {
        self.output.extend_from_slice(frame);
        self.write();
    }

    /// Sends as much of the answer as is taken.
    pub(crate) fn write(&mut self) {
        while self.has_output() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_over = true;
                    break;
                }
            }
        }
        self.output = Vec::new();
        self.sent = 0;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// All connections of one program.
pub(crate) struct Connections {
    pub listener: UnixListener,
    pub all: Vec<Connection>,
}

impl Connections {
    pub(crate) fn new(listener: UnixListener) -> Self {
        Self { listener, all: Vec::new() }
    }

    /// Takes in whoever wants to connect.
    pub(crate) fn accept(&mut self) {
        while self.all.len() < CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if let Ok(connection) = Connection::new(stream) {
                self.all.push(connection);
            }
        }
    }

    /// Whether another one may be taken in.
    pub(crate) fn has_room(&self) -> bool {
        self.all.len() < CONNECTIONS
    }

    /// Whether a connection may be read from now: one that is in the middle of a large frame goes
    /// first, one whose answer was not taken yet waits.
    pub(crate) fn may_read(&self, index: usize) -> bool {
        let large = self.all.iter().position(Connection::is_large);
        !self.all[index].has_output() && large.is_none_or(|large| large == index)
    }

    /// Forgets those that are over.
    pub(crate) fn forget(&mut self) {
        self.all.retain(|connection| !connection.is_over());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn frame(json: &str, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend_from_slice(&u32::try_from(json.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        frame.extend_from_slice(json.as_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn requests_come_whole_however_their_bytes_arrive() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(here).unwrap();
        let mut bytes = frame(r#"{"op":"save","step":1,"sequence":1}"#, b"state");
        bytes.extend(frame(r#"{"op":"restore"}"#, b""));
        for byte in &bytes[..20] {
            there.write_all(&[*byte]).unwrap();
            connection.read();
            assert!(matches!(connection.next(100), Brought::Nothing));
        }
        there.write_all(&bytes[20..]).unwrap();
        connection.read();
        match connection.next(100) {
            Brought::Request(Request::Save { step: 1, sequence: 1 }, payload) => {
                assert_eq!(payload, b"state");
            }
            _ => panic!("save expected"),
        }
        assert!(matches!(connection.next(100), Brought::Request(Request::Restore, _)));
        assert!(matches!(connection.next(100), Brought::Nothing));
    }

    #[test]
    fn what_is_too_long_is_noticed_before_it_is_there() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(here).unwrap();
        let bytes = frame(r#"{"op":"save","step":1,"sequence":1}"#, &[0; 200]);
        there.write_all(&bytes[..HEAD_BYTES]).unwrap();
        connection.read();
        assert!(matches!(connection.next(100), Brought::TooLong(200)));
    }

    #[test]
    fn what_is_no_request_is_said_so() {
        let (mut there, here) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(here).unwrap();
        there.write_all(&frame("{", b"")).unwrap();
        connection.read();
        assert!(matches!(connection.next(100), Brought::Nonsense(_)));
    }
}
