//! Bounds on what a request may send: how much, and how slowly.
//!
//! Owns: the body that counts and measures itself, and the layer with which a route says how much it takes. Knows
//! nothing of: what is in it.
//!
//! Only time in which the host waited for the client counts; a handler that takes its time with what came is not held
//! against anybody. A fault of the body decides the answer, whatever the handler makes of it.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{
        HeaderValue, Version,
        header::{CONNECTION, TRANSFER_ENCODING},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::{check::CheckLayer, codes, config::Bounds, connection::Connection, problem::Problem};

/// A body that was left unread and has no more than this is taken and dropped by hyper; a larger one ends the connection.
const DRAINED_BYTES: u64 = 8 * 1024;

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// More than the route takes.
    #[error("the body has {}, this route takes at most {limit_bytes}: send less, or upload large bytes as blobs", amount(*declared_bytes))]
    TooLarge {
        /// What the route takes.
        limit_bytes: u64,
        /// What the request announced, if it did.
        declared_bytes: Option<u64>,
    },
    /// Less than one can wait for.
    #[error(
        "after {waited_s} s of waiting, {received_bytes} bytes of the body had come: at least {bytes_per_second} bytes a second are expected after {grace_s} s"
    )]
    TooSlow {
        /// How long the host waited for the client, in seconds.
        waited_s: u64,
        /// How much came.
        received_bytes: u64,
        /// How much should come each second.
        bytes_per_second: u64,
        /// How long nothing is expected.
        grace_s: u64,
    },
}

fn amount(declared_bytes: Option<u64>) -> String {
    declared_bytes.map_or_else(|| "more bytes".to_owned(), |bytes| format!("{bytes} bytes"))
}

impl From<BodyFault> for Problem {
    fn from(fault: BodyFault) -> Self {
        let detail = fault.to_string();
        match fault {
            BodyFault::TooLarge { limit_bytes, .. } => {
                Self::new(&codes::TOO_LARGE, detail).with("limit_bytes", limit_bytes)
            }
            BodyFault::TooSlow { .. } => Self::new(&codes::REQUEST_TIMEOUT, detail),
        }
    }
}

/// How a body is doing. In the extensions of every request.
#[derive(Clone, Debug)]
struct Meter(Arc<Measures>);

#[derive(Debug)]
struct Measures {
    limit_bytes: AtomicU64,
    declared_bytes: Option<u64>,
    is_read: AtomicBool,
    fault: OnceLock<BodyFault>,
}

impl Meter {
    /// What was announced is too much already.
    fn refuse_declared(&self) -> Result<(), BodyFault> {
        let limit_bytes = self.0.limit_bytes.load(Ordering::Relaxed);
        let declared_bytes = self.0.declared_bytes;
        if declared_bytes.is_none_or(|declared| declared <= limit_bytes) {
            return Ok(());
        }
        Err(self.fail(BodyFault::TooLarge { limit_bytes, declared_bytes }))
    }

    /// Keeps the first fault, and returns it.
    fn fail(&self, fault: BodyFault) -> BodyFault {
        *self.0.fault.get_or_init(|| fault)
    }
}

/// How many bytes a route takes, where it is not what the configuration says:
/// `put(upload).layer(at_most(64 << 20))`. What announces more is refused before any of it is read.
pub fn at_most(
    limit_bytes: u64,
) -> CheckLayer<impl Fn(&mut Request) -> Result<(), Problem> + Clone> {
    CheckLayer::new(move |request: &mut Request| {
        let Some(meter) = request.extensions().get::<Meter>() else {
            return Err(Problem::new(&codes::INTERNAL, "a request came without its measures"));
        };
        meter.0.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        Ok(meter.refuse_declared()?)
    })
}

/// What is expected of a client that sends a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    limit_bytes: u64,
    grace: Duration,
    bytes_per_second: u64,
}

impl Pace {
    pub(crate) fn of(bounds: &Bounds) -> Self {
        Self {
            limit_bytes: bounds.body_bytes,
            grace: Duration::from_millis(bounds.body_grace_ms),
            bytes_per_second: bounds.body_bytes_per_second,
        }
    }

    /// How long a client may be waited for that has sent this much.
    fn patience(&self, received_bytes: u64) -> Duration {
        self.grace
            + Duration::from_millis(received_bytes.saturating_mul(1000) / self.bytes_per_second)
    }
}

pub(crate) async fn measure(State(pace): State<Pace>, request: Request, next: Next) -> Response {
    let version = request.version();
    // Both lengths at once are a way of smuggling requests past a proxy. hyper goes by the chunks, as it must, and drops
    // the other; the connection has to end then (RFC 9112, 6.1). That a length was there cannot be seen here.
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    let connection = request.extensions().get::<Connection>().cloned();
    let (mut parts, body) = request.into_parts();
    let declared_bytes = body.size_hint().exact();
    let meter = Meter(Arc::new(Measures {
        limit_bytes: AtomicU64::new(pace.limit_bytes),
        declared_bytes,
        is_read: AtomicBool::new(body.is_end_stream()),
        fault: OnceLock::new(),
    }));
    parts.extensions.insert(meter.clone());
    let body = Measured {
        body,
        meter: meter.clone(),
        pace,
        received_bytes: 0,
        waited: Duration::ZERO,
        waiting: None,
    };
    let mut response = next.run(Request::from_parts(parts, Body::new(body))).await;
    let fault = meter.0.fault.get().copied();
    if let Some(fault) = fault.filter(|_| !response.status().is_success()) {
        response = Problem::from(fault).into_response();
    }
    let is_read = meter.0.is_read.load(Ordering::Relaxed);
    if let Some(connection) = connection {
        connection.activity().leaves_body(!is_read);
        if matches!(fault, Some(BodyFault::TooSlow { .. })) {
            connection.activity().close();
        }
    }
    let is_in_the_way = !is_read && declared_bytes.is_none_or(|bytes| bytes > DRAINED_BYTES);
    if (is_chunked || fault.is_some() || is_in_the_way) && version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A body that is measured while it is read.
struct Measured {
    body: Body,
    meter: Meter,
    pace: Pace,
    received_bytes: u64,
    /// Time in which the client was waited for.
    waited: Duration,
    /// Since when it is waited for now, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Measured {
    /// The client has until the timer fires.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<BodyFault> {
        let left = self.pace.patience(self.received_bytes).saturating_sub(self.waited);
        let (since, timer) =
            self.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left))));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let waited = self.waited + since.elapsed();
        Poll::Ready(self.meter.fail(BodyFault::TooSlow {
            waited_s: waited.as_secs(),
            received_bytes: self.received_bytes,
            bytes_per_second: self.pace.bytes_per_second,
            grace_s: self.pace.grace.as_secs(),
        }))
    }

    fn take(&mut self, bytes: usize) -> Result<(), BodyFault> {
        self.received_bytes += bytes as u64;
        let limit_bytes = self.meter.0.limit_bytes.load(Ordering::Relaxed);
        if self.received_bytes > limit_bytes {
            let declared_bytes = self.meter.0.declared_bytes;
            return Err(self.meter.fail(BodyFault::TooLarge { limit_bytes, declared_bytes }));
        }
        Ok(())
    }
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Some(fault) = this.meter.0.fault.get() {
            return Poll::Ready(Some(Err(axum::Error::new(*fault))));
        }
        // Before anything is read, so that a client that waits for `100 Continue` does not send it.
        if let Err(fault) = this.meter.refuse_declared() {
            return Poll::Ready(Some(Err(axum::Error::new(fault))));
        }
        let polled = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                let slow = this.wait(cx);
                return slow.map(|fault| Some(Err(axum::Error::new(fault))));
            }
            Poll::Ready(polled) => polled,
        };
        if let Some((since, _)) = this.waiting.take() {
            this.waited += since.elapsed();
        }
        if polled.is_none() || this.body.is_end_stream() {
            this.meter.0.is_read.store(true, Ordering::Relaxed);
        }
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(fault) = this.take(data.len())
        {
            return Poll::Ready(Some(Err(axum::Error::new(fault))));
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{convert::Infallible, future::poll_fn};

    use super::*;

    /// Ten bytes now and then.
    struct Trickle {
        pause: Duration,
        next: Pin<Box<Sleep>>,
        left: u32,
    }

    impl HttpBody for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            std::task::ready!(self.next.as_mut().poll(cx));
            self.left -= 1;
            self.next = Box::pin(sleep(self.pause));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ten bytes!")))))
        }
    }

    fn measured(pause: Duration, pieces: u32, bytes_per_second: u64) -> Measured {
        let trickle = Trickle { pause, next: Box::pin(sleep(pause)), left: pieces };
        let meter = Meter(Arc::new(Measures {
            limit_bytes: AtomicU64::new(u64::MAX),
            declared_bytes: None,
            is_read: AtomicBool::new(false),
            fault: OnceLock::new(),
        }));
        let grace = Duration::from_secs(10);
        Measured {
            body: Body::new(trickle),
            meter,
            pace: Pace { limit_bytes: u64::MAX, grace, bytes_per_second },
            received_bytes: 0,
            waited: Duration::ZERO,
            waiting: None,
        }
    }

    /// Reads to the end or the fault, and takes its time between two pieces.
    async fn read(body: &mut Measured, between: Duration) -> Option<BodyFault> {
        while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            tokio::time::advance(between).await;
        }
        body.meter.0.fault.get().copied()
    }

    #[tokio::test(start_paused = true)]
    async fn many_short_waits_are_as_long_as_one() {
        let mut body = measured(Duration::from_secs(3), 1000, 1000);
        let fault = read(&mut body, Duration::ZERO).await;
        let Some(BodyFault::TooSlow { waited_s, received_bytes, .. }) = fault else {
            panic!("{fault:?}");
        };
        assert_eq!((waited_s, received_bytes), (10, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_keeps_its_pace_may_take_as_long_as_it_needs() {
        let mut body = measured(Duration::from_secs(1), 1000, 10);
        assert_eq!(read(&mut body, Duration::ZERO).await, None);
        assert_eq!(body.received_bytes, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_counts_in_which_the_client_is_waited_for() {
        let mut body = measured(Duration::from_millis(1), 1000, 1000);
        assert_eq!(read(&mut body, Duration::from_mins(1)).await, None);
    }
}
