//! Which addresses are listened at, and which are refused.

use std::{os::unix::fs::MetadataExt, path::Path, process::Command};

use hb_edge::{
    Edge, EdgeConfig, EdgeError,
    listen::{Address, ListenError, TlsFiles},
    tokens::TokenPolicy,
};
use tokio::net::UnixStream;

use crate::support::{Client, Server, config};

fn listening_at(address: &str) -> EdgeConfig {
    EdgeConfig { listen: vec![address.parse().unwrap()], ..config(|_| {}) }
}

fn refused(config: EdgeConfig) -> ListenError {
    match Edge::new(config).unwrap().bind() {
        Err(EdgeError::Listen(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn with_tokens(config: EdgeConfig, directory: &Path) -> EdgeConfig {
    EdgeConfig {
        tokens: TokenPolicy::Required,
        token_dir: Some(directory.join("tokens")),
        ..config
    }
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_encryption_and_tokens() {
    let temp = tempfile::tempdir().unwrap();
    for everywhere in ["0.0.0.0:0", "[::]:0"] {
        let open = listening_at(everywhere);
        assert!(matches!(refused(open.clone()), ListenError::PlainText { .. }));
        let with_tokens_only = with_tokens(open.clone(), temp.path());
        assert!(matches!(refused(with_tokens_only), ListenError::PlainText { .. }));
        let plain = EdgeConfig { allow_plain_text: true, ..open };
        assert!(matches!(refused(plain.clone()), ListenError::NoTokens { .. }));
        let both = with_tokens(plain, temp.path());
        let bound = Edge::new(both).unwrap().bind();
        // A machine without IPv6 cannot listen at `[::]` at all.
        assert!(!matches!(
            bound,
            Err(EdgeError::Listen(ListenError::PlainText { .. } | ListenError::NoTokens { .. }))
        ));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_said_before_anything_is_opened() {
    let tls = TlsFiles { certificate: "/nowhere/a.pem".into(), key: "/nowhere/b.pem".into() };
    let config = EdgeConfig { tls: Some(tls), ..config(|_| {}) };
    let error = Edge::new(config).unwrap().bind().unwrap_err().to_string();
    assert!(error.contains("/nowhere/a.pem"), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = Server::plain().await;
    let error = refused(listening_at(&server.addresses[0])).to_string();
    assert!(error.contains(&server.addresses[0]), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_and_goes_with_the_host() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("hb.sock");
    let address = format!("unix:{}", path.display());
    let server = Server::start(listening_at(&address)).await;
    assert_eq!(server.addresses, [address.as_str()]);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
    client.send("GET /whoami HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let answer = client.answer().await.json();
    let uid = std::fs::metadata(temp.path()).unwrap().uid();
    assert_eq!(answer["peer"], format!("unix:{uid}"));
    client.send("GET /whoami HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    client.answer().await.is_problem("host-not-allowed");
    assert!(matches!(refused(listening_at(&address)), ListenError::Taken { .. }));
    drop(client);
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_unix_socket_that_a_killed_host_left_is_taken_over_and_other_files_are_not() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("hb.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = EdgeConfig {
        unix_mode: 0o660,
        listen: vec![Address::Unix(path.clone())],
        ..config(|_| {})
    };
    let server = Server::start(config.clone()).await;
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
    server.stop().await;
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(refused(config), ListenError::Bind { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn without_a_service_manager_there_is_nothing_to_inherit() {
    assert!(matches!(refused(listening_at("systemd")), ListenError::NothingInherited));
}

/// Not a test of its own: the next one runs it in a process that inherits a socket.
#[tokio::test]
async fn inherited_socket_is_served_in_a_child() {
    let Ok(wanted) = std::env::var("HB_EDGE_TEST_INHERITED") else { return };
    let server = Server::start(listening_at("systemd")).await;
    assert_eq!(server.addresses, [wanted]);
    server.is_alive().await;
    assert!(matches!(refused(listening_at("systemd")), ListenError::NothingInherited));
    let address = server.address();
    server.stop().await;
    assert!(std::net::TcpStream::connect(address).is_ok(), "the manager's own copy still listens");
}

#[test]
fn a_socket_of_the_service_manager_is_served() {
    use std::os::fd::AsRawFd;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    // The shell gives the descriptor its number and the environment its id, as the manager does.
    let script = format!(
        "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" --exact sockets::inherited_socket_is_served_in_a_child",
        listener.as_raw_fd()
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("HB_EDGE_TEST_INHERITED", &address)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test]
async fn every_socket_has_to_be_able_to_get_a_connection() {
    let mut config = config(|bounds| bounds.connections = 1);
    config.listen.push(crate::support::any_port());
    let error = Edge::new(config).unwrap().bind().unwrap_err().to_string();
    assert!(error.contains("2 sockets"), "{error}");
}
