//! What a process says of itself: its log, for people and for machines, and its traces.
//!
//! Owns: how lines of the log look and that nothing in them steers a terminal; the export of
//! spans and their events by OTLP; the W3C trace context, in and out.
//! Knows nothing of: jobs, configuration files, the HTTP that the host serves.

mod context;
mod export;
mod format;
mod http;
mod start;

pub use context::TraceContext;
pub use start::{Format, Options, StartError, Telemetry, check_filter, start};
