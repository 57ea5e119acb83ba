//! How often a peer sent a wrong token of late.
//!
//! Nobody guesses a token; this keeps a client that tries, or one with an old token in a loop, from filling the log.
//! A request with a good token is never held up: others behind the same address may have sent the wrong ones.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::connection::{Connection, Peer};

/// Peers that are remembered; the one whose window began first makes room.
const MAX_PEERS: usize = 1024;

/// Whom failures are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    V4([u8; 4]),
    /// A network of the size that one customer has.
    V6([u8; 8]),
    Unix(Option<u32>),
}

impl Key {
    fn of(connection: &Connection) -> Self {
        match (connection.peer_ip(), connection.peer()) {
            (Some(IpAddr::V4(ip)), _) => Self::V4(ip.octets()),
            (Some(IpAddr::V6(ip)), _) => {
                let network = ip.octets().first_chunk().copied();
                Self::V6(network.expect("8 of 16 bytes"))
            }
            (None, Peer::Unix { uid }) => Self::Unix(uid),
            (None, Peer::Tcp(_)) => unreachable!("a TCP peer has an address"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    begun: Instant,
    count: u32,
}

/// The failures of the last minute or so, by peer.
#[derive(Debug)]
pub(crate) struct Failures {
    window: Duration,
    max: u32,
    peers: Mutex<HashMap<Key, Window>>,
}

impl Failures {
    pub(crate) fn new(max: u32, window: Duration) -> Self {
        Self { window, max, peers: Mutex::new(HashMap::new()) }
    }

    /// Counts one more. `Err` when it is one too many, with the time until it is forgotten.
    pub(super) fn count(&self, connection: &Connection) -> Result<(), Duration> {
        let key = Key::of(connection);
        let now = Instant::now();
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MAX_PEERS && !peers.contains_key(&key) {
            self.make_room(&mut peers, now);
        }
        let entry = peers.entry(key).or_insert(Window { begun: now, count: 0 });
        if now - entry.begun >= self.window {
            *entry = Window { begun: now, count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
        if entry.count > self.max { Err(entry.begun + self.window - now) } else { Ok(()) }
    }

    /// Whether the peer may still fail without being told to wait.
    pub(super) fn is_patient(&self, connection: &Connection) -> bool {
        let key = Key::of(connection);
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let window = peers.get(&key).filter(|one| one.begun.elapsed() < self.window);
        window.is_none_or(|one| one.count < self.max)
    }

    fn make_room(&self, peers: &mut HashMap<Key, Window>, now: Instant) {
        peers.retain(|_, one| now - one.begun < self.window);
        if peers.len() >= MAX_PEERS {
            let oldest = peers.iter().min_by_key(|(_, one)| one.begun).map(|(key, _)| *key);
            oldest.map(|key| peers.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Ipv6Addr, SocketAddr};

    use super::*;
    use crate::connection::Activity;

    const WINDOW: Duration = Duration::from_mins(1);

    fn from(peer: SocketAddr) -> Connection {
        Connection::new(Peer::Tcp(peer), None, false, Activity::new())
    }

    fn numbered(number: u16) -> Connection {
        let [high, low] = number.to_be_bytes();
        from(SocketAddr::from(([10, 0, high, low], 1)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_slowed_down_after_some_failures_and_forgiven_later() {
        let failures = Failures::new(2, WINDOW);
        let (here, there) = (numbered(1), numbered(2));
        assert_eq!(failures.count(&here), Ok(()));
        assert_eq!(failures.count(&here), Ok(()));
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(failures.count(&here), Err(WINDOW / 2));
        assert_eq!(failures.count(&there), Ok(()), "others are not held up");
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(failures.count(&here), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_stays_bounded_and_forgets_the_oldest_first() {
        let failures = Failures::new(1, WINDOW);
        for number in 0..2000 {
            failures.count(&numbered(number)).unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(failures.peers.lock().unwrap().len(), MAX_PEERS);
        assert_eq!(failures.count(&numbered(0)), Ok(()), "forgotten");
        assert!(failures.count(&numbered(1999)).is_err(), "remembered");
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_of_ipv6_are_one_peer() {
        let failures = Failures::new(1, WINDOW);
        let address =
            |last| from(SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last), 1)));
        failures.count(&address(1)).unwrap();
        assert!(failures.count(&address(2)).is_err());
    }
}
