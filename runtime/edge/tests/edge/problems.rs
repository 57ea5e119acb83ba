//! Every error answer is a problem, whoever gives it.

use crate::support::{Server, config};

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems() {
    let server = Server::plain().await;
    let answer = server.get("/no/such/path", "").await;
    assert!(answer.is_problem("not-found")["detail"].as_str().unwrap().contains("/no/such/path"));
    let answer = server.ask(&server.request("DELETE", "/echo", "", "")).await;
    answer.is_problem("method-not-allowed");
    assert_eq!(answer.header("allow"), "POST");
    let host = &server.addresses[0];
    let answer = server.ask(&server.request("CONNECT", host, "", "")).await;
    answer.is_problem("method-not-allowed");
    assert!(answer.headers.contains_key("allow"));
    server.ask(&server.request("OPTIONS", "*", "", "")).await.is_problem("not-found");
}

#[tokio::test]
async fn what_extractors_reject_is_a_problem_that_names_the_place() {
    let server = Server::plain().await;
    let detail = |answer: crate::support::Answer, code: &str| {
        answer.is_problem(code)["detail"].as_str().unwrap().to_owned()
    };
    let json = "Content-Type: application/json\r\n";
    let wrong = server.ask(&server.request("POST", "/json", json, r#"{"count": "many"}"#)).await;
    let wrong = detail(wrong, "bad-request");
    assert!(wrong.contains("count") && wrong.contains("line 1"), "{wrong}");
    let unknown = server.ask(&server.request("POST", "/json", json, r#"{"count":1,"a":2}"#)).await;
    assert!(detail(unknown, "bad-request").contains("unknown field `a`"));
    let broken = server.ask(&server.request("POST", "/json", json, "{")).await;
    detail(broken, "bad-request");
    let typeless = server.ask(&server.request("POST", "/json", "", "{}")).await;
    detail(typeless, "unsupported-media-type");
    let packed = format!("{json}Content-Encoding: gzip\r\n");
    let packed = server.ask(&server.request("POST", "/json", &packed, "{}")).await;
    detail(packed, "unsupported-media-type");
    let path = detail(server.get("/number/many", "").await, "bad-request");
    assert!(path.contains("many"), "{path}");
    let query = detail(server.get("/search?limit=many", "").await, "bad-request");
    assert!(query.contains("invalid digit"), "{query}");
    detail(server.get("/search", "").await, "bad-request");
    let good = server.ask(&server.request("POST", "/json", json, r#"{"count": 3}"#)).await;
    assert_eq!((good.status, good.text().as_str()), (200, "3"));
}

#[tokio::test]
async fn what_a_stranger_sent_cannot_forge_lines_where_it_is_quoted() {
    let server = Server::plain().await;
    let answer = server.get("/number/a%0d%0ab%1b[2J", "").await;
    let problem = answer.is_problem("bad-request");
    let detail = problem["detail"].as_str().unwrap();
    assert!(!detail.contains(['\r', '\n', '\u{1b}']), "{detail:?}");
}

#[tokio::test]
async fn a_panicking_handler_answers_500_without_its_message_and_the_host_lives() {
    let server = Server::plain().await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send(server.request("GET", "/panic", "", "")).await;
        let answer = client.answer().await;
        answer.is_problem("internal");
        assert!(!answer.text().contains("secret of the house"));
    }
    server.is_alive().await;
}

#[tokio::test]
async fn error_answers_without_a_problem_become_one_and_lose_their_text() {
    let server = Server::plain().await;
    for (status, code) in [
        (404, "not-found"),
        (418, "bad-request"),
        (500, "internal"),
        (502, "internal"),
        (507, "disk-full"),
    ] {
        let answer = server.get(&format!("/bare/{status}"), "").await;
        answer.is_problem(code);
        assert!(!answer.text().contains("text from inside"));
    }
    assert_eq!(server.get("/bare/200", "").await.text(), "text from inside");
}

#[tokio::test]
async fn the_answer_to_a_head_has_the_length_of_the_problem_and_no_body() {
    let server = Server::plain().await;
    let mut client = server.connect().await;
    client.send(server.request("HEAD", "/nowhere", "", "")).await;
    let head = client.read_until("\r\n\r\n").await.to_lowercase();
    assert!(head.contains(" 404 ") && head.contains("application/problem+json"), "{head}");
    assert!(!head.contains("content-length: 0"), "{head}");
    client.send(server.request("GET", "/livez", "", "")).await;
    assert_eq!(client.answer().await.text(), "alive", "no body stood in between");
}

#[tokio::test]
async fn every_answer_is_hardened_and_no_handler_can_open_it_to_other_origins() {
    let server = Server::plain().await;
    let answer = server.get("/open", "").await;
    assert_eq!(answer.status, 200);
    answer.is_hardened();
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    let page = server.get("/page", "").await;
    page.is_hardened();
    assert_eq!(page.header("cache-control"), "max-age=60", "a page says so itself");
    assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_a_problem() {
    let server = Server::start(config(|bounds| {
        bounds.header_bytes = 2048;
        bounds.headers = 20;
    }))
    .await;
    let long = format!("X-Long: {}\r\n", "a".repeat(2100));
    let problem = server.get("/livez", &long).await.is_problem("header-too-large");
    assert_eq!(problem["limit_bytes"], 2048);
    let path = format!("/{}", "a".repeat(2100));
    server.get(&path, "").await.is_problem("header-too-large");
    let many = "A: b\r\n".repeat(25);
    server.get("/livez", &many).await.is_problem("header-too-large");
    server.is_alive().await;
}
