//! What a host says when it refuses: a problem document (RFC 9457).
//!
//! Owns: how one is read, also where it is not there or damaged. Knows nothing of when a call is
//! tried again.

use std::fmt;

use hb_types::{Digest, text::printable};
use serde_json::{Map, Value};

/// Bytes of a text of the host that are shown.
const TEXT_BYTES: usize = 4096;

/// Why a host refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The status of the answer.
    pub status: u16,
    /// Which problem it is, as in `docs/errors/`; empty where the host did not say.
    pub code: String,
    /// The problem in general.
    pub title: String,
    /// What is wrong in this case.
    pub detail: String,
    /// What else the host said.
    pub members: Map<String, Value>,
}

impl Problem {
    /// Of an answer that is no success.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let members = match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        let text = |name: &str| {
            let text = members.get(name).and_then(Value::as_str).unwrap_or_default();
            printable(text, TEXT_BYTES)
        };
        let kind = text("type");
        let code = match kind.rsplit_once('/') {
            Some((before, code)) if before.ends_with("/errors") || before == "errors" => {
                code.to_owned()
            }
            _ => String::new(),
        };
        Self { status, code, title: text("title"), detail: text("detail"), members }
    }

    /// Of what is missing, for `blob-missing`.
    pub fn missing(&self) -> Vec<Digest> {
        let listed = self.members.get("missing").and_then(Value::as_array);
        let texts = listed.into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// Bytes that are here, for `upload-offset-mismatch`.
    pub fn offset(&self) -> Option<u64> {
        self.members.get("offset").and_then(Value::as_u64)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = if self.detail.is_empty() { &self.title } else { &self.detail };
        match (said.is_empty(), self.code.is_empty()) {
            (false, false) => write!(f, "{said} ({})", self.code),
            (false, true) => write!(f, "{said} (status {})", self.status),
            (true, false) => write!(f, "the host refused: {}", self.code),
            (true, true) => {
                write!(f, "the host refused with status {}{}", self.status, self.hint())
            }
        }
    }
}

impl Problem {
    /// What to do, where only a status is known.
    fn hint(&self) -> &'static str {
        match self.status {
            401 => ": give a token with --token @FILE or HB_TOKEN",
            403 => ": the token does not allow this",
            404 => ": there is no such thing on this host",
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_its_code_its_detail_and_what_is_missing() {
        let digest = Digest::of(b"x");
        let body = format!(
            r#"{{"type": "https://h/errors/blob-missing", "title": "T", "status": 422,
                "detail": "one blob is missing", "missing": ["{digest}", "junk", 3], "offset": 7}}"#
        );
        let problem = Problem::read(422, body.as_bytes());
        assert_eq!(problem.code, "blob-missing");
        assert_eq!(problem.missing(), [digest]);
        assert_eq!(problem.offset(), Some(7));
        assert_eq!(problem.to_string(), "one blob is missing (blob-missing)");
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_told_by_its_status() {
        for body in ["", "<html>", "[1]", r#"{"type": 3, "detail": []}"#] {
            let problem = Problem::read(502, body.as_bytes());
            assert_eq!(problem.to_string(), "the host refused with status 502", "{body}");
        }
        assert!(Problem::read(401, b"").to_string().contains("--token"));
    }

    #[test]
    fn what_a_host_says_steers_no_terminal() {
        let body = br#"{"detail": "a\u001b[2Jb\nc", "type": "x/errors/y\u0007"}"#;
        let shown = Problem::read(400, body).to_string();
        assert!(!shown.contains(['\u{1b}', '\n', '\u{7}']), "{shown:?}");
    }
}
