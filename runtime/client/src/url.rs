//! Text as a part of a URL.
//!
//! Owns: what is escaped in a segment of a path and in a query (RFC 3986). Knows nothing of what
//! the parts mean.

use std::fmt::Write as _;

/// A segment of a path, or a name or value in a query: whatever it holds, it stays one.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    // These two would be taken for steps through the path, also when they are escaped.
    match escaped.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => escaped,
    }
}

/// Several segments of a path, with the slashes between them as they are.
pub(crate) fn escape_path(text: &str) -> String {
    let segments: Vec<String> = text.split('/').map(escape).collect();
    segments.join("/")
}

/// A query that grows by what is wanted.
#[derive(Debug, Default)]
pub(crate) struct Query(String);

impl Query {
    /// Adds a name and its value.
    pub fn add(&mut self, name: &str, value: impl AsRef<str>) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(&escape(name));
        self.0.push('=');
        self.0.push_str(&escape(value.as_ref()));
    }

    /// Adds a name whose value may be absent.
    pub fn maybe(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Behind a path.
    pub fn behind(self, path: &str) -> String {
        format!("{path}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_segment_holds_it_stays_one_segment() {
        assert_eq!(escape("a/../b?c#d e%é"), "a%2F..%2Fb%3Fc%23d%20e%25%C3%A9");
        assert_eq!(escape(".."), "%2E%2E");
        assert_eq!(escape_path("dir/a b.txt"), "dir/a%20b.txt");
    }

    #[test]
    fn a_query_holds_what_was_added_in_its_order() {
        let mut query = Query::default();
        query.add("label", "k=v&w");
        query.maybe("absent", None);
        query.maybe("q", Some(&"x".to_owned()));
        assert_eq!(query.behind("/v1/jobs"), "/v1/jobs?label=k%3Dv%26w&q=x");
        assert_eq!(Query::default().behind("/v1/jobs"), "/v1/jobs");
    }
}
