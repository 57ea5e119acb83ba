//! Error answers: problem details for HTTP APIs (RFC 9457).
//!
//! Owns: how a problem looks on the wire. `type` is a path that the host itself serves (`/errors/CODE`), `code`
//! repeats its last segment for programs, `instance` is the id of the request that the log has too.
//! Knows nothing of: which problem arises where.
//!
//! Invariants: the status is that of the code; `internal` never carries a text from inside; a detail is one
//! line without control characters.

use std::error::Error;

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use hb_types::text;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{codes, codes::Code, trace::RequestId};

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A detail is for people; what is longer is cut.
const MAX_DETAIL_BYTES: usize = 4096;

/// Members that every problem has; an extension must not take their names.
const RESERVED: &[&str] = &["type", "title", "status", "code", "detail", "instance"];

/// One error answer.
#[derive(Clone, Debug)]
pub struct Problem {
    code: &'static Code,
    detail: String,
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    cause: Option<String>,
}

impl Problem {
    /// A problem with a detail: what was wrong, where, and what to do.
    ///
    /// For [`codes::INTERNAL`] the detail goes to the log, and the client gets a fixed text.
    pub fn new(code: &'static Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let (detail, cause) = if code.name == codes::INTERNAL.name {
            (fixed_detail(code), Some(detail))
        } else {
            (text::printable(&detail, MAX_DETAIL_BYTES), None)
        };
        Self { code, detail, extensions: Map::new(), headers: Vec::new(), cause }
    }

    /// A problem whose detail is what the table of codes says.
    pub fn of(code: &'static Code) -> Self {
        Self {
            code,
            detail: fixed_detail(code),
            extensions: Map::new(),
            headers: Vec::new(),
            cause: None,
        }
    }

    /// A fault of the host itself. The error and its sources go to the log, under the id that the
    /// client gets.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        Self::new(&codes::INTERNAL, chain(error))
    }

    /// Adds a member.
    ///
    /// Panics when the name is one that every problem has.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        assert!(!RESERVED.contains(&name), "{name} is a member of every problem");
        // What cannot be serialised is a map with keys that are no strings: a mistake in the host, which
        // must not turn this problem into another.
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        if self.code.name != codes::INTERNAL.name {
            self.extensions.insert(name.to_owned(), value);
        }
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says after how many seconds to try again.
    #[must_use]
    pub fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds an error and its sources, for the log only.
    #[must_use]
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        self.cause = Some(chain(error));
        self
    }

    /// Which one.
    pub fn code(&self) -> &'static Code {
        self.code
    }

    /// What is said to the client.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What is said to the log only.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// The status of its code.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status).expect("the table has statuses of HTTP only")
    }

    /// The members as JSON; `instance` only where a request is known.
    pub fn to_json(&self, instance: Option<RequestId>) -> Value {
        let mut members = Map::new();
        members.insert("type".to_owned(), format!("/errors/{}", self.code.name).into());
        members.insert("title".to_owned(), self.code.title.into());
        members.insert("status".to_owned(), self.code.status.into());
        members.insert("code".to_owned(), self.code.name.into());
        members.insert("detail".to_owned(), self.detail.clone().into());
        if let Some(id) = instance {
            members.insert("instance".to_owned(), id.to_urn().into());
        }
        members.extend(self.extensions.clone());
        Value::Object(members)
    }

    /// The answer to one request. `instance` is written into a problem that has passed through the edge.
    pub(crate) fn answer(self, instance: Option<RequestId>) -> Response {
        let body = self.to_json(instance).to_string();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        // Explicit, so that the answer to a HEAD has it too.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        *response.body_mut() = Body::from(body);
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.answer(None)
    }
}

fn fixed_detail(code: &Code) -> String {
    if code.name == codes::INTERNAL.name {
        return "something went wrong inside the host; its log says more under the id in `instance`"
            .to_owned();
    }
    format!("{}: {}", code.when, code.mend)
}

/// An error and its sources, as one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    text::printable(&line, MAX_DETAIL_BYTES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_problem_carries_its_code_its_status_and_its_further_members() {
        let problem = Problem::new(&codes::BLOB_MISSING, "2 blobs are missing")
            .with("digests", ["a", "b"])
            .retry_after(3);
        let json = problem.to_json(None);
        assert_eq!(json["type"], "/errors/blob-missing");
        assert_eq!(json["status"], 422);
        assert_eq!(json["code"], "blob-missing");
        assert_eq!(json["detail"], "2 blobs are missing");
        assert_eq!(json["digests"][1], "b");
        let response = problem.into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }

    #[test]
    fn an_internal_problem_shows_nothing_from_inside() {
        let error = std::io::Error::other("secret path /data/blobs");
        let problem = Problem::internal(&error).with("path", "/data/blobs");
        assert!(!problem.to_json(None).to_string().contains("/data"));
        assert!(problem.cause().unwrap().contains("secret path"));
        let told = Problem::new(&codes::INTERNAL, "secret").to_json(None).to_string();
        assert!(!told.contains("secret"));
    }

    #[test]
    fn a_detail_is_one_line_that_moves_no_cursor() {
        let problem = Problem::new(&codes::BAD_REQUEST, "a\nb\u{1b}[2J");
        assert_eq!(problem.detail(), "a\\u{a}b\\u{1b}[2J");
    }
}
