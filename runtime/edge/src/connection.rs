//! What every request knows of the connection that it came on.
//!
//! Owns: who the peer is, and the state that decides when a connection has waited long enough.
//! Knows nothing of: sockets and HTTP.

use std::{
    collections::BTreeMap,
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
enum Waiting {
    /// For its own answers: the client is not to blame.
    Host,
    /// For the rest of a request's head, since then.
    Head(Instant),
    /// For the next request, since then.
    Request(Instant),
}

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the head of a request.
    pub(crate) head: Duration,
    /// For the next request.
    pub(crate) idle: Duration,
    /// Until it takes more of an answer.
    pub(crate) stall: Duration,
}

/// What happens to a connection whose client has had its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// It is told that nothing more will be answered.
    Farewell,
    /// It is closed.
    Cut,
}

/// Notes what a connection is doing, so that whoever drives it knows when to give it up.
#[derive(Debug)]
pub(crate) struct Activity {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The number of the next request.
    next: u64,
    in_flight: usize,
    waiting: Waiting,
    /// Answers of which the client has something to take, since when.
    owed: BTreeMap<u64, Instant>,
    /// HTTP/2 has bytes between requests that begin no head.
    times_heads: bool,
    leaves_body: bool,
    closes: bool,
}

impl Activity {
    /// A new connection, on which the head of a request is expected at once.
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            next: 0,
            in_flight: 0,
            waiting: Waiting::Head(Instant::now()),
            owed: BTreeMap::new(),
            times_heads: true,
            leaves_body: false,
            closes: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change can panic halfway.
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

    /// Bytes went to the client. The end of an answer may still be on its way when hyper is done with it; in
    /// HTTP/2 that cannot be told from the answer to a ping.
    pub(crate) fn bytes_went(&self) {
        let mut state = self.state();
        if state.times_heads && matches!(state.waiting, Waiting::Request(_)) {
            state.waiting = Waiting::Request(Instant::now());
        }
    }

    /// A request's head is complete. The request is in flight until its answer is sent or given up.
    pub(crate) fn request(self: &Arc<Self>) -> InFlight {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.in_flight += 1;
        state.waiting = Waiting::Host;
        InFlight { activity: Arc::clone(self), number }
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

    /// When the client has had its time, and what happens then; never while the host itself is at work. A
    /// client that was told to go, at `told`, has as long as a head may take.
    pub(crate) fn deadline(
        &self,
        patience: &Patience,
        told: Option<Instant>,
    ) -> Option<(Instant, Overdue)> {
        let state = self.state();
        let waiting = match (state.waiting, told) {
            (Waiting::Host, _) => None,
            (Waiting::Head(since), None) => Some((since + patience.head, Overdue::Cut)),
            (Waiting::Request(since), None) => Some((since + patience.idle, Overdue::Farewell)),
            (Waiting::Head(since) | Waiting::Request(since), Some(told)) => {
                Some((since.max(told) + patience.head, Overdue::Cut))
            }
        };
        let stalled =
            state.owed.values().min().map(|since| (*since + patience.stall, Overdue::Cut));
        waiting.into_iter().chain(stalled).min_by_key(|(at, _)| *at)
    }

    /// Resolves when the answer to one of the questions above may be another than before.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    activity: Arc<Activity>,
    number: u64,
}

impl InFlight {
    /// The client was given a piece of the answer, and has not asked for more yet.
    pub(crate) fn gave(&self) {
        self.activity.state().owed.insert(self.number, Instant::now());
        self.activity.changed.notify_one();
    }

    /// The client took what it was given.
    pub(crate) fn took(&self) {
        self.activity.state().owed.remove(&self.number);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        state.owed.remove(&self.number);
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.waiting = Waiting::Request(Instant::now());
        }
        drop(state);
        self.activity.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        head: Duration::from_secs(10),
        idle: Duration::from_mins(1),
        stall: Duration::from_secs(30),
    };

    fn left(activity: &Activity, told: Option<Instant>) -> Option<(u64, Overdue)> {
        let deadline = activity.deadline(&PATIENCE, told);
        deadline.map(|(at, overdue)| ((at - Instant::now()).as_secs(), overdue))
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_less_time_than_an_idle_connection_and_a_trickle_gains_none() {
        let activity = Activity::new();
        assert_eq!(left(&activity, None), Some((10, Overdue::Cut)));
        let request = activity.request();
        assert_eq!(left(&activity, None), None);
        drop(request);
        assert_eq!(left(&activity, None), Some((60, Overdue::Farewell)));
        activity.bytes_came();
        assert_eq!(left(&activity, None), Some((10, Overdue::Cut)));
        tokio::time::advance(SECOND).await;
        activity.bytes_came();
        assert_eq!(left(&activity, None), Some((9, Overdue::Cut)));
    }

    #[tokio::test(start_paused = true)]
    async fn several_requests_at_once_are_in_flight_until_the_last_ends() {
        let activity = Activity::new();
        activity.expect_streams();
        let (first, second) = (activity.request(), activity.request());
        drop(first);
        assert_eq!(left(&activity, None), None);
        drop(second);
        tokio::time::advance(SECOND).await;
        activity.bytes_came();
        activity.bytes_went();
        assert_eq!(left(&activity, None), Some((59, Overdue::Farewell)), "pings are no requests");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_answer_that_is_still_on_its_way_keeps_a_connection() {
        let activity = Activity::new();
        drop(activity.request());
        tokio::time::advance(SECOND).await;
        activity.bytes_went();
        assert_eq!(left(&activity, None), Some((60, Overdue::Farewell)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_has_a_time_of_its_own() {
        let activity = Activity::new();
        let (first, second) = (activity.request(), activity.request());
        first.gave();
        tokio::time::advance(SECOND).await;
        second.gave();
        assert_eq!(left(&activity, None), Some((29, Overdue::Cut)));
        first.took();
        assert_eq!(left(&activity, None), Some((30, Overdue::Cut)));
        drop(second);
        assert_eq!(left(&activity, None), None, "the first waits for the host");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_told_to_go_has_the_time_of_a_head() {
        let activity = Activity::new();
        drop(activity.request());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(left(&activity, Some(Instant::now())), Some((10, Overdue::Cut)));
    }
}
