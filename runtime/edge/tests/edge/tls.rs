//! TLS: which protocol is spoken, and a certificate that is renewed while the host runs.

use std::{path::Path, sync::Arc};

use axum::body::Bytes;
use hb_edge::{EdgeConfig, listen::TlsFiles};
use http_body_util::Full;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    support::{Client, Server, config, soon},
    versions,
};

fn files(directory: &Path) -> TlsFiles {
    TlsFiles { certificate: directory.join("host.pem"), key: directory.join("host.key") }
}

/// A new certificate for `localhost`, written as a renewal does: by renaming.
fn renew(files: &TlsFiles) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (path, pem) in [(&files.certificate, cert.pem()), (&files.key, signing_key.serialize_pem())]
    {
        let temp = path.with_extension("new");
        std::fs::write(&temp, pem).unwrap();
        std::fs::rename(temp, path).unwrap();
    }
    cert.der().clone()
}

async fn handshake(
    server: &Server,
    trusted: &CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|one| one.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

async fn encrypted(files: &TlsFiles) -> Server {
    let bounds = config(|bounds| bounds.handshake_ms = 300);
    Server::start(EdgeConfig { tls: Some(files.clone()), ..bounds }).await
}

#[tokio::test]
async fn requests_are_answered_in_the_protocol_that_was_agreed() {
    let temp = tempfile::tempdir().unwrap();
    let certificate = renew(&files(temp.path()));
    let server = encrypted(&files(temp.path())).await;
    let port = server.address().port();
    for protocols in [&["http/1.1"][..], &[]] {
        let mut client = Client::new(handshake(&server, &certificate, protocols).await.unwrap());
        let own = format!("Host: localhost:{port}\r\nOrigin: https://localhost:{port}\r\n\r\n");
        client.send(format!("GET /whoami HTTP/1.1\r\n{own}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.json()["is_tls"], true);
        answer.is_hardened();
        let plain = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n\r\n");
        client.send(format!("GET /whoami HTTP/1.1\r\n{plain}")).await;
        client.answer().await.is_problem("origin-not-allowed");
    }
    let stream = handshake(&server, &certificate, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, _connection) = versions::speak(stream).await;
    let request = hyper::Request::builder().uri(format!("https://localhost:{port}/livez"));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(versions::body(response).await, b"alive");
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let files = files(temp.path());
    let first = renew(&files);
    let server = encrypted(&files).await;
    let mut old = Client::new(handshake(&server, &first, &[]).await.unwrap());
    let second = renew(&files);
    let renewed = async {
        loop {
            match handshake(&server, &second, &[]).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    };
    let mut new = Client::new(soon(renewed).await);
    assert!(handshake(&server, &first, &[]).await.is_err(), "the one before is gone");
    let port = server.address().port();
    for client in [&mut old, &mut new] {
        client.send(format!("GET /livez HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")).await;
        assert_eq!(client.answer().await.text(), "alive");
    }
}

#[tokio::test]
async fn files_that_do_not_fit_leave_the_certificate_before_in_use() {
    let temp = tempfile::tempdir().unwrap();
    let files = files(temp.path());
    let first = renew(&files);
    let key = std::fs::read(&files.key).unwrap();
    let server = encrypted(&files).await;
    let second = renew(&files);
    std::fs::write(&files.key, key).unwrap();
    // Longer than the host waits between two looks.
    let until = tokio::time::Instant::now() + std::time::Duration::from_millis(1500);
    while tokio::time::Instant::now() < until {
        handshake(&server, &first, &[]).await.unwrap();
    }
    assert!(handshake(&server, &second, &[]).await.is_err());
}

#[tokio::test]
async fn a_handshake_that_does_not_end_or_is_none_closes_the_connection() {
    let temp = tempfile::tempdir().unwrap();
    let certificate = renew(&files(temp.path()));
    let server = encrypted(&files(temp.path())).await;
    let plain = format!("GET /livez HTTP/1.1\r\nHost: {}\r\n\r\n", server.addresses[0]);
    for begun in ["", "\x16\x03\x01", &plain] {
        let mut client = server.connect().await;
        client.send(begun).await;
        let answer = client.closed().await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert!(handshake(&server, &certificate, &[]).await.is_ok());
}

#[tokio::test]
async fn an_answer_arrives_though_the_client_is_still_sending() {
    let temp = tempfile::tempdir().unwrap();
    let certificate = renew(&files(temp.path()));
    let server = encrypted(&files(temp.path())).await;
    let mut client = Client::new(handshake(&server, &certificate, &[]).await.unwrap());
    client
        .send(format!(
            "POST /ignore HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: 900000\r\n\r\n",
            server.address().port()
        ))
        .await;
    assert_eq!(client.answer().await.text(), "ignored");
    for _ in 0..9 {
        client.send("a".repeat(100_000)).await;
    }
}
