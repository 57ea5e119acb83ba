//! One request and its answer, and when the request is sent again.
//!
//! Owns: the way a call becomes bytes and an answer becomes a value or an error. Knows nothing of
//! what the routes mean.

use std::{io::Read, thread, time::Duration};

use serde::de::DeserializeOwned;
use ureq::{
    Body, SendBody,
    http::{HeaderName, Method, Request, Response, StatusCode, header, request},
};

use crate::{
    Client, ClientError, Problem,
    retry::{Tries, retry_after},
};

/// The longest answer that is held in memory.
const ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// The longest problem document.
const PROBLEM_BYTES: u64 = 1024 * 1024;

/// Whether a request may be sent again when nobody knows what became of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Harmless,
    /// Only where the host cannot have acted on it.
    IfUntouched,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub method: Method,
    /// Path and query, escaped.
    pub path: String,
    pub headers: Vec<(HeaderName, String)>,
    pub body: Option<&'a [u8]>,
    pub repeat: Repeat,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let (path, repeat) = (path.into(), Repeat::Harmless);
        Self { method, path, headers: Vec::new(), body: None, repeat }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(mut self, body: &'a [u8]) -> Self {
        self.body = Some(body);
        self.header(header::CONTENT_TYPE, "application/json")
    }

    pub fn once(mut self) -> Self {
        self.repeat = Repeat::IfUntouched;
        self
    }
}

/// What a try came to.
pub(crate) enum Tried {
    /// A success, or what else was said to be one.
    Answered(Response<Body>),
    /// Something that may pass.
    Passing { error: ClientError, retry_after: Option<Duration> },
    /// Something that will not.
    Final(ClientError),
}

impl Client {
    /// Sends a request until there is an answer, and gives it if it is a success.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Response<Body>, ClientError> {
        self.send_expecting(call, &[])
    }

    /// The same where other statuses are answers too.
    pub(crate) fn send_expecting(
        &self,
        call: &Call<'_>,
        also: &[StatusCode],
    ) -> Result<Response<Body>, ClientError> {
        let mut tries = Tries::new(self.patience);
        loop {
            match self.try_once(call, also) {
                Tried::Answered(response) => return Ok(response),
                Tried::Final(error) => return Err(error),
                Tried::Passing { error, retry_after } => match tries.next_pause(retry_after) {
                    Some(pause) => thread::sleep(pause),
                    None => return Err(error),
                },
            }
        }
    }

    /// Sends a request once.
    pub(crate) fn try_once(&self, call: &Call<'_>, also: &[StatusCode]) -> Tried {
        self.judge(call, self.exchange(call), also)
    }

    fn judge(
        &self,
        call: &Call<'_>,
        sent: Result<Response<Body>, ureq::Error>,
        also: &[StatusCode],
    ) -> Tried {
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => return self.without_answer(call, error),
        };
        let status = response.status();
        if status.is_success() || also.contains(&status) {
            return Tried::Answered(response);
        }
        let retry_after = header_text(&response, header::RETRY_AFTER);
        let retry_after = self::retry_after(retry_after.as_deref());
        let error = self.refusal(status, response.body_mut());
        if may_pass(status) && (call.repeat == Repeat::Harmless || was_untouched(status, &error)) {
            Tried::Passing { error, retry_after }
        } else {
            Tried::Final(error)
        }
    }

    fn request(&self, call: &Call<'_>) -> request::Builder {
        let mut request = Request::builder().method(call.method.clone()).uri(format!(
            "{}{}",
            self.server(),
            call.path
        ));
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(traceparent) = &self.traceparent {
            request = request.header("traceparent", traceparent);
        }
        request
    }

    fn exchange(&self, call: &Call<'_>) -> Result<Response<Body>, ureq::Error> {
        let request = self.request(call);
        match call.body {
            Some(body) => {
                let length = body.len();
                let request = request.header(header::CONTENT_LENGTH, length);
                let mut body = body;
                self.run(request.body(SendBody::from_reader(&mut body))?)
            }
            None if call.method == Method::POST => self.run(request.body(&[][..])?),
            None => self.run(request.body(())?),
        }
    }

    /// Sends a body of this length in one request, once: whoever reads it knows how to begin again.
    pub(crate) fn put_stream(
        &self,
        path: &str,
        body: &mut dyn Read,
        len_bytes: u64,
    ) -> Result<(), ClientError> {
        let call = Call::new(Method::PUT, path).once();
        let sent = self
            .request(&call)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, len_bytes)
            .body(SendBody::from_reader(body))
            .map_err(ureq::Error::from)
            .and_then(|request| self.run(request));
        match self.judge(&call, sent, &[]) {
            Tried::Answered(_) => Ok(()),
            Tried::Passing { error, .. } | Tried::Final(error) => Err(error),
        }
    }

    fn run(&self, request: Request<impl ureq::AsSendBody>) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request);
        let request = request.timeout_per_read(Some(crate::client::SILENCE_TIMEOUT)).build();
        self.agent.run(request)
    }

    fn without_answer(&self, call: &Call<'_>, error: ureq::Error) -> Tried {
        let server = self.server();
        if is_of_tls(&error) {
            return Tried::Final(ClientError::Untrusted { server, source: Box::new(error) });
        }
        if matches!(error, ureq::Error::HostNotFound) {
            return Tried::Final(ClientError::Unreachable { server, source: Box::new(error) });
        }
        if is_unsent(&error) {
            self.look_again();
            let error = ClientError::Unreachable { server, source: Box::new(error) };
            return Tried::Passing { error, retry_after: None };
        }
        if !is_of_connection(&error) {
            return Tried::Final(ClientError::Garbage { server, why: error.to_string() });
        }
        let error = ClientError::Broken { server, source: Box::new(error) };
        match call.repeat {
            Repeat::Harmless => Tried::Passing { error, retry_after: None },
            Repeat::IfUntouched => Tried::Final(error),
        }
    }

    fn refusal(&self, status: StatusCode, body: &mut Body) -> ClientError {
        if status.is_redirection() {
            let why =
                format!("it redirects with status {status}; name the address it redirects to");
            return ClientError::Garbage { server: self.server(), why };
        }
        // What broke off is as good as nothing: the status says enough.
        let mut text = Vec::new();
        let reader = body.with_config().limit(PROBLEM_BYTES).reader();
        if reader.take(PROBLEM_BYTES).read_to_end(&mut text).is_err() {
            text.clear();
        }
        ClientError::Refused(Box::new(Problem::read(status.as_u16(), &text)))
    }

    /// Sends a request and reads the answer as JSON.
    pub(crate) fn fetch<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, ClientError> {
        let bytes = self.fetch_bytes(call)?;
        serde_json::from_slice(&bytes).map_err(|error| self.garbage(&call.path, &error))
    }

    /// Sends a request and reads the answer whole. An answer that breaks off is asked for again.
    pub(crate) fn fetch_bytes(&self, call: &Call<'_>) -> Result<Vec<u8>, ClientError> {
        let mut tries = Tries::new(self.patience);
        loop {
            let mut response = self.send(call)?;
            match response.body_mut().with_config().limit(ANSWER_BYTES).read_to_vec() {
                Ok(bytes) => return Ok(bytes),
                Err(ureq::Error::BodyExceedsLimit(_)) => {
                    let why = format!("its answer to {} is longer than {ANSWER_BYTES}", call.path);
                    return Err(ClientError::Garbage { server: self.server(), why });
                }
                Err(error) => {
                    let source = Box::new(error);
                    let error = ClientError::Broken { server: self.server(), source };
                    match tries.next_pause(None) {
                        Some(pause) if call.repeat == Repeat::Harmless => thread::sleep(pause),
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    /// An answer that is not what the route gives.
    pub(crate) fn garbage(&self, path: &str, error: &serde_json::Error) -> ClientError {
        let why = format!("its answer to {path} is not what was expected: {error}");
        let why = hb_types::text::printable(&why, 1000);
        ClientError::Garbage { server: self.server(), why }
    }
}

/// A header of an answer, where it is text.
pub(crate) fn header_text(response: &Response<Body>, name: HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Statuses of a host that is busy or starting, or of something before it that misses it.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

/// Statuses that say that nothing was done. One before the host (502, 504) cannot know.
fn was_untouched(status: StatusCode, error: &ClientError) -> bool {
    matches!(status.as_u16(), 429 | 503) && !error.is("outcome-unknown")
}

/// Whether the request cannot have reached the host.
fn is_unsent(error: &ureq::Error) -> bool {
    use ureq::{Error, Timeout};
    match error {
        Error::Io(error) => matches!(
            error.kind(),
            std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::HostUnreachable
                | std::io::ErrorKind::NetworkUnreachable
                | std::io::ErrorKind::NetworkDown
        ),
        Error::ConnectionFailed => true,
        Error::Timeout(timeout) => matches!(timeout, Timeout::Connect | Timeout::Resolve),
        _ => false,
    }
}

/// Whether a connection failed, in contrast to what was said over it.
fn is_of_connection(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Io(_) | ureq::Error::Timeout(_))
}

/// Whether the two did not agree on who they are, which will be so the next time too.
fn is_of_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(error) => {
            error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some()
        }
        _ => false,
    }
}
