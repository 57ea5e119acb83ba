//! Sessions of browsers: a cookie in exchange for a token.
//!
//! A page cannot send headers with an `EventSource`, and should not keep a token where its scripts can read it. So it
//! sends the token once, and gets a cookie that scripts cannot read and that other sites' requests do not carry. Sessions
//! live in memory, end when they are not used for a while, and with their token.
//!
//! Cookies do not tell ports apart: another service on the same name sees the cookie. That is why a session is short,
//! and why the gate wants to know the origin of what a session changes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};
use tokio::time::Instant;

use super::{Token, TokenError, secret::Kind};

/// Of one token; the one that was not used for the longest time makes room.
const MAX_PER_TOKEN: usize = 64;

/// The cookie's name where this host encrypts: browsers accept it from nobody else (RFC 6265bis, 4.1.3).
const SECURE_NAME: &str = "__Host-hb_session";
/// The cookie's name otherwise.
const PLAIN_NAME: &str = "hb_session";

#[derive(Clone, Copy, Debug)]
struct Session {
    /// The hash of the token that it was opened with.
    token: blake3::Hash,
    used: Instant,
}

/// The sessions that are open.
#[derive(Debug)]
pub(crate) struct Sessions {
    max: usize,
    idle: Duration,
    open: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    pub(crate) fn new(max: usize, idle: Duration) -> Self {
        Self { max, idle, open: Mutex::new(HashMap::new()) }
    }

    /// How long a session lives without being used.
    pub(super) fn idle(&self) -> Duration {
        self.idle
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        // Each change is one call of the map.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one for the token with this hash, and returns its cookie.
    pub(super) fn open(
        &self,
        token: blake3::Hash,
        is_tls: bool,
    ) -> Result<HeaderValue, TokenError> {
        let secret = Token::generate(Kind::Session)?;
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|_, one| now - one.used < self.idle);
        if open.values().filter(|one| one.token == token).count() >= MAX_PER_TOKEN {
            remove_stalest(&mut open, |one| one.token == token);
        }
        if open.len() >= self.max {
            remove_stalest(&mut open, |_| true);
        }
        open.insert(*secret.hash(Kind::Session).as_bytes(), Session { token, used: now });
        Ok(cookie(secret.expose(), is_tls, ""))
    }

    /// The hash of the token that the request's session was opened with. Using it keeps it open.
    pub(super) fn find(&self, headers: &HeaderMap, is_tls: bool) -> Option<blake3::Hash> {
        let key = sent(headers, is_tls)?;
        let now = Instant::now();
        let mut open = self.lock();
        let session = open.get_mut(key.as_bytes())?;
        if now - session.used >= self.idle {
            open.remove(key.as_bytes());
            return None;
        }
        session.used = now;
        Some(session.token)
    }

    /// Ends the request's session, if it has one, and returns what makes the browser forget it.
    pub(super) fn close(&self, headers: &HeaderMap, is_tls: bool) -> HeaderValue {
        if let Some(key) = sent(headers, is_tls) {
            self.lock().remove(key.as_bytes());
        }
        cookie("", is_tls, "; Max-Age=0")
    }
}

fn remove_stalest(open: &mut HashMap<[u8; 32], Session>, is_meant: impl Fn(&Session) -> bool) {
    let meant = open.iter().filter(|(_, one)| is_meant(one));
    let stalest = meant.min_by_key(|(_, one)| one.used).map(|(key, _)| *key);
    stalest.map(|key| open.remove(&key));
}

fn cookie(secret: &str, is_tls: bool, tail: &str) -> HeaderValue {
    let (name, secure) = if is_tls { (SECURE_NAME, "; Secure") } else { (PLAIN_NAME, "") };
    let text = format!("{name}={secret}; Path=/; HttpOnly; SameSite=Strict{secure}{tail}");
    let mut value = HeaderValue::from_str(&text).expect("a cookie of visible ASCII");
    value.set_sensitive(true);
    value
}

/// The hash of the session cookie that was sent.
fn sent(headers: &HeaderMap, is_tls: bool) -> Option<blake3::Hash> {
    let name = if is_tls { SECURE_NAME } else { PLAIN_NAME };
    let pairs = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    let (_, secret) = pairs.find(|(key, _)| key.trim() == name)?;
    Token::parse(Kind::Session, secret.trim()).map(|secret| secret.hash(Kind::Session))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const IDLE: Duration = Duration::from_mins(15);

    fn token(number: u8) -> blake3::Hash {
        blake3::Hash::from_bytes([number; 32])
    }

    /// What a browser sends after it got a cookie.
    fn sends(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        let pairs = format!("other=1; {pair}; theme=dark");
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&pairs).unwrap())])
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lives_as_long_as_it_is_used() {
        let sessions = Sessions::new(10, IDLE);
        let browser = sends(&sessions.open(token(1), false).unwrap());
        for _ in 0..3 {
            tokio::time::advance(IDLE / 2).await;
            assert_eq!(sessions.find(&browser, false), Some(token(1)));
        }
        tokio::time::advance(IDLE).await;
        assert_eq!(sessions.find(&browser, false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_session_is_over() {
        let sessions = Sessions::new(10, IDLE);
        let browser = sends(&sessions.open(token(1), false).unwrap());
        assert!(sessions.close(&browser, false).to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(sessions.find(&browser, false), None);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_sessions_than_the_bounds_say() {
        let sessions = Sessions::new(100, IDLE);
        let first = sends(&sessions.open(token(1), false).unwrap());
        for _ in 0..MAX_PER_TOKEN {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.open(token(2), false).unwrap();
        }
        sessions.open(token(2), false).unwrap();
        assert_eq!(
            sessions.find(&first, false),
            Some(token(1)),
            "one token does not crowd out others"
        );
        for number in 3..100 {
            tokio::time::advance(Duration::from_millis(1)).await;
            sessions.open(token(number), false).unwrap();
        }
        assert_eq!(sessions.lock().len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cookie_is_out_of_reach_of_scripts_and_of_other_sites() {
        let sessions = Sessions::new(10, IDLE);
        let plain = sessions.open(token(1), false).unwrap();
        assert!(plain.is_sensitive());
        let text = plain.to_str().unwrap();
        assert!(text.starts_with("hb_session=hbs_"));
        assert!(text.ends_with("; Path=/; HttpOnly; SameSite=Strict"));
        let secure = sessions.open(token(1), true).unwrap();
        assert!(secure.to_str().unwrap().starts_with("__Host-hb_session=hbs_"));
        assert!(secure.to_str().unwrap().ends_with("; Secure"));
        assert_eq!(sessions.find(&sends(&secure), false), None, "names are not mixed up");
    }
}
