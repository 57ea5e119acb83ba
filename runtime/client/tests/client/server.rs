//! A host that does exactly what a test tells it to, byte by byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hb_client::{Client, ClientOptions, Patience};

/// A request as it arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Method, path and query.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn body_bytes(&self) -> u64 {
        self.header("content-length").map_or(0, |text| text.parse().unwrap())
    }

    fn read_head(stream: &mut impl BufRead) -> Self {
        let mut request = Self::default();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        line.trim_end().trim_end_matches(" HTTP/1.1").clone_into(&mut request.line);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        request
    }

    pub fn read(stream: &mut impl BufRead) -> Self {
        let mut request = Self::read_head(stream);
        let count = request.body_bytes();
        stream.take(count).read_to_end(&mut request.body).unwrap();
        request
    }
}

/// What becomes of one connection. Each is closed after its step.
pub enum Step {
    /// Read a request, then send these bytes.
    Answer(Vec<u8>),
    /// Read a request, but only this much of its body, and break the connection.
    BreakAfter(u64),
}

/// An answer with a status, headers and a body.
pub fn answer(status: u16, headers: &str, body: &str) -> Step {
    Step::Answer(
        format!(
            "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

pub fn ok(body: &str) -> Step {
    answer(200, "Content-Type: application/json\r\n", body)
}

pub fn problem(status: u16, headers: &str, code: &str, more: &str) -> Step {
    let body = format!(
        r#"{{"type": "https://host/errors/{code}", "title": "T", "status": {status}, "detail": "detail of {code}"{more}}}"#
    );
    answer(status, &format!("Content-Type: application/problem+json\r\n{headers}"), &body)
}

/// The beginning of a stream, which ends with its connection.
pub fn events(text: &str) -> Step {
    Step::Answer(
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{text}").into_bytes(),
    )
}

pub struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves one connection a step, in order.
    pub fn start(steps: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for step in steps {
                let (stream, _) = listener.accept().unwrap();
                assert!(!over.load(Ordering::SeqCst), "a connection more was expected");
                serve(stream, step, &seen);
            }
        });
        Self { address, requests, is_over, thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        self.client_with(None)
    }

    pub fn client_with(&self, token: Option<&str>) -> Client {
        let options = ClientOptions {
            server: self.address.clone(),
            token: token.map(str::to_owned),
            patience: QUICK,
            ..ClientOptions::default()
        };
        Client::new(&options).unwrap()
    }

    /// Every request, once all steps are done.
    #[track_caller]
    pub fn requests(mut self) -> Vec<Request> {
        // Whoever still waits for a connection gets this one, and sees that no other will come.
        self.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

/// Tests wait for nothing that does not happen.
pub const QUICK: Patience = Patience {
    total: Duration::from_secs(20),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(5),
};

fn serve(mut stream: TcpStream, step: Step, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    match step {
        Step::Answer(bytes) => {
            seen.lock().unwrap().push(Request::read(&mut reader));
            // A client that knows enough may have gone.
            let _ = stream.write_all(&bytes);
        }
        Step::BreakAfter(bytes) => {
            let mut request = Request::read_head(&mut reader);
            reader.by_ref().take(bytes).read_to_end(&mut request.body).unwrap();
            seen.lock().unwrap().push(request);
        }
    }
}
