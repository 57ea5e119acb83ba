//! One value: what kinds there are, and how each is read from a file's TOML and from text.
//!
//! Owns: what is expected of a value of each kind, in words. Knows nothing of single keys.

use std::{
    fmt, iter,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use hb_types::text::printable;
use serde_json::json;
use toml::de::DeValue;

use crate::quantity;

/// Bytes of a value that are quoted in a message.
const QUOTED_BYTES: usize = 60;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Switch,
    /// A whole number within bounds.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Bytes, within bounds.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Milliseconds of real time, at least so many.
    Duration {
        /// The least.
        min: u64,
    },
    /// A file or directory. In a file, relative to where that file is.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text without control characters.
    Text,
    /// The address of a web service: `http://` or `https://`.
    Url,
    /// Addresses with ports.
    Addresses,
    /// Names of machines, without ports.
    Names,
    /// Some of these words.
    Words(&'static [&'static str]),
    /// Absolute directories, each with `:rw` behind it where it may be changed.
    Directories,
}

/// `/srv/data`, `/srv/scratch:rw`: whether it is there is found out when it is used.
fn is_directory(text: &str) -> bool {
    let path = text.strip_suffix(":rw").unwrap_or(text);
    let plain = path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    path.starts_with('/') && plain && !path.chars().any(|c| c.is_control() || c == ':' || c == ',')
}

/// What a key is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, where that is allowed.
    None,
    /// True or false.
    Switch(bool),
    /// A number.
    Count(u64),
    /// Bytes.
    Size(u64),
    /// Milliseconds.
    Duration(u64),
    /// A path, made absolute where it came from a file.
    Path(PathBuf),
    /// A word, a text or a URL.
    Text(String),
    /// Addresses or names.
    List(Vec<String>),
}

/// A value that is not of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What would have been right.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Kind {
    /// What a value of this kind looks like, for messages and for the reference.
    pub fn expectation(self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Count { min: 0, max: u64::MAX } => "a whole number".to_owned(),
            Self::Count { min, max: u64::MAX } => format!("a whole number, at least {min}"),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Size { min, max } => {
                let bound = |word: &str, bytes| format!(", {word} {}", quantity::show_size(bytes));
                let least = if min == 0 { String::new() } else { bound("at least", min) };
                let most = if max == u64::MAX { String::new() } else { bound("at most", max) };
                format!("a size such as \"64MiB\" or \"2GiB\"{least}{most}")
            }
            Self::Duration { min } => {
                let bound = |min| format!(", at least {}", quantity::show_duration(min));
                let least = if min == 0 { String::new() } else { bound(min) };
                format!("a duration such as \"30s\" or \"1h 30m\"{least}")
            }
            Self::Path => "a path".to_owned(),
            Self::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Self::Text => "text on one line".to_owned(),
            Self::Url => "an address that begins with http:// or https://".to_owned(),
            Self::Addresses => {
                "addresses with ports such as [\"127.0.0.1:4005\", \"[::1]:4005\"]".to_owned()
            }
            Self::Names => "names of machines such as [\"hb.example.org\"]".to_owned(),
            Self::Words(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("a list of {}", quoted.join(", "))
            }
            Self::Directories => {
                "absolute directories such as [\"/srv/data\", \"/srv/scratch:rw\"]".to_owned()
            }
        }
    }

    /// Reads text, as it stands in a variable or behind a flag; lists are separated by commas.
    pub fn read_text(self, text: &str) -> Result<Value, Mismatch> {
        let mismatch = || self.mismatch(quoted(text));
        match self {
            Self::Switch => match text {
                "true" => Ok(Value::Switch(true)),
                "false" => Ok(Value::Switch(false)),
                _ => Err(mismatch()),
            },
            Self::Count { .. } => {
                let count = quantity::parse_count(text).map_err(|_| mismatch())?;
                self.within(count, quoted(text)).map(Value::Count)
            }
            Self::Size { .. } => {
                let bytes = quantity::parse_size(text).map_err(|_| mismatch())?;
                self.within(bytes, quoted(text)).map(Value::Size)
            }
            Self::Duration { .. } => {
                let milliseconds = quantity::parse_duration_ms(text).map_err(|_| mismatch())?;
                self.within(milliseconds, quoted(text)).map(Value::Duration)
            }
            Self::Path if text.is_empty() || text.contains('\0') => Err(mismatch()),
            Self::Path => Ok(Value::Path(PathBuf::from(text))),
            Self::Addresses | Self::Names | Self::Words(_) | Self::Directories => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                self.list(items.map(str::to_owned).collect())
            }
            Self::Word(_) | Self::Text | Self::Url => self.word(text),
        }
    }

    /// Reads a value of a file that lies in `directory`.
    pub(crate) fn read_toml(
        self,
        value: &DeValue<'_>,
        directory: &Path,
    ) -> Result<Value, Mismatch> {
        match (self, value) {
            (Self::Switch, DeValue::Boolean(on)) => Ok(Value::Switch(*on)),
            (Self::Count { .. } | Self::Size { .. }, DeValue::Integer(integer)) => {
                let found = format!("the integer {integer}");
                let number =
                    u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
                        .map_err(|_| self.mismatch(found.clone()))?;
                let number = self.within(number, found)?;
                Ok(match self {
                    Self::Size { .. } => Value::Size(number),
                    _ => Value::Count(number),
                })
            }
            (
                Self::Addresses | Self::Names | Self::Words(_) | Self::Directories,
                DeValue::Array(items),
            ) => {
                let texts = items.iter().map(|item| match item.get_ref() {
                    DeValue::String(text) => Ok(text.to_string()),
                    other => Err(self.mismatch(format!("a list with {}", describe(other)))),
                });
                self.list(texts.collect::<Result<_, _>>()?)
            }
            (
                Self::Switch | Self::Addresses | Self::Names | Self::Words(_) | Self::Directories,
                other,
            ) => Err(self.mismatch(describe(other))),
            (Self::Path, DeValue::String(text)) => Ok(match self.read_text(text)? {
                Value::Path(path) => Value::Path(directory.join(path)),
                other => other,
            }),
            (_, DeValue::String(text)) => self.read_text(text),
            (_, other) => Err(self.mismatch(describe(other))),
        }
    }

    fn mismatch(self, found: String) -> Mismatch {
        Mismatch { expected: self.expectation(), found }
    }

    fn within(self, number: u64, found: String) -> Result<u64, Mismatch> {
        let (min, max) = match self {
            Self::Count { min, max } | Self::Size { min, max } => (min, max),
            Self::Duration { min } => (min, u64::MAX),
            _ => return Ok(number),
        };
        if (min..=max).contains(&number) { Ok(number) } else { Err(self.mismatch(found)) }
    }

    fn word(self, text: &str) -> Result<Value, Mismatch> {
        let fits = match self {
            Self::Word(words) => words.contains(&text),
            Self::Url => is_url(text),
            _ => !text.is_empty() && !text.chars().any(char::is_control),
        };
        if fits { Ok(Value::Text(text.to_owned())) } else { Err(self.mismatch(quoted(text))) }
    }

    fn list(self, items: Vec<String>) -> Result<Value, Mismatch> {
        let fits = |item: &&String| match self {
            Self::Addresses => item.parse::<SocketAddr>().is_ok(),
            Self::Words(words) => words.contains(&item.as_str()),
            Self::Directories => is_directory(item),
            _ => is_name(item),
        };
        match items.iter().find(|item| !fits(item)) {
            Some(bad) => Err(self.mismatch(quoted(bad))),
            None if items.is_empty() && self == Self::Addresses => {
                Err(self.mismatch("an empty list".to_owned()))
            }
            None => Ok(Value::List(items)),
        }
    }
}

/// Enough to catch what was put into the wrong place; the rest shows when it is used. A password
/// in it would be shown wherever the configuration is.
fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty()
            && !host.contains('@')
            && rest.chars().all(|c| c.is_ascii_graphic() && !"\"<>\\^`{|}".contains(c))
    })
}

/// A DNS name or an address, as a `Host` header has it without its port.
fn is_name(text: &str) -> bool {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match inside {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !text.is_empty()
                && text.len() <= 253
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text, QUOTED_BYTES))
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(integer) => format!("the integer {integer}"),
        DeValue::Float(float) => format!("the number {}", printable(float.as_str(), QUOTED_BYTES)),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The word for nothing, wherever nothing is allowed.
pub(crate) const NONE: &str = "none";

impl Value {
    /// As JSON: sizes in bytes, durations in milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::None => serde_json::Value::Null,
            Self::Switch(on) => json!(on),
            Self::Count(number) | Self::Size(number) | Self::Duration(number) => json!(number),
            Self::Path(path) => json!(path.to_string_lossy()),
            Self::Text(text) => json!(text),
            Self::List(items) => json!(items),
        }
    }

    /// As it would stand in a file.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Switch(_) | Self::Count(_) => self.to_string(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| toml_string(item)).collect();
                format!("[{}]", items.join(", "))
            }
            other => toml_string(&other.to_string()),
        }
    }
}

/// As people read it, and as it would stand in a variable.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(NONE),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Count(number) => write!(f, "{number}"),
            Self::Size(bytes) => f.write_str(&quantity::show_size(*bytes)),
            Self::Duration(milliseconds) => f.write_str(&quantity::show_duration(*milliseconds)),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// A basic string of TOML.
fn toml_string(text: &str) -> String {
    let escaped = text.chars().flat_map(|character| {
        let escape = match character {
            '"' => Some("\\\"".to_owned()),
            '\\' => Some("\\\\".to_owned()),
            character if hb_types::text::is_unsafe(character) => {
                Some(format!("\\U{:08X}", u32::from(character)))
            }
            _ => None,
        };
        let plain = escape.is_none().then_some(character);
        escape.unwrap_or_default().chars().chain(plain).collect::<Vec<_>>()
    });
    iter::once('"').chain(escaped).chain(iter::once('"')).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_of_the_wrong_kind_is_refused_with_what_was_expected_and_found() {
        let cases = [
            (Kind::Switch, "yes", "true or false"),
            (Kind::Count { min: 1, max: 9 }, "10", "from 1 to 9"),
            (Kind::Count { min: 1, max: u64::MAX }, "0", "at least 1"),
            (Kind::Size { min: 1024, max: u64::MAX }, "1000", "at least 1KiB"),
            (Kind::Duration { min: 0 }, "30", "\"30s\""),
            (Kind::Duration { min: 1000 }, "0s", "at least 1s"),
            (Kind::Path, "", "path"),
            (Kind::Word(&["auto", "required"]), "off", "\"auto\" or \"required\""),
            (Kind::Text, "a\nb", "one line"),
            (Kind::Url, "localhost:4318", "http://"),
            (Kind::Url, "http://user:secret@host", "http://"),
            (Kind::Addresses, "localhost:4005", "127.0.0.1:4005"),
            (Kind::Addresses, "", "addresses"),
            (Kind::Names, "http://x", "names"),
        ];
        for (kind, text, expected) in cases {
            let mismatch = kind.read_text(text).unwrap_err();
            assert!(mismatch.expected.contains(expected), "{mismatch:?}");
        }
    }

    #[test]
    fn a_value_reads_back_as_it_is_shown() {
        let cases = [
            (Kind::Switch, Value::Switch(true)),
            (Kind::Count { min: 0, max: 9 }, Value::Count(7)),
            (Kind::Size { min: 0, max: u64::MAX }, Value::Size(3 << 20)),
            (Kind::Duration { min: 0 }, Value::Duration(90_500)),
            (Kind::Path, Value::Path("/var/lib/a \"b\"\\c".into())),
            (Kind::Text, Value::Text("hb_host=debug,info".to_owned())),
            (Kind::Addresses, Value::List(vec!["[::1]:1".to_owned(), "127.0.0.1:2".to_owned()])),
        ];
        for (kind, value) in cases {
            assert_eq!(kind.read_text(&value.to_string()).unwrap(), value);
            let toml = value.to_toml();
            let parsed = DeValue::parse(&toml).unwrap();
            assert_eq!(kind.read_toml(parsed.get_ref(), Path::new("/x")).unwrap(), value, "{toml}");
        }
    }

    #[test]
    fn strangers_text_is_quoted_without_what_steers_a_terminal() {
        let mismatch = Kind::Switch.read_text("\u{1b}[2J\u{202e}").unwrap_err();
        assert!(!mismatch.found.chars().any(hb_types::text::is_unsafe), "{mismatch:?}");
        assert_eq!(toml_string("a\u{1b}b"), "\"a\\U0000001Bb\"");
    }
}
