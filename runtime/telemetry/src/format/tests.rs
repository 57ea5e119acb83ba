//! What lines of the log hold, and what cannot get into them.
#![allow(clippy::unwrap_used)]

use std::{
    io,
    sync::{Arc, Mutex},
};

use super::*;
use crate::start::{Format, Options, subscriber};

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `act` logs.
fn lines(format: Format, color: bool, filter: &str, act: impl FnOnce()) -> Vec<String> {
    let options = Options {
        format,
        filter: filter.to_owned(),
        color,
        otlp_endpoint: None,
        service_name: "test".to_owned(),
        service_version: "0",
    };
    let kept = Kept::default();
    let writer = kept.clone();
    let (subscriber, _telemetry) = subscriber(&options, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, act);
    let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

const HOSTILE: &str = "x\u{1b}[2J\n2026-01-01T00:00:00.000Z ERROR forged\r\u{202e}\u{9b}\u{85}";

fn hostile_events() {
    let span = tracing::info_span!("job", id = HOSTILE);
    let _entered = span.enter();
    tracing::warn!(name = HOSTILE, dbg = ?HOSTILE, "{HOSTILE}");
}

#[test]
fn text_for_people_names_level_target_spans_message_and_fields() {
    let lines = lines(Format::Text, false, "info", || {
        let outer = tracing::info_span!("job", id = 7);
        let _outer = outer.enter();
        let inner = tracing::info_span!("attempt");
        let _inner = inner.enter();
        tracing::warn!(bytes = 3, "cannot write");
    });
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
    let target = module_path!();
    assert_eq!(rest, format!(" WARN {target}: job{{id=7}}: attempt: cannot write bytes=3"));
}

#[test]
fn levels_have_colours_only_where_they_are_wanted() {
    let log = || tracing::error!("e");
    assert!(lines(Format::Text, true, "info", log)[0].contains("\u{1b}[31mERROR\u{1b}[0m"));
    assert!(!lines(Format::Text, false, "info", log)[0].contains('\u{1b}'));
}

#[test]
fn strangers_cannot_steer_a_terminal_or_forge_a_line() {
    for format in [Format::Text, Format::Json] {
        let lines = lines(format, false, "info", hostile_events);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].chars().any(is_unsafe), "{lines:?}");
    }
}

#[test]
fn machines_get_one_object_a_line() {
    let lines = lines(Format::Json, true, "info", hostile_events);
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["message"], HOSTILE);
    assert_eq!(line["fields"]["name"], HOSTILE);
    assert_eq!(line["spans"], json!([{ "name": "job", "fields": { "id": HOSTILE } }]));
    assert!(line["trace_id"].is_null());
}

#[test]
fn values_keep_their_types_for_machines() {
    let error = io::Error::other("why");
    let lines = lines(Format::Json, false, "info", || {
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::info!(u = 1_u64, i = -1_i64, f = 0.5, b = true, error, "m");
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    let expected = json!({ "u": 1, "i": -1, "f": 0.5, "b": true, "error": "why" });
    assert_eq!(line["fields"], expected);
}

#[test]
fn a_line_is_bounded_and_stays_whole() {
    let endless = "é".repeat(LINE_MAX_BYTES);
    let log = || tracing::error!(more = endless, "{endless}");
    let text = lines(Format::Text, false, "info", log);
    assert!(text[0].len() < LINE_MAX_BYTES + 100 && text[0].ends_with('…'));
    let text = lines(Format::Json, false, "info", log);
    let line: Value = serde_json::from_str(&text[0]).unwrap();
    assert!(text[0].len() <= LINE_MAX_BYTES);
    assert!(line["left_out_bytes"].as_u64().unwrap() > 2 * LINE_MAX_BYTES as u64);
}

#[test]
fn the_filter_decides_what_is_logged() {
    let log = || {
        tracing::debug!("fine");
        tracing::warn!("grave");
    };
    assert_eq!(lines(Format::Text, false, "warn", log).len(), 1);
    assert_eq!(lines(Format::Text, false, "hb_telemetry=debug", log).len(), 2);
    assert_eq!(lines(Format::Text, false, "off", log).len(), 0);
    let error = crate::check_filter("hb=loud").unwrap_err().to_string();
    assert!(error.contains("hb=loud") && error.contains("LEVEL"), "{error}");
}
