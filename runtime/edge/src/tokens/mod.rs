//! Who may do what: bearer tokens, and the browser sessions that are opened with them.
//!
//! Owns: the form of a token, its file, its scope, sessions, and what happens to wrong ones. Knows nothing of: what
//! the routes do; each asks for a scope.
//!
//! Invariants: a token is shown once, by whoever makes it, and is neither kept nor logged; what is kept is a hash of
//! it. Comparisons take the same time whatever they find.

mod directory;
mod failures;
mod gate;
mod record;
mod routes;
mod scope;
mod secret;
mod sessions;

pub use directory::{NewToken, TokenError, create, list, revoke};
pub(crate) use failures::Failures;
pub(crate) use gate::{Exceptions, Gate, authenticate};
pub use gate::{Principal, require};
pub use record::TokenInfo;
pub(crate) use routes::{SESSION_PATH, session_routes};
pub use scope::{ParseScopeError, Scope};
pub use secret::Token;
pub(crate) use sessions::Sessions;

use serde::{Deserialize, Serialize};

/// Whether requests need a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenPolicy {
    /// Everybody who can connect may do everything. Only on loopback addresses and unix sockets.
    #[default]
    Open,
    /// Every request needs a token, except on the few public routes.
    Required,
}
