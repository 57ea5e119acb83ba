//! Downloads: all bytes, once, and those that were announced.

use hb_api::job::ArtifactView;
use hb_client::{ClientError, Output};
use hb_types::Digest;

use crate::server::{Server, Step, answer};

fn cut(bytes: &str, of: usize) -> Step {
    Step::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {of}\r\n\r\n{bytes}").into_bytes())
}

fn part(from: usize, bytes: &str, of: usize) -> Step {
    let range = format!("Content-Range: bytes {from}-{}/{of}\r\n", of - 1);
    answer(206, &range, bytes)
}

fn artifact(content: &[u8]) -> ArtifactView {
    let (digest, bytes) = (Digest::of(content).to_string(), content.len() as u64);
    ArtifactView { name: "dir/a b".to_owned(), digest, bytes }
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let server = Server::start(vec![cut("abc", 6), part(3, "def", 6)]);
    let mut sink = Vec::new();
    assert_eq!(server.client().copy_output("j", Output::Stderr, &mut sink).unwrap(), 6);
    assert_eq!(sink, b"abcdef");
    let requests = server.requests();
    assert_eq!(requests[0].line, "GET /v1/jobs/j/stderr");
    assert_eq!(requests[0].header("range"), None);
    assert_eq!(requests[1].header("range"), Some("bytes=3-"));
}

#[test]
fn a_download_that_broke_at_its_very_end_is_complete() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec();
    let server = Server::start(vec![Step::Answer(chunked), answer(416, "", "")]);
    let mut sink = Vec::new();
    assert_eq!(server.client().copy_output("j", Output::Stdout, &mut sink).unwrap(), 3);
    assert_eq!(sink, b"abc");
}

#[test]
fn a_part_that_is_not_the_one_that_was_asked_for_is_not_taken() {
    for second in [cut("abcdef", 6), part(2, "cdef", 6)] {
        let server = Server::start(vec![cut("abc", 6), second]);
        let mut sink = Vec::new();
        let error = server.client().copy_output("j", Output::Stdout, &mut sink).unwrap_err();
        assert!(matches!(error, ClientError::Garbage { .. }), "{error}");
        assert_eq!(sink, b"abc");
    }
}

#[test]
fn an_artifact_is_the_one_that_was_announced_or_refused() {
    let server = Server::start(vec![cut("da", 4), part(2, "ta", 4)]);
    let mut sink = Vec::new();
    server.client().copy_artifact("j", &artifact(b"data"), &mut sink).unwrap();
    assert_eq!(sink, b"data");
    assert_eq!(server.requests()[0].line, "GET /v1/jobs/j/artifacts/dir/a%20b");
    let server = Server::start(vec![answer(200, "", "dbta")]);
    let error = server.client().copy_artifact("j", &artifact(b"data"), &mut sink).unwrap_err();
    assert!(matches!(error, ClientError::Damaged { .. }), "{error}");
}
