//! What every request knows of the connection that it came on.
//!
//! Owns: who the peer is, and the state that decides when a connection has waited long enough ([`Activity`]).
//! Knows nothing of: sockets and HTTP.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A process on this machine, by its user where the system says so.
    Unix {
        /// The user's number.
        uid: Option<u32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix { uid: Some(uid) } => write!(f, "unix:{uid}"),
            Self::Unix { uid: None } => f.write_str("unix"),
        }
    }
}

/// The connection of a request. In the extensions of every request.
#[derive(Clone, Debug)]
pub struct Connection {
    peer: Peer,
    local: Option<SocketAddr>,
    is_tls: bool,
    activity: Arc<Activity>,
}

impl Connection {
    pub(crate) fn new(
        peer: Peer,
        local: Option<SocketAddr>,
        is_tls: bool,
        activity: Arc<Activity>,
    ) -> Self {
        Self { peer, local, is_tls, activity }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The address at which the client reached this host; none for a unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Whether it is encrypted by this host.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// The network address, with IPv4 in IPv6 undone.
    pub(crate) fn peer_ip(&self) -> Option<IpAddr> {
        match self.peer {
            Peer::Tcp(address) => Some(address.ip().to_canonical()),
            Peer::Unix { .. } => None,
        }
    }
}

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For its own answers: the client is not to blame.
    Host,
    /// For the rest of a request's head, since then.
    Head(Instant),
    /// For the next request, since then.
    Request(Instant),
}

/// Notes what a connection is doing, so that whoever drives it knows when to give it up.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    waiting: Waiting,
    /// HTTP/2 has bytes between requests that begin no head.
    times_heads: bool,
    leaves_body: bool,
    closes: bool,
}

impl Activity {
    /// A new connection, on which the head of a request is expected at once.
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            in_flight: 0,
            waiting: Waiting::Head(Instant::now()),
            times_heads: true,
            leaves_body: false,
            closes: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment, so that a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the head of a request is expected.
    pub(crate) fn expect_head(&self) {
        self.state().waiting = Waiting::Head(Instant::now());
    }

    /// The connection speaks HTTP/2.
    pub(crate) fn expect_streams(&self) {
        let mut state = self.state();
        state.times_heads = false;
        state.waiting = Waiting::Request(Instant::now());
    }

    /// Bytes came from the client.
    pub(crate) fn bytes_came(&self) {
        let mut state = self.state();
        if state.times_heads && matches!(state.waiting, Waiting::Request(_)) {
            state.waiting = Waiting::Head(Instant::now());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A request's head is complete. The request is in flight until its answer is sent or given up.
    pub(crate) fn request(self: &Arc<Self>) -> InFlight {
        let mut state = self.state();
        state.in_flight += 1;
        state.waiting = Waiting::Host;
        InFlight(Arc::clone(self))
    }

    fn finish(&self) {
        let mut state = self.state();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.waiting = Waiting::Request(Instant::now());
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Whether a request's body was left unread by its answer: the client may still be sending it.
    pub(crate) fn leaves_body(&self, leaves: bool) {
        self.state().leaves_body = leaves;
    }

    /// The connection is to be closed after what is in flight.
    pub(crate) fn close(&self) {
        self.state().closes = true;
        self.changed.notify_one();
    }

    /// Whether [`Activity::close`] was called.
    pub(crate) fn closes(&self) -> bool {
        self.state().closes
    }

    /// Whether the client may be sending what nobody is going to read. Closing the socket then would take the
    /// answer from it (RFC 9112, 9.6).
    pub(crate) fn lingers(&self) -> bool {
        let state = self.state();
        state.leaves_body || state.times_heads && matches!(state.waiting, Waiting::Head(_))
    }

    /// When the client has had its time; never while the host itself is at work.
    pub(crate) fn deadline(&self, head: Duration, idle: Duration) -> Option<Instant> {
        match self.state().waiting {
            Waiting::Host => None,
            Waiting::Head(since) => Some(since + head),
            Waiting::Request(since) => Some(since + idle),
        }
    }

    /// What it is waiting for.
    pub(crate) fn waiting(&self) -> Waiting {
        self.state().waiting
    }

    /// Resolves when the answer to one of the questions above may be another than before.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn a_head_has_less_time_than_an_idle_connection() {
        let activity = Activity::new();
        let begun = Instant::now();
        assert_eq!(activity.deadline(HEAD, IDLE), Some(begun + HEAD));
        let request = activity.request();
        assert_eq!(activity.deadline(HEAD, IDLE), None);
        tokio::time::advance(HEAD).await;
        drop(request);
        assert_eq!(activity.deadline(HEAD, IDLE), Some(begun + HEAD + IDLE));
        activity.bytes_came();
        assert_eq!(activity.deadline(HEAD, IDLE), Some(begun + HEAD + HEAD));
        tokio::time::advance(HEAD / 2).await;
        activity.bytes_came();
        assert_eq!(
            activity.deadline(HEAD, IDLE),
            Some(begun + HEAD + HEAD),
            "a trickle gains no time"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn several_requests_at_once_are_in_flight_until_the_last_ends() {
        let activity = Activity::new();
        activity.expect_streams();
        let (first, second) = (activity.request(), activity.request());
        drop(first);
        assert_eq!(activity.waiting(), Waiting::Host);
        drop(second);
        activity.bytes_came();
        assert_eq!(activity.waiting(), Waiting::Request(Instant::now()), "frames begin no head");
    }
}
