//! The edge over real sockets on loopback: what it lets through, what it refuses, and how it ends.
#![allow(missing_docs, clippy::unwrap_used)]

mod bodies;
mod codes;
mod connections;
mod flight;
mod heads;
mod origins;
mod problems;
mod shutdown;
mod sockets;
mod support;
mod telemetry;
mod tls;
mod tokens;
mod versions;
