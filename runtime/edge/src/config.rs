//! How a host is reached, and what it takes.
//!
//! Owns: every setting of the edge with its default, and what each may be. Knows nothing of: where the settings come from
//! (files, environment, flags), and of routes.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    connection::Patience,
    guard::{Authority, Origin},
    listen::{Address, TlsFiles},
    tokens::TokenPolicy,
};

const KIB: usize = 1024;
const MIB: u64 = 1024 * 1024;
const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Where to listen: `127.0.0.1:4005`, `[::1]:4005`, `unix:/PATH`, or `systemd` for the sockets that a service
    /// manager hands over. An address that other machines can reach needs TLS and tokens.
    pub listen: Vec<Address>,
    /// Certificate and key, as PEM files. With them every TCP address speaks TLS, and only TLS. They are read again when
    /// they change.
    pub tls: Option<TlsFiles>,
    /// Listen without TLS where other machines can reach it, because something before the host encrypts.
    pub allow_plain_text: bool,
    /// Permission bits of unix sockets.
    pub unix_mode: u32,
    /// Further names under which clients may ask for this host, beside the addresses that it listens at: `hb.example.org`,
    /// or `localhost:8080` where a port is forwarded.
    pub allowed_hosts: Vec<Authority>,
    /// Further origins whose pages may call this host: `https://hb.example.org` for a proxy that changes the `Host`
    /// header. They get no CORS headers all the same.
    pub allowed_origins: Vec<Origin>,
    /// Whether requests need a token: `open` or `required`.
    pub tokens: TokenPolicy,
    /// The directory that tokens are kept in. Needed where tokens are required.
    pub token_dir: Option<PathBuf>,
    /// How much of everything.
    pub bounds: Bounds,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: vec![Address::Tcp(([127, 0, 0, 1], 4005).into())],
            tls: None,
            allow_plain_text: false,
            unix_mode: 0o600,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            tokens: TokenPolicy::Open,
            token_dir: None,
            bounds: Bounds::default(),
        }
    }
}

/// What the edge takes, of everything that could be too much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Connections at once, on all addresses together. Further ones wait until one ends.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Requests that are being answered at once; beyond them is 503.
    pub requests: usize,
    /// Changing requests among them; beyond them is 429.
    pub changes: usize,
    /// Answers on their way at once, event streams among them; beyond them is 503.
    pub answers: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// How long a request's head may take, once it has begun or the connection is new.
    pub header_ms: u64,
    /// How long a TLS handshake may take.
    pub handshake_ms: u64,
    /// How long a connection may wait for its next request.
    pub idle_ms: u64,
    /// How long a client may take nothing of an answer that is on its way.
    pub stall_ms: u64,
    /// Bytes of a body, where a route does not say otherwise.
    pub body_bytes: u64,
    /// How long a body is waited for before its pace matters.
    pub body_grace_ms: u64,
    /// Bytes of a body that should come in each second after that.
    pub body_bytes_per_second: u64,
    /// How long what is in flight may take to end, once the host is asked to.
    pub drain_ms: u64,
    /// Browser sessions at once.
    pub sessions: usize,
    /// How long a browser session lives without being used.
    pub session_ms: u64,
    /// Wrong tokens from one address in a window, before it is told to wait.
    pub token_failures: u32,
    /// The length of that window.
    pub token_failure_window_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 100,
            requests: 400,
            changes: 64,
            answers: 2048,
            header_bytes: 16 * KIB,
            headers: 100,
            header_ms: 10 * SECOND_MS,
            handshake_ms: 10 * SECOND_MS,
            idle_ms: 75 * SECOND_MS,
            stall_ms: 30 * SECOND_MS,
            body_bytes: MIB,
            body_grace_ms: 10 * SECOND_MS,
            body_bytes_per_second: 1024,
            drain_ms: 30 * SECOND_MS,
            sessions: 1024,
            session_ms: 15 * MINUTE_MS,
            token_failures: 20,
            token_failure_window_ms: MINUTE_MS,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could reach the host.
    #[error("`listen` is empty: name at least one address, such as 127.0.0.1:4005")]
    NoAddress,
    /// Tokens are needed, and nobody says where they are.
    #[error(
        "`tokens` is \"required\", but `token_dir` is not set: name the directory that `hb token new` writes to"
    )]
    NoTokenDir,
    /// Some sockets would never get a connection: each keeps a place for the next one.
    #[error(
        "`bounds.connections` is {connections}, but there are {sockets} sockets to listen at: raise it"
    )]
    FewConnections {
        /// What it is.
        connections: usize,
        /// How many sockets there are.
        sockets: usize,
    },
    /// A bound that makes no sense, or would be none.
    #[error("`bounds.{name}` is {found}, expected {min} to {max}")]
    Bound {
        /// Which.
        name: &'static str,
        /// What it is.
        found: u64,
        /// The least that it may be.
        min: u64,
        /// The most that it may be.
        max: u64,
    },
}

impl EdgeConfig {
    /// Says what is wrong, if anything is.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        if self.tokens == TokenPolicy::Required && self.token_dir.is_none() {
            return Err(ConfigError::NoTokenDir);
        }
        self.bounds.check()
    }
}

impl Bounds {
    /// How long the client of a connection is waited for.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            head: Duration::from_millis(self.header_ms),
            idle: Duration::from_millis(self.idle_ms),
            stall: Duration::from_millis(self.stall_ms),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let many = 1_000_000;
        for (name, found, min, max) in [
            ("connections", count(self.connections), 1, many),
            ("streams", self.streams.into(), 1, 10_000),
            ("requests", count(self.requests), 1, many),
            ("changes", count(self.changes), 1, many),
            ("answers", count(self.answers), 1, many),
            ("header_bytes", count(self.header_bytes), 1024, count(256 * KIB)),
            ("headers", count(self.headers), 16, 10_000),
            ("header_ms", self.header_ms, 1, DAY_MS),
            ("handshake_ms", self.handshake_ms, 1, DAY_MS),
            ("idle_ms", self.idle_ms, 1, DAY_MS),
            ("stall_ms", self.stall_ms, 1, DAY_MS),
            ("body_bytes", self.body_bytes, 1024, u64::MAX),
            ("body_grace_ms", self.body_grace_ms, 1, DAY_MS),
            ("body_bytes_per_second", self.body_bytes_per_second, 1, MIB),
            ("drain_ms", self.drain_ms, 0, DAY_MS),
            ("sessions", count(self.sessions), 1, many),
            ("session_ms", self.session_ms, SECOND_MS, DAY_MS),
            ("token_failures", self.token_failures.into(), 1, many),
            ("token_failure_window_ms", self.token_failure_window_ms, SECOND_MS, DAY_MS),
        ] {
            if !(min..=max).contains(&found) {
                return Err(ConfigError::Bound { name, found, min, max });
            }
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_defaults_are_a_good_configuration_and_read_back() {
        let config = EdgeConfig::default();
        assert_eq!(config.check(), Ok(()));
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<EdgeConfig>(&json).unwrap(), config);
        assert_eq!(serde_json::from_str::<EdgeConfig>("{}").unwrap(), config);
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        assert!(serde_json::from_str::<EdgeConfig>(r#"{"allowed_host": ["a"]}"#).is_err());
        assert!(serde_json::from_str::<EdgeConfig>(r#"{"bounds": {"connection": 3}}"#).is_err());
        assert!(serde_json::from_str::<EdgeConfig>(r#"{"listen": ["localhost:4005"]}"#).is_err());
        assert!(serde_json::from_str::<EdgeConfig>(r#"{"allowed_origins": ["null"]}"#).is_err());
    }

    #[test]
    fn what_would_not_work_is_said_before_it_is_tried() {
        let good = EdgeConfig::default();
        let nowhere = EdgeConfig { listen: Vec::new(), ..good.clone() };
        assert_eq!(nowhere.check(), Err(ConfigError::NoAddress));
        let no_dir = EdgeConfig { tokens: TokenPolicy::Required, ..good.clone() };
        assert_eq!(no_dir.check(), Err(ConfigError::NoTokenDir));
        let bounds = Bounds { connections: 0, ..Bounds::default() };
        let none = EdgeConfig { bounds, ..good };
        assert!(matches!(none.check(), Err(ConfigError::Bound { name: "connections", .. })));
    }
}
