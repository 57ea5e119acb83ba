//! Jobs of a host, as lists and one by one, and what happened to them in words.
//!
//! Owns: how the host's answers look. They look as those of the ledger here do, in tables and as
//! JSON, so that scripts need not know where a job is.

use hb_api::{
    event::EventBody,
    job::{JobRow, JobView},
};
use hb_client::{Client, JobQuery};
use hb_types::{exit, text::printable, units::show_time};
use serde_json::{Value, json};

use crate::{Invocation, args::JobsArgs, format};

/// Rows that a host gives at once.
const PAGE: usize = 1000;

/// Lists jobs, newest first.
pub fn jobs(invocation: &Invocation<'_>, args: &JobsArgs) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let rows = list(&client, args)?;
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&rows)?)?;
        return Ok(exit::OK);
    }
    if rows.is_empty() {
        format::print("no such jobs; `hb submit MODULE` makes one")?;
        return Ok(exit::OK);
    }
    let header =
        ["JOB", "STATE", "OUTCOME", "CHECKPOINTS", "ATTEMPTS", "QUEUE", "RECEIVED", "SEAL"];
    let mut table = format::table(&header);
    for row in rows {
        let seal = row.seal.as_ref().and_then(|seal| seal.get(..8)).unwrap_or("-");
        table.add_row([
            row.job_id.clone(),
            row.state.clone(),
            row.outcome.clone().unwrap_or_else(|| "-".to_owned()),
            row.checkpoints.to_string(),
            row.attempts.to_string(),
            row.queue.clone(),
            seconds(&row.received_at),
            seal.to_owned(),
        ]);
    }
    format::print(&table.to_string())?;
    Ok(exit::OK)
}

fn list(client: &Client, args: &JobsArgs) -> anyhow::Result<Vec<JobRow>> {
    let labels = args.label.iter().map(|(name, value)| format!("{name}={value}"));
    let mut query = JobQuery {
        state: args.state.clone(),
        labels: labels.collect(),
        id_prefix: args.id.clone(),
        program: args.program.clone(),
        queue: args.queue.clone(),
        received_after: args.since.map(show_time),
        received_before: args.until.map(show_time),
        ..JobQuery::default()
    };
    let mut rows: Vec<JobRow> = Vec::new();
    while rows.len() < args.limit {
        query.limit = Some((args.limit - rows.len()).min(PAGE));
        let page = client.jobs(&query)?;
        rows.extend(page.jobs);
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    rows.truncate(args.limit);
    Ok(rows)
}

/// A time to the second: what is behind it says little in a table.
fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

/// What scripts may rely on: the same names as for a job in the ledger here.
pub fn job_json(job: &JobView) -> Value {
    let conclusion = job.conclusion.as_ref();
    let last = job.checkpoint_list.last();
    json!({
        "job_id": job.job_id,
        "job_number": job.number,
        "job_hash": job.job_hash,
        "state": job.state,
        "held": job.held,
        "outcome": conclusion.map(|c| &c.outcome),
        "outcome_detail": conclusion.map(|c| &c.outcome_detail),
        "explanation": conclusion.map(|c| json!({"message": c.message, "backtrace": c.backtrace})),
        "exit_code": conclusion.map(|c| c.exit_code),
        "seal": job.seal,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "retries": job.retries,
        "checkpoints": job.checkpoints,
        "sequence": last.map_or(0, |mark| mark.sequence),
        "step": last.map_or(0, |mark| mark.step),
        "fuel": job.fuel,
        "peak_memory_bytes": conclusion.map(|c| c.peak_memory_bytes),
        "progress": job.progress,
        "received_at": job.received_at,
        "ended_at": conclusion.map(|c| &c.at),
        "stdout": conclusion.map(|c| &c.stdout),
        "stderr": conclusion.map(|c| &c.stderr),
        "artifacts": conclusion.map(|c| &c.artifacts),
        "spec": job.spec,
        "terms": job.terms,
    })
}

/// Shows one job.
pub fn show(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, name)?;
    if invocation.cli.json {
        format::print_json(&job_json(&job))?;
        return Ok(exit::OK);
    }
    let text: Vec<String> =
        lines(&job).iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    format::print(&text.join("\n"))?;
    Ok(exit::OK)
}

fn lines(job: &JobView) -> Vec<(&'static str, String)> {
    let held = if job.held { ", on hold" } else { "" };
    let mut lines = vec![
        ("job", job.job_id.clone()),
        ("hash", job.job_hash.clone()),
        ("state", format!("{}{held}", job.state)),
    ];
    if let Some(conclusion) = &job.conclusion {
        lines.push(("outcome", conclusion.outcome.clone()));
        if conclusion.outcome != "success" {
            lines.push(("because", conclusion.message.clone()));
        }
        lines.extend(conclusion.backtrace.iter().map(|frame| ("  at", frame.clone())));
    }
    lines.extend(job.seal.iter().map(|seal| ("seal", seal.clone())));
    lines.push(("received", seconds(&job.received_at)));
    if let Some(conclusion) = &job.conclusion {
        lines.push(("ended", seconds(&conclusion.at)));
        let peak = format::bytes(conclusion.peak_memory_bytes);
        lines.push(("peak memory", format!("{peak} in the last attempt")));
    }
    let retries =
        if job.retries > 0 { format!(", {} retried", job.retries) } else { String::new() };
    lines.push(("attempts", format!("{}, {} crashed{retries}", job.attempts, job.crashes)));
    lines.push(("checkpoints", checkpoints_line(job)));
    lines.push(("fuel", job.fuel.to_string()));
    let metrics = job.progress.metrics.iter();
    lines.extend(metrics.map(|(name, value)| ("metric", format!("{name} = {value}"))));
    lines.push(("queue", format!("{}, priority {}", job.terms.queue, job.terms.priority)));
    match &job.spec.container {
        Some(container) => lines.extend(format::container(container)),
        None => lines.push(("component", job.spec.component.digest.to_string())),
    }
    lines.push(("arguments", printable(&job.spec.arguments.join(" "), 1000)));
    for (name, blob) in &job.spec.inputs {
        lines.push(("input", format!("{name} {} {}", format::bytes(blob.len_bytes), blob.digest)));
    }
    if let Some(conclusion) = &job.conclusion {
        lines.push(("stdout", format::bytes(conclusion.stdout.bytes)));
        lines.push(("stderr", format::bytes(conclusion.stderr.bytes)));
        for artifact in &conclusion.artifacts {
            let (name, size) = (printable(&artifact.name, 300), format::bytes(artifact.bytes));
            lines.push(("artifact", format!("{name} {size}")));
        }
    }
    // The host's own texts are printable, what it kept of a stranger's need not be.
    lines.into_iter().map(|(name, value)| (name, printable(&value, 4096))).collect()
}

fn checkpoints_line(job: &JobView) -> String {
    match job.checkpoint_list.last() {
        Some(last) => format!(
            "{}, the last one is number {} at step {}, {}",
            job.checkpoints,
            last.sequence,
            last.step,
            seconds(&last.at)
        ),
        None => "none".to_owned(),
    }
}

/// What happened to a job, in words.
pub fn describe(what: &EventBody) -> String {
    let text = match what {
        EventBody::Received => "RECEIVED".to_owned(),
        EventBody::Scheduled => "SCHEDULED".to_owned(),
        EventBody::Started { attempt, process, from_sequence } => {
            let from = match from_sequence {
                0 => String::new(),
                sequence => format!(", checkpoint {sequence} was there"),
            };
            format!("RUNNING, attempt {attempt} in process {process}{from}")
        }
        EventBody::Checkpoint { sequence, step, digest, notes, .. } => {
            let notes: Vec<String> = notes.iter().map(|note| printable(note, 200)).collect();
            let notes = notes.iter().fold(String::new(), |all, note| all + "; " + note);
            let digest = digest.get(..8).unwrap_or(digest);
            format!("checkpoint {sequence} at step {step}, {digest}…{notes}")
        }
        EventBody::Interrupted { why, detail } => {
            let why = match why.as_str() {
                "host-crashed" => "crashed with its host",
                "host-fault" => "ended by a fault of the host",
                "shutdown" => "ended by a shutdown",
                "held" => "stopped to be held",
                other => other,
            };
            format!("SCHEDULED, the attempt {why}: {detail}")
        }
        EventBody::Retried { outcome, message } => {
            format!("SCHEDULED, the attempt failed ({outcome}) and is tried again: {message}")
        }
        EventBody::Held => "put on hold".to_owned(),
        EventBody::Released => "released".to_owned(),
        EventBody::Ended { outcome, message, .. } if outcome == "success" || message.is_empty() => {
            format!("ended, {outcome}")
        }
        EventBody::Ended { outcome, message, .. } => format!("ended, {outcome}: {message}"),
        EventBody::Sealed { seal } => format!("seal {seal}"),
    };
    printable(&text, 4096)
}
