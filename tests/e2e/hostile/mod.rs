//! What a host answers to strangers: anything that its own document admits, almost admits, or does not
//! admit at all; and a list of known attacks.
//!
//! Owns: a client that sends what it is told to, byte by byte. Knows nothing of how a host is made.

mod attacks;
mod client;
mod components;
mod fuzz;
mod generate;
mod oracle;
mod schema;
mod strangers;
mod traversal;
