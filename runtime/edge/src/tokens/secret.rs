//! Secrets of 256 bits, and the hash under which they are known.
//!
//! Their hash is a plain BLAKE3 with a context of its own, not a slow one: slow hashes protect what people choose
//! and others can guess. Nobody guesses 256 random bits, and a slow hash of each request would be a gift to
//! whoever wants to keep the host busy.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::TokenError;

const SECRET_BYTES: usize = 32;
/// What 32 bytes become in base64 without padding.
const ENCODED_BYTES: usize = 43;

/// What stands before a secret, so that people and scanners for leaked secrets recognise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bearer token.
    Token,
    /// The cookie of a browser session.
    Session,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Token => "hbt_",
            Self::Session => "hbs_",
        }
    }

    const fn context(self) -> &'static str {
        match self {
            Self::Token => "hackbrain 2026-11 http bearer token",
            Self::Session => "hackbrain 2026-11 http browser session",
        }
    }
}

/// A secret as it was sent or made. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    pub(super) fn generate(kind: Kind) -> Result<Self, TokenError> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|error| TokenError::NoRandom { reason: error.to_string() })?;
        Ok(Self(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The secret in `text`; nothing that could not be one is looked up.
    pub(super) fn parse(kind: Kind, text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(kind.prefix())?;
        if encoded.len() != ENCODED_BYTES {
            return None;
        }
        // The encoding has one form for each secret: leftover bits are refused.
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        (bytes.len() == SECRET_BYTES).then(|| Self(text.to_owned()))
    }

    /// The name under which it is kept.
    pub(super) fn hash(&self, kind: Kind) -> blake3::Hash {
        blake3::derive_key(kind.context(), self.0.as_bytes()).into()
    }

    /// The secret itself, to be shown to whoever asked for it to be made, and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_token_is_read_back_and_its_debug_form_shows_nothing() {
        let token = Token::generate(Kind::Token).unwrap();
        assert_eq!(Token::parse(Kind::Token, token.expose()), Some(token.clone()));
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_ne!(token, Token::generate(Kind::Token).unwrap());
    }

    #[test]
    fn what_is_no_token_is_not_even_looked_up() {
        let token = Token::generate(Kind::Token).unwrap();
        let text = token.expose();
        for bad in [
            "",
            "hbt_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}A"),
            &text.replace("hbt_", "hbs_"),
        ] {
            assert_eq!(Token::parse(Kind::Token, bad), None);
        }
        // The last digit carries four bits only.
        let leftover = format!("hbt_{}B", "A".repeat(42));
        assert_eq!(Token::parse(Kind::Token, &leftover), None);
    }

    #[test]
    fn the_same_bytes_have_another_hash_as_another_kind() {
        let token = Token::generate(Kind::Token).unwrap();
        assert_ne!(token.hash(Kind::Token), token.hash(Kind::Session));
    }
}
