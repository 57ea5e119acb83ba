//! More connections than there may be, and clients that take nothing.

use crate::support::{Server, config, soon};

#[tokio::test]
async fn connections_beyond_the_bound_wait_until_one_ends() {
    let server = Server::start(config(|bounds| bounds.connections = 4)).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        client.send(server.request("GET", "/livez", "", "")).await;
        assert_eq!(client.answer().await.status, 200);
        open.push(client);
    }
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = server.connect().await;
        client.send(server.request("GET", "/livez", "Connection: close\r\n", "")).await;
        waiting.push(client);
    }
    // Nobody is accepted while the four are open: the first one of them is answered before the waiting ones.
    open[0].send(server.request("GET", "/livez", "", "")).await;
    assert_eq!(open[0].answer().await.status, 200);
    drop(open);
    for mut client in waiting {
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn hundreds_of_idle_connections_are_no_burden() {
    let server = Server::plain().await;
    let mut open = Vec::new();
    // Both ends are files of this process, of which it may have a thousand.
    for _ in 0..400 {
        open.push(server.connect().await);
    }
    server.is_alive().await;
    drop(open);
    server.is_alive().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let server = Server::start(config(|bounds| {
        bounds.stall_ms = 200;
        bounds.body_bytes = 256 * 1024 * 1024;
        bounds.connections = 2;
    }))
    .await;
    let mut deaf = server.connect().await;
    // More than the buffers of both sockets hold.
    let body = "a".repeat(64 * 1024 * 1024);
    deaf.send(server.request("POST", "/echo", "", &body)).await;
    let mut held = server.connect().await;
    held.send(server.request("GET", "/held", "", "")).await;
    server.held.one_begun().await;
    // Its place is free again once it is given up: nobody else could be answered before.
    soon(server.is_alive()).await;
}

#[tokio::test]
async fn a_client_that_takes_its_time_gets_all_of_a_large_answer() {
    let server = Server::start(config(|bounds| {
        bounds.idle_ms = 50;
        bounds.header_ms = 50;
        bounds.body_bytes = 64 * 1024 * 1024;
    }))
    .await;
    let mut slow = server.connect().await;
    let body = "a".repeat(32 * 1024 * 1024);
    slow.send(server.request("POST", "/echo", "", &body)).await;
    let head = slow.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut left = body.len();
    while left > 0 {
        let part = left.min(256 * 1024);
        slow.take(part).await;
        left -= part;
        // Not to wait for something, but to be slow.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
