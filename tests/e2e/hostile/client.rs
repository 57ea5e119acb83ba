//! A host for one test, and a client that sends any bytes at all.
//!
//! Knows nothing of: what is sent, and which answer is right.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::support::{PATIENCE, Running, World, wait_until};

/// How long an endless stream is listened to.
const GLANCE: Duration = Duration::from_millis(20);
/// Bytes of an answer that are kept.
const ANSWER_BYTES: u64 = 128 * 1024 * 1024;

/// A running host.
pub struct Server {
    running: Running,
    pub address: String,
}

impl Server {
    /// Starts a host on this world's ledger, and waits until it can be found.
    pub fn start(world: &World, flags: &[&str]) -> Self {
        let log = File::create(world.path("serve.log")).unwrap();
        let found = world.data().join("host.json");
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--drain", "5s"];
        let mut command = world.hb(arguments.iter().chain(flags));
        let running = Running::start(command.stderr(log));
        let mut address = None;
        wait_until("the host can be found", || {
            let text = fs::read(&found).unwrap_or_default();
            let host: Value = serde_json::from_slice(&text).unwrap_or_default();
            let is_new = host["pid"] == running.pid();
            let url = host["urls"][0].as_str().filter(|_| is_new);
            address = url.map(|url| url.trim_start_matches("http://").to_owned());
            address.is_some()
        });
        Self { running, address: address.unwrap() }
    }

    /// Whether the same process still answers.
    pub fn lives(&self, world: &World) -> bool {
        let text = fs::read(world.data().join("host.json")).unwrap();
        let host: Value = serde_json::from_slice(&text).unwrap();
        host["pid"] == self.running.pid() && self.get("/livez").status == 200
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are and reads one answer; none when the host closes without one.
    pub fn exchange(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // A host that has heard enough may answer before everything is sent.
        let _ = stream.write_all(bytes);
        Answer::read(&mut stream, bytes.starts_with(b"HEAD "))
    }

    /// Reads a stream that has an end, to its end.
    pub fn listen(&self, target: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&Request::new("GET", target).bytes(&self.address)).unwrap();
        Answer::read_until(&mut stream, false, PATIENCE).unwrap()
    }

    /// Sends a request; every whole request is answered.
    #[track_caller]
    pub fn send(&self, request: &Request) -> Answer {
        let answer = self.exchange(&request.bytes(&self.address));
        answer.unwrap_or_else(|| panic!("no answer to {request:?}"))
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.send(&Request::new("GET", target))
    }

    #[track_caller]
    pub fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(&Request::new("POST", target).json(body))
    }

    /// Uploads bytes; their digest.
    pub fn upload(&self, bytes: &[u8]) -> String {
        let answer =
            self.send(&Request::new("POST", "/v1/blobs").body("application/octet-stream", bytes));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["digest"].as_str().unwrap().to_owned()
    }

    /// Submits a manifest and waits for the end: the job as it is then.
    pub fn run(&self, manifest: &Value) -> Value {
        let answer = self.post("/v1/jobs", manifest);
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        let job = answer.json()["url"].as_str().unwrap().to_owned();
        let mut shown = Value::Null;
        wait_until("the job is over", || {
            shown = self.get(&job).json();
            shown["conclusion"].is_object()
        });
        shown
    }

    /// Asks the host to stop, and demands that it does so in good order.
    pub fn stop(self) {
        self.running.signal("TERM");
        self.running.finish().ok();
    }
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, media_type: &str, bytes: &[u8]) -> Self {
        self.body = Some(bytes.to_vec());
        self.header("Content-Type", media_type)
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", &serde_json::to_vec(body).unwrap())
    }

    /// The request on the wire, to the host at this address.
    pub fn bytes(&self, address: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut add = |name: &str, value: &[u8]| {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        };
        let has = |name: &str| self.headers.iter().any(|(one, _)| one.eq_ignore_ascii_case(name));
        if !has("host") {
            add("Host", address.as_bytes());
        }
        add("Connection", b"close");
        for (name, value) in &self.headers {
            add(name, value);
        }
        if let Some(body) = &self.body {
            add("Content-Length", body.len().to_string().as_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

/// One answer.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(2000)]);
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a problem.
    #[track_caller]
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Reads one answer. Of a stream that has no end only the beginning is read.
    pub fn read(stream: &mut TcpStream, head_only: bool) -> Option<Self> {
        Self::read_until(stream, head_only, GLANCE)
    }

    /// Reads one answer; a stream until it is silent for so long.
    fn read_until(stream: &mut TcpStream, head_only: bool, silence: Duration) -> Option<Self> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = find(&bytes, b"\r\n\r\n") {
                break end;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(count) => bytes.extend(&piece[..count]),
            }
        };
        let body = bytes.split_off(end + 4);
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let headers = lines.filter_map(header).collect();
        let mut answer = Self { status, headers, body };
        if !head_only && status != 204 && status != 304 {
            answer.read_body(stream, silence);
        }
        Some(answer)
    }

    fn read_body(&mut self, stream: &mut TcpStream, silence: Duration) {
        let has_end = self.header("content-length").is_some();
        if !has_end && self.status == 200 && self.header("content-type") != Some("application/json")
        {
            stream.set_read_timeout(Some(silence)).unwrap();
        }
        let length = self.header("content-length").map(|text| text.parse::<usize>().unwrap());
        let chunked = self.header("transfer-encoding") == Some("chunked");
        let missing = length.map_or(ANSWER_BYTES, |length| (length - self.body.len()) as u64);
        // Where the connection is cut or the glance is over, what has come is the answer.
        let _ = stream.take(missing).read_to_end(&mut self.body);
        if chunked {
            self.body = unchunked(&self.body);
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// What chunks hold, as far as they are whole (RFC 9112, section 7.1).
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let length = str::from_utf8(&bytes[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let Some(chunk) = bytes.get(end + 2..end + 2 + length) else { break };
        body.extend(chunk);
        bytes = bytes.get(end + 4 + length..).unwrap_or_default();
    }
    body
}

/// Ends the sending side: the host hears that nothing more comes.
pub fn finish_sending(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
}
