//! Which version of HTTP a client speaks on a connection without TLS.
//!
//! HTTP/2 with prior knowledge begins with a fixed text (RFC 9113, 3.4) that is no request of HTTP/1. Knows nothing
//! of: what follows.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// Reads until the first byte that differs from the preface, and gives everything back. `None` when the client
/// closed without a byte.
pub(crate) async fn version<S>(wire: &mut Wire<S>) -> io::Result<Option<Version>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < bytes.len() && bytes[..filled] == PREFACE[..filled] {
        let mut buffer = ReadBuf::new(&mut bytes[filled..]);
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut *wire).poll_read(cx, &mut buffer))
            .await?;
        match buffer.filled().len() {
            0 if filled == 0 => return Ok(None),
            0 => break,
            read => filled += read,
        }
    }
    wire.unread(&bytes[..filled]);
    let is_preface = bytes == *PREFACE;
    Ok(Some(if is_preface { Version::Http2 } else { Version::Http1 }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::connection::Activity;

    async fn spoken(bytes: &[u8]) -> Option<Version> {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let mut wire = Wire::new(server, Activity::new(), Duration::from_secs(1));
        let version = version(&mut wire).await.unwrap();
        let mut again = Vec::new();
        wire.read_to_end(&mut again).await.unwrap();
        assert_eq!(again, bytes, "everything is read again");
        version
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_version_and_are_not_lost() {
        assert_eq!(spoken(b"").await, None);
        assert_eq!(spoken(b"GET / HTTP/1.1\r\n\r\n").await, Some(Version::Http1));
        assert_eq!(spoken(b"P").await, Some(Version::Http1));
        assert_eq!(spoken(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r!").await, Some(Version::Http1));
        assert_eq!(spoken(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore").await, Some(Version::Http2));
    }
}
