//! HTTP/2, with prior knowledge.

use std::{net::SocketAddr, time::Duration};

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use crate::support::{Server, config, soon};

pub type Sender = SendRequest<Full<Bytes>>;

pub async fn speak<S>(stream: S) -> (Sender, JoinHandle<hyper::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = soon(handshake).await.unwrap();
    (sender, tokio::spawn(connection))
}

pub fn request(address: SocketAddr, method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(format!("http://{address}{path}"))
}

pub async fn body(response: Response<Incoming>) -> Vec<u8> {
    soon(response.into_body().collect()).await.unwrap().to_bytes().to_vec()
}

async fn problem(response: Response<Incoming>, code: &str) {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let json: Value = serde_json::from_slice(&body(response).await).unwrap();
    assert_eq!(json["code"], code);
}

#[tokio::test]
async fn http_2_is_understood_without_being_negotiated() {
    let server = Server::plain().await;
    let address = server.address();
    let (mut sender, connection) = speak(TcpStream::connect(address).await.unwrap()).await;
    let echo = request(address, "POST", "/echo").body(Full::from("hello")).unwrap();
    let response = soon(sender.send_request(echo)).await.unwrap();
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert_eq!(body(response).await, b"hello");
    let nowhere = request(address, "GET", "/nowhere").body(Full::default()).unwrap();
    problem(soon(sender.send_request(nowhere)).await.unwrap(), "not-found").await;
    let head = request(address, "HEAD", "/nowhere").body(Full::default()).unwrap();
    let response = soon(sender.send_request(head)).await.unwrap();
    assert_eq!(response.status(), 404);
    assert_eq!(body(response).await, b"");
    let foreign = Request::builder().uri(format!("http://evil.example:{}/livez", address.port()));
    let foreign = foreign.body(Full::default()).unwrap();
    problem(soon(sender.send_request(foreign)).await.unwrap(), "host-not-allowed").await;
    drop(sender);
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn many_requests_at_once_share_a_connection() {
    let server = Server::plain().await;
    let address = server.address();
    let (sender, _connection) = speak(TcpStream::connect(address).await.unwrap()).await;
    let asked: Vec<_> = (0..50)
        .map(|number| {
            let mut sender = sender.clone();
            let path = format!("/number/{number}");
            let request = request(address, "GET", &path).body(Full::default()).unwrap();
            tokio::spawn(async move { body(sender.send_request(request).await.unwrap()).await })
        })
        .collect();
    for (number, answer) in asked.into_iter().enumerate() {
        assert_eq!(soon(answer).await.unwrap(), number.to_string().into_bytes());
    }
}

#[tokio::test]
async fn bounds_hold_for_streams_too() {
    let server = Server::start(config(|bounds| {
        bounds.body_bytes = 1024;
        bounds.header_bytes = 1024;
    }))
    .await;
    let address = server.address();
    let (mut sender, _connection) = speak(TcpStream::connect(address).await.unwrap()).await;
    let large = request(address, "POST", "/echo").body(Full::from(vec![b'a'; 2000])).unwrap();
    problem(soon(sender.send_request(large)).await.unwrap(), "too-large").await;
    let long = request(address, "GET", "/livez").header("x-long", "a".repeat(1200));
    let long = long.body(Full::default()).unwrap();
    problem(soon(sender.send_request(long)).await.unwrap(), "header-too-large").await;
    let longer = request(address, "GET", "/livez").header("x-long", "a".repeat(5000));
    let longer = longer.body(Full::default()).unwrap();
    if let Ok(response) = soon(sender.send_request(longer)).await {
        assert_eq!(response.status(), 431);
    }
    server.is_alive().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_though_it_answers_pings() {
    let server = Server::start(config(|bounds| {
        bounds.idle_ms = 100;
        bounds.header_ms = 100;
    }))
    .await;
    let address = server.address();
    let (mut sender, connection) = speak(TcpStream::connect(address).await.unwrap()).await;
    let livez = request(address, "GET", "/livez").body(Full::default()).unwrap();
    assert_eq!(soon(sender.send_request(livez)).await.unwrap().status(), 200);
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_ignores_the_farewell_is_dropped() {
    let server = Server::start(config(|bounds| {
        bounds.idle_ms = 100;
        bounds.header_ms = 100;
    }))
    .await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    // The preface and empty settings; after that it only listens.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut client = crate::support::Client::new(stream);
    client.closed().await;
    server.is_alive().await;
}

#[tokio::test]
async fn what_is_in_flight_is_answered_before_the_end() {
    let server = Server::plain().await;
    let address = server.address();
    let (mut sender, connection) = speak(TcpStream::connect(address).await.unwrap()).await;
    let held = request(address, "GET", "/held").body(Full::default()).unwrap();
    let asked = tokio::spawn(async move { sender.send_request(held).await });
    server.held.one_begun().await;
    server.shutdown.request();
    server.held.release.add_permits(1);
    let response = soon(asked).await.unwrap().unwrap();
    assert_eq!(body(response).await, b"held");
    assert_eq!(server.ended().await.cut, 0);
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_in_a_rush_are_stopped() {
    let server = Server::plain().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let rush = async {
        for number in 0..100_000_u32 {
            let id = (number * 2 + 1).to_be_bytes();
            let mut frames = Vec::new();
            // HEADERS with end of headers: `:method GET`, `:path /`, `:scheme http`; then RST_STREAM.
            frames.extend([0, 0, 3, 1, 4]);
            frames.extend(id);
            frames.extend([0x82, 0x84, 0x86]);
            frames.extend([0, 0, 4, 3, 0]);
            frames.extend(id);
            frames.extend([0, 0, 0, 8]);
            if stream.write_all(&frames).await.is_err() {
                return;
            }
        }
        panic!("the host took all of it");
    };
    tokio::time::timeout(Duration::from_mins(1), rush).await.unwrap();
    server.is_alive().await;
}

#[tokio::test]
async fn a_stream_that_is_not_taken_ends_the_connection_though_it_answers_pings() {
    let server = Server::start(config(|bounds| {
        bounds.stall_ms = 200;
        bounds.body_bytes = 16 * 1024 * 1024;
    }))
    .await;
    let address = server.address();
    let (mut sender, connection) = speak(TcpStream::connect(address).await.unwrap()).await;
    let large = Full::from(vec![b'a'; 10 * 1024 * 1024]);
    let echo = request(address, "POST", "/echo").body(large).unwrap();
    let unread = soon(sender.send_request(echo)).await.unwrap();
    assert_eq!(unread.status(), 200);
    // The client's window is full, and nobody makes room.
    let _ = soon(connection).await;
    drop(unread);
    server.is_alive().await;
}
