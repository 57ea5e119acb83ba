//! The HTTP interface of a host.
//!
//! Owns: the routes, which answers they give, event streams, and what feeds the read model. It is the
//! only place that speaks JSON to the network.
//! Knows nothing of: sockets, TLS and tokens (`hb-edge`), how jobs are decided and run (`hb-host`), wasm.
//!
//! Invariants: nothing is answered before it is durable; a handler that its client leaves has either
//! decided or done nothing; whatever grows with what clients do has a bound.

mod blobs;
mod bytes;
mod control;
mod error;
mod events;
mod feed;
mod fork;
mod history;
mod hub;
mod jobs;
mod list;
mod metrics;
mod openapi;
mod operations;
mod output;
mod schedules;
mod server;
mod sse;
mod state;
mod status;
mod uploads;

pub use hub::Hub;
pub use openapi::openapi;
pub use server::{Options, SelfTest, Server, ServerError};
