//! The signal that the host ends, which everything long-lived can wait for.
//!
//! Knows nothing of: who gives it (a signal handler, a route, a test) and what is done about it.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    Closing,
}

/// A handle on the end of serving. All clones are one.
///
/// It only ever goes forward: serving, draining (nothing new is accepted, what is in flight may finish), closing
/// (what is still open is cut).
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<Phase>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nobody has asked for it yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }

    /// Asks for the end: what is in flight may finish.
    pub fn request(&self) {
        self.advance(Phase::Draining);
    }

    /// Asks for the end at once: what is in flight is cut.
    pub fn close(&self) {
        self.advance(Phase::Closing);
    }

    fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let is_later = to > *phase;
            *phase = (*phase).max(to);
            is_later
        });
    }

    /// Whether somebody asked for it.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Resolves when somebody asks for it, or has done so before. Streams that would go on for ever end
    /// when it does.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        self.reached(Phase::Draining)
    }

    /// Resolves when what is still open has to be cut.
    pub fn closing(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        self.reached(Phase::Closing)
    }

    fn reached(&self, wanted: Phase) -> impl Future<Output = ()> + Send + Sync + use<> {
        let handle = self.clone();
        async move {
            let mut phases = handle.0.subscribe();
            // The sender lives in `handle`, so it cannot be gone.
            let _ = phases.wait_for(|phase| *phase >= wanted).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_is_told_and_whoever_comes_later_too() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn(shutdown.clone().requested());
        assert!(!shutdown.is_requested());
        shutdown.request();
        early.await.unwrap();
        shutdown.requested().await;
    }

    #[tokio::test]
    async fn it_never_goes_back() {
        let shutdown = Shutdown::new();
        shutdown.close();
        shutdown.request();
        shutdown.closing().await;
        assert!(shutdown.is_requested());
    }
}
