//! The table of keys as a page of documentation.

use std::fmt::Write;

use crate::key::{self, Key};

/// The keys by section, as tables of Markdown.
pub fn markdown() -> String {
    let mut page = String::new();
    let mut section = None;
    for (index, key) in key::all().iter().enumerate() {
        if index == 0 || key.section() != section {
            section = key.section();
            // Writing to a string cannot fail.
            let _ = match section {
                None => writeln!(page, "### Outside of sections\n"),
                Some(name) => writeln!(page, "\n### `[{name}]`\n"),
            };
            page.push_str("| key | value | default | variable | what it does |\n");
            page.push_str("| --- | --- | --- | --- | --- |\n");
        }
        let cells = [
            format!("`{}`", key.short()),
            key.expectation(),
            default(key),
            format!("`{}`", key.variable()),
            key.what.to_owned(),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(page, "| {} |", cells.join(" | "));
    }
    page
}

fn default(key: &Key) -> String {
    let default = match key.default {
        key::Default::Derived(how) => return how.to_owned(),
        _ => format!("`{}`", key.default_text()),
    };
    match key.none {
        Some(meaning) if default == "`\"none\"`" => format!("{default}: {meaning}"),
        _ => default,
    }
}
