//! Single calls: what is sent again, what is not, and what is said when nothing helps.

use hb_api::{
    job::{Accepted, ForkRequest, RetryRequest},
    manifest::Manifest,
};
use hb_client::{Client, ClientError, ClientOptions, JobQuery, Patience};

use crate::server::{QUICK, Server, Step, answer, ok, problem};

const ACCEPTED: &str = r#"{"job_id": "j", "number": 1, "job_hash": "h", "state": "RECEIVED",
    "created": true, "url": "/v1/jobs/j"}"#;

fn named(job_id: &str) -> Manifest {
    Manifest { job_id: Some(job_id.to_owned()), ..Manifest::default() }
}

#[test]
fn a_refusal_carries_its_code_and_its_detail() {
    let server = Server::start(vec![problem(409, "", "job-id-conflict", "")]);
    let error = server.client().submit(&named("j")).unwrap_err();
    assert!(error.is("job-id-conflict"));
    assert_eq!(error.to_string(), "detail of job-id-conflict (job-id-conflict)");
    assert_eq!(server.requests().len(), 1, "it is not asked again");
}

#[test]
fn a_busy_host_is_asked_again_when_it_wants_to_be() {
    let server = Server::start(vec![
        problem(503, "Retry-After: 0\r\n", "starting", ""),
        problem(429, "Retry-After: 0\r\n", "queue-full", ""),
        answer(502, "", "<html>"),
        ok(ACCEPTED),
    ]);
    assert_eq!(server.client().submit(&named("j")).unwrap().job_id, "j");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_host_that_wants_to_be_left_alone_for_too_long_is_given_up_at_once() {
    let server = Server::start(vec![problem(429, "Retry-After: 86400\r\n", "queue-full", "")]);
    assert!(server.client().submit(&named("j")).unwrap_err().is("queue-full"));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_submission_whose_answer_was_lost_is_repeated_with_the_same_key() {
    let server = Server::start(vec![
        Step::BreakAfter(0),
        Step::Answer(b"HTTP/1.1 202 Acc".to_vec()),
        Step::Answer(b"HTTP/1.1 202 Accepted\r\nContent-Length: 500\r\n\r\n{".to_vec()),
        answer(202, "", ACCEPTED),
    ]);
    let accepted: Accepted = server.client().submit(&Manifest::default()).unwrap();
    assert!(accepted.created);
    let requests = server.requests();
    let keys: Vec<_> = requests.iter().map(|one| one.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 4);
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32), "{keys:?}");
}

#[test]
fn a_job_id_is_key_enough() {
    let server = Server::start(vec![Step::BreakAfter(0), ok(ACCEPTED)]);
    server.client().submit(&named("j")).unwrap();
    for request in server.requests() {
        assert_eq!(request.line, "POST /v1/jobs");
        assert_eq!(request.header("idempotency-key"), None);
    }
}

#[test]
fn what_would_make_a_second_job_is_not_sent_twice() {
    let server = Server::start(vec![
        problem(503, "Retry-After: 0\r\n", "starting", ""),
        Step::BreakAfter(2),
    ]);
    let error = server.client().retry("j", &RetryRequest::default()).unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    assert!(error.to_string().contains("not known"));
    assert_eq!(server.requests().len(), 2, "what was refused unseen may be sent again");
    let server = Server::start(vec![Step::BreakAfter(2), ok(ACCEPTED)]);
    let request = ForkRequest { job_id: Some("fork".to_owned()), ..ForkRequest::default() };
    server.client().fork("j", &request).unwrap();
    assert_eq!(server.requests().len(), 2, "a name makes it harmless");
}

#[test]
fn a_host_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let patience = Patience { total: std::time::Duration::ZERO, ..QUICK };
    let options = ClientOptions { server: server.clone(), patience, ..ClientOptions::default() };
    let error = Client::new(&options).unwrap().status().unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&server));
}

#[test]
fn what_is_no_host_is_said_to_be_none() {
    let cases = [
        ok("<html>hello</html>"),
        ok(r#"{"jobs": "many"}"#),
        ok(""),
        Step::Answer(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Step::Answer(b"\0\0\0\0\0\0\0\0\r\n\r\n".to_vec()),
        answer(302, "Location: http://127.0.0.1:1/elsewhere\r\n", ""),
    ];
    for (index, case) in cases.into_iter().enumerate() {
        let server = Server::start(vec![case]);
        let error = server.client().jobs(&JobQuery::default()).unwrap_err();
        assert!(matches!(error, ClientError::Garbage { .. }), "case {index}: {error:?}");
    }
}

#[test]
fn the_token_goes_to_the_host_and_nowhere_else() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("Location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    let server = Server::start(vec![answer(307, &location, "")]);
    server.client_with(Some("hbt_x")).status().unwrap_err();
    assert!(elsewhere.accept().is_err(), "nobody came");
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer hbt_x"));
}

#[test]
fn answers_that_are_missing_are_told_by_their_status() {
    let server = Server::start(vec![answer(401, "", "")]);
    let error = server.client().job("j").unwrap_err().to_string();
    assert!(error.contains("--token"), "{error}");
}

#[test]
fn routes_are_those_of_the_interface() {
    let job_or_list = |server: &Server| {
        let client = server.client();
        let _ = client.history("7", 3, 50);
        let _ = client.why("a/b");
        let _ = client.hold("j", &hb_api::job::HoldRequest { now: true });
        let _ = client.pause_starts();
        let _ = client.remove_schedule("nightly");
    };
    let server = Server::start((0..5).map(|_| ok("{}")).collect());
    job_or_list(&server);
    let lines: Vec<String> = server.requests().into_iter().map(|one| one.line).collect();
    let expected = [
        "GET /v1/jobs/7/history?after=3&limit=50",
        "GET /v1/jobs/a%2Fb/why",
        "POST /v1/jobs/j/hold",
        "POST /v1/starts/pause",
        "DELETE /v1/schedules/nightly",
    ];
    assert_eq!(lines, expected);
}
