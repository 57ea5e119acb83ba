//! Origins of web pages (RFC 6454): `SCHEME://HOST[:PORT]`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Authority;

/// Where a page comes from. `null`, which browsers send for pages without an origin, is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    is_tls: bool,
    authority: Authority,
}

/// A text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no origin: expected http://HOST[:PORT] or https://HOST[:PORT], and nothing after it"
)]
pub struct ParseOriginError {
    text: String,
}

impl Origin {
    /// Whether a page of this origin is one that `host` itself served.
    ///
    /// Where this host encrypts, its pages are encrypted; where it does not, something before it may.
    pub(crate) fn is_of(&self, host: &Authority, host_is_tls: bool) -> bool {
        (self.is_tls || !host_is_tls) && self.authority.is_same(host, self.is_tls)
    }
}

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => (false, ""),
        };
        match rest.parse() {
            Ok(authority) => Ok(Self { is_tls, authority }),
            Err(_) => Err(ParseOriginError { text: hb_types::text::printable(text, 100) }),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = ParseOriginError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn is_own(origin: &str, host: &str, is_tls: bool) -> bool {
        let origin = origin.parse::<Origin>();
        origin.is_ok_and(|origin| origin.is_of(&host.parse().unwrap(), is_tls))
    }

    #[test]
    fn a_page_is_our_own_when_scheme_host_and_port_are_ours() {
        assert!(is_own("http://localhost:4005", "localhost:4005", false));
        assert!(is_own("https://hb.example", "hb.example:443", true));
        assert!(is_own("https://hb.example", "hb.example", false), "a proxy encrypts");
        for (foreign, host, is_tls) in [
            ("http://localhost:3000", "localhost:4005", false),
            ("http://localhost", "localhost:4005", false),
            ("http://127.0.0.1:4005", "localhost:4005", false),
            ("http://hb.example", "hb.example:443", true),
            ("http://hb.example:443", "hb.example:443", true),
            ("null", "localhost:4005", false),
            ("http://localhost:4005/", "localhost:4005", false),
            ("file://localhost:4005", "localhost:4005", false),
            ("", "localhost:4005", false),
        ] {
            assert!(!is_own(foreign, host, is_tls), "{foreign}");
        }
    }
}
