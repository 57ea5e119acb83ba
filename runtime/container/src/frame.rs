//! The frames of the checkpoint protocol (`docs/container-protocol.md`).
//!
//! A frame is the length of its JSON (four bytes), the length of its payload (eight bytes), both
//! little-endian, then the JSON, then the payload. Owns the shapes of requests and answers. Knows
//! nothing of sockets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the protocol; it changes when an older program would no longer be understood.
pub(crate) const PROTOCOL: u32 = 1;
/// Bytes before the JSON.
pub(crate) const HEAD_BYTES: usize = 12;
/// Bytes of the JSON of one frame.
pub(crate) const JSON_MAX_BYTES: u32 = 1024 * 1024;

/// What a program asks.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// First on every connection.
    Hello {
        /// The version that the program speaks.
        protocol: u32,
    },
    /// The newest checkpoint, if there is one.
    Restore,
    /// Whether a checkpoint is wanted.
    Due {
        /// Where the program is.
        step: u64,
    },
    /// Make a checkpoint; the payload is the state.
    Save {
        /// Where the program is.
        step: u64,
        /// The number that this checkpoint will have. A request that was sent again after a lost
        /// connection is recognised by it.
        sequence: u64,
    },
    /// How much is done.
    Report {
        /// Units done.
        done: u64,
        /// Units in all.
        #[serde(default)]
        total: Option<u64>,
    },
    /// The value of a named quantity.
    Metric {
        /// Its name.
        name: String,
        /// Its value.
        value: f64,
    },
    /// A remark for the job's trace.
    Note {
        /// The remark.
        text: String,
    },
    /// Everything that was said of progress since the newest checkpoint: after a connection was
    /// lost.
    Progress {
        /// Units done.
        #[serde(default)]
        done: u64,
        /// Units in all.
        #[serde(default)]
        total: Option<u64>,
        /// Metrics by name.
        #[serde(default)]
        metrics: BTreeMap<String, f64>,
        /// Remarks.
        #[serde(default)]
        notes: Vec<String>,
    },
}

/// What is answered. Fields that do not belong to a request are absent.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Answer {
    /// To `hello`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u32>,
    /// To `restore`: whether there is a checkpoint, which then is the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<bool>,
    /// To `restore` and `save`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// To `restore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// To `due`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<bool>,
}

/// Lengths of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub json_bytes: u32,
    pub payload_bytes: u64,
}

impl Head {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let json = bytes.get(..4)?.first_chunk()?;
        let payload = bytes.get(4..HEAD_BYTES)?.first_chunk()?;
        Some(Self {
            json_bytes: u32::from_le_bytes(*json),
            payload_bytes: u64::from_le_bytes(*payload),
        })
    }
}

/// A frame with an answer.
pub(crate) fn answer(answer: &Answer, payload: &[u8]) -> Vec<u8> {
    let json = serde_json::to_vec(answer).expect("an answer is plain data");
    let json_bytes = u32::try_from(json.len()).expect("an answer is small");
    let mut frame = Vec::with_capacity(HEAD_BYTES + json.len() + payload.len());
    frame.extend_from_slice(&json_bytes.to_le_bytes());
    frame.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    frame.extend_from_slice(&json);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_read_as_the_documentation_writes_them() {
        let read = |json: &str| serde_json::from_str::<Request>(json).unwrap();
        assert_eq!(read(r#"{"op":"hello","protocol":1}"#), Request::Hello { protocol: 1 });
        assert_eq!(
            read(r#"{"op":"save","step":7,"sequence":2}"#),
            Request::Save { step: 7, sequence: 2 }
        );
        assert_eq!(read(r#"{"op":"report","done":1}"#), Request::Report { done: 1, total: None });
        assert!(serde_json::from_str::<Request>(r#"{"op":"fly"}"#).is_err());
    }

    #[test]
    fn an_answer_has_its_lengths_before_it() {
        let frame = answer(&Answer { due: Some(true), ..Answer::default() }, b"xyz");
        let head = Head::read(&frame).unwrap();
        assert_eq!(head, Head { json_bytes: 12, payload_bytes: 3 });
        assert_eq!(&frame[HEAD_BYTES..], br#"{"due":true}xyz"#);
        assert_eq!(Head::read(&frame[..11]), None);
    }
}
