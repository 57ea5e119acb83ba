//! The ledger and its host: who owns it, who serves it, and whether it can be read.

use std::{
    fs,
    net::{SocketAddr, ToSocketAddrs},
    path::Path,
};

use hb_config::host_file::HostFile;
use hb_host::{Ownership, care};

use crate::{
    check::{Check, Topic, causes, shell_word},
    http,
};

const LOCK: Topic = Topic {
    id: "ledger-lock",
    title: "owner of the ledger",
    why: "one process at a time writes to a ledger; others can read it, and submit to its host",
};

const HOST: Topic = Topic {
    id: "host",
    title: "host",
    why: "a host takes jobs over HTTP; one that hangs keeps the ledger from everybody else",
};

const HEALTH: Topic = Topic {
    id: "ledger-health",
    title: "health of the ledger",
    why: "a ledger whose log does not verify is not opened, so that nothing wrong is built upon",
};

pub(crate) fn check(data: &Path) -> Vec<Check> {
    let (lock, ownership) = match hb_host::ownership(data) {
        Ok(ownership) => (judge_lock(ownership, name_of), ownership),
        Err(error) => (LOCK.skip(causes(&error)), Ownership::Free),
    };
    vec![lock, host(data, ownership), health(data)]
}

fn judge_lock(ownership: Ownership, name: impl Fn(u32) -> String) -> Check {
    match ownership {
        Ownership::Free => LOCK.ok("nobody; it is free"),
        Ownership::Owned(None) => LOCK.ok("a process that did not leave its number"),
        Ownership::Owned(Some(process)) => LOCK.ok(format!("process {process}{}", name(process))),
    }
}

fn name_of(process: u32) -> String {
    match fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!(" ({})", name.trim()),
        Err(_) => String::new(),
    }
}

fn host(data: &Path, ownership: Ownership) -> Check {
    let host = match HostFile::read(data) {
        Ok(None) => return HOST.ok("none serves this data directory; `hb serve` starts one"),
        Ok(Some(host)) => host,
        Err(error) => {
            let path = data.join(hb_config::host_file::NAME);
            let fix = format!("rm {}", shell_word(&path.to_string_lossy()));
            return HOST.warn(causes(&error), fix);
        }
    };
    let answer =
        host.urls.first().map_or_else(|| Err("it names no address".to_owned()), |url| ask(url));
    judge_host(data, &host, ownership, &answer)
}

/// What the host answers to "are you alive?".
fn ask(url: &str) -> Result<u16, String> {
    let Some(authority) = url.strip_prefix("http://") else {
        // Whether a port answers at all can be seen without a key.
        return connect(url).map(|()| 200);
    };
    let authority = authority.split('/').next().unwrap_or_default();
    let address = resolve(authority)?;
    let answer = http::get_tcp(address, authority, "/livez").map_err(|error| causes(&error))?;
    Ok(answer.status)
}

fn connect(url: &str) -> Result<(), String> {
    let authority = url.strip_prefix("https://").unwrap_or(url);
    let address = resolve(authority.split('/').next().unwrap_or_default())?;
    let patience = std::time::Duration::from_secs(2);
    std::net::TcpStream::connect_timeout(&address, patience)
        .map(drop)
        .map_err(|error| causes(&error))
}

fn resolve(authority: &str) -> Result<SocketAddr, String> {
    let mut found = authority.to_socket_addrs().map_err(|error| causes(&error))?;
    found.next().ok_or_else(|| "its address leads nowhere".to_owned())
}

fn judge_host(
    data: &Path,
    host: &HostFile,
    ownership: Ownership,
    answer: &Result<u16, String>,
) -> Check {
    let HostFile { pid, urls, started, version } = host;
    let who = format!("process {pid}, version {version}, since {started}, at {}", urls.join(" "));
    if ownership == Ownership::Free {
        let path = data.join(hb_config::host_file::NAME);
        let fix = format!("rm {}", shell_word(&path.to_string_lossy()));
        return HOST.warn(format!("{who}: it does not own the ledger and is gone"), fix);
    }
    match answer {
        Ok(200) => HOST.ok(format!("{who}: it answers")),
        Ok(status) => HOST.fail(format!("{who}: it answers {status}"), restart(*pid)),
        Err(error) => HOST.fail(format!("{who}: it does not answer: {error}"), restart(*pid)),
    }
}

/// Stopping is crashing, and crashing is safe: no job is lost by it.
fn restart(pid: u32) -> String {
    format!("kill {pid}   # then start it again: jobs go on from their checkpoints")
}

fn health(data: &Path) -> Check {
    if !data.join("wal").is_dir() {
        return HEALTH.ok("there is none yet; the first job founds it");
    }
    let figures = match care::figures(data) {
        Ok(figures) => figures,
        Err(error) => return HEALTH.fail(causes(&error), "hb ledger check"),
    };
    let problems: Vec<String> = figures.log.problems.iter().map(ToString::to_string).collect();
    if let Some(first) = problems.first() {
        let found = format!("{} problems, the first: {first}", problems.len());
        return HEALTH.fail(found, "hb ledger check");
    }
    let jobs: usize = figures.jobs.iter().map(|(_, count)| count).sum();
    HEALTH.ok(format!(
        "the log verifies: {} records, {jobs} jobs; {} blobs were counted and not read \
         (`hb ledger check` reads them all)",
        figures.log.last_good_lsn, figures.blobs
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{net::TcpListener, thread};

    use super::*;
    use crate::{check::Status, http::tests::answer_once};

    fn host_file(url: String) -> HostFile {
        HostFile {
            pid: std::process::id(),
            urls: vec![url],
            started: "2026-11-24T06:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn the_owner_is_named_where_there_is_one() {
        let name = |_| " (hb)".to_owned();
        let check = judge_lock(Ownership::Owned(Some(7)), name);
        assert_eq!(check.found, "process 7 (hb)");
        assert_eq!(judge_lock(Ownership::Free, name).status, Status::Ok);
    }

    #[test]
    fn a_host_is_asked_whether_it_is_alive() {
        let data = tempfile::tempdir().unwrap();
        let owned = Ownership::Owned(Some(std::process::id()));
        assert!(host(data.path(), owned).found.contains("none serves"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        host_file(format!("http://{}", listener.local_addr().unwrap())).write(data.path()).unwrap();
        let daemon = thread::spawn(move || {
            for answer in ["HTTP/1.1 200 OK\r\n\r\nok", "HTTP/1.1 500 No\r\n\r\n"] {
                let first = answer_once(listener.accept().unwrap().0, answer);
                assert_eq!(first, "GET /livez HTTP/1.0\r\n");
            }
        });
        assert_eq!(host(data.path(), owned).status, Status::Ok);
        assert_eq!(host(data.path(), owned).status, Status::Fail);
        daemon.join().unwrap();
        let check = host(data.path(), owned);
        assert!(check.status == Status::Fail && check.found.contains("does not answer"));
        assert!(check.fix.unwrap().starts_with(&format!("kill {}", std::process::id())));
    }

    #[test]
    fn a_file_that_somebody_left_is_told_with_its_remedy() {
        let data = tempfile::tempdir().unwrap();
        host_file("http://127.0.0.1:1".to_owned()).write(data.path()).unwrap();
        let check = host(data.path(), Ownership::Free);
        assert!(check.status == Status::Warn && check.fix.unwrap().starts_with("rm "));
        fs::write(data.path().join("host.json"), "nonsense").unwrap();
        assert_eq!(host(data.path(), Ownership::Free).status, Status::Warn);
    }

    #[test]
    fn a_ledger_that_is_not_there_is_healthy_and_one_that_cannot_be_read_is_not() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(health(data.path()).status, Status::Ok);
        fs::create_dir(data.path().join("wal")).unwrap();
        fs::write(data.path().join("wal/000001.seg"), b"not a segment").unwrap();
        let check = health(data.path());
        assert_eq!((check.status, check.fix.as_deref()), (Status::Fail, Some("hb ledger check")));
    }
}
