//! The W3C trace context: by which a request, a process and a job are parts of one trace.
//!
//! Source: W3C Trace Context, level 1 (Recommendation, November 2021), and for environment
//! variables the OpenTelemetry specification of context propagation through them.
//!
//! Owns: what a well-formed context is, and its way into a span and out of one. It is passed on
//! also where this process exports nothing.

use std::str::FromStr;

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The most bytes of a `tracestate` that are passed on; the specification wants at least 512.
const STATE_MAX_BYTES: usize = 512;

/// The place in a trace below which something happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    traceparent: String,
    tracestate: Option<String>,
}

impl TraceContext {
    /// The environment variable of a `traceparent`.
    pub const VARIABLE: &'static str = "TRACEPARENT";
    /// The environment variable of a `tracestate`.
    pub const STATE_VARIABLE: &'static str = "TRACESTATE";

    /// Reads the two headers, or variables. What is not well-formed is no context; a state that
    /// is not well-formed is left out.
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let (trace, span, flags) = ids(traceparent)?;
        let tracestate = tracestate
            .filter(|state| state.len() <= STATE_MAX_BYTES && state.split(',').all(is_member))
            .filter(|state| TraceState::from_str(state).is_ok())
            .map(str::to_owned);
        Some(Self { traceparent: write(trace, span, flags), tracestate })
    }

    /// The one that this process was started with.
    pub fn of_process() -> Option<Self> {
        let variable = |name| std::env::var(name).ok();
        let state = variable(Self::STATE_VARIABLE);
        Self::read(&variable(Self::VARIABLE)?, state.as_deref())
    }

    /// The one below which what belongs to `span` happens; `None` where traces are not exported.
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let found = context.span().span_context().clone();
        let state = found.trace_state().header();
        found.is_valid().then(|| Self {
            traceparent: write(found.trace_id(), found.span_id(), found.trace_flags()),
            tracestate: (!state.is_empty()).then_some(state),
        })
    }

    /// Makes `span` a part of this trace. It must not have been entered before.
    pub fn adopt(&self, span: &Span) {
        let Some((trace, parent, flags)) = ids(&self.traceparent) else { return };
        let state = self.tracestate.as_deref().unwrap_or_default();
        let state = TraceState::from_str(state).unwrap_or_default();
        let remote = SpanContext::new(trace, parent, flags, true, state);
        // Without an export there is nothing that could be made a part of it.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// The header `tracestate`.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`; later versions may say more after that.
fn ids(traceparent: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut fields = traceparent.split('-');
    let mut next = |digits: usize| {
        let field = fields.next().filter(|field| field.len() == digits)?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        field.bytes().all(lower_hex).then_some(field)
    };
    let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
    let more = fields.next().is_some();
    if version == "ff" || (version == "00" && more) {
        return None;
    }
    let trace = TraceId::from_hex(trace).ok().filter(|id| *id != TraceId::INVALID)?;
    let span = SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?;
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    Some((trace, span, flags & TraceFlags::SAMPLED))
}

/// `key=value`, of printable characters.
fn is_member(member: &str) -> bool {
    let printable = member.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let pair = member.trim_matches(' ').split_once('=');
    printable && pair.is_some_and(|(key, value)| !key.is_empty() && !value.is_empty())
}

fn write(trace: TraceId, span: SpanId, flags: TraceFlags) -> String {
    format!("00-{trace}-{span}-{:02x}", flags & TraceFlags::SAMPLED)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_well_formed_is_passed_on() {
        let context = TraceContext::read(GOOD, Some("rojo=00f067aa0ba902b7")).unwrap();
        assert_eq!(context.traceparent(), GOOD);
        assert_eq!(context.tracestate(), Some("rojo=00f067aa0ba902b7"));
        let later = GOOD.replacen("00", "cc", 1) + "-what-the-future-holds";
        assert_eq!(TraceContext::read(&later, None).unwrap().traceparent(), GOOD);
    }

    #[test]
    fn what_is_not_well_formed_is_no_context() {
        let zeros = |range: std::ops::Range<usize>| {
            let mut text = GOOD.to_owned();
            text.replace_range(range.clone(), &"0".repeat(range.len()));
            text
        };
        let bad = [
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-more"),
            GOOD.replacen("00", "ff", 1),
            zeros(3..35),
            zeros(36..52),
            GOOD[..54].to_owned(),
            format!(" {GOOD}"),
            GOOD.replace('-', "_"),
        ];
        for bad in bad {
            assert_eq!(TraceContext::read(&bad, None), None, "{bad:?}");
        }
        let long = format!("a={}", "x".repeat(STATE_MAX_BYTES));
        for state in ["", "=", "no equals", "a=1,,b=2", "a=\u{1b}", &long] {
            assert_eq!(TraceContext::read(GOOD, Some(state)).unwrap().tracestate(), None);
        }
    }

    #[test]
    fn without_an_export_a_span_has_no_context_and_can_be_told_one() {
        let span = tracing::info_span!("lonely");
        TraceContext::read(GOOD, None).unwrap().adopt(&span);
        assert_eq!(TraceContext::of(&span), None);
    }
}
