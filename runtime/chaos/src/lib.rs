//! Puts a host and its jobs through kills, torn writes, full disks, rotting bits and power cuts, and
//! demands that nothing that was told is lost.
//!
//! Owns: what is done to a host and when ([`Plan`]), the disk that strikes from within
//! ([`ChaosDisk`]), the clients and what they were told, the checker, the report. Knows nothing of
//! how a host works: it is a process that is started, asked over HTTP, and killed.
//!
//! Invariant: the checker sees only what clients were told and what the host says in the end; no
//! part of it looks into a ledger.

mod ambush;
mod check;
mod clients;
mod dice;
mod disk;
mod experiment;
mod fault;
mod host;
mod judge;
mod plan;
mod report;
mod rot;
mod rounds;
mod timeline;
mod told;
mod volatile;

pub use ambush::{Ambush, Point, Strike, Trap};
pub use check::{Reference, Violation, check};
pub use disk::ChaosDisk;
pub use experiment::{ChaosError, Experiment, Subject, run};
pub use fault::{Fault, UnknownFault, parse_faults};
pub use plan::{Plan, Round};
pub use report::{Report, Restart};
pub use told::{Final, JobTold, Told};
