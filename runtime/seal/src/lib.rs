//! runtime/seal
