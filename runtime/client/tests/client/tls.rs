//! An encrypted host: believed with its certificate, and not without.

use std::{
    io::{BufReader, Write},
    net::TcpListener,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
};

use hb_client::{Client, ClientError, ClientOptions};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::server::{QUICK, Request};

/// A host with a certificate of its own, for one connection.
struct Host {
    address: String,
    ca: PathBuf,
    _dir: tempfile::TempDir,
    thread: JoinHandle<Option<Request>>,
}

fn host() -> Host {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        // A client that does not believe the certificate says nothing.
        if std::io::BufRead::fill_buf(&mut stream).map_or(true, <[u8]>::is_empty) {
            return None;
        }
        let request = Request::read(&mut stream);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]";
        stream.get_mut().write_all(answer).unwrap();
        Some(request)
    });
    Host { address, ca, _dir: dir, thread }
}

fn ask(server: &str, ca: Option<PathBuf>) -> Result<(), ClientError> {
    let options = ClientOptions {
        server: server.to_owned(),
        token: Some("hbt_x".to_owned()),
        ca,
        patience: QUICK,
        ..ClientOptions::default()
    };
    Client::new(&options).unwrap().limits().map(drop)
}

#[test]
fn a_host_with_a_certificate_of_its_own_is_believed_with_the_file() {
    let host = host();
    ask(&host.address, Some(host.ca.clone())).unwrap();
    let request = host.thread.join().unwrap().unwrap();
    assert_eq!(request.line, "GET /v1/limits");
}

#[test]
fn a_host_whose_certificate_nobody_knows_gets_no_token() {
    let (known, host) = (host(), host());
    // The other host's file stands for a machine that trusts somebody else.
    let error = ask(&host.address, Some(known.ca.clone())).unwrap_err();
    assert!(matches!(error, ClientError::Untrusted { .. }), "{error:?}");
    assert!(error.to_string().contains("--ca"), "{error}");
    assert_eq!(host.thread.join().unwrap(), None);
    // Lets the first one end too.
    ask(&known.address, Some(known.ca.clone())).unwrap();
}
