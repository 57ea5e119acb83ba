//! The HTTP client that carries traces to a collector.
//!
//! Owns: time and size limits of one request, and which roots a collector's certificate is
//! checked against: the machine's. It blocks; the exporter has a thread of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

/// The longest that one request may take.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// The most that an answer may hold; a collector says next to nothing.
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

/// Why the last request failed, which the exporter's own error does not say.
pub(crate) type Cause = Arc<Mutex<Option<String>>>;

/// Sends bytes.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    cause: Cause,
}

impl Client {
    /// One for a collector at `endpoint`; reading the machine's roots takes a while, and only TLS
    /// needs them.
    pub(crate) fn new(endpoint: &str, cause: Cause) -> Self {
        let tls = if endpoint.starts_with("https:") { tls() } else { TlsConfig::default() };
        let config = Agent::config_builder()
            .timeout_global(Some(REQUEST_PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("hackbrain/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Self { agent: config.new_agent(), cause }
    }
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.to_vec());
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let answer = body.with_config().limit(ANSWER_MAX_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, answer.into()))
    }
}

/// A root that cannot be read is one that is not trusted.
fn tls() -> TlsConfig {
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned());
    TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let result = self.send(request);
        let mut cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        *cause = match &result {
            Err(error) => Some(error.to_string()),
            Ok(answer) if !answer.status().is_success() => Some(answer.status().to_string()),
            Ok(_) => None,
        };
        Ok(result?)
    }
}
