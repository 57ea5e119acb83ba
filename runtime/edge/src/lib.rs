//! Everything between a socket and a handler that is the same for every route of the HTTP interface.
//!
//! Owns: addresses, TLS, connections and their time; where requests may come from and who sends them; how much is in flight;
//! how errors look ([`Problem`], with the table of [`codes`]); what is traced, counted and audited.
//! Knows nothing of: jobs, the host, and any route but `/errors/CODE` and `/v1/session`.
//!
//! [`Edge`] takes a configuration and an axum router, and serves it until a [`Shutdown`]. Handlers find in the extensions
//! of a request: [`Connection`], [`Principal`](tokens::Principal), [`RequestId`](trace::RequestId),
//! [`TraceContext`](trace::TraceContext) and [`Shutdown`].
//!
//! A handler is dropped at its next `await` when its client goes away. A change that must not be left half done belongs into
//! a task of its own.

mod answers;
pub mod body;
mod check;
pub mod codes;
pub mod config;
pub mod connection;
mod edge;
pub mod extract;
mod flight;
pub mod guard;
pub mod listen;
pub mod names;
mod pages;
pub mod problem;
mod shutdown;
pub mod tokens;
pub mod trace;
mod watched;

pub use check::{CheckLayer, Checked};
pub use config::{Bounds, ConfigError, EdgeConfig};
pub use connection::{Connection, Peer};
pub use edge::{Bound, Edge, EdgeError};
pub use listen::Served;
pub use problem::Problem;
pub use shutdown::Shutdown;
