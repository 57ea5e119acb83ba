//! The client against hosts that break off, refuse, lie and come back.
#![allow(clippy::unwrap_used)]

mod calls;
mod downloads;
mod server;
mod streams;
mod tls;
mod uploads;
