//! Sees to it that every error answer is a problem: what no route matches, what axum answers by itself, what a handler
//! answers without a body, and what panics.
//!
//! Also refuses heads that are larger than they may be, so that these too are answered with a problem. Knows nothing
//! of: codes that only a route can choose.

use std::any::Any;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use hb_types::text;
use metrics::counter;

use crate::{
    codes::{self, Code},
    config::Bounds,
    names,
    problem::{PROBLEM_JSON, Problem},
};

/// Of a path of a stranger's, in a message.
const MAX_SHOWN_BYTES: usize = 200;

/// The bounds of a request's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadBounds {
    bytes: usize,
    headers: usize,
}

impl HeadBounds {
    pub(crate) fn of(bounds: &Bounds) -> Self {
        Self { bytes: bounds.header_bytes, headers: bounds.headers }
    }
}

pub(crate) async fn bound_head(
    State(bounds): State<HeadBounds>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.uri().path_and_query().map_or(0, |one| one.as_str().len());
    let bytes = target + header_bytes(request.headers());
    let headers = request.headers().len();
    if bytes <= bounds.bytes && headers <= bounds.headers {
        return next.run(request).await;
    }
    let detail = format!(
        "the request's head has {bytes} bytes and {headers} headers, at most {} bytes and {} headers are read: send fewer or shorter headers",
        bounds.bytes, bounds.headers
    );
    Problem::new(&codes::HEADER_TOO_LARGE, detail)
        .with("limit_bytes", bounds.bytes)
        .with("limit_headers", bounds.headers)
        .into_response()
}

/// As HTTP/1 writes them, with colon, space and line end.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

/// Replaces error answers that are no problems.
pub(crate) async fn speak_problems(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = text::printable(request.uri().path(), MAX_SHOWN_BYTES);
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_problem(&response) {
        return response;
    }
    let code = Code::for_status(status.as_u16());
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::new(code, format!("there is nothing at {path}")),
        StatusCode::METHOD_NOT_ALLOWED => not_allowed(&method, &path, response.headers()),
        _ if code == &codes::INTERNAL => Problem::new(code, format!("a handler answered {status}")),
        _ => Problem::of(code),
    };
    // What belongs to the status stays: Allow, Content-Range, Retry-After.
    let mut headers = response.headers().clone();
    for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
        headers.remove(name);
    }
    let mut replaced = problem.into_response();
    headers.extend(std::mem::take(replaced.headers_mut()));
    *replaced.headers_mut() = headers;
    replaced
}

fn is_problem(response: &Response<Body>) -> bool {
    let is_json = |value: &HeaderValue| value.as_bytes() == PROBLEM_JSON.as_bytes();
    response.extensions().get::<Problem>().is_some()
        && response.headers().get(CONTENT_TYPE).is_some_and(is_json)
}

fn not_allowed(method: &Method, path: &str, headers: &HeaderMap) -> Problem {
    let method = text::printable(method.as_str(), MAX_SHOWN_BYTES);
    let allowed = headers.get(ALLOW).and_then(|value| value.to_str().ok()).unwrap_or("none");
    let detail =
        format!("{method} is not understood at {path}: use one of {}", allowed.replace(',', ", "));
    Problem::new(&codes::METHOD_NOT_ALLOWED, detail)
}

/// The answer to a request whose handler panicked.
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Response {
    counter!(names::PANICS).increment(1);
    let message = match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().map_or("no message", |text| text).to_owned(),
    };
    Problem::new(&codes::INTERNAL, format!("a handler panicked: {message}")).into_response()
}
