//! Tests of seals.
