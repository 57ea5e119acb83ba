//! What a token permits.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a token permits. Each scope contains the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Submit, cancel and fork jobs, and upload blobs.
    Submit,
    /// Change the host itself.
    Admin,
}

impl Scope {
    /// Whether a token with this scope may do what needs `needed`.
    pub fn includes(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Admin => "admin",
        })
    }
}

/// A text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no scope: expected read, submit or admin")]
pub struct ParseScopeError {
    text: String,
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Read, Self::Submit, Self::Admin]
            .into_iter()
            .find(|scope| scope.to_string() == text)
            .ok_or_else(|| ParseScopeError { text: hb_types::text::printable(text, 40) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_contains_the_ones_before_it() {
        assert!(Scope::Admin.includes(Scope::Submit) && Scope::Submit.includes(Scope::Read));
        assert!(!Scope::Read.includes(Scope::Submit) && !Scope::Submit.includes(Scope::Admin));
    }

    #[test]
    fn scopes_read_back_as_they_are_written() {
        for scope in [Scope::Read, Scope::Submit, Scope::Admin] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert!("root".parse::<Scope>().is_err());
    }
}
