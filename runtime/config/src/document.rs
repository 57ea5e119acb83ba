//! What one file says: keys with values and places.
//!
//! Owns: the way from TOML to values of the table's kinds, and from a byte of a file to its line.

use std::{collections::BTreeMap, ops::Range, path::Path};

use hb_types::text::printable;
use toml::de::{DeTable, DeValue};

use crate::{
    error::{PROBLEMS_MAX, Place, Problem, Wrong},
    key::{self, Key},
    value::{NONE, Value},
};

/// Bytes of a parser's message.
const MESSAGE_BYTES: usize = 300;

/// The values of a file, each with its place, by the key's name.
pub(crate) type Entries = BTreeMap<&'static str, (Value, Place)>;

/// Reads the text of a file; what is wrong is added to `problems`.
pub(crate) fn read(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Entries {
    let mut reader = Reader { path, text, entries: Entries::new(), problems };
    match DeTable::parse(text) {
        Ok(table) => reader.table("", table.get_ref()),
        Err(error) => {
            let message = printable(&error.message().replace('\n', ", "), MESSAGE_BYTES);
            reader.complain(error.span().unwrap_or(0..0), Wrong::Syntax(message));
        }
    }
    reader.entries
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    entries: Entries,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// The table of the whole file (`section` is empty) or of one section.
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let full = match section {
                "" => name.get_ref().to_string(),
                section => format!("{section}.{}", name.get_ref()),
            };
            if let Some(key) = key::find(&full) {
                self.value(key, value.get_ref(), value.span());
            } else if section.is_empty() && key::sections().contains(&full.as_str()) {
                self.section(&full, value.get_ref(), name.span());
            } else {
                let nearest = key::nearest(&full);
                self.complain(name.span(), Wrong::UnknownKey { name: full, nearest });
            }
        }
    }

    fn section(&mut self, name: &str, value: &DeValue<'_>, span: Range<usize>) {
        if let DeValue::Table(table) = value {
            return self.table(name, table);
        }
        let expected = format!("the section [{name}]");
        let found = value.type_str();
        self.complain(span, Wrong::Shape { name: name.to_owned(), expected, found });
    }

    fn value(&mut self, key: &'static Key, value: &DeValue<'_>, span: Range<usize>) {
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let read = match value {
            DeValue::String(text) if key.none.is_some() && text == NONE => Ok(Value::None),
            value => key.kind.read_toml(value, directory),
        };
        match read {
            Ok(value) => {
                let place = self.place(&span);
                self.entries.insert(key.name, (value, place));
            }
            Err(mismatch) => {
                let mismatch = key.widen(mismatch);
                let (expected, found) = (mismatch.expected, mismatch.found);
                self.complain(span, Wrong::Value { key: key.name, expected, found });
            }
        }
    }

    fn complain(&mut self, span: Range<usize>, wrong: Wrong) {
        if self.problems.len() < PROBLEMS_MAX {
            let place = self.place(&span);
            self.problems.push(Problem { place, wrong });
        }
    }

    fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = line_and_column(self.text, span.start);
        Place::File { path: self.path.to_owned(), line, column }
    }
}

/// Both from 1; the column in characters.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        read(Path::new("/etc/hb.toml"), text, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn complains(text: &str, expected: &str) {
        assert_eq!(complaints(text), [expected.to_owned()], "{text}");
    }

    #[test]
    fn a_message_names_file_line_key_and_what_was_expected() {
        complains(
            "[run]\n\ncpus = \"two\"\n",
            "/etc/hb.toml:3:8: run.cpus: expected a whole number from 1 to 4096, found \"two\"",
        );
        complains(
            "[run]\ndrain = 30",
            "/etc/hb.toml:2:9: run.drain: expected a duration such as \"30s\" or \"1h 30m\", found the integer 30",
        );
        complains("# ä\nserve = { \"ö\" = 1 }", "/etc/hb.toml:2:11: there is no key serve.ö");
        complains("log = 3", "/etc/hb.toml:1:1: log: expected the section [log], found integer");
        complains("[data]\nx = 1", "/etc/hb.toml:1:1: data: expected a path, found a table");
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_known_one() {
        let meant = |text: &str, key: &str| {
            let complaints = complaints(text);
            assert!(complaints[0].ends_with(&format!("did you mean {key}?")), "{complaints:?}");
        };
        meant("[serve]\nlistne = []", "serve.listen");
        meant("listen = []", "serve.listen");
        meant("[sevre]\nx = 1", "serve");
        meant("[ceilings]\nmemory = 1", "ceilings.memory_bytes");
        meant("[run]\nmax_connections = 1", "serve.max_connections");
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_place_and_everything_wrong_is_told() {
        let broken = complaints("[run]\ncpus = = 2");
        assert!(broken[0].starts_with("/etc/hb.toml:2:8: this is not TOML: "), "{broken:?}");
        let twice = complaints("data = \"a\"\ndata = \"b\"");
        assert!(twice[0].contains(":2:1: this is not TOML"), "{twice:?}");
        assert_eq!(complaints("a = 1\nb = 2\n[c]\nd = 3").len(), 3);
        let many: Vec<_> = (0..1000).map(|number| format!("k{number} = 1\n")).collect();
        assert_eq!(complaints(&many.concat()).len(), PROBLEMS_MAX);
    }

    #[test]
    fn paths_are_relative_to_the_file_in_which_they_stand() {
        let mut problems = Vec::new();
        let text = "data = \"d\"\n[serve]\ntls_key = \"/k\"\ntls_cert = \"none\"";
        let entries = read(Path::new("/etc/hb/config.toml"), text, &mut problems);
        assert!(problems.is_empty());
        assert_eq!(entries["data"].0, Value::Path("/etc/hb/d".into()));
        assert_eq!(entries["serve.tls_key"].0, Value::Path("/k".into()));
        assert_eq!(entries["serve.tls_cert"].0, Value::None);
    }
}
