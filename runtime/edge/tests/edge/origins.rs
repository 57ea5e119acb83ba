//! Requests that a browser was made to send.

use hb_edge::EdgeConfig;

use crate::support::{Server, config};

async fn with_host(server: &Server, host: &str) -> crate::support::Answer {
    server.ask(&format!("GET /whoami HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
}

#[tokio::test]
async fn the_listeners_own_names_are_good_and_others_are_not() {
    let server = Server::plain().await;
    let port = server.address().port();
    for own in ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"] {
        assert_eq!(with_host(&server, &format!("{own}:{port}")).await.status, 200, "{own}");
    }
    for foreign in [
        format!("evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("127.0.0.1.nip.io:{port}"),
        format!("127.0.0.2:{port}"),
        format!("0.0.0.0:{port}"),
        "localhost".to_owned(),
        "localhost:1".to_owned(),
    ] {
        with_host(&server, &foreign).await.is_problem("host-not-allowed");
    }
    for malformed in ["", "local host", "user@localhost", "localhost:port", "localhost/"] {
        let answer = with_host(&server, malformed).await;
        assert_eq!(answer.status, 400, "{malformed}");
    }
}

#[tokio::test]
async fn a_request_names_one_host_only() {
    let server = Server::plain().await;
    let host = &server.addresses[0];
    let none = server.ask("GET /whoami HTTP/1.1\r\n\r\n").await;
    none.is_problem("bad-request");
    let two = format!("GET /whoami HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n");
    server.ask(&two).await.is_problem("bad-request");
    let differing = format!("GET http://evil.example/whoami HTTP/1.1\r\nHost: {host}\r\n\r\n");
    server.ask(&differing).await.is_problem("bad-request");
    let foreign = "GET http://evil.example/whoami HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    server.ask(foreign).await.is_problem("host-not-allowed");
    let absolute = format!("GET http://{host}/whoami HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(server.ask(&absolute).await.status, 200);
}

#[tokio::test]
async fn configured_names_are_good_with_or_without_a_port() {
    let server = Server::start(EdgeConfig {
        allowed_hosts: vec!["hb.example".parse().unwrap(), "localhost:8080".parse().unwrap()],
        ..config(|_| {})
    })
    .await;
    for good in ["hb.example", "hb.example:9", "localhost:8080"] {
        assert_eq!(with_host(&server, good).await.status, 200, "{good}");
    }
    with_host(&server, "localhost:8081").await.is_problem("host-not-allowed");
    with_host(&server, "a.hb.example").await.is_problem("host-not-allowed");
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_whatever_the_method() {
    let server = Server::plain().await;
    let port = server.address().port();
    for foreign in [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        "http://localhost".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}/"),
        "file://".to_owned(),
    ] {
        for method in ["GET", "POST", "OPTIONS", "DELETE"] {
            let origin = format!("Origin: {foreign}\r\n");
            let answer = server.ask(&server.request(method, "/whoami", &origin, "")).await;
            answer.is_problem("origin-not-allowed");
        }
    }
    let own = format!("Origin: http://127.0.0.1:{port}\r\n");
    assert_eq!(server.ask(&server.request("POST", "/whoami", &own, "")).await.status, 200);
    let two = format!("{own}{own}");
    server.get("/whoami", &two).await.is_problem("bad-request");
}

#[tokio::test]
async fn a_page_that_sends_no_origin_is_told_by_what_the_browser_says_of_it() {
    let server = Server::plain().await;
    for foreign in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n",
        "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        "Sec-Fetch-Site: nonsense\r\n",
    ] {
        server.get("/whoami", foreign).await.is_problem("origin-not-allowed");
    }
    let visit =
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let posted = server.ask(&server.request("POST", "/whoami", visit, "")).await;
    posted.is_problem("origin-not-allowed");
    for own in ["Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n", visit] {
        assert_eq!(server.get("/whoami", own).await.status, 200, "{own}");
    }
}

#[tokio::test]
async fn a_configured_origin_may_call_and_gets_no_cors_headers() {
    let server = Server::start(EdgeConfig {
        allowed_origins: vec!["https://hb.example".parse().unwrap()],
        ..config(|_| {})
    })
    .await;
    let answer = server.get("/open", "Origin: https://hb.example\r\n").await;
    assert_eq!(answer.status, 200);
    answer.is_hardened();
    server.get("/open", "Origin: http://hb.example\r\n").await.is_problem("origin-not-allowed");
}
