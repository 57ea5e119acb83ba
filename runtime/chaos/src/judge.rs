//! What is asked of a host, and of its ledger, when all is over.
//!
//! Owns the questions; the answers are judged by `check.rs`.

use std::{path::Path, process::Command};

use hb_api::{event::EventView, job::JobView};
use hb_client::{Client, ClientError, JobQuery};

use crate::{
    check::Violation,
    told::{Final, Finals},
};

/// Events that are asked for at once.
const PAGE: usize = 1000;

/// What the host says of a job.
pub(crate) fn final_of(client: &Client, job_id: &str) -> Result<Final, ClientError> {
    let job = client.job(job_id)?;
    let mut history: Vec<EventView> = Vec::new();
    loop {
        let after = history.last().map_or(0, |event| event.id);
        let mut page = client.history(job_id, after, PAGE)?;
        let count = page.len();
        history.append(&mut page);
        if count < PAGE {
            return Ok(of_view(job, history));
        }
    }
}

fn of_view(job: JobView, history: Vec<EventView>) -> Final {
    let conclusion = job.conclusion.as_ref();
    Final {
        job_hash: job.job_hash,
        state: job.state,
        outcome: conclusion.map(|one| one.outcome.clone()).unwrap_or_default(),
        exit_code: conclusion.map(|one| one.exit_code),
        seal: job.seal.unwrap_or_default(),
        stdout: conclusion.map(|one| one.stdout.clone()),
        stderr: conclusion.map(|one| one.stderr.clone()),
        crashes: job.crashes,
        history,
    }
}

/// What the host says of all its jobs.
pub(crate) fn finals(client: &Client) -> Result<Finals, ClientError> {
    let mut all = Finals::new();
    let mut query = JobQuery { limit: Some(PAGE), ..JobQuery::default() };
    loop {
        let page = client.jobs(&query)?;
        for row in page.jobs {
            let ended = final_of(client, &row.job_id)?;
            all.insert(row.job_id, ended);
        }
        match page.next {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(all),
        }
    }
}

/// Has the ledger checked and some jobs verified, by processes of their own.
pub(crate) fn examine(hb: &Path, data: &Path, jobs: &[&str]) -> Vec<Violation> {
    let mut broken = Vec::new();
    if let Err(why) = said_yes(command(hb, data).args(["ledger", "check"])) {
        broken.push(Violation::of_host("unhealthy", format!("hb ledger check: {why}")));
    }
    for job in jobs {
        if let Err(why) = said_yes(command(hb, data).args(["verify", job])) {
            broken.push(Violation::new("changed", job, format!("hb verify: {why}")));
        }
    }
    broken
}

/// `hb` on a data directory, without the settings of whoever started this.
pub(crate) fn command(hb: &Path, data: &Path) -> Command {
    let mut command = Command::new(hb);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HB_"))
    {
        command.env_remove(name);
    }
    command.arg("--data").arg(data).args(["--config", "/dev/null"]);
    command.stdin(std::process::Stdio::null());
    command
}

fn said_yes(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|error| error.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    let text = [out.stdout, out.stderr].concat();
    Err(hb_types::text::printable(String::from_utf8_lossy(&text).trim(), 600))
}
