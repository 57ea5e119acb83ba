//! Seals: the proof of how a job ended.
//!
//! Owns: the seal digest ([`seal_digest`]), the in-toto statement around it ([`Statement`]), the
//! DSSE envelope around that ([`Envelope`]), and the host's Ed25519 key ([`HostKey`]).
//! Knows nothing of: the ledger, blobs, wasm, how a job is run again. Apart from [`keyfile`] it does
//! no I/O, and nothing here reads a clock.
//!
//! Invariants:
//! - The seal holds only what a repetition must reproduce: no time, attempt, checkpoint or machine.
//! - A [`Statement`] that was verified is consistent: the seal in it is the digest of what it says.
//! - What is verified is exactly what is read: the payload is decoded once.
//!
//! The encodings are written down byte by byte in `docs/seal.md`.

mod checkpoints;
mod envelope;
mod error;
mod json;
mod key;
pub mod keyfile;
mod seal;
mod statement;
#[cfg(test)]
mod tests;

pub use checkpoints::{CheckpointMark, Checkpoints, MAX_LISTED};
pub use envelope::{Envelope, EnvelopeSignature, MAX_ENVELOPE_BYTES, MAX_SIGNATURES, PAYLOAD_TYPE};
pub use error::{KeyError, SealError};
pub use key::{HostKey, PublicKey};
pub use keyfile::{load as load_key, load_or_create};
pub use seal::{SEAL_DOMAIN, seal_digest};
pub use statement::{
    BUILD_TYPE, BUILDER_ID, Circumstances, LedgerPosition, PREDICATE_TYPE, STATEMENT_TYPE,
    SealedJob, Statement,
};
