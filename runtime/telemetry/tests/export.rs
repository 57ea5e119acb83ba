//! Spans arrive at a collector as parts of the trace that they belong to.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    thread,
};

use hb_telemetry::{Format, Options, TraceContext};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Takes one request as a collector does, and answers 200.
fn take_one(listener: &TcpListener) -> (String, ExportTraceServiceRequest) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    (head, ExportTraceServiceRequest::decode(body.as_slice()).unwrap())
}

#[test]
fn spans_and_their_events_are_sent_below_the_context_that_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let collector = thread::spawn(move || take_one(&listener));
    let telemetry = hb_telemetry::start(&Options {
        format: Format::Json,
        filter: "off".to_owned(),
        color: false,
        otlp_endpoint: Some(endpoint),
        service_name: "laboratory".to_owned(),
        service_version: "1.2.3",
    })
    .unwrap();

    let context = TraceContext::read(&format!("00-{TRACE}-{PARENT}-01"), Some("a=b")).unwrap();
    let request = tracing::info_span!(target: "hb_test", "request", path = "/v1/jobs");
    context.adopt(&request);
    let inner = request.in_scope(|| {
        tracing::warn!(target: "hb_test", lsn = 7, "received");
        tracing::info!(target: "hyper", "not ours");
        let job = tracing::info_span!(target: "hb_test", "job");
        TraceContext::of(&job).unwrap()
    });
    assert!(inner.traceparent().starts_with(&format!("00-{TRACE}-")), "{inner:?}");
    assert_eq!(inner.tracestate(), Some("a=b"));
    drop(request);
    drop(telemetry);

    let (head, sent) = collector.join().unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/x-protobuf"), "{head}");
    let resource = sent.resource_spans[0].resource.as_ref().unwrap();
    let name = resource.attributes.iter().find(|one| one.key == "service.name").unwrap();
    assert!(format!("{:?}", name.value).contains("laboratory"));
    let spans: Vec<_> = sent.resource_spans[0].scope_spans.iter().flat_map(|s| &s.spans).collect();
    let span = |name: &str| *spans.iter().find(|span| span.name == name).unwrap();
    let (request, job) = (span("request"), span("job"));
    assert_eq!(hex(&request.trace_id), TRACE);
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!((hex(&job.trace_id), &job.parent_span_id), (TRACE.to_owned(), &request.span_id));
    let events: Vec<_> = request.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(events, ["received"]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
