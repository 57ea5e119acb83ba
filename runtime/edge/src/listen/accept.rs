//! Accepts connections, as many as there may be, and ends them all.
//!
//! Owns: the number of connections, handshakes, and the order of a shutdown. Knows nothing of: requests.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Socket, Tls,
    drive::Driver,
    preface::{Version, version},
    wire::Wire,
};
use crate::{
    connection::{Activity, Connection, Peer},
    names,
};

/// Between two tries when the system has no descriptor or memory for a connection.
const RETRY: Duration = Duration::from_millis(200);
/// Between two lines of the log about the same trouble.
const SELDOM: Duration = Duration::from_mins(1);
/// What a task needs to notice that its connection was cut.
const CUT: Duration = Duration::from_secs(1);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Connections that were cut, because they had not ended in time.
    pub cut: usize,
}

/// What all sockets share.
#[derive(Debug)]
pub(crate) struct Listener {
    driver: Driver,
    tls: Option<Tls>,
    slots: Arc<Semaphore>,
    full: Seldom,
    failing: Seldom,
}

/// A client that was accepted.
enum Client {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    pub(crate) fn new(driver: Driver, tls: Option<Tls>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(driver.bounds.connections));
        let (full, failing) = (Seldom::default(), Seldom::default());
        Arc::new(Self { driver, tls, slots, full, failing })
    }

    /// Serves on all sockets until the shutdown is asked for, then ends every connection.
    pub(crate) async fn serve(self: Arc<Self>, sockets: Vec<Socket>) -> Served {
        let mut loops = JoinSet::new();
        for socket in sockets {
            loops.spawn(Arc::clone(&self).accept_from(socket));
        }
        while loops.join_next().await.is_some() {}
        let shutdown = &self.driver.shutdown;
        let drain = Duration::from_millis(self.driver.bounds.drain_ms);
        tokio::select! {
            () = self.all_ended() => {}
            () = shutdown.closing() => {}
            () = sleep(drain) => {}
        }
        shutdown.close();
        // They see it at once; a task that does not is left to the end of the runtime.
        let _ = timeout(CUT, self.all_ended()).await;
        Served { cut: self.driver.cut.load(Ordering::SeqCst) }
    }

    /// Resolves when no connection is open.
    async fn all_ended(&self) {
        let all = u32::try_from(self.driver.bounds.connections).unwrap_or(u32::MAX);
        let _ = self.slots.acquire_many(all).await;
    }

    async fn accept_from(self: Arc<Self>, socket: Socket) {
        let requested = self.driver.shutdown.requested();
        let accepting = async {
            loop {
                let slot = self.slot().await;
                match socket.accept().await {
                    Ok(client) => {
                        tokio::spawn(Arc::clone(&self).attend(client, slot));
                    }
                    Err(error) => self.failed(&socket, &error).await,
                }
            }
        };
        tokio::select! {
            () = requested => {}
            () = accepting => {}
        }
    }

    /// A place for one more connection. Until there is one, clients wait in the kernel's queue.
    async fn slot(&self) -> OwnedSemaphorePermit {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return slot;
        }
        if self.full.is_time() {
            let connections = self.driver.bounds.connections;
            tracing::warn!(connections, "no further connection is accepted until one ends");
        }
        Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn failed(&self, socket: &Socket, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        if self.failing.is_time() {
            let address = socket.address();
            tracing::error!(address, %error, "connections cannot be accepted; trying on");
        }
        sleep(RETRY).await;
    }

    /// One connection, from its first byte to its end.
    async fn attend(self: Arc<Self>, client: Client, slot: OwnedSemaphorePermit) {
        let _open = Open::new(slot);
        let closing = self.driver.shutdown.closing();
        let attended = async {
            match client {
                Client::Tcp(stream, peer) => {
                    // Answers are written whole; waiting for more to send only delays them.
                    let _ = stream.set_nodelay(true);
                    let local = stream.local_addr().ok();
                    let peer = Peer::Tcp(peer);
                    match &self.tls {
                        Some(tls) => self.encrypted(tls, stream, peer, local).await,
                        None => self.plain(stream, peer, local).await,
                    }
                }
                Client::Unix(stream) => {
                    let uid = stream.peer_cred().ok().map(|one| one.uid());
                    self.plain(stream, Peer::Unix { uid }, None).await;
                }
            }
        };
        tokio::select! {
            () = attended => {}
            () = closing => { self.driver.cut.fetch_add(1, Ordering::SeqCst); }
        }
    }

    async fn plain<S>(&self, stream: S, peer: Peer, local: Option<SocketAddr>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let mut wire = Wire::new(stream, Arc::clone(&activity), self.stall());
        let patience = Duration::from_millis(self.driver.bounds.header_ms);
        let spoken = tokio::select! {
            spoken = timeout(patience, version(&mut wire)) => spoken,
            () = self.driver.shutdown.requested() => return,
        };
        let Ok(Ok(Some(version))) = spoken else { return };
        let connection = Connection::new(peer, local, false, activity);
        self.driver.drive(wire, version, connection).await;
    }

    async fn encrypted(&self, tls: &Tls, stream: TcpStream, peer: Peer, local: Option<SocketAddr>) {
        let activity = Activity::new();
        let wire = Wire::new(stream, Arc::clone(&activity), self.stall());
        let acceptor = TlsAcceptor::from(tls.config().await);
        let patience = Duration::from_millis(self.driver.bounds.handshake_ms);
        let shaken = tokio::select! {
            shaken = timeout(patience, acceptor.accept(wire)) => shaken,
            () = self.driver.shutdown.requested() => return,
        };
        let Ok(Ok(stream)) = shaken else {
            counter!(names::HANDSHAKES_FAILED).increment(1);
            tracing::debug!(%peer, "TLS handshake failed or took too long");
            return;
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let version = if is_http2 { Version::Http2 } else { Version::Http1 };
        activity.expect_head();
        let connection = Connection::new(peer, local, true, activity);
        self.driver.drive(stream, version, connection).await;
    }

    fn stall(&self) -> Duration {
        Duration::from_millis(self.driver.bounds.stall_ms)
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Client> {
        match self {
            Self::Tcp { listener, .. } => {
                listener.accept().await.map(|(stream, peer)| Client::Tcp(stream, peer))
            }
            Self::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Client::Unix(stream))
            }
        }
    }
}

/// An open connection, as it is counted.
struct Open {
    _slot: OwnedSemaphorePermit,
}

impl Open {
    fn new(slot: OwnedSemaphorePermit) -> Self {
        counter!(names::CONNECTIONS_ACCEPTED).increment(1);
        gauge!(names::CONNECTIONS).increment(1.0);
        Self { _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(names::CONNECTIONS).decrement(1.0);
    }
}

/// When something was last said.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it may be said again.
    fn is_time(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| last.elapsed() >= SELDOM);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time
    }
}
