//! Verbs that use a host over HTTP.
//!
//! Owns: which host is meant, and what each verb asks of it. Knows nothing of how the host decides; the
//! way to it is `hb_client`.

pub mod args;
mod artifacts;
mod changes;
mod events;
mod follow;
mod host;
mod jobs;
mod manifest;
mod submit;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use hb_api::job::JobView;
use hb_client::{Client, ClientOptions, JobQuery, Locate, Patience};
use hb_config::host_file::HostFile;

use crate::{Invocation, failure::Failure};

pub use artifacts::{artifacts, seal};
pub use changes::{cancel, fork, hold, pause, release, resume, retry};
pub use events::{events, trace, wait};
pub use follow::logs;
pub use host::{prune, schedule, status, why};
pub use jobs::{jobs, show};
pub use manifest::of_spec;
pub use submit::{submit, take_component};

/// Whether the user named a host: then reading commands ask it instead of the ledger here.
pub fn is_named(invocation: &Invocation<'_>) -> bool {
    invocation.cli.server.as_ref().is_some_and(|server| !server.is_empty())
}

/// A token in a file is not longer.
const TOKEN_BYTES: u64 = 4096;
/// How long what makes a job is tried again: a host that is started anew must come back meanwhile.
const SUBMIT_PATIENCE: Duration = Duration::from_mins(1);

/// A client of the host that is meant.
pub fn client(invocation: &Invocation<'_>) -> anyhow::Result<Client> {
    client_with(invocation, Patience::default())
}

/// The same for what must not be lost to a host that is just being started anew.
fn patient_client(invocation: &Invocation<'_>) -> anyhow::Result<Client> {
    client_with(invocation, Patience::default().for_total(SUBMIT_PATIENCE))
}

fn client_with(invocation: &Invocation<'_>, patience: Patience) -> anyhow::Result<Client> {
    let options = ClientOptions {
        server: server(invocation)?,
        locate: locate(invocation),
        token: token(invocation)?,
        ca: invocation.cli.ca.clone(),
        patience,
        traceparent: std::env::var("TRACEPARENT").ok().filter(|text| !text.is_empty()),
    };
    Ok(Client::new(&options)?)
}

fn server(invocation: &Invocation<'_>) -> anyhow::Result<String> {
    if let Some(server) = invocation.cli.server.as_ref().filter(|server| !server.is_empty()) {
        return Ok(server.clone());
    }
    let data = invocation.root();
    let found = HostFile::read(data).context("cannot find the host of the data directory")?;
    found.and_then(http_address).ok_or_else(|| {
        let why = format!(
            "no host serves {}: start one with `hb serve`, or name one with --server URL or HB_SERVER",
            data.display()
        );
        Failure::NotFound(why).into()
    })
}

fn http_address(host: HostFile) -> Option<String> {
    host.urls.into_iter().find(|url| url.starts_with("http"))
}

/// A host that was found by its data directory is found there again.
fn locate(invocation: &Invocation<'_>) -> Option<Locate> {
    if is_named(invocation) {
        return None;
    }
    let data = invocation.root().to_owned();
    Some(Arc::new(move || HostFile::read(&data).ok().flatten().and_then(http_address)))
}

fn token(invocation: &Invocation<'_>) -> anyhow::Result<Option<String>> {
    let Some(token) = invocation.cli.token.as_ref().filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let Some(path) = token.strip_prefix('@') else { return Ok(Some(token.clone())) };
    let mut text = String::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| {
        std::io::Read::read_to_string(&mut std::io::Read::take(file, TOKEN_BYTES), &mut text)
    })
    .with_context(|| format!("cannot read the token in {path}"))?;
    Ok(Some(text.trim().to_owned()))
}

/// The patience of what follows.
fn following(patience: &crate::args::PatienceArgs) -> Patience {
    Patience::default().for_total(Duration::from_millis(patience.patience))
}

/// The job that `name` means: its id or number, or the beginning of its hash or seal.
fn find(client: &Client, name: &str) -> anyhow::Result<JobView> {
    let missing = match client.job(name) {
        Ok(job) => return Ok(job),
        Err(error) if error.is("job-not-found") => error,
        Err(error) => return Err(error.into()),
    };
    // Short beginnings would match by chance.
    if name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let name = Some(name.to_ascii_lowercase());
        let limit = Some(1);
        let by_hash = JobQuery { hash: name.clone(), limit, ..JobQuery::default() };
        let by_seal = JobQuery { seal: name, limit, ..JobQuery::default() };
        for query in [by_hash, by_seal] {
            if let Some(row) = client.jobs(&query)?.jobs.first() {
                return Ok(client.job(&row.job_id)?);
            }
        }
    }
    Err(missing.into())
}
