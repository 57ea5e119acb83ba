//! How values look: times, sizes, tables, JSON.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::{Duration, UNIX_EPOCH},
};

use comfy_table::{Table, presets};
use hb_types::{
    container::Container,
    outcome::Outcome,
    text::{is_unsafe, printable},
};

/// RFC 3339 in UTC, to the second.
pub fn time(at_ns: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(at_ns)).to_string()
}

/// RFC 3339 in UTC, to the millisecond, for lists in which the order of events matters.
pub fn precise_time(at_ns: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(at_ns)).to_string()
}

/// `1.4 MiB`.
#[allow(clippy::cast_precision_loss)] // shown with one decimal
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// An outcome in a few words.
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success => "success".to_owned(),
        other => other.canonical(),
    }
}

/// A table without lines, as unix tools print them.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Prints lines to standard output; a reader that has gone away is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let lines = text.lines().map(str::trim_end);
    let mut written = Ok(());
    for line in lines {
        written = written.and_then(|()| writeln!(out, "{line}"));
    }
    ignore_gone_reader(written.and_then(|()| out.flush()))
}

/// Prints a JSON value, readable on a terminal and compact elsewhere.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)?
    } else {
        serde_json::to_string(value)?
    };
    Ok(print(&escape_unsafe(&text))?)
}

/// JSON leaves characters as they are that steer a terminal or turn the reading order; they stand
/// only inside strings, where an escape means the same.
pub fn escape_unsafe(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && is_unsafe(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Says something on standard error, where nobody may be listening.
pub fn tell(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// `hb … | head` is not a failure.
pub fn ignore_gone_reader(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// What a native program runs in, as lines with their names.
pub fn container(container: &Container) -> Vec<(&'static str, String)> {
    let shown = |text: &str| printable(text, 300);
    let image = match container.name.as_str() {
        "" => container.image.clone(),
        name => format!("{} ({})", shown(name), container.image),
    };
    let mounts = container.mounts.iter().map(|mount| ("mount", shown(&mount.to_string())));
    let grants = container.grants.iter().map(|grant| ("grant", shown(&grant.to_string())));
    std::iter::once(("image", image)).chain(mounts).chain(grants).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_means_the_same_and_steers_no_terminal() {
        let value = serde_json::json!({"a": "\u{9b}2J\u{202e}x\u{e0041}\n\u{1b}"});
        let text = escape_unsafe(&value.to_string());
        assert!(!text.chars().any(is_unsafe), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
