//! A layer that looks at a request before its handler does, and may refuse it.
//!
//! Knows nothing of: what is looked at.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use tower::{Layer, Service};

use crate::problem::Problem;

/// A check as a layer for routes: `get(handler).layer(check)`.
#[derive(Clone, Copy, Debug)]
pub struct CheckLayer<F>(F);

impl<F> CheckLayer<F>
where
    F: Fn(&mut Request) -> Result<(), Problem> + Clone,
{
    /// Runs `check` before the handler; what it refuses does not reach it.
    pub fn new(check: F) -> Self {
        Self(check)
    }
}

impl<S, F: Clone> Layer<S> for CheckLayer<F> {
    type Service = Checked<S, F>;

    fn layer(&self, inner: S) -> Checked<S, F> {
        Checked { inner, check: self.0.clone() }
    }
}

/// A route behind a check.
#[derive(Clone, Copy, Debug)]
pub struct Checked<S, F> {
    inner: S,
    check: F,
}

impl<S, F> Service<Request> for Checked<S, F>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
    F: Fn(&mut Request) -> Result<(), Problem>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        match (self.check)(&mut request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(problem) => Box::pin(std::future::ready(Ok(problem.into_response()))),
        }
    }
}
