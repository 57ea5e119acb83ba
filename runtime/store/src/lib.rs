//! runtime/store
