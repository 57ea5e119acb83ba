//! What is remembered of each request: its id, its trace, one span, one line of audit, its measures.
//!
//! Knows nothing of: exporters. Spans and events go to `tracing`, numbers to `metrics`.

mod audit;
mod context;
mod id;
mod observe;

pub use audit::{Audit, AuditSubject, audit};
pub use context::TraceContext;
pub use id::RequestId;
pub(crate) use observe::{Who, is_safe, observe};
