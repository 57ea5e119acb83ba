//! Requests whose head is too slow, too large, or not HTTP; and two lengths at once.

use std::time::Duration;

use crate::support::{Client, Server, config, soon};

#[tokio::test]
async fn a_head_that_does_not_end_in_time_closes_the_connection() {
    let server = Server::start(config(|bounds| bounds.header_ms = 300)).await;
    for begun in ["", "G", "GET /livez HTTP/1.1\r\nHost: localhost\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut client = server.connect().await;
        client.send(begun).await;
        assert_eq!(client.closed().await, b"", "{begun:?}");
    }
    server.is_alive().await;
}

#[tokio::test]
async fn a_trickle_of_headers_gains_no_time() {
    let server = Server::start(config(|bounds| {
        bounds.header_ms = 300;
        bounds.idle_ms = 60_000;
    }))
    .await;
    let mut client = server.connect().await;
    // The second request of a connection, so that it is not only the first that is timed.
    client.send(server.request("GET", "/livez", "", "")).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("GET /livez HTTP/1.1\r\n").await;
    let trickle = async {
        while client.try_send("A: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(trickle).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_working_one_is_not() {
    let server = Server::start(config(|bounds| {
        bounds.header_ms = 100;
        bounds.idle_ms = 100;
    }))
    .await;
    let mut idle = server.connect().await;
    idle.send(server.request("GET", "/livez", "", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut working = server.connect().await;
    working.send(server.request("GET", "/held", "", "")).await;
    server.held.one_begun().await;
    assert_eq!(idle.closed().await, b"");
    // By now the working one has been silent for as long.
    server.held.release.add_permits(1);
    assert_eq!(working.answer().await.text(), "held");
}

#[tokio::test]
async fn a_head_beyond_everything_is_refused_without_being_kept() {
    let server = Server::start(config(|bounds| bounds.header_bytes = 2048)).await;
    let mut client = server.connect().await;
    let mut request = server.request("GET", "/livez", "", "");
    request.truncate(request.len() - 2);
    client.send(&request).await;
    let sent = async {
        // More than is buffered anywhere on the way.
        for _ in 0..10_000 {
            if client.try_send(format!("X: {}\r\n", "a".repeat(1000))).await.is_err() {
                return;
            }
        }
    };
    soon(sent).await;
    let answer = String::from_utf8(client.closed().await).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    server.is_alive().await;
}

#[tokio::test]
async fn what_is_not_http_closes_the_connection_and_harms_nobody() {
    let server = Server::plain().await;
    let tls_hello =
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n";
    let garbage: [&[u8]; 9] = [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHo\x00st: localhost\r\n\r\n",
        tls_hello,
    ];
    for bytes in garbage {
        let mut client = server.connect().await;
        client.send(bytes).await;
        let answer = String::from_utf8_lossy(&client.closed().await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
    server.is_alive().await;
}

#[tokio::test]
async fn random_bytes_never_get_an_answer_other_than_a_refusal() {
    let server = Server::plain().await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..16 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.extend(seed.to_le_bytes());
        }
        bytes.extend(b"\r\n\r\n");
        let mut client = server.connect().await;
        client.send(&bytes).await;
        let answer = client.closed().await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    server.is_alive().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::plain().await;
    let mut client = server.connect().await;
    let requests: String =
        (0..50).map(|number| server.request("GET", &format!("/number/{number}"), "", "")).collect();
    client.send(requests).await;
    for number in 0..50 {
        assert_eq!(client.answer().await.text(), number.to_string());
    }
}

/// Sends two requests in one, in a form over whose length two parsers may differ.
async fn smuggled(server: &Server, headers: &str, body: &str) -> Vec<u16> {
    let host = &server.addresses[0];
    let hidden = format!("GET /number/666 HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut client: Client<_> = server.connect().await;
    client
        .send(format!("POST /echo HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n{body}{hidden}"))
        .await;
    let mut statuses = Vec::new();
    while let Some(answer) = client.try_answer().await {
        assert_ne!(answer.text(), "666", "the hidden request was answered");
        statuses.push(answer.status);
    }
    statuses
}

#[tokio::test]
async fn a_request_with_two_lengths_hides_no_other() {
    let server = Server::plain().await;
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(smuggled(&server, both, "0\r\n\r\n").await, [200]);
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    assert_eq!(smuggled(&server, both, "0\r\n\r\n").await, [200]);
    for refused in [
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "Content-Length: 5, 0\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
    ] {
        assert_eq!(smuggled(&server, refused, "0\r\n\r\n").await, [400], "{refused:?}");
    }
    server.is_alive().await;
}

#[tokio::test]
async fn malformed_chunks_end_the_connection() {
    let server = Server::plain().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for body in [
        "zz\r\n",
        "5\r\nhello!!\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
    ] {
        let statuses = smuggled(&server, chunked, body).await;
        assert!(statuses.iter().all(|status| *status == 400), "{body:?}: {statuses:?}");
    }
    server.is_alive().await;
}
