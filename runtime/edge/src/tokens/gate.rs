//! The layer that finds out who is asking, and whether they may.
//!
//! Without further word, what changes nothing needs the scope `read`, and everything else `submit`; a route that
//! needs more says so with [`require`]. A token that is not known may be new: the answer waits until the host has looked at
//! its tokens again. Knows nothing of: where the request comes from, which the guard has looked at.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{
        HeaderMap, HeaderValue,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use metrics::counter;

use super::{
    Failures, Scope, Sessions, Token, TokenError,
    directory::{Directory, Known},
    secret::Kind,
};
use crate::{
    check::CheckLayer,
    codes,
    connection::Connection,
    guard::Provenance,
    names,
    problem::Problem,
    trace::{Who, is_safe},
    watched::Watched,
};

/// Whoever asks where no token is needed.
const LOCAL: &str = "local";

/// Who is asking. In the extensions of every request, except on public routes of a host that needs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the token; `local` where none is needed.
    pub name: Arc<str>,
    /// What it permits.
    pub scope: Scope,
    via: Via,
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    Nothing,
    Bearer(blake3::Hash),
    Session,
}

impl Principal {
    fn local() -> Self {
        Self { name: LOCAL.into(), scope: Scope::Admin, via: Via::Nothing }
    }

    /// The hash of the token, when the request carried it itself.
    pub(super) fn bearer(&self) -> Option<blake3::Hash> {
        match self.via {
            Via::Bearer(hash) => Some(hash),
            Via::Nothing | Via::Session => None,
        }
    }

    /// Refuses whoever has too small a scope.
    pub fn needs(&self, scope: Scope) -> Result<(), Problem> {
        if self.scope.includes(scope) {
            return Ok(());
        }
        let detail =
            format!("token {} has the scope {}, this needs {scope}", self.name, self.scope);
        Err(Problem::new(&codes::FORBIDDEN, detail).with("scope", scope))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(needs_token)
    }
}

/// Everything that the layer decides by.
#[derive(Debug)]
pub(crate) struct Gate {
    /// None where no token is needed.
    tokens: Option<Watched<Directory>>,
    sessions: Sessions,
    failures: Failures,
    routes: Exceptions,
}

/// Routes, by their templates, for which something else holds than is usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exceptions {
    /// Need no token.
    pub(crate) public: Vec<String>,
    /// Need the scope `read` only, whatever the method.
    pub(crate) reading: Vec<String>,
}

impl Gate {
    /// Lets everybody in, or those who have a token of this directory.
    pub(crate) fn new(
        directory: Option<&Path>,
        sessions: Sessions,
        failures: Failures,
        routes: Exceptions,
    ) -> Result<Self, TokenError> {
        let tokens = directory.map(Directory::watch).transpose()?;
        Ok(Self { tokens, sessions, failures, routes })
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    async fn identify(&self, parts: &Parts) -> Result<Principal, Problem> {
        let Some(watched) = &self.tokens else { return Ok(Principal::local()) };
        let connection = parts.extensions.get::<Connection>().ok_or_else(|| {
            Problem::new(&codes::INTERNAL, "a request came without its connection")
        })?;
        let (hash, via) = self.proof(parts, connection)?;
        let mut known = watched.current().await;
        let may_be_new = matches!(via, Via::Bearer(_)) && self.failures.is_patient(connection);
        if may_be_new && known.is_unknown(&hash) {
            known = watched.fresh().await;
        }
        if matches!(*known, Known::Unreadable) {
            let detail = "the host cannot read its tokens; its log says why";
            return Err(Problem::new(&codes::NOT_READY, detail).retry_after(5));
        }
        let now = SystemTime::now();
        match known.find(&hash).filter(|record| !record.is_expired(now)) {
            Some(record) => {
                Ok(Principal { name: record.name.as_str().into(), scope: record.scope, via })
            }
            None => Err(self.refuse(connection)),
        }
    }

    /// The hash of the token that a request brings, or that its session was opened with.
    fn proof(
        &self,
        parts: &Parts,
        connection: &Connection,
    ) -> Result<(blake3::Hash, Via), Problem> {
        let headers = &parts.headers;
        if headers.contains_key(AUTHORIZATION) {
            let token = bearer(headers).ok_or_else(|| self.refuse(connection))?;
            let hash = token.hash(Kind::Token);
            return Ok((hash, Via::Bearer(hash)));
        }
        let session = self.sessions.find(headers, connection.is_tls());
        let hash = session.ok_or_else(needs_token)?;
        check_provenance(parts)?;
        Ok((hash, Via::Session))
    }

    fn refuse(&self, connection: &Connection) -> Problem {
        counter!(names::TOKENS_REFUSED).increment(1);
        match self.failures.count(connection) {
            Ok(()) => Problem::new(
                &codes::UNAUTHENTICATED,
                "the token is unknown, expired or revoked: make a new one with `hb token new`",
            )
            .header(
                WWW_AUTHENTICATE,
                challenge("Bearer realm=\"hackbrain\", error=\"invalid_token\""),
            ),
            Err(wait) => Problem::new(
                &codes::TOO_MANY_REQUESTS,
                "too many wrong tokens came from this address: wait, and use one that is good",
            )
            .retry_after(whole_seconds(wait)),
        }
    }
}

pub(crate) async fn authenticate(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let is_among = |routes: &[String]| {
        route.as_ref().is_some_and(|route| routes.iter().any(|one| one == route.as_str()))
    };
    if gate.tokens.is_some() && is_among(&gate.routes.public) {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let reads = is_safe(&parts.method) || is_among(&gate.routes.reading);
    let usual = if reads { Scope::Read } else { Scope::Submit };
    let identified = gate.identify(&parts).await.and_then(|principal| {
        if let Some(who) = parts.extensions.get::<Who>() {
            who.is(&principal.name);
        }
        principal.needs(usual).map(|()| principal)
    });
    match identified {
        Ok(principal) => {
            parts.extensions.insert(principal);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// A cookie comes along whoever makes the browser send the request; a change has to come from our own page.
fn check_provenance(parts: &Parts) -> Result<(), Problem> {
    let is_own = parts.extensions.get() == Some(&Provenance::OwnPage);
    if is_own || is_safe(&parts.method) {
        return Ok(());
    }
    Err(Problem::new(
        &codes::ORIGIN_NOT_ALLOWED,
        "the request changes something in a browser's session, but does not say which page it comes from: send a token in `Authorization` instead",
    ))
}

/// The one token in `Authorization: Bearer` (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<Token> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(Kind::Token, token.trim()))?
}

fn needs_token() -> Problem {
    Problem::new(
        &codes::UNAUTHENTICATED,
        "this host wants a token: send `Authorization: Bearer TOKEN`, made with `hb token new`",
    )
    .header(WWW_AUTHENTICATE, challenge("Bearer realm=\"hackbrain\""))
}

fn challenge(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Lets only principals with this scope through: a layer for routes that need more than is usual.
pub fn require(scope: Scope) -> CheckLayer<impl Fn(&mut Request) -> Result<(), Problem> + Clone> {
    CheckLayer::new(move |request: &mut Request| {
        request.extensions().get::<Principal>().ok_or_else(needs_token)?.needs(scope)
    })
}
