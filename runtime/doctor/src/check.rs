//! What a check says.

use hb_types::text::printable;
use serde::Serialize;

/// Bytes of what was found that are told.
const FOUND_BYTES: usize = 500;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and could be better or safer.
    Warn,
    /// It does not work, or loses what must not be lost.
    Fail,
    /// It could not be looked at, or does not matter here.
    Skip,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, for scripts.
    pub id: &'static str,
    /// Its name, for people.
    pub title: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was found, on one line.
    pub found: String,
    /// Why it matters.
    pub why: &'static str,
    /// The command that mends it, or what to do where no single command does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a check is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topic {
    pub id: &'static str,
    pub title: &'static str,
    pub why: &'static str,
}

impl Topic {
    fn check(self, status: Status, found: &str, fix: Option<String>) -> Check {
        let Self { id, title, why } = self;
        // Paths, names of processes and answers of daemons come from anywhere.
        let found = printable(found, FOUND_BYTES);
        let fix = fix.map(|fix| printable(&fix, FOUND_BYTES));
        Check { id, title, status, found, why, fix }
    }

    pub fn ok(self, found: impl AsRef<str>) -> Check {
        self.check(Status::Ok, found.as_ref(), None)
    }

    pub fn skip(self, found: impl AsRef<str>) -> Check {
        self.check(Status::Skip, found.as_ref(), None)
    }

    pub fn warn(self, found: impl AsRef<str>, fix: impl Into<String>) -> Check {
        self.check(Status::Warn, found.as_ref(), Some(fix.into()))
    }

    pub fn fail(self, found: impl AsRef<str>, fix: impl Into<String>) -> Check {
        self.check(Status::Fail, found.as_ref(), Some(fix.into()))
    }
}

/// An error and its causes on one line; a cause that its effect already quotes is not said twice.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&cause);
        }
    }
    text
}

/// A word of a shell: quoted where it has to be.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_steers_no_terminal() {
        let topic = Topic { id: "x", title: "x", why: "x" };
        let check = topic.fail("a\u{1b}[2J\nb", "rm 'x\u{202e}'");
        let shown = check.found + &check.fix.unwrap_or_default();
        assert!(!shown.chars().any(hb_types::text::is_unsafe), "{shown:?}");
    }

    #[test]
    fn words_of_a_shell_are_quoted_where_they_must_be() {
        assert_eq!(shell_word("/var/lib/hb-1"), "/var/lib/hb-1");
        assert_eq!(shell_word("/my data/it's"), "'/my data/it'\\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
