//! The outermost layer of a request: gives it an id, a trace and a span, and writes down how it ended.
//!
//! It alone sees every answer last, so that it also writes the request's id into problems. Knows nothing of: why
//! an answer is what it is.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use hb_types::text;
use metrics::{counter, gauge, histogram};
use tracing::{Instrument, Span, field};

use super::{Audit, AuditSubject, RequestId, TraceContext, audit};
use crate::{connection::Connection, names, problem::Problem};

/// A path is a stranger's text; what is longer is cut where it is logged.
const MAX_PATH_BYTES: usize = 200;

/// What a request that no route matched is counted under.
const NO_ROUTE: &str = "none";

/// Methods that change nothing (RFC 9110, 9.2.1).
pub(crate) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let mut random = [0; 40];
    getrandom::fill(&mut random).expect("the operating system gives random bytes");
    let (id, ids) = random.split_at(16);
    let id = RequestId::from_random(id.try_into().expect("16 of 40 bytes"));
    let ids = ids.try_into().expect("24 of 40 bytes");
    let trace = TraceContext::from_headers(request.headers(), ids);
    let mut record = Record::of(&request, id);
    let span = record.span(&trace);
    record.who.span = span.clone();
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(trace);
    request.extensions_mut().insert(record.who.clone());
    let is_head = request.method() == Method::HEAD;
    let mut response = next.run(request).instrument(span.clone()).await;
    let _entered = span.enter();
    if let Some(AuditSubject(subject)) = response.extensions_mut().remove() {
        record.subject = text::printable(&subject, MAX_PATH_BYTES);
    }
    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        response = with_instance(response, problem, id);
    }
    if is_head {
        // HTTP/2 would send it.
        *response.body_mut() = Body::empty();
    }
    let shown = HeaderValue::from_str(&id.to_string()).expect("a UUID is visible ASCII");
    response.headers_mut().insert(names::REQUEST_ID, shown);
    record.answered(response.status().as_u16(), problem.as_ref());
    response
}

/// The same problem, with the request's id in it.
fn with_instance(response: Response, problem: &Problem, id: RequestId) -> Response {
    let (mut parts, _) = response.into_parts();
    let (answer, body) = problem.clone().answer(Some(id)).into_parts();
    for name in [axum::http::header::CONTENT_TYPE, axum::http::header::CONTENT_LENGTH] {
        parts.headers.insert(name.clone(), answer.headers[&name].clone());
    }
    Response::from_parts(parts, body)
}

/// Who asks, once the layer of tokens has found out. Also known when the client goes away before the answer.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    span: Span,
    name: Arc<OnceLock<Arc<str>>>,
}

impl Who {
    /// Writes it into the request's span and audit.
    pub(crate) fn is(&self, name: &Arc<str>) {
        self.span.record("principal", &**name);
        // A request is authenticated once.
        let _ = self.name.set(Arc::clone(name));
    }
}

/// What is known of a request while it is answered. Says how it ended when it is dropped before that.
struct Record {
    id: RequestId,
    method: Method,
    route: String,
    peer: String,
    subject: String,
    who: Who,
    begun: Instant,
    is_answered: bool,
}

impl Record {
    fn of(request: &Request, id: RequestId) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        let peer = request.extensions().get::<Connection>();
        gauge!(names::REQUESTS_IN_FLIGHT).increment(1.0);
        let who = Who { span: Span::none(), name: Arc::default() };
        Self {
            id,
            method: request.method().clone(),
            route: route.map_or(NO_ROUTE, |route| route.as_str()).to_owned(),
            peer: peer.map_or_else(|| "-".to_owned(), |one| one.peer().to_string()),
            subject: text::printable(request.uri().path(), MAX_PATH_BYTES),
            who,
            begun: Instant::now(),
            is_answered: false,
        }
    }

    fn span(&self, trace: &TraceContext) -> Span {
        tracing::info_span!(
            target: names::ACCESS_TARGET,
            names::REQUEST_SPAN,
            request_id = %self.id,
            trace_id = hex::encode(trace.trace_id),
            span_id = hex::encode(trace.span_id),
            parent_id = trace.parent_id.map(hex::encode),
            method = names::method(&self.method),
            route = self.route,
            peer = self.peer,
            principal = field::Empty,
            status = field::Empty,
            duration_ms = field::Empty,
        )
    }

    fn answered(mut self, status: u16, problem: Option<&Problem>) {
        self.is_answered = true;
        let seconds = self.begun.elapsed().as_secs_f64();
        let (method, class) = (names::method(&self.method), names::class(status));
        let route = self.route.clone();
        counter!(names::REQUESTS, "route" => route.clone(), "method" => method, "class" => class)
            .increment(1);
        histogram!(names::REQUEST_SECONDS, "route" => route, "method" => method, "class" => class)
            .record(seconds);
        self.who.span.record("status", status);
        self.who.span.record("duration_ms", seconds * 1000.0);
        self.log(status, problem);
        self.audit(outcome(status), problem.map(|one| one.code().name));
    }

    fn log(&self, status: u16, problem: Option<&Problem>) {
        let code = problem.map(|one| one.code().name);
        let detail = problem.map(Problem::detail);
        let cause = problem.and_then(Problem::cause);
        let path = self.subject.as_str();
        if status == 500 {
            tracing::error!(target: names::ACCESS_TARGET, status, code, cause, path, "failed");
        } else if matches!(status, 429 | 503) {
            // Whoever is refused for asking too much must not fill the log as well; they are counted.
            tracing::debug!(target: names::ACCESS_TARGET, status, code, detail, path, "held off");
        } else if problem.is_some() {
            tracing::info!(target: names::ACCESS_TARGET, status, code, detail, cause, path, "refused");
        } else {
            tracing::debug!(target: names::ACCESS_TARGET, status, path, "answered");
        }
    }

    fn audit(&self, outcome: &str, code: Option<&str>) {
        if is_safe(&self.method) {
            return;
        }
        audit(&Audit {
            who: self.who.name.get().map_or("-", |name| name),
            peer: &self.peer,
            what: &format!("{} {}", names::method(&self.method), self.route),
            subject: &self.subject,
            outcome,
            code,
        });
    }
}

fn outcome(status: u16) -> &'static str {
    match status {
        ..400 => "done",
        400..500 => "refused",
        _ => "failed",
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        gauge!(names::REQUESTS_IN_FLIGHT).decrement(1.0);
        if !self.is_answered {
            counter!(names::REQUESTS_ABANDONED).increment(1);
            tracing::debug!(target: names::ACCESS_TARGET, request_id = %self.id, "abandoned");
            self.audit("abandoned", None);
        }
    }
}
