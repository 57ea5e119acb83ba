//! Known attacks on servers of HTTP, against a whole host.
//!
//! What the edge does with each is tested there in detail; here it is shown that a host has that edge,
//! that the answers have their codes, and that it lives.

use std::io::{Read, Write};

use serde_json::{Value, json};

use super::{
    client::{Answer, Request, Server, finish_sending},
    oracle,
};
use crate::support::World;

/// Demands an error with this status and code.
#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    oracle::check("", answer).unwrap_or_else(|why| panic!("{why}: {answer:?}"));
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
}

/// A host, and what is done to it; in the end it lives.
fn on_a_host(attack: impl FnOnce(&Server)) {
    let world = World::new();
    let server = Server::start(&world, &[]);
    attack(&server);
    assert!(server.lives(&world));
    server.stop();
}

#[test]
fn a_name_that_was_bound_to_the_hosts_address_reaches_nothing() {
    on_a_host(|server| {
        let get = |target: &str| Request::new("GET", target);
        for name in
            ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "0.0.0.0", "127.0.0.1:1"]
        {
            refused(&server.send(&get("/v1/status").header("Host", name)), 421, "host-not-allowed");
        }
        let elsewhere = "http://evil.example/v1/status";
        refused(&server.send(&get(elsewhere)), 400, "bad-request");
        let elsewhere = get(elsewhere).header("Host", "evil.example");
        refused(&server.send(&elsewhere), 421, "host-not-allowed");
        for name in ["", "a b", "a/b", "user@127.0.0.1", "[::1].evil", "\u{e9}"] {
            let answer = server.send(&get("/v1/status").header("Host", name));
            assert!(matches!(answer.status, 400 | 421), "{name}: {answer:?}");
        }
        let two = get("/v1/status").header("Host", &server.address).header("Host", "evil.example");
        assert!(matches!(server.send(&two).status, 400 | 421));
        let none =
            server.exchange(b"GET /v1/status HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        assert!(matches!(none.status, 400 | 421), "{none:?}");
    });
}

#[test]
fn a_foreign_page_changes_nothing() {
    on_a_host(|server| {
        for (name, value) in [
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
            ("Origin", "http://127.0.0.1.evil.example"),
            ("Sec-Fetch-Site", "cross-site"),
        ] {
            for target in ["/v1/starts/pause", "/v1/blobs", "/v1/jobs"] {
                let request = Request::new("POST", target).header(name, value).json(&json!({}));
                refused(&server.send(&request), 403, "origin-not-allowed");
            }
        }
        // A form can send no JSON, and what is sent as text is not read as such.
        let form = Request::new("POST", "/v1/jobs").body("text/plain", b"{}");
        refused(&server.send(&form), 415, "unsupported-media-type");
        let asked = Request::new("OPTIONS", "/v1/jobs").header("Origin", "https://evil.example");
        let answer = server.send(&asked.header("Access-Control-Request-Method", "POST"));
        assert!(answer.header("access-control-allow-origin").is_none(), "{answer:?}");
        assert_eq!(server.get("/v1/jobs").json()["jobs"], json!([]));
    });
}

#[test]
fn heads_without_measure_are_refused() {
    on_a_host(|server| {
        let get = || Request::new("GET", "/v1/status");
        refused(&server.send(&get().header("X-Long", "x".repeat(17_000))), 431, "header-too-large");
        let many =
            (0..101).fold(get(), |request, index| request.header(&format!("X-{index}"), "x"));
        refused(&server.send(&many), 431, "header-too-large");
        let long = format!("/v1/jobs/{}", "x".repeat(17_000));
        refused(&server.get(&long), 431, "header-too-large");
        for request in [
            get().header("X-Long", "x".repeat(4_000_000)),
            Request::new("GET", &format!("/{}", "x".repeat(70_000))),
            (0..20_000).fold(get(), |request, index| request.header(&format!("X-{index}"), "x")),
        ] {
            // So large that the connection may be given up instead.
            let answer = server.exchange(&request.bytes(&server.address));
            assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 414 | 431)));
        }
    });
}

#[test]
fn bodies_without_measure_are_refused() {
    on_a_host(|server| {
        let post = |bytes: &[u8]| {
            server.send(&Request::new("POST", "/v1/jobs").body("application/json", bytes))
        };
        refused(&post(&b"[".repeat(100_000)), 400, "invalid-manifest");
        refused(&post(&b"{\"a\":".repeat(100_000)), 400, "invalid-manifest");
        refused(
            &post(&[b"{\"labels\":", &b"[".repeat(100_000)[..]].concat()),
            400,
            "invalid-manifest",
        );
        refused(&post(&vec![b' '; 1024 * 1024 + 1]), 413, "too-large");
        let component = server.upload(b"no component, but a blob");
        let many = |count: usize, value: &str| -> Value {
            (0..count)
                .map(|index| (format!("k{index}"), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        for field in ["labels", "environment", "inputs", "limits"] {
            let value = if field == "inputs" { component.as_str() } else { "" };
            let count = if field == "inputs" { 12_000 } else { 60_000 };
            let answer = server
                .post("/v1/jobs", &json!({"component": component, field: many(count, value)}));
            assert!(field == "inputs" || answer.status == 400, "{field}: {answer:?}");
            oracle::check("", &answer).unwrap();
            let answer = server
                .post("/v1/jobs", &json!({"component": component, field: many(200_000, value)}));
            refused(&answer, 413, "too-large");
        }
        // Labels come back in every list, so they are few.
        let labelled = |count| {
            server.post("/v1/jobs", &json!({"component": component, "labels": many(count, "")}))
        };
        assert_eq!(labelled(64).status, 202);
        refused(&labelled(65), 400, "invalid-manifest");
        let long = json!({"component": component, "labels": {"a": "x".repeat(16 * 1024)}});
        refused(&server.post("/v1/jobs", &long), 400, "invalid-manifest");
        let arguments = vec!["x"; 200_000];
        let answer =
            server.post("/v1/jobs", &json!({"component": component, "arguments": arguments}));
        assert!(matches!(answer.status, 202 | 400), "{answer:?}");
    });
}

#[test]
fn a_body_that_comes_too_slowly_is_given_up() {
    on_a_host(|server| {
        let mut stream = server.connect();
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{",
            server.address
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Nothing more is sent: the host does not wait for ever.
        refused(&Answer::read(&mut stream, false).unwrap(), 408, "request-timeout");
        // A body that ends before its end is no body.
        let mut stream = server.connect();
        stream.write_all(head.replace("/v1/jobs", "/v1/blobs").as_bytes()).unwrap();
        finish_sending(&stream);
        let answer = Answer::read(&mut stream, false);
        assert!(answer.is_none_or(|answer| answer.status == 400));
        let blob = format!("/v1/blobs/{}", blake3::hash(b"{").to_hex());
        refused(&server.get(&blob), 404, "blob-not-found");
    });
}

#[test]
fn what_is_not_there_is_named() {
    on_a_host(|server| {
        let (first, second) = (blake3::hash(b"1").to_string(), blake3::hash(b"2").to_string());
        let manifest = json!({"component": first, "inputs": {"a": second, "b": first}});
        let answer = server.post("/v1/jobs", &manifest);
        refused(&answer, 422, "blob-missing");
        assert_eq!(answer.json()["missing"], json!([first, second]));
        refused(&server.get(&format!("/v1/blobs/{first}")), 404, "blob-not-found");
        refused(&server.get("/v1/jobs/nobody"), 404, "job-not-found");
        refused(&server.get("/v1/jobs/18446744073709551616"), 404, "job-not-found");
        refused(&server.get("/v1/jobs/nobody/artifacts/x"), 404, "job-not-found");
        refused(&server.get("/v1/schedules/nobody"), 404, "schedule-not-found");
        let put = Request::new("PUT", &format!("/v1/blobs/{first}"))
            .body("application/octet-stream", b"other");
        refused(&server.send(&put), 422, "digest-mismatch");
    });
}

#[test]
fn positions_cursors_and_ranges_that_are_none_are_refused_or_passed_over() {
    on_a_host(|server| {
        let blob = format!("/v1/blobs/{}", server.upload(b"0123456789"));
        for id in ["x", "-1", "1:2", "1:2:3:4", "18446744073709551616", "\u{1f4a5}", "1;2", "0x1"] {
            let request = Request::new("GET", "/v1/events").header("Last-Event-ID", id);
            refused(&server.send(&request), 400, "bad-request");
        }
        let last = Request::new("GET", "/v1/events").header("Last-Event-ID", u64::MAX.to_string());
        assert!(matches!(server.send(&last).status, 200 | 400));
        for cursor in ["x", "-1", "%00", "AAAA", "99999999999999999999", "..%2f..", "%f0%9f%92%a5"]
        {
            refused(&server.get(&format!("/v1/jobs?cursor={cursor}")), 400, "bad-request");
        }
        for query in [
            "limit=0",
            "limit=-1",
            "limit=x",
            "limit=1001",
            "state=x",
            "hash=zz",
            "unknown=1",
            "received_after=now",
        ] {
            refused(&server.get(&format!("/v1/jobs?{query}")), 400, "bad-request");
        }
        for (range, status, body) in [
            ("bytes=2-4", 206, "234"),
            ("bytes=-3", 206, "789"),
            ("bytes=8-99999999999999999999", 200, "0123456789"),
            ("bytes=0-18446744073709551615", 206, "0123456789"),
            ("bytes=18446744073709551615-", 416, ""),
            ("bytes=-0", 416, ""),
            ("bytes=4-2", 200, "0123456789"),
            ("bytes=0-0,2-2,4-4", 200, "0123456789"),
            ("bytes=--1", 200, "0123456789"),
            ("\u{1f4a5}", 200, "0123456789"),
        ] {
            let answer = server.send(&Request::new("GET", &blob).header("Range", range));
            assert_eq!(answer.status, status, "{range}: {answer:?}");
            if status != 416 {
                assert_eq!(answer.body, body.as_bytes(), "{range}");
            }
        }
    });
}

#[test]
fn hundreds_of_idle_connections_keep_nobody_out() {
    on_a_host(|server| {
        let silent: Vec<_> = (0..300).map(|_| server.connect()).collect();
        let begun: Vec<_> = (0..100)
            .map(|_| {
                let mut stream = server.connect();
                stream.write_all(b"GET /v1/sta").unwrap();
                stream
            })
            .collect();
        for _ in 0..20 {
            assert_eq!(server.get("/v1/status").status, 200);
        }
        assert_eq!((silent.len(), begun.len()), (300, 100));
    });
}

/// Sends bytes on one connection and reads all that comes back until the host closes it.
fn conversation(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.connect();
    let _ = stream.write_all(bytes);
    finish_sending(&stream);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    String::from_utf8_lossy(&heard).into_owned()
}

#[test]
fn no_request_hides_in_another() {
    on_a_host(|server| {
        let host = &server.address;
        let hidden =
            format!("POST /v1/blobs HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\n\r\nhidden");
        let blob = format!("/v1/blobs/{}", blake3::hash(b"hidden").to_hex());
        for framing in [
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len() + 5),
            format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", hidden.len() + 5),
            format!("Content-Length: 5\r\nContent-Length: {}\r\n", hidden.len() + 5),
            format!("Content-Length: 5, {}\r\n", hidden.len() + 5),
            "Transfer-Encoding: xchunked\r\n".to_owned(),
            "Transfer-Encoding: chunked, identity\r\n".to_owned(),
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
            "Transfer-Encoding : chunked\r\n".to_owned(),
            "Content-Length: +5\r\n".to_owned(),
            "Content-Length: -5\r\n".to_owned(),
            "Content-Length: 0x5\r\n".to_owned(),
            "Content-Length: 18446744073709551616\r\n".to_owned(),
            "X: y\r\n folded: z\r\nContent-Length: +5\r\n".to_owned(),
        ] {
            let sent = format!(
                "POST /v1/blobs HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n0\r\n\r\n{hidden}"
            );
            let heard = conversation(server, sent.as_bytes());
            let answers = heard.matches("HTTP/1.1 ").count();
            assert!(answers <= 1, "{framing:?}: {heard}");
            refused(&server.get(&blob), 404, "blob-not-found");
        }
    });
}

#[test]
fn what_is_no_http_is_no_trouble() {
    on_a_host(|server| {
        for bytes in [
            &b"\0\0\0\0\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET\r\n\r\n",
            b"GET /\0 HTTP/1.1\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x99\x99",
            b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
            b"GET /v1/status HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
            b"\r\n\r\n\r\n\r\n",
            &b"\r".repeat(100_000),
            &b"\xff".repeat(100_000),
        ] {
            let heard = conversation(server, bytes);
            assert!(
                !heard.starts_with("HTTP/1.1 2") && !heard.contains(" 500 "),
                "{bytes:?}: {heard}"
            );
        }
    });
}

#[test]
fn a_job_cannot_take_the_place_of_another_by_being_called_like_its_number() {
    on_a_host(|server| {
        let component = server.upload(b"no component, but a blob");
        let first = server.run(&json!({"job_id": "first", "component": component}));
        let number = first["number"].to_string();
        for job_id in [number.as_str(), "0", "1", "007", "99999999999999999999999"] {
            let answer =
                server.post("/v1/jobs", &json!({"job_id": job_id, "component": component}));
            refused(&answer, 400, "invalid-manifest");
            assert_eq!(answer.json()["field"], "job_id");
        }
        assert_eq!(server.get(&format!("/v1/jobs/{number}")).json()["job_id"], "first");
        let named = server.run(&json!({"job_id": "1a", "component": component}));
        assert_eq!(named["job_id"], "1a");
        // A program's name alone makes no such id either.
        let made = server.run(&json!({"program": "7", "component": component, "seed": 1}));
        assert!(made["job_id"].as_str().unwrap().parse::<u64>().is_err(), "{made}");
    });
}
