//! A simulated world: the real host, log, store, ledger and dispatcher on a simulated disk, clock and
//! executor, driven by one seed.
//!
//! Owns: worlds and their faults ([`faults`], [`process`]), what clients ask and are told
//! ([`clients`], [`told`]), what must hold of it ([`check`]), and hosts that are wrong on purpose
//! ([`spoil`]). Knows nothing of: wasm, HTTP, terminals, real time.
//!
//! Invariant: the same seed gives the same history, operation for operation.

pub mod check;
pub mod clients;
pub mod clock;
pub mod draw;
pub mod executor;
pub mod faults;
pub mod history;
pub mod life;
pub mod process;
pub mod program;
pub mod seen;
pub mod spoil;
pub mod stage;
pub mod told;

pub use history::{Trace, Violation, run, run_spoiled};
pub use seen::Seen;
pub use spoil::Mutation;
