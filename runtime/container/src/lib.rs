//! Runs one native program in a hardened container, under the contract of a component.
//!
//! Owns: the way to a container engine, what a container may do, the phases GATHER, RUN and TEARDOWN,
//! the checkpoint protocol and its socket, limits, and what becomes of containers that outlive
//! their host.
//! Knows nothing of: ledgers, jobs' histories, wasm, terminals. What a checkpoint is kept in is the
//! affair of the [`hb_session::Session`] that the host passes in.
//!
//! Invariants: a container is never started without the whole profile; one that was started is
//! removed again, or found by its labels; what a program printed lies in files of the host, so that
//! its length at a checkpoint is exact whatever dies.

mod adopt;
mod attempt;
mod beneath;
mod connection;
mod containers;
mod end;
mod engine;
mod exit;
mod frame;
mod job;
mod markers;
mod mirror;
mod mounts;
mod options;
mod place;
mod profile;
mod run;
mod walk;
mod watch;

pub use containers::{Containers, Identity, Task};
pub use engine::{EngineError, candidates};
pub use options::{AllowedMount, ContainerOptions, NotAllowed};
