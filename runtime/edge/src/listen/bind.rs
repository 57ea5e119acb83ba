//! Opens the sockets, and refuses those that would give the host away.
//!
//! Knows nothing of: what is spoken on them.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
        },
    },
    path::{Path, PathBuf},
};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::{Address, inherited};
use crate::{config::EdgeConfig, tokens::TokenPolicy};

/// Connections that the kernel keeps before they are accepted.
const BACKLOG: u32 = 1024;

/// Why the host does not listen where it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Others could read what is sent.
    #[error(
        "{address} can be reached from other machines, and what is sent there could be read on its way: configure `tls`, or set `allow_plain_text` if something before it encrypts"
    )]
    PlainText {
        /// Where.
        address: SocketAddr,
    },
    /// Others could do anything.
    #[error(
        "{address} can be reached from other machines, and everybody there could run jobs: set `tokens = \"required\"` and make tokens with `hb token new`"
    )]
    NoTokens {
        /// Where.
        address: SocketAddr,
    },
    /// The system said no.
    #[error("could not listen at {address}: choose another address, or end what listens there")]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process answers on the unix socket.
    #[error("another process listens at unix:{}: end it, or choose another path", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
    /// `systemd` was configured, and nothing was handed over.
    #[error(
        "no socket was handed over by the service manager (LISTEN_FDS): start the host through its socket unit, or listen at an address"
    )]
    NothingInherited,
    /// What was handed over is not something to listen on.
    #[error(
        "inherited descriptor {index} is no listening TCP or unix socket: check the socket unit"
    )]
    NoListener {
        /// Which, counted from 0.
        index: usize,
    },
}

/// An open socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp { listener: TcpListener, local: SocketAddr },
    Unix { listener: UnixListener, _file: Option<SocketFile>, shown: String },
}

impl Socket {
    /// How people reach it.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Tcp { local, .. } => local.to_string(),
            Self::Unix { shown, .. } => shown.clone(),
        }
    }
}

/// Opens one address. Needs a running runtime.
pub(crate) fn bind(address: &Address, config: &EdgeConfig) -> Result<Vec<Socket>, ListenError> {
    let failed = |source| ListenError::Bind { address: address.to_string(), source };
    match address {
        Address::Tcp(wanted) => {
            check_exposure(*wanted, config)?;
            let listener = bind_tcp(*wanted).map_err(failed)?;
            let local = listener.local_addr().map_err(failed)?;
            Ok(vec![Socket::Tcp { listener, local }])
        }
        Address::Unix(path) => {
            remove_stale(path)?;
            let (listener, file) = bind_unix(path, config.unix_mode).map_err(failed)?;
            Ok(vec![Socket::Unix { listener, _file: Some(file), shown: address.to_string() }])
        }
        Address::Inherited => {
            let descriptors = inherited::take();
            if descriptors.is_empty() {
                return Err(ListenError::NothingInherited);
            }
            let adopt = |(index, one)| adopt(one, index, config);
            descriptors.into_iter().enumerate().map(adopt).collect()
        }
    }
}

/// Whoever can reach the address must not be able to read along, or to use the host without a token.
fn check_exposure(address: SocketAddr, config: &EdgeConfig) -> Result<(), ListenError> {
    if address.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if config.tls.is_none() && !config.allow_plain_text {
        return Err(ListenError::PlainText { address });
    }
    if config.tokens != TokenPolicy::Required {
        return Err(ListenError::NoTokens { address });
    }
    Ok(())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A host that is started again must not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket file that nobody answers on was left by a host that was killed.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let is_socket = |one: std::fs::Metadata| one.file_type().is_socket();
    if !std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        return Ok(());
    }
    let failed = |source| ListenError::Bind { address: format!("unix:{}", path.display()), source };
    match StdUnixStream::connect(path) {
        Ok(_) => Err(ListenError::Taken { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile::at(path)?;
    // Before it listens: until then nobody can connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o777))?;
    rustix::net::listen(&socket, i32::try_from(BACKLOG).expect("the backlog is small"))?;
    Ok((UnixListener::from_std(StdUnixListener::from(socket))?, file))
}

fn adopt(descriptor: OwnedFd, index: usize, config: &EdgeConfig) -> Result<Socket, ListenError> {
    let wrong = |_| ListenError::NoListener { index };
    let listens = sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
    let family = sockopt::socket_domain(&descriptor).ok().filter(|_| listens);
    let failed = |source| ListenError::Bind { address: format!("inherited {index}"), source };
    match family {
        Some(AddressFamily::INET | AddressFamily::INET6) => {
            let listener = StdTcpListener::from(descriptor);
            listener.set_nonblocking(true).map_err(failed)?;
            let local = listener.local_addr().map_err(wrong)?;
            check_exposure(local, config)?;
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            Ok(Socket::Tcp { listener, local })
        }
        Some(AddressFamily::UNIX) => {
            let listener = StdUnixListener::from(descriptor);
            listener.set_nonblocking(true).map_err(failed)?;
            let shown =
                listener.local_addr().ok().and_then(|one| one.as_pathname().map(Path::to_owned));
            let shown = shown.map_or_else(
                || format!("unix socket {index}"),
                |path| format!("unix:{}", path.display()),
            );
            let listener = UnixListener::from_std(listener).map_err(failed)?;
            Ok(Socket::Unix { listener, _file: None, shown })
        }
        _ => Err(ListenError::NoListener { index }),
    }
}

/// The name of a unix socket, removed with it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), inode: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Unless another host has taken the name in the meantime.
        let is_ours = |one: std::fs::Metadata| (one.dev(), one.ino()) == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
