//! The byte strings that a job owns: stdout, stderr and the private file tree below `/job` and
//! `/out`, with its read-only inputs below `/in`.
//!
//! Owns: names, lengths, virtual time stamps, quotas, open handles, and which chunks changed
//! since the last durable checkpoint. It is not a directory of the machine, because everything
//! that a guest can see must be the same on every machine (sorted directories, virtual time,
//! stable numbers), bounded, captured by changed chunks, and rolled back.
//!
//! Knows nothing of: wasm, WASI, threads, clocks, the ledger. The data lies in slots of one
//! scratch file that the caller hands over, so that memory does not grow with the data.
//!
//! Layers, each using only those before it: [`refused`], `scratch` (slots), `content` (one
//! byte string that can be changed anywhere) and `output` (one that only grows), `path` and
//! `tree` (names), [`world`] and `names` (the operations) and `capture` (checkpoints).

mod capture;
mod content;
mod names;
mod output;
mod path;
pub mod refused;
mod scratch;
mod tree;
pub mod world;

pub use capture::RestoreError;
pub use path::{MAX_NAME_BYTES, MAX_PATH_BYTES};
pub use refused::{HostFault, Refused};
pub use world::{Entry, Handle, Input, Kind, Open, Root, Stat, World};
