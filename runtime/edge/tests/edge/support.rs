//! A host with some routes, and a client that can send anything.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header::ACCESS_CONTROL_ALLOW_ORIGIN},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use hb_edge::{
    Bounds, Connection, Edge, EdgeConfig, Problem, Served, Shutdown,
    body::at_most,
    codes::Code,
    extract::{Json, Path, Query},
    listen::Address,
    tokens::{Principal, Scope, require},
    trace::{AuditSubject, RequestId, TraceContext},
};
use http_body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinHandle,
};

/// Nothing here takes that long; a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `/large` takes.
pub const LARGE_BYTES: u64 = 64 * 1024;

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it does not take that long")
}

/// A configuration with some bounds of its own.
pub fn config(change: impl FnOnce(&mut Bounds)) -> EdgeConfig {
    let mut config = EdgeConfig { listen: vec![any_port()], ..EdgeConfig::default() };
    change(&mut config.bounds);
    config
}

pub fn any_port() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

/// What the test and the handlers of `/held` and `/stream` tell each other.
#[derive(Clone, Debug)]
pub struct Held {
    /// One permit for each handler that has begun.
    pub begun: Arc<Semaphore>,
    /// One permit for each handler that may end.
    pub release: Arc<Semaphore>,
}

impl Held {
    /// Waits until one more handler has begun.
    pub async fn one_begun(&self) {
        soon(self.begun.acquire()).await.unwrap().forget();
    }
}

pub struct Server {
    pub addresses: Vec<String>,
    pub shutdown: Shutdown,
    pub held: Held,
    serving: JoinHandle<Served>,
}

impl Server {
    pub async fn start(config: EdgeConfig) -> Self {
        let edge = Edge::new(config).unwrap().public("/livez").unbounded("/livez");
        let bound = edge.reading("/search").bind().unwrap();
        let held =
            Held { begun: Arc::new(Semaphore::new(0)), release: Arc::new(Semaphore::new(0)) };
        let shutdown = Shutdown::new();
        let addresses = bound.addresses();
        let serving = tokio::spawn(bound.serve(router(held.clone()), shutdown.clone()));
        tokio::task::yield_now().await;
        Self { addresses, shutdown, held, serving }
    }

    pub async fn plain() -> Self {
        Self::start(config(|_| {})).await
    }

    pub fn address(&self) -> SocketAddr {
        self.addresses[0].parse().unwrap()
    }

    pub async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address()).await.unwrap())
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// A `GET` with further header lines.
    pub async fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&self.request("GET", path, headers, "")).await
    }

    /// A request with a body.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let host = &self.addresses[0];
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}\r\n{body}")
    }

    /// It still answers.
    pub async fn is_alive(&self) {
        assert_eq!(self.get("/livez", "").await.status, 200);
    }

    pub async fn stop(self) -> Served {
        self.shutdown.request();
        self.ended().await
    }

    pub async fn ended(self) -> Served {
        soon(self.serving).await.unwrap()
    }
}

pub struct Client<S> {
    stream: S,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends what the host may not want to read any more.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        soon(self.stream.write_all(bytes.as_ref())).await
    }

    async fn read_more(&mut self) -> usize {
        let mut chunk = [0; 4096];
        // A host that cuts the connection may reset it.
        let read = soon(self.stream.read(&mut chunk)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read
    }

    /// The next bytes of an answer that has not ended.
    pub async fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.buffer, end.as_bytes()) {
                let taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            assert_ne!(self.read_more().await, 0, "closed before {end:?}");
        }
    }

    pub async fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes {
            assert_ne!(self.read_more().await, 0, "closed within a body");
        }
        self.buffer.drain(..bytes).collect()
    }

    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer, not the end of the connection")
    }

    /// The next answer; none when the host closes first.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        while find(&self.buffer, b"\r\n\r\n").is_none() {
            if self.read_more().await == 0 {
                assert!(self.buffer.is_empty(), "half an answer");
                return None;
            }
        }
        let head = self.read_until("\r\n\r\n").await;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: axum::http::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body = self.take(length.to_str().unwrap().parse().unwrap()).await;
        } else if headers.contains_key("transfer-encoding") {
            loop {
                let size = self.read_until("\r\n").await;
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                body.extend(self.take(size).await);
                self.read_until("\r\n").await;
                if size == 0 {
                    break;
                }
            }
        }
        Some(Answer { status, headers, body })
    }

    /// Waits until the host closes, and returns what it still sent.
    pub async fn closed(&mut self) -> Vec<u8> {
        while self.read_more().await != 0 {}
        std::mem::take(&mut self.buffer)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.to_str().unwrap()
    }

    /// The answer is a problem with this code, and in every way what a problem should be.
    #[track_caller]
    pub fn is_problem(&self, code: &str) -> Value {
        let expected = Code::named(code).unwrap_or_else(|| panic!("{code} is not in the table"));
        assert_eq!(self.status, expected.status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["code"], code);
        assert_eq!(json["type"], format!("/errors/{code}"));
        assert_eq!(json["title"], expected.title);
        assert_eq!(json["status"], expected.status);
        assert!(!json["detail"].as_str().unwrap().is_empty());
        let id = json["instance"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
        assert_eq!(self.header("x-request-id"), id);
        self.is_hardened();
        json
    }

    /// Browsers are told to do as little as possible with it.
    #[track_caller]
    pub fn is_hardened(&self) {
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert_eq!(self.header("x-frame-options"), "DENY");
        assert_eq!(self.header("referrer-policy"), "no-referrer");
        assert!(self.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(self.headers.contains_key("cache-control"));
        let opened = self.headers.keys().find(|name| name.as_str().starts_with("access-control"));
        assert_eq!(opened, None, "no answer is for other origins");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thing {
    count: u32,
}

fn router(held: Held) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive" }))
        .route("/whoami", get(whoami).post(whoami))
        .route("/trace", get(trace))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/ignore", post(|| async { "ignored" }))
        .route("/lenient", post(lenient))
        .route("/large", put(length).layer(at_most(LARGE_BYTES)))
        .route("/json", post(|Json(thing): Json<Thing>| async move { thing.count.to_string() }))
        .route("/number/{number}", get(|Path(number): Path<u32>| async move { number.to_string() }))
        .route("/search", get(search).post(search))
        .route("/panic", get(panics).post(panics))
        .route("/held", get(wait).post(wait))
        .route("/stream", get(stream))
        .route("/endless", get(endless))
        .route("/bare/{status}", get(bare))
        .route("/subject", post(subject))
        .route("/open", get(|| async { [(ACCESS_CONTROL_ALLOW_ORIGIN, "*")] }))
        .route("/page", get(page))
        .route("/admin", get(|| async { "admin" }).layer(require(Scope::Admin)))
        .layer(Extension(held))
}

async fn whoami(principal: Principal, Extension(connection): Extension<Connection>) -> Response {
    let body = json!({
        "name": &*principal.name,
        "scope": principal.scope,
        "peer": connection.peer().to_string(),
        "is_tls": connection.is_tls(),
    });
    Json(body).into_response()
}

async fn trace(
    Extension(id): Extension<RequestId>,
    Extension(trace): Extension<TraceContext>,
) -> Response {
    Json(json!({ "id": id.to_string(), "traceparent": trace.to_traceparent() })).into_response()
}

/// A handler that answers faults of the body in its own way.
async fn lenient(request: Request) -> Response {
    match axum::body::to_bytes(request.into_body(), usize::MAX).await {
        Ok(bytes) => bytes.len().to_string().into_response(),
        Err(_) => StatusCode::IM_A_TEAPOT.into_response(),
    }
}

async fn length(body: Bytes) -> String {
    body.len().to_string()
}

#[derive(Deserialize)]
struct Search {
    limit: u32,
}

async fn search(Query(search): Query<Search>) -> String {
    search.limit.to_string()
}

async fn panics() -> Response {
    panic!("secret of the house");
}

async fn wait(Extension(held): Extension<Held>) -> &'static str {
    held.begun.add_permits(1);
    held.release.acquire().await.unwrap().forget();
    "held"
}

async fn bare(Path(status): Path<u16>) -> Response {
    (StatusCode::from_u16(status).unwrap(), "text from inside").into_response()
}

async fn subject() -> Result<Response, Problem> {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(AuditSubject("job kmer-7".to_owned()));
    Ok(response)
}

async fn page() -> Response {
    let policy = "default-src 'self'; frame-ancestors 'none'";
    let headers = [("content-security-policy", policy), ("cache-control", "max-age=60")];
    (headers, axum::response::Html("<p>page</p>")).into_response()
}

/// Events until the shutdown.
async fn stream(
    Extension(shutdown): Extension<Shutdown>,
    Extension(held): Extension<Held>,
) -> Response {
    held.begun.add_permits(1);
    let end = Box::pin(shutdown.requested());
    Body::new(Events { sent: false, end: Some(end) }).into_response()
}

/// Events until the connection is cut.
async fn endless(Extension(held): Extension<Held>) -> Response {
    held.begun.add_permits(1);
    Body::new(Events { sent: false, end: None }).into_response()
}

struct Events {
    sent: bool,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.sent {
            self.sent = true;
            return Poll::Ready(Some(Ok(Frame::data("data: first\n\n".into()))));
        }
        match &mut self.end {
            Some(end) => end.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}
