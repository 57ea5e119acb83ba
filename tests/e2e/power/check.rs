//! What must hold after a power cut, whatever the host itself thinks of it.
//!
//! Owns: the comparison of a recovered ledger with what clients were told before the cut and with what
//! the undisturbed run came to. Knows nothing of how images are made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
};

use serde_json::Value;

use super::{
    load::{Run, Told, ending_of},
    mount::Mounted,
    record::Cut,
    shelf::Shelf,
};
use crate::{
    host::{Host, all_jobs, wait_until_idle},
    http,
    support::World,
};

/// What is wrong after a cut.
#[derive(Debug)]
pub enum Fault {
    /// The file system cannot be mounted: hb is not reached.
    Unmountable(String),
    /// `hb ledger check` or the start of a host names damage.
    Named(String),
    /// hb found nothing wrong, and something is.
    Broken(String),
}

/// How a recovery went.
#[derive(Debug)]
pub struct Recovered {
    /// What clients had been told.
    pub told: usize,
    /// Jobs that had not ended and went on.
    pub resumed: usize,
}

/// Cuts the power, recovers, and looks.
pub fn examine(shelf: &Shelf, world: &World, run: &Run, cut: Cut) -> Result<Recovered, Fault> {
    let disk = shelf.put(run.record.image(cut));
    let mounted = Mounted::mount(run.kind, &disk.path(), &world.path("recovered"));
    let mounted = mounted.map_err(Fault::Unmountable)?;
    let mut inner = World::new();
    inner.set_data(mounted.at().join("data"));
    let told: Vec<&Told> =
        run.notes.iter().filter(|note| note.at <= cut.at).map(|note| &note.told).collect();
    let checked = inner.run(["ledger", "check"]);
    if checked.code != Some(0) {
        return Err(Fault::Named(format!("{}{}", checked.text(), checked.stderr)));
    }
    // Before a host starts: it removes what no job came to refer to.
    blobs_are_there(&inner.data(), &told).map_err(Fault::Broken)?;
    let mut host = Host::spawn(&inner, &[]);
    let Some(address) = host.ready_or_ended() else {
        return Err(Fault::Named(host.said()));
    };
    let resumed = told_is_there(address, &told).map_err(Fault::Broken)?;
    wait_until_idle(address);
    endings_are_the_same(address, run).map_err(Fault::Broken)?;
    host.stop();
    Ok(Recovered { told: told.len(), resumed })
}

fn blobs_are_there(data: &Path, told: &[&Told]) -> Result<(), String> {
    for blob in told
        .iter()
        .filter_map(|told| if let Told::Uploaded(blob) = told { Some(blob) } else { None })
    {
        let path = data.join("blob").join(&blob.digest[..2]).join(&blob.digest);
        match fs::read(&path) {
            Ok(bytes) if bytes == blob.bytes => {}
            Ok(bytes) => {
                return Err(format!("blob {} has {} other bytes", blob.digest, bytes.len()));
            }
            Err(error) => return Err(format!("blob {} is lost: {error}", blob.digest)),
        }
    }
    Ok(())
}

/// Demands every job and every event that somebody was told of; says how many jobs have not ended.
fn told_is_there(address: SocketAddr, told: &[&Told]) -> Result<usize, String> {
    let mut unfinished = 0;
    let mut histories: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for told in told {
        match told {
            Told::Uploaded(_) => {}
            Told::Accepted(job) => {
                let path = format!("/v1/jobs/{job}");
                let shown = http::request(address, "GET", &path, &[], b"").unwrap();
                if shown.status != 200 {
                    return Err(format!("job {job} is lost: {}", shown.status));
                }
                unfinished += usize::from(shown.json()["seal"].is_null());
            }
            Told::Event(event) => {
                let job = event["job_id"].as_str().unwrap();
                let history = histories.entry(job).or_insert_with(|| history(address, job));
                if !history.contains(event) {
                    return Err(format!("event is lost or changed: {event}"));
                }
            }
        }
    }
    Ok(unfinished)
}

/// Nothing where there is no such job.
fn history(address: SocketAddr, job: &str) -> Vec<Value> {
    let path = format!("/v1/jobs/{job}/history?limit=10000");
    let answer = http::request(address, "GET", &path, &[], b"").unwrap();
    if answer.status == 200 { answer.json().as_array().unwrap().clone() } else { Vec::new() }
}

/// Demands that every job that is there came to what it comes to undisturbed, once.
fn endings_are_the_same(address: SocketAddr, run: &Run) -> Result<(), String> {
    let rows = all_jobs(address);
    let ids: BTreeSet<&str> = rows.iter().map(|row| row["job_id"].as_str().unwrap()).collect();
    if ids.len() != rows.len() {
        return Err("a job is listed twice".to_owned());
    }
    for job in ids {
        let expected = run.endings.get(job).ok_or_else(|| format!("nobody submitted {job}"))?;
        let found = ending_of(address, job);
        if found != *expected {
            return Err(format!("job {job} came to {found:?} instead of {expected:?}"));
        }
        let history = history(address, job);
        for once in ["received", "ended", "sealed"] {
            let count = history.iter().filter(|event| event["event"] == once).count();
            if count != 1 {
                return Err(format!("job {job}: {count} times {once}"));
            }
        }
    }
    Ok(())
}
