//! The addresses on which a host would listen.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use hb_config::{Config, host_file::HostFile};

use crate::check::{Check, Topic, causes};

const LISTEN: Topic = Topic {
    id: "listen",
    title: "address of the host",
    why: "`hb serve` listens there; it cannot where another program does",
};

/// Addresses that are looked at.
const ADDRESSES_MAX: usize = 8;

pub(crate) fn check(config: &Config) -> Vec<Check> {
    let serving = HostFile::read(&config.data).ok().flatten();
    let addresses = config.serve.listen.iter().take(ADDRESSES_MAX);
    addresses
        .map(|address| judge(*address, TcpListener::bind(address).map(drop), serving.as_ref()))
        .collect()
}

fn judge(address: SocketAddr, bound: io::Result<()>, serving: Option<&HostFile>) -> Check {
    let error = match bound {
        Ok(()) => return LISTEN.ok(format!("{address} is free")),
        Err(error) => error,
    };
    let port = address.port();
    let is_ours = |host: &&HostFile| {
        let suffix = format!(":{port}");
        host.urls.iter().any(|url| url.trim_end_matches('/').ends_with(&suffix))
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => match serving.filter(is_ours) {
            Some(host) => LISTEN.ok(format!(
                "{address} is held by process {}, which serves this data directory",
                host.pid
            )),
            None => LISTEN.fail(
                format!("{address} is held by another program: stop it, or set serve.listen"),
                format!("ss -ltnp 'sport = :{port}'   # says which"),
            ),
        },
        io::ErrorKind::PermissionDenied => LISTEN.fail(
            format!("{address} is not for everybody: ports below 1024 need a privilege"),
            "export HB_SERVE_LISTEN=127.0.0.1:4005   # or AmbientCapabilities=CAP_NET_BIND_SERVICE",
        ),
        io::ErrorKind::AddrNotAvailable => LISTEN.fail(
            format!("{address} is not an address of this machine"),
            "ip -brief address   # says which are; set serve.listen to one of them",
        ),
        _ => LISTEN.fail(format!("{address}: {}", causes(&error)), "set serve.listen to another"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::Status;

    fn try_to_bind(address: SocketAddr, serving: Option<&HostFile>) -> Check {
        judge(address, TcpListener::bind(address).map(drop), serving)
    }

    #[test]
    fn a_port_is_free_or_ours_or_somebody_elses() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let check = try_to_bind(address, None);
        assert_eq!(check.status, Status::Fail);
        assert!(check.fix.unwrap().contains(&format!("sport = :{}", address.port())));
        let host = HostFile {
            pid: 7,
            urls: vec![format!("http://{address}/")],
            started: String::new(),
            version: String::new(),
        };
        assert_eq!(try_to_bind(address, Some(&host)).status, Status::Ok);
        drop(holder);
        assert_eq!(try_to_bind(address, None).status, Status::Ok);
    }

    #[test]
    fn addresses_that_cannot_be_had_say_why() {
        let judged =
            |kind| judge("192.0.2.1:80".parse().unwrap(), Err(io::Error::from(kind)), None);
        assert!(judged(io::ErrorKind::PermissionDenied).found.contains("1024"));
        assert!(judged(io::ErrorKind::AddrNotAvailable).found.contains("not an address"));
        assert_eq!(judged(io::ErrorKind::Other).status, Status::Fail);
    }
}
