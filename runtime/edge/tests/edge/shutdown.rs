//! The end: what is in flight finishes, streams are told, and nobody waits for ever.

use tokio::net::TcpStream;

use crate::support::{Server, config, soon};

#[tokio::test]
async fn what_is_in_flight_is_answered_and_then_the_connection_is_closed() {
    let server = Server::plain().await;
    let address = server.address();
    let mut held = server.connect().await;
    held.send(server.request("GET", "/held", "", "")).await;
    server.held.one_begun().await;
    server.shutdown.request();
    // Nothing new is accepted once the socket is closed.
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    server.held.release.add_permits(1);
    let answer = held.answer().await;
    assert_eq!(answer.text(), "held");
    assert_eq!(held.closed().await, b"");
    assert_eq!(server.ended().await.cut, 0);
}

#[tokio::test]
async fn idle_connections_are_closed_at_once() {
    let server = Server::plain().await;
    let mut fresh = server.connect().await;
    let mut idle = server.connect().await;
    idle.send(server.request("GET", "/livez", "", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    assert_eq!(server.stop().await.cut, 0);
    assert_eq!(idle.closed().await, b"");
    assert_eq!(fresh.closed().await, b"");
}

#[tokio::test]
async fn a_stream_that_listens_for_the_end_ends_whole() {
    let server = Server::plain().await;
    let mut client = server.connect().await;
    client.send(server.request("GET", "/stream", "", "")).await;
    client.read_until("data: first\n\n").await;
    assert_eq!(server.stop().await.cut, 0);
    assert_eq!(
        client.closed().await,
        b"\r\n0\r\n\r\n",
        "the last chunk says that nothing is missing"
    );
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut() {
    let server = Server::start(config(|bounds| bounds.drain_ms = 100)).await;
    let mut endless = server.connect().await;
    endless.send(server.request("GET", "/endless", "", "")).await;
    endless.read_until("data: first\n\n").await;
    server.held.one_begun().await;
    let mut held = server.connect().await;
    held.send(server.request("GET", "/held", "", "")).await;
    server.held.one_begun().await;
    assert_eq!(server.stop().await.cut, 2);
    assert_eq!(endless.closed().await, b"\r\n", "no last chunk: the client knows that it was cut");
    assert_eq!(held.closed().await, b"");
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let server = Server::start(config(|bounds| bounds.drain_ms = 3_600_000)).await;
    let mut held = server.connect().await;
    held.send(server.request("GET", "/held", "", "")).await;
    server.held.one_begun().await;
    server.shutdown.request();
    server.shutdown.close();
    assert_eq!(server.ended().await.cut, 1);
}
