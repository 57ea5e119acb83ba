//! One request to a daemon of this machine.
//!
//! Owns: just enough HTTP/1.0 (RFC 1945) to ask one question over a socket and read the answer,
//! within bounds of time and size.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The longest that anything takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that an answer may hold.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Asks over a socket of the file system.
pub(crate) fn get_unix(socket: &Path, path: &str) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    ask(stream, "localhost", path)
}

/// Asks over TCP.
pub(crate) fn get_tcp(address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    ask(stream, host, path)
}

fn ask(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<Answer> {
    // With 1.0 the answer comes in one piece and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nAccept: */*\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it speaks no HTTP"))
}

/// `HTTP/1.1 200 OK`, headers, an empty line, the body.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut words = head.lines().next()?.split(' ');
    let version = words.next()?;
    let status = words.next()?.parse().ok()?;
    version.starts_with("HTTP/1.").then(|| Answer { status, body: bytes[end + 4..].to_vec() })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;

    /// Reads one request, answers it and returns its first line.
    pub(crate) fn answer_once(stream: impl Read + Write, answer: &str) -> String {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).unwrap();
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        reader.get_mut().write_all(answer.as_bytes()).unwrap();
        first
    }

    #[test]
    fn an_answer_is_read_over_both_kinds_of_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let daemon = thread::spawn(move || {
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n{}";
            let first = answer_once(unix.accept().unwrap().0, answer);
            assert_eq!(first, "GET /version HTTP/1.0\r\n");
            answer_once(tcp.accept().unwrap().0, "HTTP/1.0 503 No\r\n\r\n");
        });
        let expected = Answer { status: 200, body: b"{}".to_vec() };
        assert_eq!(get_unix(&path, "/version").unwrap(), expected);
        assert_eq!(get_tcp(address, "x", "/livez").unwrap().status, 503);
        daemon.join().unwrap();
    }

    #[test]
    fn what_is_not_http_is_said_to_be_none() {
        for bytes in ["", "SSH-2.0-x\r\n", "HTTP/1.1 two\r\n\r\n", "HTTP/2 200\r\n\r\n"] {
            assert_eq!(parse(bytes.as_bytes()), None, "{bytes}");
        }
    }
}
