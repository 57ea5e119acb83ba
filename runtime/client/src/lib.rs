//! Talks to a host over HTTP.
//!
//! Owns: one typed call for each route, when a call is tried again, uploads that go on where they
//! broke off, streams of events that reconnect by themselves. Knows nothing of terminals, of where
//! a server is configured, or of how a host decides.
//!
//! Invariants: a call that could make two jobs where one was asked for is never sent twice; every
//! answer, line and list that is held in memory has a bound; the token is sent to the server that
//! it was given for and to no other, and never shown.

mod blobs;
mod client;
mod download;
mod error;
mod exchange;
mod host;
mod jobs;
mod problem;
mod retry;
mod sse;
mod stream;
mod tls;
mod url;

pub use blobs::{PIECE_BYTES, Source, Uploaded};
pub use client::{Client, ClientOptions, Locate};
pub use error::{ClientError, OptionsError};
pub use jobs::{JobQuery, Output};
pub use problem::Problem;
pub use retry::Patience;
pub use sse::{Frame, FrameTooLong, Parser};
pub use stream::{EventStream, Follow, Happened, OutputPiece};
