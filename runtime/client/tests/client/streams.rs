//! Streams of events: cut, repeated, delayed, and in the end complete.

use std::time::Duration;

use hb_client::{ClientError, Follow, Happened, Output, Patience};

use crate::server::{QUICK, Server, Step, answer, events, problem};

fn follow(job: &str) -> Follow {
    Follow::Job { job: job.to_owned(), output: true, durable: false }
}

fn event(id: u64, name: &str) -> String {
    let data = format!(
        r#"{{"id": {id}, "at": "2026-11-24T06:00:00Z", "job": 1, "job_id": "j", "event": "{name}"}}"#
    );
    format!("event: {name}\nid: {id}:0:0\ndata: {data}\n\n")
}

fn output(id: &str, offset: u64, text: &str) -> String {
    let data = serde_json::json!({
        "stream": "stdout", "offset": offset, "bytes": text.len(), "text": text, "durable": false,
    });
    format!("event: output\nid: {id}\ndata: {data}\n\n")
}

const END: &str = "event: end\ndata: {}\n\n";

/// What a stream gave, short: positions of events, what was printed, and what else there was.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    events: Vec<u64>,
    printed: String,
    lost: u32,
    restored: u32,
    lagging: u32,
}

fn watch(server: &Server, follow: Follow) -> (Seen, Option<ClientError>) {
    watch_for(server, follow, QUICK)
}

fn watch_for(server: &Server, follow: Follow, patience: Patience) -> (Seen, Option<ClientError>) {
    let client = server.client();
    let (mut seen, mut failed) = (Seen::default(), None);
    for happened in client.events(follow, patience) {
        match happened {
            Ok(Happened::Event(event)) => seen.events.push(event.id),
            Ok(Happened::Output(piece)) => {
                assert_eq!(piece.output, Output::Stdout);
                assert_eq!(piece.offset, seen.printed.len() as u64);
                seen.printed.push_str(std::str::from_utf8(&piece.bytes).unwrap());
            }
            Ok(Happened::Progress(_)) => {}
            Ok(Happened::Lagging) => seen.lagging += 1,
            Ok(Happened::Lost { .. }) => seen.lost += 1,
            Ok(Happened::Restored) => seen.restored += 1,
            Err(error) => failed = Some(error),
        }
    }
    (seen, failed)
}

#[test]
fn a_stream_gives_everything_up_to_its_end_and_then_asks_no_more() {
    let text = [
        event(3, "received"),
        ": alive\n\n".to_owned(),
        output("3:2:0", 0, "a\n"),
        "event: progress\ndata: {\"done\": 1, \"durable\": false}\n\n".to_owned(),
        "event: lagging\ndata: {}\n\n".to_owned(),
        "event: invented-later\ndata: what?\n\n".to_owned(),
        event(4, "sealed").replace("\"sealed\"}", "\"sealed\", \"seal\": \"s\"}"),
        END.to_owned(),
        event(5, "received"),
    ];
    let server = Server::start(vec![events(&text.concat())]);
    let (seen, failed) = watch(&server, follow("j"));
    assert!(failed.is_none(), "{failed:?}");
    let expected =
        Seen { events: vec![3, 4], printed: "a\n".to_owned(), lagging: 1, ..Seen::default() };
    assert_eq!(seen, expected);
    let requests = server.requests();
    assert_eq!(requests[0].line, "GET /v1/jobs/j/events");
    assert_eq!(requests[0].header("last-event-id"), None);
}

#[test]
fn a_stream_that_is_cut_in_the_middle_of_a_frame_goes_on_behind_the_last_whole_one() {
    let third = output("4:4:0", 2, "cd");
    let cut = &third[..third.len() - 9];
    let server = Server::start(vec![
        events(&[event(3, "received"), output("4:2:0", 0, "ab"), cut.to_owned()].concat()),
        Step::BreakAfter(0),
        problem(503, "Retry-After: 0\r\n", "starting", ""),
        events(&[third, END.to_owned()].concat()),
    ]);
    let (seen, failed) = watch(&server, follow("j"));
    assert!(failed.is_none(), "{failed:?}");
    let printed = "abcd".to_owned();
    let expected = Seen { events: vec![3], printed, lost: 1, restored: 1, ..Seen::default() };
    assert_eq!(seen, expected);
    for request in &server.requests()[1..] {
        assert_eq!(request.header("last-event-id"), Some("4:2:0"));
    }
}

#[test]
fn what_a_host_sends_again_is_not_given_again() {
    let first = [event(3, "received"), output("3:4:0", 0, "abcd")].concat();
    let again = [event(3, "received"), output("3:6:0", 2, "cdef"), output("3:6:0", 0, "ab")];
    let server = Server::start(vec![events(&first), events(&(again.concat() + END))]);
    let (seen, failed) = watch(&server, follow("j"));
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!((seen.events, seen.printed), (vec![3], "abcdef".to_owned()));
}

#[test]
fn bytes_that_are_missing_are_asked_for_again() {
    let gap = [output("3:2:0", 0, "ab"), output("3:6:0", 4, "ef")].concat();
    let rest = output("3:6:0", 2, "cdef") + END;
    let server = Server::start(vec![events(&gap), events(&rest)]);
    let (seen, failed) = watch(&server, follow("j"));
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!((seen.printed, seen.lost), ("abcdef".to_owned(), 1));
    assert_eq!(server.requests()[1].header("last-event-id"), Some("3:2:0"));
}

#[test]
fn bytes_that_are_no_text_arrive_as_they_are() {
    let data =
        r#"{"stream": "stdout", "offset": 0, "bytes": 3, "base64": "/wAK", "durable": true}"#;
    let server =
        Server::start(vec![events(&format!("event: output\nid: 1\ndata: {data}\n\n{END}"))]);
    let client = server.client();
    let first = client.events(follow("j"), QUICK).next().unwrap().unwrap();
    let Happened::Output(piece) = first else { panic!("{first:?}") };
    assert_eq!((piece.bytes.as_slice(), piece.durable), (&b"\xff\0\n"[..], true));
}

#[test]
fn a_host_that_does_not_come_back_is_given_up() {
    let server = Server::start(vec![events(&event(3, "received"))]);
    let patience = Patience { total: Duration::from_millis(50), ..QUICK };
    let (seen, failed) = watch_for(&server, follow("j"), patience);
    assert_eq!((seen.events, seen.lost), (vec![3], 1));
    assert!(matches!(failed, Some(ClientError::GaveUp { .. })), "{failed:?}");
}

#[test]
fn what_will_not_change_is_not_waited_for() {
    let cases = [
        problem(404, "", "no-such-job", ""),
        answer(200, "Content-Type: text/html\r\n", "<html>"),
        events("event: output\ndata: {\n\n"),
        events("event: received\ndata: {\"id\": \"x\"}\n\n"),
        events(
            "event: output\ndata: {\"stream\": \"stdout\", \"offset\": 0, \"bytes\": 1, \
             \"base64\": \"*\", \"durable\": true}\n\n",
        ),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let server = Server::start(vec![case]);
        let (_, failed) = watch(&server, follow("j"));
        let is_final =
            matches!(failed, Some(ClientError::Refused(_) | ClientError::Garbage { .. }));
        assert!(is_final, "case {index}: {failed:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn what_was_complete_before_the_trouble_is_given_before_it_is_told() {
    let text = event(3, "received") + "event: output\ndata: {\n\n";
    let server = Server::start(vec![events(&text)]);
    let (seen, failed) = watch(&server, follow("j"));
    assert_eq!(seen.events, [3]);
    assert!(failed.is_some());
}

#[test]
fn what_is_wanted_is_said() {
    let cases = [
        (
            Follow::Job { job: "j".to_owned(), output: false, durable: true },
            "GET /v1/jobs/j/events?output=false&durable=true",
        ),
        (Follow::All, "GET /v1/events"),
    ];
    for (follow, line) in cases {
        let server = Server::start(vec![events(END)]);
        watch(&server, follow);
        let requests = server.requests();
        assert_eq!(requests[0].line, line);
        assert_eq!(requests[0].header("accept"), Some("text/event-stream"));
    }
}
