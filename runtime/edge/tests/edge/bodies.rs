//! Bodies that are too large or too slow.

use crate::support::{LARGE_BYTES, Server, config, soon};

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_sent() {
    let server = Server::start(config(|bounds| bounds.body_bytes = 1024)).await;
    for (path, limit) in [("/echo", 1024), ("/large", LARGE_BYTES)] {
        let method = if path == "/large" { "PUT" } else { "POST" };
        let mut client = server.connect().await;
        let length = format!("Content-Length: {}\r\n", limit + 1);
        client.send(server.request(method, path, &length, "")).await;
        let answer = client.answer().await;
        let problem = answer.is_problem("too-large");
        assert_eq!(problem["limit_bytes"], limit, "{path}");
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(client.closed().await, b"");
    }
    server.is_alive().await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_does_not_send_what_is_too_large() {
    let server = Server::start(config(|bounds| bounds.body_bytes = 1024)).await;
    let mut client = server.connect().await;
    let expects = "Expect: 100-continue\r\nContent-Length: 5000\r\n";
    client.send(server.request("POST", "/echo", expects, "")).await;
    client.answer().await.is_problem("too-large");
    let mut client = server.connect().await;
    let expects = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    client.send(server.request("POST", "/echo", expects, "")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.text(), "hello");
}

#[tokio::test]
async fn a_chunked_body_is_read_up_to_the_bound_and_no_further() {
    let server = Server::start(config(|bounds| bounds.body_bytes = 10_000)).await;
    let chunk = format!("3e8\r\n{}\r\n", "a".repeat(1000));
    let chunked = "Transfer-Encoding: chunked\r\n";
    let mut client = server.connect().await;
    let body = format!("{}0\r\n\r\n", chunk.repeat(10));
    client.send(server.request("POST", "/echo", chunked, "") + &body).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.len()), (200, 10_000));
    assert_eq!(answer.header("connection"), "close", "its length may be told in two ways");
    let mut client = server.connect().await;
    client.send(server.request("POST", "/echo", chunked, "")).await;
    // Without an end.
    soon(async { while client.try_send(&chunk).await.is_ok() {} }).await;
    let mut client = server.connect().await;
    client.send(server.request("POST", "/echo", chunked, "") + &chunk.repeat(11)).await;
    client.answer().await.is_problem("too-large");
    server.is_alive().await;
}

#[tokio::test]
async fn a_route_may_take_more_than_is_usual() {
    let server = Server::start(config(|bounds| bounds.body_bytes = 1024)).await;
    let body = "a".repeat(usize::try_from(LARGE_BYTES).unwrap());
    let answer = server.ask(&server.request("PUT", "/large", "", &body)).await;
    assert_eq!(answer.text(), LARGE_BYTES.to_string());
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up() {
    let server = Server::start(config(|bounds| {
        bounds.body_grace_ms = 200;
        bounds.body_bytes_per_second = 100_000;
    }))
    .await;
    for path in ["/echo", "/lenient"] {
        let mut client = server.connect().await;
        client.send(server.request("POST", path, "Content-Length: 500\r\n", "")).await;
        client.send("a few bytes").await;
        let answer = client.answer().await;
        let problem = answer.is_problem("request-timeout");
        assert!(problem["detail"].as_str().unwrap().contains("11 bytes"), "{problem}");
        assert_eq!(answer.header("connection"), "close");
        client.closed().await;
    }
    server.is_alive().await;
}

#[tokio::test]
async fn a_handler_that_takes_its_time_is_not_held_against_the_client() {
    let server = Server::start(config(|bounds| bounds.body_grace_ms = 1)).await;
    let mut client = server.connect().await;
    client.send(server.request("POST", "/held", "", "some body")).await;
    server.held.one_begun().await;
    let mut other = server.connect().await;
    other.send(server.request("POST", "/echo", "", "all at once")).await;
    assert_eq!(other.answer().await.text(), "all at once");
    server.held.release.add_permits(1);
    assert_eq!(client.answer().await.text(), "held");
}

#[tokio::test]
async fn an_answer_arrives_though_the_client_is_still_sending() {
    let server = Server::plain().await;
    let mut client = server.connect().await;
    client.send(server.request("POST", "/ignore", "Content-Length: 900000\r\n", "")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ignored"));
    assert_eq!(answer.header("connection"), "close");
    // Many clients read the answer only when they have sent everything, and a reset would take it from them.
    for _ in 0..9 {
        client.send("a".repeat(100_000)).await;
    }
    assert_eq!(client.closed().await, b"");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_of_the_client() {
    let server = Server::plain().await;
    let mut client = server.connect().await;
    client.send(server.request("POST", "/echo", "Content-Length: 500\r\n", "")).await;
    client.send("half").await;
    drop(client);
    server.is_alive().await;
}
