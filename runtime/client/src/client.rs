//! A client of one host.
//!
//! Owns: how it is set up: address, token, certificates, timeouts, patience. The calls are in
//! `jobs.rs`, `host.rs` and `blobs.rs`.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ureq::{
    Agent, Proxy,
    http::{HeaderValue, Uri},
};

use crate::{OptionsError, Patience, tls};

/// Finds the address of a host that is known by something else.
pub type Locate = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// How a host is reached.
#[derive(Clone, Default)]
pub struct ClientOptions {
    /// Its address, such as `http://127.0.0.1:4005`.
    pub server: String,
    /// Says where the host is by now. Asked when nobody answers at its address: a host that was
    /// started anew may have another port.
    pub locate: Option<Locate>,
    /// What it knows the user by.
    pub token: Option<String>,
    /// A PEM file with the only certificates to believe [default: those of this machine].
    pub ca: Option<PathBuf>,
    /// How long a host that does not answer is waited for.
    pub patience: Patience,
    /// The trace that jobs become a part of (W3C `traceparent`).
    pub traceparent: Option<String>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token.
        f.debug_struct("ClientOptions")
            .field("server", &self.server)
            .field("ca", &self.ca)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// A client of one host. Calls block; a client may be used by many threads.
pub struct Client {
    pub(crate) agent: Agent,
    server: RwLock<String>,
    locate: Option<Locate>,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) traceparent: Option<HeaderValue>,
    pub(crate) patience: Patience,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server()).finish_non_exhaustive()
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The host sends a sign of life on streams more often than this.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);
/// Between a request and the beginning of its answer. Whoever takes up a long upload again makes
/// the host read what is there.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);
/// What an answer says above its body.
const HEADER_BYTES: usize = 64 * 1024;

impl Client {
    /// Sets a client up; nothing is sent yet.
    pub fn new(options: &ClientOptions) -> Result<Self, OptionsError> {
        let (server, uri) = address(&options.server)?;
        let is_local = uri.host().is_some_and(is_loopback);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // The token is for this server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("hb/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_write(Some(SILENCE_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .max_response_header_size(HEADER_BYTES)
            // No proxy knows what is behind this machine's own addresses.
            .proxy(if is_local { None } else { Proxy::try_from_env() });
        if uri.scheme_str() == Some("https") {
            config = config.tls_config(tls::config(options.ca.as_deref())?);
        }
        let authorization = match &options.token {
            Some(token) => Some(bearer(token)?),
            None => None,
        };
        // A trace that cannot be told is no reason to refuse a job.
        let traceparent = options.traceparent.as_ref();
        Ok(Self {
            agent: config.build().new_agent(),
            server: RwLock::new(server),
            locate: options.locate.clone(),
            authorization,
            traceparent: traceparent.and_then(|text| HeaderValue::from_str(text).ok()),
            patience: options.patience,
        })
    }

    /// The host's address.
    pub fn server(&self) -> String {
        self.server.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody answers: asks where the host is by now. One that is reached in another way (over TLS
    /// instead of in the clear, from another machine) would be another host.
    pub(crate) fn look_again(&self) {
        let Some(found) = self.locate.as_ref().and_then(|locate| locate()) else { return };
        let Ok((found, new)) = address(&found) else { return };
        let Ok((_, old)) = address(&self.server()) else { return };
        if new.scheme() == old.scheme() && new.host() == old.host() {
            *self.server.write().unwrap_or_else(PoisonError::into_inner) = found;
        }
    }
}

/// The address without a slash at its end.
fn address(text: &str) -> Result<(String, Uri), OptionsError> {
    let wrong = |why| OptionsError::Url { url: hb_types::text::printable(text, 200), why };
    let text = text.trim().trim_end_matches('/');
    let uri: Uri = text.parse().map_err(|_| wrong("it cannot be read"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it must begin with http:// or https://"));
    }
    let Some(authority) = uri.authority() else { return Err(wrong("it names no host")) };
    if authority.as_str().contains('@') {
        return Err(wrong("a user has no place in it: use --token"));
    }
    if uri.query().is_some() {
        return Err(wrong("it must not hold a question mark"));
    }
    Ok((text.to_owned(), uri))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn bearer(token: &str) -> Result<HeaderValue, OptionsError> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = is_token.then(|| HeaderValue::from_str(&format!("Bearer {token}")).ok()).flatten();
    let mut value = value.ok_or(OptionsError::Token)?;
    // Keeps it out of debugging output of the libraries below.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(server: &str, token: Option<&str>) -> Result<Client, OptionsError> {
        let token = token.map(str::to_owned);
        Client::new(&ClientOptions { server: server.to_owned(), token, ..ClientOptions::default() })
    }

    #[test]
    fn an_address_names_its_scheme_and_a_host_and_nothing_secret() {
        assert_eq!(client("http://[::1]:4005/", None).unwrap().server(), "http://[::1]:4005");
        assert_eq!(client(" http://h/hb/ ", None).unwrap().server(), "http://h/hb");
        for bad in ["", "127.0.0.1:4005", "ftp://h", "http://", "http://u:p@h", "http://h?x", "/x"]
        {
            let error = client(bad, None).unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:4005"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        for bad in ["", "a b", "a\n", "é"] {
            assert!(matches!(client("http://h", Some(bad)), Err(OptionsError::Token)), "{bad:?}");
        }
        let secret = "hbt_secret";
        let options = ClientOptions { token: Some(secret.to_owned()), ..ClientOptions::default() };
        let client = client("http://h", Some(secret)).unwrap();
        let shown = format!("{options:?} {client:?} {:?}", client.authorization);
        assert!(!shown.contains(secret), "{shown}");
    }
}
