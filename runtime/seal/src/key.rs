//! Ed25519 keys (RFC 8032), in the forms that other tools read: PKCS#8 and SPKI as PEM.

use std::fmt;

use ed25519_dalek::{
    Signature, Signer, SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
        spki::der::pem::LineEnding,
    },
};
use hb_types::Digest;

use crate::KeyError;

/// The secret key that a host signs with. Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct HostKey(SigningKey);

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.public().id())
    }
}

impl HostKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)
            .map_err(|error| KeyError::NoRandom { reason: error.to_string() })?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a 32-byte seed (RFC 8032, 5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads a PKCS#8 PEM text; `what` names it in the error.
    pub fn from_pem(what: &str, pem: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| KeyError::Malformed {
            what: what.to_owned(),
            expected: "a secret key as PKCS#8 PEM (`-----BEGIN PRIVATE KEY-----`)",
        })
    }

    /// As PKCS#8 PEM text, wiped from memory when dropped: the secret itself.
    pub fn to_pem(&self) -> impl std::ops::Deref<Target = String> + use<> {
        // Without the public half, which makes it a version 2 that OpenSSL 3 cannot read.
        let secret = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        secret.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key always has a PKCS#8 form")
    }

    /// The key that others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// A public key that somebody may trust.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl PublicKey {
    /// The key of 32 bytes (RFC 8032, 5.1.5). Keys of small order, for which anybody can make
    /// signatures, are refused.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(Self).ok_or_else(
            || KeyError::Malformed {
                what: "the public key".to_owned(),
                expected: "32 bytes that are a point of large order",
            },
        )
    }

    /// Reads an SPKI PEM text; `what` names it in the error.
    pub fn from_pem(what: &str, pem: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(pem)
            .ok()
            .filter(|key| !key.is_weak())
            .map(Self)
            .ok_or_else(|| KeyError::Malformed {
                what: what.to_owned(),
                expected: "a public key as SPKI PEM (`-----BEGIN PUBLIC KEY-----`)",
            })
    }

    /// As SPKI PEM text.
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("an Ed25519 key always has an SPKI form")
    }

    /// The 32 bytes of the key.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Its name in envelopes: the BLAKE3 digest of its 32 bytes.
    pub fn id(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// Strict verification: no malleable signatures, no points of small order.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}
