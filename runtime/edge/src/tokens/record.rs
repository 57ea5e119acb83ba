//! The file of one token: what is kept of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Scope;

/// The version of the file's form that this host writes and reads.
pub(super) const VERSION: u32 = 1;

/// What is kept of a token: everything but itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) version: u32,
    pub(super) name: String,
    pub(super) scope: Scope,
    #[serde(with = "hex_hash")]
    pub(super) hash: blake3::Hash,
    /// Milliseconds since 1970.
    pub(super) created_ms: u64,
    /// Milliseconds since 1970; never when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_ms: Option<u64>,
}

impl Record {
    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_ms.is_some_and(|expires| to_ms(now) >= expires)
    }

    /// The name of its file, and what people call it by when names are not enough.
    pub(super) fn id(&self) -> String {
        self.hash.to_hex()[..16].to_owned()
    }

    pub(super) fn info(&self) -> TokenInfo {
        TokenInfo {
            id: self.id(),
            name: self.name.clone(),
            scope: self.scope,
            created: from_ms(self.created_ms),
            expires: self.expires_ms.map(from_ms),
        }
    }
}

/// What may be told of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// The first digits of its hash.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// What it permits.
    pub scope: Scope,
    /// When it was made.
    pub created: SystemTime,
    /// From when on it is refused.
    pub expires: Option<SystemTime>,
}

pub(super) fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_ms(ms: u64) -> SystemTime {
    // Far beyond what a clock shows there is no later time to name.
    UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(UNIX_EPOCH)
}

mod hex_hash {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        hash: &blake3::Hash,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hash.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<blake3::Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(text).map_err(D::Error::custom)
    }
}
