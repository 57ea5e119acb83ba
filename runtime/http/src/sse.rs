//! Server-sent events: positions, frames, and the answer that carries them.
//!
//! Owns: the form of an event id, the headers of a stream, keep-alives. Knows nothing of what is sent.
//! The format is WHATWG HTML, section "Server-sent events".

use std::{convert::Infallible, fmt, str::FromStr, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header::CACHE_CONTROL},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{Stream, StreamExt, stream};
use hb_edge::{Problem, codes};
use hb_types::{Lsn, text::printable};

/// Time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What a client is told to wait before it comes back.
const RETRY: Duration = Duration::from_secs(1);
/// Proxies that know it pass events on at once.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Where in a stream a client is: the last event's position in the log, and how far it has the job's
/// output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Everything up to this position was sent.
    pub lsn: Lsn,
    /// Bytes of standard output that were sent; `None` where that follows from `lsn`.
    pub output: Option<(u64, u64)>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.output {
            Some((stdout, stderr)) => write!(f, "{}:{stdout}:{stderr}", self.lsn),
            None => write!(f, "{}", self.lsn),
        }
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut numbers = text.split(':').map(|part| part.parse::<u64>().map_err(|_| ()));
        let lsn = numbers.next().ok_or(())??;
        let output = match (numbers.next(), numbers.next(), numbers.next()) {
            (None, None, None) => None,
            (Some(stdout), Some(stderr), None) => Some((stdout?, stderr?)),
            _ => return Err(()),
        };
        Ok(Self { lsn, output })
    }
}

/// Where a client that comes back was: from its header, or, for those that cannot send one, from the
/// query.
pub(crate) fn last_position(
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Option<Position>, Problem> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let Some(text) = header.or(query).filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = |()| {
        let shown = printable(text, 100);
        let detail = format!("Last-Event-ID {shown:?} is not one that this host gives");
        Problem::new(&codes::BAD_REQUEST, detail)
    };
    text.parse().map(Some).map_err(wrong)
}

/// An event with an id.
pub(crate) fn event(name: &str, position: Position, data: &str) -> Event {
    Event::default().event(name).id(position.to_string()).data(data)
}

/// An event without one: it does not move the client's position.
pub(crate) fn aside(name: &str, data: &str) -> Event {
    Event::default().event(name).data(data)
}

/// The answer: batches of events, one after the other, as fast as the client takes them.
pub(crate) fn answer(batches: impl Stream<Item = Vec<Event>> + Send + 'static) -> Response {
    let hello = stream::once(async { vec![Event::default().retry(RETRY)] });
    let events = hello.chain(batches).flat_map(stream::iter).map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_are_read_as_they_are_written() {
        for position in [
            Position { lsn: 17, output: None },
            Position { lsn: 0, output: Some((0, 0)) },
            Position { lsn: 17, output: Some((400, u64::MAX)) },
        ] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for bad in ["", "x", "1:2", "1:2:3:4", "-1", "1:2:x", "18446744073709551616"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}
