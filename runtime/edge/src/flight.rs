//! How many requests are in flight at once.
//!
//! Three bounds: requests that are being answered, changing ones among them, and answers that are on their way
//! (an event stream is on its way for as long as somebody listens). What is beyond is refused at once: a queue would only
//! hide how much there is. Knows nothing of: connections, which have a bound of their own.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    codes::{self, Code},
    config::Bounds,
    names,
    problem::Problem,
    trace::is_safe,
};

/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u32 = 1;

/// The bounds, and what is in flight under each.
#[derive(Debug)]
pub(crate) struct Flight {
    requests: Bound,
    changes: Bound,
    answers: Bound,
    /// Route templates that are answered whatever else goes on.
    exempt: Vec<String>,
}

#[derive(Debug)]
struct Bound {
    code: &'static Code,
    what: &'static str,
    max: usize,
    free: Arc<Semaphore>,
}

impl Bound {
    fn new(code: &'static Code, what: &'static str, max: usize) -> Self {
        Self { code, what, max, free: Arc::new(Semaphore::new(max)) }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            counter!(names::REQUESTS_REFUSED, "bound" => self.what).increment(1);
            let detail = format!(
                "{} {} are in flight, which is as many as this host takes: try again in a second",
                self.max, self.what
            );
            Problem::new(self.code, detail).retry_after(RETRY_AFTER_S)
        })
    }
}

impl Flight {
    pub(crate) fn new(bounds: &Bounds, exempt: Vec<String>) -> Self {
        Self {
            requests: Bound::new(&codes::OVERLOADED, "requests", bounds.requests),
            changes: Bound::new(&codes::TOO_MANY_REQUESTS, "changes", bounds.changes),
            answers: Bound::new(&codes::OVERLOADED, "answers", bounds.answers),
            exempt,
        }
    }

    fn is_exempt(&self, request: &Request) -> bool {
        let route = request.extensions().get::<MatchedPath>();
        route.is_some_and(|route| self.exempt.iter().any(|one| one == route.as_str()))
    }
}

pub(crate) async fn bound(
    State(flight): State<Arc<Flight>>,
    request: Request,
    next: Next,
) -> Response {
    if flight.is_exempt(&request) {
        return next.run(request).await;
    }
    let entered = flight.requests.enter().and_then(|request_permit| {
        let changes = !is_safe(request.method());
        let change = changes.then(|| flight.changes.enter()).transpose()?;
        // Now, and not when there is an answer: what was done cannot be refused any more.
        Ok((request_permit, change, flight.answers.enter()?))
    });
    match entered {
        Ok((_request, _change, answer)) => {
            let response = next.run(request).await;
            response.map(|body| Body::new(Answer { body, _permit: answer }))
        }
        Err(problem) => problem.into_response(),
    }
}

/// An answer that holds its place until it is sent or given up.
struct Answer {
    body: Body,
    _permit: OwnedSemaphorePermit,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
