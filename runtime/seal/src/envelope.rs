//! The DSSE envelope (<https://github.com/secure-systems-lab/dsse>, protocol 1.0.2): a payload, its
//! type, and signatures over both.

use base64::{Engine, engine::general_purpose::STANDARD};
use hb_types::text::printable;
use serde::{Deserialize, Serialize};

use crate::{HostKey, PublicKey, SealError, Statement, json};

/// The payload type of in-toto statements, the only one that is signed or believed here.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Largest envelope that is written or read, as JSON.
pub const MAX_ENVELOPE_BYTES: usize = 32 * 1024 * 1024;

/// Most signatures that an envelope may have.
pub const MAX_SIGNATURES: usize = 16;

/// Largest payload: base64 makes four bytes of three, and the rest of the envelope is small.
const MAX_PAYLOAD_BYTES: usize = MAX_ENVELOPE_BYTES / 4 * 3 - 64 * 1024;

/// A signed statement. As JSON this is what a seal file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The statement, base64.
    payload: String,
    /// [`PAYLOAD_TYPE`].
    payload_type: String,
    /// Who signed.
    signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeSignature {
    /// [`PublicKey::id`] of the signer's key. A hint: it chooses the key, and proves nothing.
    pub keyid: String,
    /// The 64 bytes of the Ed25519 signature, base64.
    pub sig: String,
}

impl Envelope {
    /// Signs a statement.
    pub fn sign(statement: &Statement, key: &HostKey) -> Result<Self, SealError> {
        let payload = statement.to_json();
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(SealError::TooLarge {
                what: "statement",
                found_bytes: payload.len() as u64,
                max_bytes: MAX_PAYLOAD_BYTES as u64,
            });
        }
        let signature = key.sign(&pae(PAYLOAD_TYPE, &payload));
        Ok(Self {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![EnvelopeSignature {
                keyid: key.public().id().to_string(),
                sig: STANDARD.encode(signature),
            }],
        })
    }

    /// Reads an envelope. Nothing in it is to be believed before [`Envelope::verify`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, SealError> {
        json::from_slice("envelope", bytes, MAX_ENVELOPE_BYTES)
    }

    /// As compact JSON without a line end.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always have a JSON form")
    }

    /// The signatures, for showing who claims to have signed.
    pub fn signatures(&self) -> &[EnvelopeSignature] {
        &self.signatures
    }

    /// The statement, if one of `trusted` signed it.
    ///
    /// Every signature that names a trusted key must fit, and at least one must name one;
    /// signatures by others are passed over, as the protocol wants it. The statement that comes
    /// back is consistent in itself (see [`Statement::read`]).
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<Statement, SealError> {
        if self.payload_type != PAYLOAD_TYPE {
            return Err(SealError::Unexpected {
                what: "payload type of the envelope",
                found: printable(&self.payload_type, 80),
                expected: PAYLOAD_TYPE.to_owned(),
            });
        }
        let found = self.signatures.len();
        if found == 0 || found > MAX_SIGNATURES {
            return Err(SealError::SignatureCount { found, max: MAX_SIGNATURES });
        }
        let payload = STANDARD
            .decode(&self.payload)
            .map_err(|source| SealError::Base64 { what: "payload", source })?;
        let message = pae(&self.payload_type, &payload);
        let mut known_signers = 0;
        for signature in &self.signatures {
            let named = trusted.iter().find(|key| key.id().to_string() == signature.keyid);
            let Some(key) = named else { continue };
            if !signature.fits(key, &message)? {
                return Err(SealError::BadSignature { key_id: signature.keyid.clone() });
            }
            known_signers += 1;
        }
        if known_signers == 0 {
            let names: Vec<_> =
                self.signatures.iter().map(|signature| printable(&signature.keyid, 64)).collect();
            return Err(SealError::UnknownSigner {
                found: names.join(", "),
                trusted: trusted.len(),
            });
        }
        let statement = Statement::from_json(&payload)?;
        statement.read()?;
        Ok(statement)
    }
}

impl EnvelopeSignature {
    fn fits(&self, key: &PublicKey, message: &[u8]) -> Result<bool, SealError> {
        let bytes = STANDARD
            .decode(&self.sig)
            .map_err(|source| SealError::Base64 { what: "signature", source })?;
        Ok(<[u8; 64]>::try_from(bytes).is_ok_and(|bytes| key.verifies(message, &bytes)))
    }
}

/// The bytes that are signed: type and payload, each behind its length, so that neither can be
/// taken for the other (protocol.md, "Signature Definition").
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
