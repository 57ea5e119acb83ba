//! A small HTTP/1.1 client over a socket, and a reader of server-sent events.
//!
//! Owns: what tests need of both, with a bound on every wait. It is written apart from everything
//! that the host uses, so that both cannot be wrong in the same way. Knows nothing of jobs.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may pause.
const PAUSE: Duration = Duration::from_mins(1);

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Demands a status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

/// How the end of a body is told.
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of this chunk are left.
    Chunked(u64),
    /// It came.
    Over,
}

/// A connection that takes one request after the other.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)?;
        stream.set_read_timeout(Some(PAUSE))?;
        stream.set_write_timeout(Some(PAUSE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), address })
    }

    /// Sends a request and reads the whole answer.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        let (status, mut framing) = self.ask(method, path, headers, body)?;
        let mut bytes = Vec::new();
        let mut piece = vec![0; 16 * 1024];
        loop {
            let count = read_body(&mut self.stream, &mut framing, &mut piece)?;
            if count == 0 {
                return Ok(Response { status, body: bytes });
            }
            bytes.extend_from_slice(&piece[..count]);
        }
    }

    /// Sends a request and reads the head of the answer.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<(u16, Framing)> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        write!(request, "content-length: {}\r\n\r\n", body.len()).unwrap();
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.stream.get_mut().write_all(&bytes)?;
        let first = read_line(&mut self.stream)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| malformed(&first))?;
        let mut framing = Framing::Length(0);
        loop {
            let line = read_line(&mut self.stream)?;
            let Some((name, value)) = line.split_once(':') else {
                return if line.is_empty() { Ok((status, framing)) } else { Err(malformed(&line)) };
            };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", value) => {
                    framing = Framing::Length(value.parse().map_err(|_| malformed(&line))?);
                }
                ("transfer-encoding", "chunked") => framing = Framing::Chunked(0),
                _ => {}
            }
        }
    }
}

/// One request on a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Response> {
    Connection::open(address)?.send(method, path, headers, body)
}

fn malformed(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP: {line:?}"))
}

/// A line without its end; a connection that ends before it is an error.
fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Some bytes of a body; 0 at its end.
fn read_body(
    stream: &mut impl BufRead,
    framing: &mut Framing,
    into: &mut [u8],
) -> io::Result<usize> {
    if matches!(framing, Framing::Chunked(0)) {
        let line = read_line(stream)?;
        let length = line.split(';').next().and_then(|size| u64::from_str_radix(size, 16).ok());
        *framing = Framing::Chunked(length.ok_or_else(|| malformed(&line))?);
        if matches!(framing, Framing::Chunked(0)) {
            while !read_line(stream)?.is_empty() {}
            *framing = Framing::Over;
        }
    }
    let left = match framing {
        Framing::Over | Framing::Length(0) => return Ok(0),
        Framing::Length(left) | Framing::Chunked(left) => left,
    };
    let wanted = into.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    let count = stream.read(&mut into[..wanted])?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *left -= count as u64;
    if matches!(framing, Framing::Chunked(0)) {
        read_line(stream)?;
    }
    Ok(count)
}

/// A server-sent event.
#[derive(Debug)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

impl Event {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A stream of server-sent events (WHATWG HTML, section "Server-sent events").
pub struct Events {
    body: BufReader<Body>,
}

/// The body of an answer that goes on.
struct Body {
    connection: Connection,
    framing: Framing,
    /// Slept after so many bytes: a client that is slow.
    pause: Option<(usize, Duration)>,
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = match self.pause {
            Some((bytes, pause)) => {
                std::thread::sleep(pause);
                bytes.min(into.len())
            }
            None => into.len(),
        };
        read_body(&mut self.connection.stream, &mut self.framing, &mut into[..most])
    }
}

impl Events {
    /// Follows from the event after `last_id`.
    pub fn open(address: SocketAddr, path: &str, last_id: Option<&str>) -> io::Result<Self> {
        let mut connection = Connection::open(address)?;
        let headers: Vec<(&str, &str)> =
            last_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let (status, framing) = connection.ask("GET", path, &headers, b"")?;
        if status != 200 {
            return Err(io::Error::other(format!("{path} answered {status}")));
        }
        Ok(Self { body: BufReader::new(Body { connection, framing, pause: None }) })
    }

    /// Gives up on a stream that is silent for so long.
    pub fn patience(self, patience: Duration) -> io::Result<Self> {
        self.body.get_ref().connection.stream.get_ref().set_read_timeout(Some(patience))?;
        Ok(self)
    }

    /// Reads at most so many bytes at once, and pauses before each.
    pub fn slowly(mut self, bytes: usize, pause: Duration) -> Self {
        self.body.get_mut().pause = Some((bytes, pause));
        self
    }

    /// The next event; an error where the connection breaks off, also between two events.
    pub fn next(&mut self) -> io::Result<Event> {
        let (mut id, mut name, mut data) = (None, String::new(), Vec::new());
        loop {
            let line = read_line(&mut self.body)?;
            if line.is_empty() {
                if !data.is_empty() {
                    return Ok(Event { id, name, data: data.join("\n") });
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = Some(value.to_owned()),
                "event" => value.clone_into(&mut name),
                "data" => data.push(value.to_owned()),
                _ => {}
            }
        }
    }
}
