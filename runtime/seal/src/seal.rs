//! The seal digest and the bytes that it is the digest of.

use std::collections::BTreeMap;

use hb_types::Digest;

/// First bytes of every seal's preimage. They keep a seal from being the digest of anything else,
/// and carry the version of this encoding.
pub const SEAL_DOMAIN: &[u8; 24] = b"hackbrain.dev/seal/v001\n";

/// The seal of a job: a digest over what was asked for, how it ended and what came out.
///
/// `outcome_canonical` is [`hb_types::outcome::Outcome::canonical`]; `artifacts` are the files
/// below `/out` by their path there; `semantics_version` numbers the execution semantics that the
/// result depends on.
///
/// BLAKE3 over these bytes, integers little-endian, nothing in between:
///
/// ```text
/// 24  SEAL_DOMAIN
///  4  semantics version, u32
/// 32  job hash
///  8  length of the outcome in bytes, u64
///  n  the outcome, UTF-8
/// 32  digest of standard output
/// 32  digest of standard error
///  8  number of artifacts, u64
/// then for each artifact, in byte order of the names:
///  8  length of the name in bytes, u64
///  n  the name, UTF-8
/// 32  digest of the content
/// ```
///
/// Every variable part follows its length, so two different inputs never have the same bytes.
pub fn seal_digest(
    job_hash: Digest,
    outcome_canonical: &str,
    stdout: Digest,
    stderr: Digest,
    artifacts: &BTreeMap<String, Digest>,
    semantics_version: u32,
) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(SEAL_DOMAIN);
    hasher.update(&semantics_version.to_le_bytes());
    hasher.update(&job_hash.0);
    text(&mut hasher, outcome_canonical);
    hasher.update(&stdout.0);
    hasher.update(&stderr.0);
    hasher.update(&(artifacts.len() as u64).to_le_bytes());
    for (name, digest) in artifacts {
        text(&mut hasher, name);
        hasher.update(&digest.0);
    }
    hasher.finalize().into()
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}
