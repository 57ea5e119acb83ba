//! W3C Trace Context: which distributed trace a request belongs to.
//!
//! Source: <https://www.w3.org/TR/trace-context/> (level 1). A header that does not follow it is as good as none, and
//! a new trace begins. Knows nothing of: sampling, which is passed on as it came.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderName};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00.
const VERSION_00_BYTES: usize = 55;
/// What a participant should at least pass on; more is dropped.
const MAX_STATE_BYTES: usize = 512;

/// The trace of a request. In the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace's id: the client's, or a new one.
    pub trace_id: [u8; 16],
    /// The span that the client was in, where it said so.
    pub parent_id: Option<[u8; 8]>,
    /// The span that this request is.
    pub span_id: [u8; 8],
    /// The client's flags; bit 0 says that the trace is sampled.
    pub flags: u8,
    /// The client's `tracestate`, to be passed on unread.
    pub state: Option<String>,
}

impl TraceContext {
    /// The client's trace if its headers are valid, otherwise a new one. `random` becomes the new ids.
    pub(crate) fn from_headers(headers: &HeaderMap, random: [u8; 24]) -> Self {
        let (trace, span) = random.split_at(16);
        let mut context = Self {
            trace_id: trace.try_into().expect("16 of 24 bytes"),
            parent_id: None,
            span_id: span.try_into().expect("8 of 24 bytes"),
            flags: 0,
            state: None,
        };
        let mut sent = headers.get_all(TRACEPARENT).iter();
        // Two of them contradict each other, or one was smuggled in.
        let (Some(only), None) = (sent.next(), sent.next()) else { return context };
        if let Some(parent) = only.to_str().ok().and_then(parse) {
            context.trace_id = parent.trace_id;
            context.parent_id = Some(parent.span_id);
            context.flags = parent.flags;
            context.state = state(headers);
        }
        context
    }

    /// The `traceparent` to hand on: the same trace, with this request as the parent.
    pub fn to_traceparent(&self) -> String {
        let flags = self.flags & 1;
        format!("00-{}-{}-{flags:02x}", hex::encode(self.trace_id), hex::encode(self.span_id))
    }
}

struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// `VERSION-TRACE-SPAN-FLAGS`, in lower-case hexadecimal. A later version may append to that.
fn parse(text: &str) -> Option<Parent> {
    let head = text.get(..VERSION_00_BYTES)?;
    let tail = &text[VERSION_00_BYTES..];
    let is_lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    if !head.bytes().all(is_lower) {
        return None;
    }
    let mut fields = head.split('-');
    let mut next = || fields.next();
    let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
    if next().is_some() || version.len() != 2 || version == "ff" {
        return None;
    }
    if !tail.is_empty() && (version == "00" || !tail.starts_with('-')) {
        return None;
    }
    let parent =
        Parent { trace_id: digits(trace)?, span_id: digits(span)?, flags: digits::<1>(flags)?[0] };
    let is_real = parent.trace_id != [0; 16] && parent.span_id != [0; 8];
    is_real.then_some(parent)
}

fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

/// All `tracestate` headers as one, when they are short printable ASCII.
fn state(headers: &HeaderMap) -> Option<String> {
    let mut joined = String::new();
    for value in headers.get_all(TRACESTATE) {
        let separator = if joined.is_empty() { "" } else { "," };
        write!(joined, "{separator}{}", value.to_str().ok()?).ok()?;
        if joined.len() > MAX_STATE_BYTES {
            return None;
        }
    }
    let is_printable = joined.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (!joined.is_empty() && is_printable).then_some(joined)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(parent: &str, state: &[&'static str]) -> TraceContext {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_bytes(parent.as_bytes()).unwrap());
        for one in state {
            headers.append(TRACESTATE, HeaderValue::from_static(one));
        }
        TraceContext::from_headers(&headers, [7; 24])
    }

    #[test]
    fn a_valid_parent_is_taken_over_and_handed_on_with_a_span_of_our_own() {
        let context = context(GOOD, &["a=1", "b=2"]);
        assert_eq!(context.parent_id, Some([0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]));
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
        assert_eq!(
            context.to_traceparent(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-01"
        );
    }

    #[test]
    fn what_is_no_parent_begins_a_new_trace() {
        for bad in [
            "",
            "00",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0-",
        ] {
            let context = context(bad, &["a=1"]);
            assert_eq!((context.trace_id, context.parent_id), ([7; 16], None), "{bad}");
            assert_eq!(context.state, None);
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let context = context(&format!("01{}-more", &GOOD[2..]), &[]);
        assert_eq!(context.flags, 1);
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceContext::from_headers(&headers, [7; 24]).parent_id, None);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_what_is_handed_on_is_valid(text in "[ -~]{0,80}|[0-9a-f-]{50,60}") {
            let handed_on = context(&text, &[]).to_traceparent();
            prop_assert!(parse(&handed_on).is_some());
        }
    }
}
