//! What can be wrong with a seal or a key, and what to do about it.

use std::io;

/// Why a statement could not be made, signed, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Larger than anything this version writes.
    #[error(
        "the {what} has {found_bytes} bytes, at most {max_bytes} are read: it was not written by hb, or the job has too many artifacts for one seal"
    )]
    TooLarge {
        /// Which text.
        what: &'static str,
        /// Its length.
        found_bytes: u64,
        /// The bound.
        max_bytes: u64,
    },
    /// Not the JSON that it should be.
    #[error(
        "the {what} cannot be read as JSON of the expected shape: expected what docs/seal.md describes; get an undamaged copy"
    )]
    Malformed {
        /// Which text.
        what: &'static str,
        /// What the parser said, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// Not base64 in its one canonical form.
    #[error("the {what} of the envelope is not canonical base64: get an undamaged copy")]
    Base64 {
        /// Which field.
        what: &'static str,
        /// What the decoder said.
        #[source]
        source: base64::DecodeError,
    },
    /// A fixed text is another.
    #[error(
        "the {what} is {found:?}, expected {expected:?}: this is not a seal that this version of hb knows"
    )]
    Unexpected {
        /// Which field.
        what: &'static str,
        /// What was found, made printable.
        found: String,
        /// What must stand there.
        expected: String,
    },
    /// None or too many signatures.
    #[error("the envelope has {found} signatures, expected 1 to {max}")]
    SignatureCount {
        /// How many.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Nobody whom the caller trusts signed it.
    #[error(
        "the seal is signed by {found}, which is none of the {trusted} trusted keys: if you trust that host, add its public key"
    )]
    UnknownSigner {
        /// The key ids in the envelope, made printable.
        found: String,
        /// How many keys the caller trusts.
        trusted: usize,
    },
    /// The envelope was changed after it was signed, or the signature was.
    #[error(
        "the signature by key {key_id} does not fit: the seal was changed after it was signed; get an undamaged copy or verify by running the job again"
    )]
    BadSignature {
        /// The trusted key that the signature names.
        key_id: String,
    },
    /// The parts of a statement contradict each other.
    #[error(
        "the statement contradicts itself: {what} is {found}, but {expected} follows from the rest of it"
    )]
    Inconsistent {
        /// Which part.
        what: &'static str,
        /// What follows from the rest.
        expected: String,
        /// What it says, made printable.
        found: String,
    },
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no such key.
    #[error(
        "{what} is not an Ed25519 key: expected {expected}; get the key again from where it was made"
    )]
    Malformed {
        /// Which key, as a noun phrase or a path.
        what: String,
        /// In which form.
        expected: &'static str,
    },
    /// Others on this machine may read the secret key.
    #[error(
        "key file {name} may be read by others (mode {mode:03o}, expected 600): whoever read it can sign in this host's name; run `chmod 600` on it, or remove it to have a new key made"
    )]
    Exposed {
        /// The file's name in its directory.
        name: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The disk failed.
    #[error("could not {doing} key file {name}: check the data directory's permissions and space")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file's name in its directory.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no randomness to make a key from.
    #[error("the operating system gave no random bytes for a new key: {reason}")]
    NoRandom {
        /// What the system said.
        reason: String,
    },
}
