//! runtime/wal
