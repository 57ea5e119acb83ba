//! What is remembered of a request: ids, traces, log lines, audit, measures.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::{Event, Subscriber, field::Visit, span};

use crate::support::{Server, soon};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn a_request_has_an_id_of_its_own_and_the_trace_of_its_client() {
    let server = Server::plain().await;
    let headers = format!("traceparent: {PARENT}\r\nx-request-id: forged\r\n");
    let (first, second) =
        (server.get("/trace", &headers).await, server.get("/trace", &headers).await);
    for answer in [&first, &second] {
        assert_eq!(answer.header("x-request-id"), answer.json()["id"]);
        assert_ne!(answer.header("x-request-id"), "forged");
        let parent = answer.json()["traceparent"].as_str().unwrap().to_owned();
        assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
        assert!(parent.ends_with("-01") && !parent.contains("00f067aa0ba902b7"), "{parent}");
    }
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
    let new = server.get("/trace", "traceparent: nonsense\r\n").await.json();
    assert!(new["traceparent"].as_str().unwrap().ends_with("-00"));
}

/// Keeps every event as a line, with the fields of the spans around it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogState>>);

#[derive(Default)]
struct LogState {
    spans: BTreeMap<u64, String>,
    entered: Vec<u64>,
    lines: Vec<String>,
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("hb::")
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut state = self.0.lock().unwrap();
        let id = state.spans.len() as u64 + 1;
        let mut line = String::new();
        attributes.record(&mut Line(&mut line));
        state.spans.insert(id, line);
        span::Id::from_u64(id)
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        let mut state = self.0.lock().unwrap();
        values.record(&mut Line(state.spans.get_mut(&id.into_u64()).unwrap()));
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut state = self.0.lock().unwrap();
        let mut line = format!("{} ", event.metadata().target());
        event.record(&mut Line(&mut line));
        let inside = state.entered.last().and_then(|id| state.spans.get(id)).cloned();
        line.push_str(inside.as_deref().unwrap_or(""));
        state.lines.push(line);
    }

    fn enter(&self, id: &span::Id) {
        self.0.lock().unwrap().entered.push(id.into_u64());
    }

    fn exit(&self, _: &span::Id) {
        self.0.lock().unwrap().entered.pop();
    }
}

impl Log {
    fn lines(&self, target: &str) -> Vec<String> {
        let state = self.0.lock().unwrap();
        state.lines.iter().filter(|line| line.starts_with(&format!("{target} "))).cloned().collect()
    }
}

#[tokio::test]
async fn every_change_is_audited_and_reading_is_not() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let server = Server::plain().await;
    server.get("/whoami", "").await;
    server.ask(&server.request("POST", "/subject", "", "")).await;
    server.ask(&server.request("POST", "/nowhere%0aforged", "", "")).await;
    server.ask(&server.request("POST", "/panic", "", "")).await;
    let mut gone = server.connect().await;
    gone.send(server.request("POST", "/held", "", "")).await;
    server.held.one_begun().await;
    drop(gone);
    soon(async {
        while log.lines("hb::audit").len() < 4 {
            server.is_alive().await;
        }
    })
    .await;
    let lines = log.lines("hb::audit");
    let expected = [
        ["who=\"local\"", "what=\"POST /subject\"", "subject=\"job kmer-7\"", "outcome=\"done\""],
        [
            "who=\"local\"",
            "what=\"POST none\"",
            "subject=\"/nowhere%0aforged\"",
            "code=\"not-found\"",
        ],
        ["who=\"local\"", "what=\"POST /panic\"", "outcome=\"failed\"", "code=\"internal\""],
        ["who=\"local\"", "what=\"POST /held\"", "subject=\"/held\"", "outcome=\"abandoned\""],
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        for part in expected {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
}

#[tokio::test]
async fn the_log_has_the_cause_of_an_internal_problem_under_the_id_that_the_client_got() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let server = Server::plain().await;
    let answer = server.get("/panic", "Authorization: Bearer hbt_secret\r\n").await;
    let id = answer.header("x-request-id").to_owned();
    let lines = log.lines("hb::http");
    let line = lines.iter().find(|line| line.contains("code=\"internal\"")).unwrap();
    assert!(line.contains("secret of the house"), "{line}");
    for part in [
        &*format!("request_id={id}"),
        "route=\"/panic\"",
        "method=\"GET\"",
        "principal=\"local\"",
        "status=500",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(lines.iter().all(|line| !line.contains("hbt_secret")));
}

/// Sums everything, by name and labels.
#[derive(Clone, Default)]
struct Measures(Arc<Mutex<BTreeMap<String, f64>>>);

struct One(Measures, String);

impl One {
    fn add(&self, value: f64) {
        *self.0.0.lock().unwrap().entry(self.1.clone()).or_default() += value;
    }
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        self.add(f64::from(u32::try_from(value).unwrap()));
    }

    fn absolute(&self, _: u64) {}
}

impl GaugeFn for One {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, _: f64) {}
}

impl HistogramFn for One {
    fn record(&self, _: f64) {
        self.add(1.0);
    }
}

impl Measures {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels: Vec<_> =
            key.labels().map(|one| format!("{}={}", one.key(), one.value())).collect();
        Arc::new(One(
            self.clone(),
            format!("{} {}", key.name(), labels.join(" ")).trim().to_owned(),
        ))
    }

    fn get(&self, name: &str) -> f64 {
        self.0.lock().unwrap().get(name).copied().unwrap_or(0.0)
    }
}

impl Recorder for Measures {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_what_a_client_can_choose() {
    let measures = Measures::default();
    let _guard = metrics::set_default_local_recorder(&measures);
    let server = Server::plain().await;
    for number in 0..3 {
        server.get(&format!("/number/{number}"), "").await;
    }
    server.get("/no/such/path", "").await;
    server.ask(&server.request("BREW", "/livez", "", "")).await;
    server.get("/panic", "").await;
    assert!(measures.get("hb_http_connections") >= 0.0);
    server.stop().await;
    for (name, expected) in [
        ("hb_http_requests_total route=/number/{number} method=GET class=2xx", 3.0),
        ("hb_http_request_seconds route=/number/{number} method=GET class=2xx", 3.0),
        ("hb_http_requests_total route=none method=GET class=4xx", 1.0),
        ("hb_http_requests_total route=/livez method=other class=4xx", 1.0),
        ("hb_http_requests_total route=/panic method=GET class=5xx", 1.0),
        ("hb_http_panics_total", 1.0),
        ("hb_http_connections_total", 6.0),
        ("hb_http_connections", 0.0),
        ("hb_http_requests_in_flight", 0.0),
    ] {
        assert!((measures.get(name) - expected).abs() < 0.5, "{name}: {}", measures.get(name));
    }
}
