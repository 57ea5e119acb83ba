//! Keeps web pages of strangers out, and says on every answer what browsers may do with it.
//!
//! A browser on this machine can reach the host, whoever wrote the page that it shows. Two things tell: under which name
//! the request asks for the host (DNS rebinding needs a name of the attacker's), and from which origin the page is.
//! Knows nothing of: tokens and routes.

mod authority;
mod harden;
mod origin;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
        header::{ALLOW, HOST, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use hb_types::text;

pub use authority::{Authority, ParseAuthorityError};
pub(crate) use harden::harden;
pub use origin::{Origin, ParseOriginError};

use crate::{codes, connection::Connection, problem::Problem, trace::is_safe};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Of a header of a stranger's, in a message.
const MAX_SHOWN_BYTES: usize = 100;

/// What is allowed beside the listener's own addresses.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) hosts: Vec<Authority>,
    pub(crate) origins: Vec<Origin>,
}

/// That the layer has looked at where a request comes from, and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provenance {
    /// A browser said that it is one of our own pages.
    OwnPage,
    /// Nobody said anything: no browser, or an old one.
    Unknown,
}

pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    match guard.check(&request) {
        Ok(provenance) => {
            request.extensions_mut().insert(provenance);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl Guard {
    fn check(&self, request: &Request) -> Result<Provenance, Problem> {
        if *request.method() == Method::CONNECT {
            let methods = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
            let detail = "CONNECT is for proxies, which this host is not";
            return Err(Problem::new(&codes::METHOD_NOT_ALLOWED, detail).header(ALLOW, methods));
        }
        let connection = request.extensions().get::<Connection>().ok_or_else(|| {
            Problem::new(&codes::INTERNAL, "a request came without its connection")
        })?;
        let host = host(request.uri(), request.headers(), request.version())?;
        if !self.allows_host(&host, connection) {
            return Err(Problem::new(
                &codes::HOST_NOT_ALLOWED,
                format!(
                    "the request is for the host {host}, which this listener is not: use the address that the host prints at its start, or add the name to allowed_hosts"
                ),
            ));
        }
        self.check_origin(request, &host, connection)
    }

    /// The address at which the client reached us, on this machine also under its usual names, and what is
    /// configured.
    fn allows_host(&self, host: &Authority, connection: &Connection) -> bool {
        if self.hosts.iter().any(|allowed| allowed.covers(host)) {
            return true;
        }
        let Some(local) = connection.local() else {
            // No browser reaches a unix socket; clients call it `localhost` for want of a name.
            return host.is_loopback();
        };
        let port = host.port_or_default(connection.is_tls());
        let ip = local.ip().to_canonical();
        port == local.port() && (host.is_ip(ip) || ip.is_loopback() && host.is_loopback())
    }

    fn check_origin(
        &self,
        request: &Request,
        host: &Authority,
        connection: &Connection,
    ) -> Result<Provenance, Problem> {
        let headers = request.headers();
        if let Some(value) = single(headers, &ORIGIN)? {
            let origin = value.to_str().ok().and_then(|text| text.parse::<Origin>().ok());
            let is_own = origin.is_some_and(|origin| {
                origin.is_of(host, connection.is_tls()) || self.origins.contains(&origin)
            });
            if is_own {
                return Ok(Provenance::OwnPage);
            }
            let shown = text::printable_bytes(value.as_bytes(), MAX_SHOWN_BYTES);
            return Err(foreign(&format!("a page of {shown}")));
        }
        match single(headers, &SEC_FETCH_SITE)?.map(HeaderValue::as_bytes) {
            Some(b"same-origin") => Ok(Provenance::OwnPage),
            // Not a browser, or an old one; or typed into the address bar.
            None | Some(b"none") => Ok(Provenance::Unknown),
            // A link to one of our pages somewhere else: it only shows, and goes nowhere else.
            Some(b"same-site" | b"cross-site") if is_visit(request) => Ok(Provenance::Unknown),
            Some(_) => Err(foreign("a page of another site")),
        }
    }
}

/// Whether the browser only goes to a page, as for a link that somebody clicked.
fn is_visit(request: &Request) -> bool {
    let is = |name, expected: &[u8]| {
        request.headers().get(name).is_some_and(|value: &HeaderValue| value == expected)
    };
    is_safe(request.method()) && is(SEC_FETCH_MODE, b"navigate") && is(SEC_FETCH_DEST, b"document")
}

fn foreign(page: &str) -> Problem {
    Problem::new(
        &codes::ORIGIN_NOT_ALLOWED,
        format!("the request comes from {page}: only the host's own pages may call it"),
    )
}

/// The one host that a request names, in its target, its `Host` header, or both.
fn host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Authority, Problem> {
    let named = single(headers, &HOST)?
        .map(|value| {
            let text = text::printable_bytes(value.as_bytes(), MAX_SHOWN_BYTES);
            text.parse::<Authority>()
        })
        .transpose();
    let target = uri.authority().map(|authority| authority.as_str().parse()).transpose();
    let wrong = |error: ParseAuthorityError| Problem::new(&codes::BAD_REQUEST, error.to_string());
    match (named.map_err(wrong)?, target.map_err(wrong)?) {
        (Some(named), Some(target)) if named != target => Err(Problem::new(
            &codes::BAD_REQUEST,
            format!("the request is for {target} by its target and for {named} by its Host header"),
        )),
        (Some(host), _) => Ok(host),
        // HTTP/1.1 demands the header even where the target has a host (RFC 9112, 3.2).
        (None, Some(host)) if version == Version::HTTP_2 => Ok(host),
        (None, _) => {
            Err(Problem::new(&codes::BAD_REQUEST, "the request has no Host header: send one"))
        }
    }
}

/// The value of a header that must not be there twice.
fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        let detail = format!("the header {name} is there more than once: send it once");
        return Err(Problem::new(&codes::BAD_REQUEST, detail));
    }
    Ok(first)
}
