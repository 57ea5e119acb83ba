//! runtime/sandbox
