//! `/v1/session`: how a browser exchanges a token for a cookie, looks who it is, and signs out.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;

use super::{Gate, Principal, Scope};
use crate::{connection::Connection, extract::Json, problem::Problem};

/// Where sessions are opened and closed.
pub(crate) const SESSION_PATH: &str = "/v1/session";

/// Who is signed in.
#[derive(Debug, Serialize)]
struct SessionInfo {
    name: String,
    scope: Scope,
    /// How long the session lives without being used.
    idle_ms: u64,
}

pub(crate) fn session_routes(gate: Arc<Gate>) -> Router {
    Router::new().route(SESSION_PATH, get(look).post(sign_in).delete(sign_out)).with_state(gate)
}

async fn look(State(gate): State<Arc<Gate>>, principal: Principal) -> Json<SessionInfo> {
    Json(info(&gate, &principal))
}

/// A request with a token gets a cookie for it; one that needs none is told who it is.
async fn sign_in(
    State(gate): State<Arc<Gate>>,
    Extension(connection): Extension<Connection>,
    principal: Principal,
) -> Result<Response, Problem> {
    let cookie = principal
        .bearer()
        .map(|token| gate.sessions().open(token, connection.is_tls()))
        .transpose()
        .map_err(|error| Problem::internal(&error))?;
    let mut response = Json(info(&gate, &principal)).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn sign_out(
    State(gate): State<Arc<Gate>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    let cookie = gate.sessions().close(&headers, connection.is_tls());
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

fn info(gate: &Gate, principal: &Principal) -> SessionInfo {
    let idle_ms = u64::try_from(gate.sessions().idle().as_millis()).unwrap_or(u64::MAX);
    SessionInfo { name: principal.name.to_string(), scope: principal.scope, idle_ms }
}
