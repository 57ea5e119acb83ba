//! Drives one connection until it ends, in HTTP/1.1 or HTTP/2.
//!
//! Owns: how hyper is configured, and when a connection is told to close or is dropped. Knows nothing of: how the
//! bytes get here, and what the answers are.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, Response},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use super::preface::Version;
use crate::{
    config::Bounds,
    connection::{Activity, Connection, InFlight, Overdue},
    shutdown::Shutdown,
};

/// What hyper buffers of a connection at most; heads have a smaller bound of their own.
const BUFFER_BYTES: usize = 64 * 1024;
/// What a client may send of one body before the handler takes any of it (HTTP/2).
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;
/// What is buffered of one answer that the client does not take (HTTP/2).
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// What hyper is given of an answer at once.
const PIECE_BYTES: usize = 32 * 1024;
/// How often a silent HTTP/2 client is asked whether it is still there, and how long it has to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Heads up to this multiple of the configured bound are read, so that they can be answered with a problem. What is
/// larger is refused by hyper, without a body.
const HEAD_SLACK: usize = 2;

/// What is needed to drive a connection.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    pub(crate) router: Router,
    pub(crate) bounds: Bounds,
    pub(crate) shutdown: Shutdown,
    /// Connections that were cut at the end.
    pub(crate) cut: Arc<AtomicUsize>,
}

impl Driver {
    /// Drives one connection to its end.
    pub(crate) async fn drive<S>(&self, stream: S, version: Version, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = connection.activity().clone();
        let io = TokioIo::new(stream);
        let door =
            Door { router: self.router.clone(), connection, shutdown: self.shutdown.clone() };
        match version {
            Version::Http1 => {
                self.conduct(self.http1().serve_connection(io, door), &activity).await;
            }
            Version::Http2 => {
                activity.expect_streams();
                self.conduct(self.http2().serve_connection(io, door), &activity).await;
            }
        }
    }

    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            // The time for heads is measured here: hyper's would be that of idle connections too.
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES.max(self.bounds.header_bytes * HEAD_SLACK))
            .max_header_size(self.bounds.header_bytes * HEAD_SLACK)
            .max_headers(self.bounds.headers * HEAD_SLACK);
        builder
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let header_bytes = u32::try_from(self.bounds.header_bytes * HEAD_SLACK).unwrap_or(u32::MAX);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_concurrent_streams(self.bounds.streams)
            .max_header_list_size(header_bytes);
        builder
    }

    /// Polls the connection until it ends by itself, has had its time, or has to go.
    async fn conduct<C: Graceful>(&self, connection: C, activity: &Activity) {
        let patience = self.bounds.patience();
        let mut connection = pin!(connection);
        let mut requested = pin!(self.shutdown.requested());
        let mut told = None;
        loop {
            let deadline = activity.deadline(&patience, told).map(|(at, _)| at);
            let tells = tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = requested.as_mut(), if told.is_none() => true,
                () = activity.changed() => activity.closes(),
                // Looks again, because the client may have moved in the same moment.
                () = until(deadline) => match activity.deadline(&patience, told) {
                    Some((at, overdue)) if at <= Instant::now() => match overdue {
                        Overdue::Farewell => true,
                        Overdue::Cut => return,
                    },
                    _ => false,
                },
            };
            if tells && told.is_none() {
                connection.as_mut().graceful_shutdown();
                told = Some(Instant::now());
            }
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What both kinds of connection can do.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Graceful for http1::Connection<TokioIo<S>, Door> {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Graceful
    for http2::Connection<TokioIo<S>, Door, TokioExecutor>
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// The router, as one connection sees it.
#[derive(Clone, Debug)]
struct Door {
    router: Router,
    connection: Connection,
    shutdown: Shutdown,
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.connection.activity().request();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.connection.clone());
        request.extensions_mut().insert(self.shutdown.clone());
        let mut router = self.router.clone();
        Box::pin(async move {
            let response = tower::Service::call(&mut router, request).await?;
            Ok(response.map(|body| Counted { body, rest: Bytes::new(), in_flight }))
        })
    }
}

/// An answer's body, in flight until hyper is done with it.
///
/// It is handed over in pieces: hyper would take any amount at once, and what it holds cannot be seen any more.
#[derive(Debug)]
struct Counted {
    body: Body,
    /// What is left of the frame before.
    rest: Bytes,
    in_flight: InFlight,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.in_flight.took();
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()? {
                None => return Poll::Ready(None),
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.in_flight.gave();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
