//! Names of hosts, as requests and configurations write them: `NAME[:PORT]`.
//!
//! Stricter than RFC 3986: no user, no percent escapes, addresses in their usual form only. Knows nothing of:
//! resolution; a name is compared as it is written, in lower case.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Longest name in the domain name system.
const MAX_NAME_BYTES: usize = 253;

/// A host, with or without a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority {
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// In lower case.
    Name(String),
    Ip(IpAddr),
}

/// A text that names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no host: expected NAME, NAME:PORT, or an address such as 127.0.0.1:4005 or [::1]:4005"
)]
pub struct ParseAuthorityError {
    text: String,
}

impl Authority {
    /// Whether this entry of a list admits `host`. An entry without a port admits every port.
    pub(crate) fn covers(&self, host: &Self) -> bool {
        self.host == host.host && (self.port.is_none() || self.port == host.port)
    }

    /// A usual name of the machine that one is on.
    pub(crate) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost",
            Host::Ip(ip) => {
                *ip == IpAddr::V4(Ipv4Addr::LOCALHOST) || *ip == IpAddr::V6(Ipv6Addr::LOCALHOST)
            }
        }
    }

    pub(crate) fn is_ip(&self, wanted: IpAddr) -> bool {
        self.host == Host::Ip(wanted)
    }

    pub(crate) fn port_or_default(&self, is_tls: bool) -> u16 {
        self.port.unwrap_or(if is_tls { 443 } else { 80 })
    }

    /// Whether both mean the same host and port, where one without a port means the usual one.
    pub(crate) fn is_same(&self, other: &Self, is_tls: bool) -> bool {
        self.host == other.host && self.port_or_default(is_tls) == other.port_or_default(is_tls)
    }
}

impl FromStr for Authority {
    type Err = ParseAuthorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .ok_or_else(|| ParseAuthorityError { text: hb_types::text::printable(text, 100) })
    }
}

fn parse(text: &str) -> Option<Authority> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let ip = IpAddr::V6(address.parse().ok()?).to_canonical();
        let port = match rest {
            "" => None,
            rest => Some(parse_port(rest.strip_prefix(':')?)?),
        };
        return Some(Authority { host: Host::Ip(ip), port });
    }
    let (name, port) = match text.split_once(':') {
        None => (text, None),
        Some((name, port)) => (name, Some(parse_port(port)?)),
    };
    if let Ok(ip) = name.parse::<Ipv4Addr>() {
        return Some(Authority { host: Host::Ip(ip.into()), port });
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_letter);
    is_name.then(|| Authority { host: Host::Name(name.to_ascii_lowercase()), port })
}

fn parse_port(text: &str) -> Option<u16> {
    // `parse` alone would take `+80`.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl TryFrom<String> for Authority {
    type Error = ParseAuthorityError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        authority.to_string()
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
            Host::Ip(ip) => write!(f, "{ip}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn authority(text: &str) -> Authority {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_host_is_recognised_in_its_different_forms() {
        assert_eq!(authority("LocalHost:80"), authority("localhost:80"));
        assert_eq!(authority("[::1]:80"), authority("[0:0:0:0:0:0:0:1]:80"));
        assert_eq!(authority("[::ffff:127.0.0.1]"), authority("127.0.0.1"));
        assert!(authority("hb.example").covers(&authority("hb.example:8080")));
        assert!(!authority("hb.example:80").covers(&authority("hb.example")));
    }

    #[test]
    fn what_is_no_plain_host_is_refused() {
        for bad in [
            "",
            ":80",
            "a b",
            "user@host",
            "host:",
            "host:+80",
            "host:99999",
            "host:80:80",
            "[::1",
            "[::1]80",
            "::1",
            "http://host",
            "host/path",
            "ho%73t",
            "127.0.0.1@evil",
            "exämple",
        ] {
            assert!(bad.parse::<Authority>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_only_look_like_this_machine_are_others() {
        for other in
            ["localhost.evil.example", "localhost.", "127.0.0.1.nip.io", "0x7f.1", "127.1", "0"]
        {
            assert!(!authority(other).is_loopback(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_reads_back(text in "\\PC{0,40}|[a-z0-9.:\\[\\]]{0,30}") {
            if let Ok(read) = text.parse::<Authority>() {
                prop_assert_eq!(read.to_string().parse::<Authority>().unwrap(), read);
            }
        }
    }
}
