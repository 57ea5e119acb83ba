//! More requests at once than there may be.

use crate::support::{Server, config, soon};

/// Asks until there is room.
async fn free_again(server: &Server) {
    while server.get("/whoami", "").await.status != 200 {}
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_with_a_time_to_come_back() {
    let server = Server::start(config(|bounds| bounds.requests = 3)).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.send(server.request("GET", "/held", "", "")).await;
        server.held.one_begun().await;
        held.push(client);
    }
    let refused = server.get("/whoami", "").await;
    refused.is_problem("overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    server.is_alive().await;
    server.held.release.add_permits(3);
    for mut client in held {
        assert_eq!(client.answer().await.text(), "held");
    }
    assert_eq!(server.get("/whoami", "").await.status, 200);
}

#[tokio::test]
async fn changes_have_a_bound_of_their_own() {
    let server = Server::start(config(|bounds| bounds.changes = 1)).await;
    let mut held = server.connect().await;
    held.send(server.request("POST", "/held", "", "")).await;
    server.held.one_begun().await;
    let refused = server.ask(&server.request("POST", "/whoami", "", "")).await;
    refused.is_problem("too-many-requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(server.get("/whoami", "").await.status, 200, "reading goes on");
    server.held.release.add_permits(1);
    assert_eq!(held.answer().await.text(), "held");
    assert_eq!(server.ask(&server.request("POST", "/whoami", "", "")).await.status, 200);
}

#[tokio::test]
async fn a_stream_is_an_answer_in_flight_but_no_request() {
    let server = Server::start(config(|bounds| {
        bounds.requests = 1;
        bounds.answers = 2;
    }))
    .await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(server.request("GET", "/stream", "", "")).await;
        client.read_until("data: first\n\n").await;
        streams.push(client);
    }
    server.get("/whoami", "").await.is_problem("overloaded");
    server.is_alive().await;
    drop(streams);
    // The host notices that a watcher is gone when it reads the end of the connection.
    soon(free_again(&server)).await;
}

#[tokio::test]
async fn a_request_whose_client_goes_away_gives_its_place_back() {
    let server = Server::start(config(|bounds| bounds.requests = 1)).await;
    let mut client = server.connect().await;
    client.send(server.request("GET", "/held", "", "")).await;
    server.held.one_begun().await;
    drop(client);
    soon(free_again(&server)).await;
}
