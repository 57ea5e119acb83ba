//! `hb jobs`, `show`, `logs`, `trace`, `artifacts`, `seal`: what the ledger knows, for people and
//! as JSON. They read the ledger as it stands, also while a job runs.

use std::io::{self, IsTerminal, Seek, Write};

use anyhow::Context;
use hb_host::{LedgerView, is_dying};
use hb_types::{
    capture::ContentId,
    exit,
    ledger::{Attempt, CheckpointMark, Job, Stop},
    state::{Interruption, Phase},
    text::printable,
};
use serde_json::{Value, json};

use crate::{
    Invocation,
    args::{ArtifactsArgs, JobsArgs, LogsArgs},
    failure::Failure,
    format,
};

/// The job that `name` means: its id, or the beginning of its hash or seal.
pub fn find(view: &LedgerView, name: &str) -> anyhow::Result<Job> {
    let missing = || {
        let shown = printable(name, 100);
        Failure::NotFound(format!("there is no job {shown:?} in this ledger: `hb jobs` lists them"))
    };
    if let Some(found) = view.ledger.by_id(name) {
        return Ok(view.load(found.number())?.ok_or_else(missing)?);
    }
    // Short beginnings would match by chance.
    let is_prefix = name.len() >= 8 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_prefix {
        return Err(missing().into());
    }
    let name = name.to_ascii_lowercase();
    // Jobs with the same hash are repetitions of each other: the newest speaks for them.
    for number in view.numbers() {
        let Some(job) = view.load(number)? else { continue };
        let seal = job.seal.as_ref().map(|kept| kept.seal.to_string());
        if job.job_hash.to_string().starts_with(&name)
            || seal.is_some_and(|seal| seal.starts_with(&name))
        {
            return Ok(job);
        }
    }
    Err(missing().into())
}

/// What scripts may rely on.
pub fn job_json(job: &Job) -> Value {
    let conclusion = job.conclusion.as_ref();
    json!({
        "job_id": job.job_id,
        "job_number": job.number,
        "job_hash": job.job_hash,
        "state": job.state.phase.name(),
        "outcome": conclusion.map(|c| format::outcome(&c.outcome)),
        "outcome_detail": conclusion.map(|c| &c.outcome),
        "explanation": conclusion.map(|c| &c.explanation),
        "exit_code": conclusion.map(|c| c.outcome.exit_code()),
        "seal": job.seal.as_ref().map(|kept| kept.seal),
        "attempts": job.state.attempts,
        "crashes": job.state.crashes,
        "checkpoints": job.checkpoints.len(),
        "sequence": job.state.sequence,
        "step": job.state.step,
        "fuel": job.counters.fuel_used,
        "peak_memory_bytes": conclusion.map(|c| c.peak_memory_bytes),
        "progress": job.progress,
        "received_at": format::precise_time(job.received_ns),
        "ended_at": conclusion.map(|c| format::precise_time(c.at_ns)),
        "stdout": conclusion.map(|c| &c.stdout),
        "stderr": conclusion.map(|c| &c.stderr),
        "artifacts": conclusion.map(artifacts_json),
        "spec": job.spec,
    })
}

fn artifacts_json(conclusion: &hb_types::ledger::Conclusion) -> Value {
    let artifacts = conclusion.artifacts.iter();
    artifacts
        .map(|(name, artifact)| {
            json!({"name": name, "bytes": artifact.blob.len_bytes, "digest": artifact.blob.digest})
        })
        .collect()
}

/// Lists jobs, newest first.
pub fn jobs(invocation: &Invocation<'_>, args: &JobsArgs) -> anyhow::Result<u8> {
    let view = match invocation.view() {
        Ok(view) => Some(view),
        Err(error) if crate::failure::exit_code(&error) == exit::NOT_FOUND => None,
        Err(error) => return Err(error),
    };
    let mut jobs: Vec<Job> = Vec::new();
    if let Some(view) = &view {
        for number in view.numbers() {
            if jobs.len() >= args.limit {
                break;
            }
            jobs.extend(view.load(number)?.filter(|job| is_wanted(job, args)));
        }
    }
    if invocation.cli.json {
        format::print_json(&jobs.iter().map(job_json).collect())?;
        return Ok(exit::OK);
    }
    if jobs.is_empty() {
        format::print("no jobs yet; `hb run MODULE` makes one")?;
        return Ok(exit::OK);
    }
    let header = ["JOB", "STATE", "OUTCOME", "CHECKPOINTS", "ATTEMPTS", "RECEIVED", "SEAL"];
    let mut table = format::table(&header);
    for job in jobs {
        let outcome = job.conclusion.as_ref().map(|c| format::outcome(&c.outcome));
        table.add_row([
            job.job_id.clone(),
            job.state.phase.name().to_owned(),
            outcome.unwrap_or_else(|| "-".to_owned()),
            job.checkpoints.len().to_string(),
            job.state.attempts.to_string(),
            format::time(job.received_ns),
            job.seal.as_ref().map_or_else(|| "-".to_owned(), |kept| kept.seal.short()),
        ]);
    }
    format::print(&table.to_string())?;
    Ok(exit::OK)
}

fn is_wanted(job: &Job, args: &JobsArgs) -> bool {
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
    let state = args.state.as_ref().map(|state| state.to_ascii_uppercase());
    is(&state, job.state.phase.name())
        && is(&args.queue, &job.terms.queue)
        && is(&args.program, job.spec.arguments.first().map_or("", String::as_str))
        && args.id.as_ref().is_none_or(|prefix| job.job_id.starts_with(prefix))
        && args.since.is_none_or(|since| job.received_ns >= since)
        && args.until.is_none_or(|until| job.received_ns < until)
        && args.label.iter().all(|(name, value)| job.spec.labels.get(name) == Some(value))
}

/// Shows one job.
pub fn show(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<u8> {
    let view = invocation.view()?;
    let job = find(&view, name)?;
    if invocation.cli.json {
        format::print_json(&job_json(&job))?;
        return Ok(exit::OK);
    }
    let mut lines = vec![
        ("job", job.job_id.clone()),
        ("hash", job.job_hash.to_string()),
        ("state", state_line(&job)),
    ];
    if let Some(conclusion) = &job.conclusion {
        lines.push(("outcome", format::outcome(&conclusion.outcome)));
        if !conclusion.outcome.is_success() {
            lines.push(("because", conclusion.explanation.message.clone()));
        }
        lines.extend(conclusion.explanation.backtrace.iter().map(|f| ("  at", f.clone())));
    }
    if let Some(kept) = &job.seal {
        lines.push(("seal", kept.seal.to_string()));
    }
    lines.push(("received", format::time(job.received_ns)));
    if let Some(conclusion) = &job.conclusion {
        lines.push(("ended", format::time(conclusion.at_ns)));
        let peak = format::bytes(conclusion.peak_memory_bytes);
        lines.push(("peak memory", format!("{peak} in the last attempt")));
    }
    lines.push(("attempts", format!("{}, {} crashed", job.state.attempts, job.state.crashes)));
    lines.push(("checkpoints", checkpoints_line(&job)));
    lines.push(("fuel", job.counters.fuel_used.to_string()));
    for (name, value) in &job.progress.metrics {
        lines.push(("metric", format!("{} = {value}", printable(name, 128))));
    }
    match &job.spec.container {
        Some(container) => lines.extend(format::container(container)),
        None => lines.push(("component", job.spec.component.digest.to_string())),
    }
    lines.push(("arguments", printable(&job.spec.arguments.join(" "), 1000)));
    for (name, blob) in &job.spec.inputs {
        lines.push(("input", format!("{name} {} {}", format::bytes(blob.len_bytes), blob.digest)));
    }
    if let Some(conclusion) = &job.conclusion {
        lines.push(("stdout", format::bytes(conclusion.stdout.len_bytes)));
        lines.push(("stderr", format::bytes(conclusion.stderr.len_bytes)));
        for (name, artifact) in &conclusion.artifacts {
            let size = format::bytes(artifact.blob.len_bytes);
            lines.push(("artifact", format!("{} {size}", printable(name, 300))));
        }
    }
    let text: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    format::print(&text.join("\n"))?;
    Ok(exit::OK)
}

/// The state, and whether the process that is said to run the job is still there.
fn state_line(job: &Job) -> String {
    let name = job.state.phase.name();
    match job.attempts.last() {
        Some(attempt) if job.state.phase == Phase::Running && is_dying(attempt.process) => {
            format!("{name}, but process {} is gone: the same `hb run` resumes it", attempt.process)
        }
        _ => name.to_owned(),
    }
}

fn checkpoints_line(job: &Job) -> String {
    match job.checkpoints.last() {
        Some(last) => format!(
            "{}, the last one is number {} at step {}, {}",
            job.checkpoints.len(),
            last.sequence,
            last.step,
            format::time(last.at_ns)
        ),
        None => "none".to_owned(),
    }
}

/// How often a view is taken anew when the owner of the ledger has moved on in the middle.
const VIEWS_MAX: u32 = 20;

/// What a job has durably printed, read beside an owner that may remove what its next
/// checkpoint lets go of.
fn printed(invocation: &Invocation<'_>, name: &str, id: ContentId) -> anyhow::Result<Printed> {
    let mut views = 0;
    loop {
        views += 1;
        let view = invocation.view()?;
        let job = find(&view, name)?;
        let mut bytes = tempfile::spooled_tempfile(SPOOL_BYTES);
        match view.copy_output(&job, id, &mut bytes) {
            Ok(len_bytes) => {
                let (job_id, complete) = (job.job_id.clone(), job.conclusion.is_some());
                return Ok(Printed { job_id, complete, len_bytes, bytes });
            }
            // Where nothing moves, the same part is missing in every view.
            Err(hb_host::ExportError::Read { .. }) if job.is_unfinished() && views < VIEWS_MAX => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Output up to this many bytes is held in memory, more in a temporary file.
const SPOOL_BYTES: usize = 4 * 1024 * 1024;

struct Printed {
    job_id: String,
    complete: bool,
    len_bytes: u64,
    bytes: tempfile::SpooledTempFile,
}

impl Printed {
    fn copy_to(&mut self, sink: &mut dyn Write) -> io::Result<()> {
        self.bytes.rewind()?;
        io::copy(&mut self.bytes, sink).map(drop)
    }

    fn json(&mut self) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        self.copy_to(&mut bytes)?;
        Ok(json!({"bytes": self.len_bytes, "text": String::from_utf8_lossy(&bytes)}))
    }
}

/// Prints what a job durably printed.
pub fn logs(invocation: &Invocation<'_>, args: &LogsArgs) -> anyhow::Result<u8> {
    if invocation.cli.json {
        let mut stdout = printed(invocation, &args.job, ContentId::STDOUT)?;
        let mut stderr = printed(invocation, &args.job, ContentId::STDERR)?;
        format::print_json(&json!({
            "job_id": stdout.job_id, "complete": stdout.complete && stderr.complete,
            "stdout": stdout.json()?, "stderr": stderr.json()?,
        }))?;
        return Ok(exit::OK);
    }
    let id = if args.stderr { ContentId::STDERR } else { ContentId::STDOUT };
    let mut output = printed(invocation, &args.job, id)?;
    let mut out = io::stdout().lock();
    let copied = if out.is_terminal() && !args.raw {
        output.copy_to(&mut Filtered(&mut out))
    } else {
        output.copy_to(&mut out)
    };
    format::ignore_gone_reader(copied).context("cannot write the output")?;
    Ok(exit::OK)
}

/// Keeps a stranger's control characters from reaching the terminal.
pub struct Filtered<'a>(pub &'a mut dyn Write);

impl Write for Filtered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, end) = match line.strip_suffix(b"\n") {
                Some(text) => (text, "\n"),
                None => (line, ""),
            };
            for (index, cell) in text.split(|byte| *byte == b'\t').enumerate() {
                let tab = if index > 0 { "\t" } else { "" };
                let shown = hb_types::text::printable_bytes(cell, usize::MAX - 8);
                write!(self.0, "{tab}{shown}")?;
            }
            self.0.write_all(end.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One line of a job's life.
struct Entry {
    at_ns: u64,
    what: String,
    detail: Value,
}

/// Tells a job's life in order.
pub fn trace(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<u8> {
    let view = invocation.view()?;
    let job = find(&view, name)?;
    let entries = life(&job);
    if invocation.cli.json {
        let entries = entries.iter().map(|entry| {
            let mut value = entry.detail.clone();
            value["at"] = json!(format::precise_time(entry.at_ns));
            value
        });
        format::print_json(&entries.collect())?;
        return Ok(exit::OK);
    }
    let mut table = format::table(&["TIME", "AFTER", "EVENT"]);
    for entry in &entries {
        let after = std::time::Duration::from_nanos(entry.at_ns.saturating_sub(job.received_ns));
        table.add_row([
            format::precise_time(entry.at_ns),
            format!("{:.3} s", after.as_secs_f64()),
            entry.what.clone(),
        ]);
    }
    format::print(&table.to_string())?;
    Ok(exit::OK)
}

fn life(job: &Job) -> Vec<Entry> {
    let mut entries = vec![Entry {
        at_ns: job.received_ns,
        what: "RECEIVED".to_owned(),
        detail: json!({"event": "received", "job_hash": job.job_hash}),
    }];
    for (number, attempt) in (1u64..).zip(&job.attempts) {
        attempt_entries(job, number, attempt, &mut entries);
    }
    if let Some(conclusion) = &job.conclusion {
        let outcome = format::outcome(&conclusion.outcome);
        let message = &conclusion.explanation.message;
        let because =
            if conclusion.outcome.is_success() { String::new() } else { format!(": {message}") };
        entries.push(Entry {
            at_ns: conclusion.at_ns,
            what: format!("ended, {outcome}{because}{}", remarks(&job.progress.notes)),
            detail: json!({"event": "ended", "outcome": outcome, "explanation": conclusion.explanation, "notes": job.progress.notes}),
        });
    }
    if let Some(kept) = &job.seal {
        entries.push(Entry {
            at_ns: kept.at_ns,
            what: format!("{}, seal {}", job.state.phase.name(), kept.seal),
            detail: json!({"event": "sealed", "seal": kept.seal}),
        });
    }
    entries.extend(job.holds.iter().map(|mark| Entry {
        at_ns: mark.at_ns,
        what: if mark.held { "put on hold" } else { "released" }.to_owned(),
        detail: json!({"event": if mark.held { "held" } else { "released" }}),
    }));
    entries.sort_by_key(|entry| entry.at_ns);
    entries
}

/// What a job remarked, behind what it remarked it on.
fn remarks(notes: &[String]) -> String {
    let shown: Vec<String> = notes.iter().map(|note| printable(note, 200)).collect();
    if shown.is_empty() { String::new() } else { format!("; {}", shown.join("; ")) }
}

fn attempt_entries(job: &Job, number: u64, attempt: &Attempt, entries: &mut Vec<Entry>) {
    let from = match attempt.from_sequence {
        0 => String::new(),
        sequence => format!(", checkpoint {sequence} was there"),
    };
    entries.push(Entry {
        at_ns: attempt.started_ns,
        what: format!("RUNNING, attempt {number} in process {}{from}", attempt.process),
        detail: json!({
            "event": "started", "attempt": number, "token": attempt.token,
            "process": attempt.process, "from_sequence": attempt.from_sequence,
        }),
    });
    let marks = job.checkpoints.iter().filter(|mark| mark.token == attempt.token);
    entries.extend(marks.map(checkpoint_entry));
    if let Some(stopped) = &attempt.stopped {
        let (event, what) = match stopped.why {
            Stop::Interrupted(Interruption::HostCrashed) => {
                ("interrupted", "crashed with its host")
            }
            Stop::Interrupted(Interruption::HostFault) => {
                ("interrupted", "ended by a fault of the host")
            }
            Stop::Interrupted(Interruption::Shutdown) => ("interrupted", "ended by a shutdown"),
            Stop::Interrupted(Interruption::Held) => ("interrupted", "stopped to be held"),
            Stop::Retried(_) => ("retried", "failed and is tried again"),
        };
        let mut detail = json!({"event": event, "attempt": number, "detail": stopped.detail});
        match stopped.why {
            Stop::Interrupted(why) => detail["why"] = json!(why),
            Stop::Retried(outcome) => detail["outcome"] = json!(format::outcome(&outcome)),
        }
        entries.push(Entry {
            at_ns: stopped.at_ns,
            what: format!("SCHEDULED, attempt {number} {what}: {}", stopped.detail),
            detail,
        });
    }
}

fn checkpoint_entry(mark: &CheckpointMark) -> Entry {
    let (sequence, step, digest) = (mark.sequence, mark.step, mark.digest);
    Entry {
        at_ns: mark.at_ns,
        what: format!(
            "checkpoint {sequence} at step {step}, {}…{}",
            digest.short(),
            remarks(&mark.notes)
        ),
        detail: json!({
            "event": "checkpoint", "sequence": sequence, "step": step, "digest": digest,
            "fuel": mark.fuel_used, "notes": mark.notes,
        }),
    }
}

/// Lists a job's artifacts, or writes them out.
pub fn artifacts(invocation: &Invocation<'_>, args: &ArtifactsArgs) -> anyhow::Result<u8> {
    let view = invocation.view()?;
    let job = find(&view, &args.job)?;
    let conclusion = job.conclusion.as_ref().ok_or_else(|| {
        Failure::NotFound(format!(
            "job {} has not ended yet, so it has no artifacts: `hb show {}` tells how far it is",
            job.job_id, job.job_id
        ))
    })?;
    if let Some(out) = &args.out {
        let count = view.export_artifacts(&job, out)?;
        if !invocation.cli.quiet && !invocation.cli.json {
            format::tell(&format!("hb: {count} artifacts written to {}", out.display()));
        }
    }
    if invocation.cli.json {
        format::print_json(&artifacts_json(conclusion))?;
    } else if args.out.is_none() {
        let mut table = format::table(&["ARTIFACT", "SIZE", "BLAKE3"]);
        for (name, artifact) in &conclusion.artifacts {
            table.add_row([
                printable(name, 300),
                format::bytes(artifact.blob.len_bytes),
                artifact.blob.digest.to_string(),
            ]);
        }
        format::print(&table.to_string())?;
    }
    Ok(exit::OK)
}

/// Prints a job's signed envelope.
pub fn seal(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<u8> {
    let view: LedgerView = invocation.view()?;
    let job = find(&view, name)?;
    let kept = job.seal.as_ref().ok_or_else(|| {
        Failure::NotFound(format!(
            "job {} is {} and has no seal yet",
            job.job_id,
            job.state.phase.name()
        ))
    })?;
    let envelope = view.envelope(kept).context("the envelope cannot be read")?;
    format::print(&String::from_utf8_lossy(&envelope))?;
    Ok(exit::OK)
}
