//! Uploads: only what is missing, from where it broke off.

use std::io::Cursor;

use hb_client::{ClientError, PIECE_BYTES, Uploaded};
use hb_types::Digest;

use crate::server::{Request, Server, Step, answer, problem};

fn here(offset: u64) -> Step {
    answer(404, &format!("Upload-Offset: {offset}\r\n"), "")
}

fn appended(offset: u64) -> Step {
    answer(204, &format!("Upload-Offset: {offset}\r\n"), "")
}

fn upload(server: &Server, bytes: &[u8]) -> Result<Uploaded, ClientError> {
    let mut told = Vec::new();
    let result = server.client().upload(&mut Cursor::new(bytes), &mut |done, of| {
        told.push(done);
        assert_eq!(of, bytes.len() as u64);
    });
    // A piece that was lost with its connection is sent again.
    assert!(told.iter().all(|done| *done <= bytes.len() as u64), "{told:?}");
    if result.is_ok() {
        assert_eq!(told.last(), Some(&(bytes.len() as u64)));
    }
    result
}

fn sent(request: &Request) -> (&str, Option<&str>, Option<&str>, &[u8]) {
    let method = request.line.split(' ').next().unwrap();
    let (offset, complete) = (request.header("upload-offset"), request.header("upload-complete"));
    (method, offset, complete, &request.body)
}

#[test]
fn what_the_host_has_is_not_sent() {
    let server = Server::start(vec![answer(200, "", "")]);
    let digest = Digest::of(b"abc");
    let expected = Uploaded { digest, len_bytes: 3, sent_bytes: 0 };
    assert_eq!(upload(&server, b"abc").unwrap(), expected);
    assert_eq!(server.requests()[0].line, format!("HEAD /v1/blobs/{digest}"));
}

#[test]
fn only_what_is_missing_is_sent() {
    let server = Server::start(vec![here(2), answer(201, "", "{}")]);
    assert_eq!(upload(&server, b"abcdef").unwrap().sent_bytes, 4);
    let requests = server.requests();
    assert_eq!(sent(&requests[1]), ("PATCH", Some("2"), Some("?1"), &b"cdef"[..]));
}

#[test]
fn what_is_short_goes_whole_and_nothing_at_all_is_a_blob_too() {
    for bytes in [&b""[..], b"abc"] {
        let server = Server::start(vec![
            here(0),
            Step::BreakAfter(0),
            here(0),
            problem(503, "", "draining", ""),
            here(0),
            answer(201, "", "{}"),
        ]);
        upload(&server, bytes).unwrap();
        assert_eq!(sent(&server.requests()[5]), ("PUT", None, None, bytes));
    }
}

#[test]
fn a_host_that_takes_no_pieces_is_sent_the_whole() {
    let bytes = vec![7; PIECE_BYTES + 1];
    let server = Server::start(vec![
        here(0),
        problem(405, "", "method-not-allowed", ""),
        here(0),
        answer(201, "", "{}"),
    ]);
    let mut source = Cursor::new(&bytes);
    let uploaded = server.client().upload(&mut source, &mut |_, _| ()).unwrap();
    assert_eq!(uploaded.len_bytes, bytes.len() as u64);
    let requests = server.requests();
    assert_eq!(sent(&requests[3]), ("PUT", None, None, &bytes[..]));
}

#[test]
fn a_large_file_goes_in_pieces_and_goes_on_where_the_connection_broke() {
    let bytes: Vec<u8> = (0u8..=250).cycle().take(PIECE_BYTES + 400_000).collect();
    let (piece, all) = (PIECE_BYTES as u64, bytes.len() as u64);
    let server = Server::start(vec![
        here(0),
        // In the middle of the first piece; the host kept some of it.
        Step::BreakAfter(300_000),
        here(200_000),
        appended(200_000 + piece),
        // Before anything of the answer.
        Step::BreakAfter(0),
        // It had all of it.
        answer(200, "", ""),
    ]);
    let digest = Digest::of(&bytes);
    let mut last = 0;
    let uploaded =
        server.client().upload(&mut Cursor::new(&bytes), &mut |done, _| last = done).unwrap();
    assert_eq!((uploaded.digest, last), (digest, all));
    let requests = server.requests();
    let (_, offset, complete, body) = sent(&requests[3]);
    assert_eq!((offset, complete), (Some("200000"), Some("?0")));
    assert!(body == &bytes[200_000..200_000 + PIECE_BYTES]);
}

#[test]
fn where_somebody_else_sends_the_same_the_host_says_how_far_it_is() {
    let server = Server::start(vec![
        here(1),
        problem(409, "", "upload-offset-mismatch", r#", "offset": 4"#),
        here(4),
        answer(201, "", "{}"),
    ]);
    upload(&server, b"abcdef").unwrap();
    assert_eq!(server.requests()[3].body, b"ef");
}

#[test]
fn a_refusal_is_told_with_its_reason_although_head_has_none() {
    let server = Server::start(vec![answer(401, "", ""), problem(401, "", "token-missing", "")]);
    assert!(upload(&server, b"abc").unwrap_err().is("token-missing"));
    let server = Server::start(vec![here(0), problem(507, "", "disk-full", "")]);
    assert!(upload(&server, b"abc").unwrap_err().is("disk-full"));
    assert_eq!(server.requests().len(), 2, "a full disk is not tried again");
}

#[test]
fn a_host_that_has_more_than_there_is_makes_no_sense() {
    let server = Server::start(vec![here(9)]);
    assert!(matches!(upload(&server, b"abc"), Err(ClientError::Garbage { .. })));
}
