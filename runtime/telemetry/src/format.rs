//! How lines of the log look.
//!
//! Owns: one line for each event, bounded, in which no character of a stranger steers a terminal
//! or forges another line. Values in it may come from anywhere: names of jobs, messages of
//! guests, paths.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use hb_types::text::{is_unsafe, printable};
use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value, json};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::{LookupSpan, Scope},
};

/// The most bytes of a line.
const LINE_MAX_BYTES: usize = 16 * 1024;

/// For people: `2026-11-24T06:00:00.000Z  WARN hb_host::host: job{id=7}: message key=value`.
pub(crate) struct Text;

/// One object a line: `time`, `level`, `target`, `message`, `fields`, `spans`, and with traces
/// `trace_id` and `span_id`.
pub(crate) struct Json;

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        _ => "\u{1b}[2m",
    }
}

const PLAIN: &str = "\u{1b}[0m";

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = format!("{}: ", metadata.target());
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            line.push_str(span.name());
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                write!(line, "{{{fields}}}")?;
            }
            line.push_str(": ");
        }
        context.field_format().format_fields(Writer::new(&mut line), event)?;
        let line = printable(&line, LINE_MAX_BYTES);
        let level = *metadata.level();
        if writer.has_ansi_escapes() {
            writeln!(writer, "{} {}{level:>5}{PLAIN} {line}", now(), color(level))
        } else {
            writeln!(writer, "{} {level:>5} {line}", now())
        }
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = json!({
            "time": now(),
            "level": metadata.level().as_str(),
            "target": metadata.target(),
            "message": fields.message,
        });
        let whole = json!({ "fields": fields.others, "spans": spans(context) });
        let mut text = escaped(&with_trace(merge(line.clone(), whole)).to_string());
        if text.len() > LINE_MAX_BYTES {
            let message = printable(&fields.message, LINE_MAX_BYTES / 8);
            line["message"] = Value::String(message);
            line["left_out_bytes"] = json!(text.len());
            text = escaped(&with_trace(line).to_string());
        }
        writeln!(writer, "{text}")
    }
}

fn merge(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

/// The spans around an event, the outermost first.
fn spans<S, N>(context: &FmtContext<'_, S, N>) -> Vec<Value>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let scope = context.event_scope().into_iter().flat_map(Scope::from_root);
    scope
        .map(|span| {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            // The fields were formatted as an object, which has no key `name` of its own here.
            let fields = fields.and_then(|fields| serde_json::from_str(&fields.fields).ok());
            let fields: Value = fields.unwrap_or_else(|| json!({}));
            merge(json!({ "name": span.name() }), json!({ "fields": fields }))
        })
        .collect()
}

/// With what a trace is found by, where there is one.
fn with_trace(line: Value) -> Value {
    let context = opentelemetry::Context::current();
    let span = context.span().span_context().clone();
    if !span.is_valid() {
        return line;
    }
    let ids = json!({
        "trace_id": span.trace_id().to_string(),
        "span_id": span.span_id().to_string(),
    });
    merge(line, ids)
}

/// JSON leaves characters as they are that steer a terminal or turn the reading order; they stand
/// only inside strings, where an escape means the same.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(character);
        }
    }
    text
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| error.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        self.put(field, json!(causes.join(": ")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, json!(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests;
