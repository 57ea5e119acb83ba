//! A container engine, for native jobs.
//!
//! Owns: where its socket may be, as its own command lines look for it, and the question for its
//! version (Docker Engine API, `GET /version`, which Podman answers too).

use std::{
    io,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
};

use hb_config::Surroundings;
use serde_json::Value;

use crate::{
    check::{Check, Topic, causes},
    http::{self, Answer},
};

const ENGINE: Topic = Topic {
    id: "container-engine",
    title: "container engine",
    why: "native jobs run in containers; WebAssembly jobs need none",
};

/// Where an engine may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    File(PathBuf),
    Tcp(String),
    Unknown(String),
}

pub(crate) fn check(around: &Surroundings, configured: Option<&str>) -> Check {
    let variable = |name| around.environment.get(name).and_then(|value| value.to_str());
    let runtime = variable("XDG_RUNTIME_DIR");
    match configured.or_else(|| variable("DOCKER_HOST").filter(|host| !host.is_empty())) {
        Some(host) => {
            let socket = named(host);
            let answer = ask(&socket);
            judge(&socket, answer)
        }
        None => first_of(&standard(runtime)),
    }
}

/// `unix:///run/docker.sock`, `tcp://127.0.0.1:2375`.
fn named(host: &str) -> Socket {
    if let Some(path) = host.strip_prefix("unix://") {
        Socket::File(path.into())
    } else if host.starts_with('/') {
        Socket::File(host.into())
    } else if let Some(address) = host.strip_prefix("tcp://").or(host.strip_prefix("http://")) {
        Socket::Tcp(address.trim_end_matches('/').to_owned())
    } else {
        Socket::Unknown(host.to_owned())
    }
}

/// Where engines put their sockets, the one for everybody first.
fn standard(runtime: Option<&str>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        ["/var/run/docker.sock", "/run/docker.sock"].into_iter().map(PathBuf::from).collect();
    if let Some(runtime) = runtime {
        paths.push(Path::new(runtime).join("docker.sock"));
        paths.push(Path::new(runtime).join("podman/podman.sock"));
    }
    paths.push(PathBuf::from("/run/podman/podman.sock"));
    paths
}

/// The first that answers; else the first that is there.
fn first_of(paths: &[PathBuf]) -> Check {
    let mut silent = None;
    for path in paths.iter().filter(|path| path.exists()) {
        let socket = Socket::File(path.clone());
        let answer = ask(&socket);
        if answer.is_ok() {
            return judge(&socket, answer);
        }
        silent = silent.or(Some((socket, answer)));
    }
    match silent {
        Some((socket, answer)) => judge(&socket, answer),
        None => ENGINE.skip("none was found: DOCKER_HOST is not set and no socket is there"),
    }
}

fn ask(socket: &Socket) -> io::Result<Answer> {
    match socket {
        Socket::File(path) => http::get_unix(path, "/version"),
        Socket::Tcp(address) => {
            let nowhere = || io::Error::other("its address leads nowhere");
            let found = address.to_socket_addrs()?.next().ok_or_else(nowhere)?;
            http::get_tcp(found, address, "/version")
        }
        Socket::Unknown(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn judge(socket: &Socket, answer: io::Result<Answer>) -> Check {
    let place = match socket {
        Socket::File(path) => path.display().to_string(),
        Socket::Tcp(address) => address.clone(),
        Socket::Unknown(host) => {
            let found = format!("DOCKER_HOST is {host}, and only unix:// and tcp:// are looked at");
            return ENGINE.skip(found);
        }
    };
    match answer {
        Ok(Answer { status: 200, body }) => match version(&body) {
            Some(version) => ENGINE.ok(format!("{version} at {place}")),
            None => ENGINE.warn(
                format!("{place} answers, but not as a container engine"),
                "unset DOCKER_HOST, or set it to the socket of an engine",
            ),
        },
        Ok(Answer { status, .. }) => {
            ENGINE.warn(format!("{place} answers {status}"), "systemctl status docker podman")
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => ENGINE.warn(
            format!("{place} is there, and this user may not use it"),
            "sudo usermod -aG docker \"$USER\"   # which makes that user as mighty as root",
        ),
        Err(error) => ENGINE.warn(
            format!("{place} is there and does not answer: {}", causes(&error)),
            "sudo systemctl start docker   # or: systemctl --user start podman.socket",
        ),
    }
}

/// `Docker 27.3.1 (API 1.47)`.
fn version(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&answer["Components"][0]["Name"]);
    let name = name.unwrap_or_else(|| "container engine".to_owned());
    let version = text(&answer["Version"])?;
    let api = text(&answer["ApiVersion"]).map_or_else(String::new, |api| format!(" (API {api})"));
    Some(format!("{name} {version}{api}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{os::unix::net::UnixListener, thread};

    use super::*;
    use crate::{check::Status, http::tests::answer_once};

    #[test]
    fn addresses_of_engines_are_understood() {
        assert_eq!(named("unix:///x.sock"), Socket::File("/x.sock".into()));
        assert_eq!(named("tcp://127.0.0.1:2375/"), Socket::Tcp("127.0.0.1:2375".to_owned()));
        let check = judge(&named("ssh://me@there"), Err(io::ErrorKind::Unsupported.into()));
        assert_eq!(check.status, Status::Skip);
    }

    #[test]
    fn an_engine_is_asked_over_its_socket_and_the_first_that_answers_counts() {
        let directory = tempfile::tempdir().unwrap();
        let silent = directory.path().join("silent.sock");
        drop(UnixListener::bind(&silent).unwrap());
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let body =
                r#"{"Components":[{"Name":"Engine"}],"Version":"27.3.1","ApiVersion":"1.47"}"#;
            let answer = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
            answer_once(listener.accept().unwrap().0, &answer)
        });
        let none = directory.path().join("none.sock");
        let check = first_of(&[none.clone(), silent.clone(), path]);
        assert_eq!(check.status, Status::Ok, "{}", check.found);
        assert!(check.found.starts_with("Engine 27.3.1 (API 1.47) at "), "{}", check.found);
        assert_eq!(daemon.join().unwrap(), "GET /version HTTP/1.0\r\n");
        assert_eq!(first_of(std::slice::from_ref(&silent)).status, Status::Warn);
        assert_eq!(first_of(&[none]).status, Status::Skip);
    }

    #[test]
    fn what_is_no_engine_is_told() {
        let socket = Socket::Tcp("127.0.0.1:1".to_owned());
        let judged =
            |status, body: &[u8]| judge(&socket, Ok(Answer { status, body: body.to_vec() })).status;
        assert_eq!(judged(200, b"<html>"), Status::Warn);
        assert_eq!(judged(403, b""), Status::Warn);
        let denied = judge(&socket, Err(io::ErrorKind::PermissionDenied.into()));
        assert!(denied.fix.unwrap().contains("usermod"));
    }
}
