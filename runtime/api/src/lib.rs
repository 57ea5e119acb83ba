//! What goes over the wire between a host and those who use it.
//!
//! Owns: the shapes of manifests, jobs, events and answers, in their JSON form, and the way from a
//! manifest to a specification. Knows nothing of HTTP, of ledgers, and of who sends what to whom.
//!
//! Shapes are versioned by the path prefix `/v1`. Within a version fields are only added; a test of
//! the committed schemas (`docs/schemas`) fails on anything else.

pub mod event;
pub mod job;
pub mod manifest;
pub mod status;

/// Where the first version of the interface begins.
pub const V1: &str = "/v1";

/// The version of a manifest.
pub const MANIFEST_VERSION: u32 = 1;
