//! Every name under which the edge is observed: spans, log targets, metrics, headers.
//!
//! Names are part of the interface: dashboards and alerts refer to them. No metric has a label whose values a
//! client can choose: routes are templates, methods a closed set, statuses classes.

use axum::http::{HeaderName, Method};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// The span around each request.
pub const REQUEST_SPAN: &str = "request";
/// The target of audit events.
pub const AUDIT_TARGET: &str = "hb::audit";
/// The target of one event per answered request.
pub const ACCESS_TARGET: &str = "hb::http";

/// The header with the request's id, in every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Requests answered, by route, method and class of status.
pub const REQUESTS: &str = "hb_http_requests_total";
/// Seconds until the head of the answer, by route, method and class of status.
pub const REQUEST_SECONDS: &str = "hb_http_request_seconds";
/// Requests between their head and the head of their answer.
pub const REQUESTS_IN_FLIGHT: &str = "hb_http_requests_in_flight";
/// Requests refused because as many are in flight as may be, by which bound.
pub const REQUESTS_REFUSED: &str = "hb_http_requests_refused_total";
/// Requests whose client went away before the head of the answer.
pub const REQUESTS_ABANDONED: &str = "hb_http_requests_abandoned_total";
/// Connections that are open.
pub const CONNECTIONS: &str = "hb_http_connections";
/// Connections accepted.
pub const CONNECTIONS_ACCEPTED: &str = "hb_http_connections_total";
/// TLS handshakes that failed or took too long.
pub const HANDSHAKES_FAILED: &str = "hb_http_tls_handshake_failures_total";
/// Requests with a wrong, expired or revoked token.
pub const TOKENS_REFUSED: &str = "hb_http_token_failures_total";
/// Handlers that panicked.
pub const PANICS: &str = "hb_http_panics_total";

/// Tells the installed exporter what the metrics mean.
pub fn describe() {
    describe_counter!(REQUESTS, Unit::Count, "requests answered");
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "time until the head of the answer");
    describe_gauge!(REQUESTS_IN_FLIGHT, Unit::Count, "requests being answered");
    describe_counter!(
        REQUESTS_REFUSED,
        Unit::Count,
        "requests refused by a bound on what is in flight"
    );
    describe_counter!(REQUESTS_ABANDONED, Unit::Count, "requests whose client went away");
    describe_gauge!(CONNECTIONS, Unit::Count, "open connections");
    describe_counter!(CONNECTIONS_ACCEPTED, Unit::Count, "connections accepted");
    describe_counter!(HANDSHAKES_FAILED, Unit::Count, "TLS handshakes that failed");
    describe_counter!(TOKENS_REFUSED, Unit::Count, "requests with a token that is not good");
    describe_counter!(PANICS, Unit::Count, "handlers that panicked");
}

/// The label of a method: a client may invent others.
pub fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The label of a status.
pub fn class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}
