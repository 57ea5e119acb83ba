//! The host as a whole: `hb status`, `why`, `schedule`, `prune`.

use hb_api::{
    job::WhyView,
    manifest::{Amount, Manifest},
    status::{HostStatus, PruneReport, PruneRequest, ScheduleRequest, ScheduleView},
};
use hb_types::{exit, text::printable};

use super::{
    args::{PruneArgs, ScheduleSetArgs, ScheduleVerb},
    jobs, submit,
};
use crate::{Invocation, format};

/// Shows how the host is.
pub fn status(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let status = client.status()?;
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&status)?)?;
        return Ok(exit::OK);
    }
    print_lines(status_lines(&client.server(), &status))
}

fn status_lines(server: &str, status: &HostStatus) -> Vec<(String, String)> {
    let mut lines: Vec<(&str, String)> = vec![("host", format!("{} at {server}", status.host))];
    let error = status.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    lines.push(("status", format!("{}{error}", status.status)));
    lines.push(("version", format!("{}, up {} s", status.version, status.uptime_seconds)));
    lines.push(("jobs", format!("{} running, {} waiting", status.running, status.waiting)));
    let machine = &status.machine;
    lines.push(("processors", format!("{:.2} of {:.2} in use", machine.cpus_used, machine.cpus)));
    let (used, all) = (machine.memory_used_bytes, machine.memory_bytes);
    let memory = format!("{} of {} promised", format::bytes(used), format::bytes(all));
    lines.push(("memory", memory));
    let log = &status.log;
    let figures = format!("{} records, {} flushes", log.records, log.flushes);
    lines.push(("log", format!("durable up to {}; {figures}", log.durable)));
    lines.extend(log.failure.iter().map(|failure| ("log failed", failure.clone())));
    if let Some(event) = &status.last_event {
        let what = jobs::describe(&event.what);
        lines.push(("last event", format!("{} {}: {what}", event.at, event.job_id)));
    }
    let lines = lines.into_iter().map(|(name, value)| (name.to_owned(), value));
    let counts = status.jobs.iter().filter(|(_, count)| **count > 0);
    let counts = counts.map(|(state, count)| (state.clone(), count.to_string()));
    let progress = status.progress.iter().map(|(job, progress)| {
        let of = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
        ("progress".to_owned(), format!("{job}: {}{of}", progress.done))
    });
    lines.chain(counts).chain(progress).collect()
}

fn print_lines(lines: Vec<(String, String)>) -> anyhow::Result<u8> {
    let line = |(name, value): (String, String)| {
        format!("{:<12} {}", printable(&name, 40), printable(&value, 1000))
    };
    let text: Vec<String> = lines.into_iter().map(line).collect();
    format::print(&text.join("\n"))?;
    Ok(exit::OK)
}

/// Says why a job is not running.
pub fn why(invocation: &Invocation<'_>, name: &str) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let job = super::find(&client, name)?.job_id;
    let why: WhyView = client.why(&job)?;
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&why)?)?;
        return Ok(exit::OK);
    }
    let since = why.since.iter().map(|since| ("since", since.clone()));
    let lines = [("job", why.job_id), ("state", why.state), ("reason", why.reason)];
    let lines = lines.into_iter().chain([("detail", why.detail)]).chain(since);
    print_lines(lines.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Answers `hb schedule …`.
pub fn schedule(invocation: &Invocation<'_>, verb: &ScheduleVerb) -> anyhow::Result<u8> {
    let client = super::client(invocation)?;
    let schedules = match verb {
        ScheduleVerb::Set(args) => vec![set_schedule(invocation, args)?],
        ScheduleVerb::List => client.schedules()?,
        ScheduleVerb::Remove(args) => {
            client.remove_schedule(&args.name)?;
            if !invocation.cli.quiet && !invocation.cli.json {
                let name = printable(&args.name, 200);
                format::tell(&format!("hb: schedule {name} is removed; its jobs stay"));
            }
            return Ok(exit::OK);
        }
    };
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&schedules)?)?;
        return Ok(exit::OK);
    }
    let mut table = format::table(&["SCHEDULE", "CRON", "MISSED", "LAST", "NEXT", "COMPONENT"]);
    for schedule in schedules {
        let or_none = |time: Option<String>| time.unwrap_or_else(|| "-".to_owned());
        table.add_row([
            printable(&schedule.name, 200),
            printable(&schedule.cron, 200),
            schedule.missed,
            or_none(schedule.last),
            or_none(schedule.next),
            schedule.component.get(..8).unwrap_or_default().to_owned(),
        ]);
    }
    format::print(&table.to_string())?;
    Ok(exit::OK)
}

fn set_schedule(
    invocation: &Invocation<'_>,
    args: &ScheduleSetArgs,
) -> anyhow::Result<ScheduleView> {
    let client = super::patient_client(invocation)?;
    let manifest: Manifest = submit::upload_manifest(invocation, &client, &args.manifest)?;
    let (cron, missed) = (args.cron.clone(), Some(args.missed.clone()));
    Ok(client.set_schedule(&args.name, &ScheduleRequest { cron, missed, manifest })?)
}

/// Removes jobs that are over.
pub fn prune(invocation: &Invocation<'_>, args: &PruneArgs) -> anyhow::Result<u8> {
    let request = PruneRequest {
        dry_run: args.dry_run,
        max_age: args.max_age.map(Amount::Number),
        max_jobs: args.max_jobs,
        max_bytes: args.max_bytes.map(Amount::Number),
    };
    let report = super::client(invocation)?.prune(&request)?;
    if invocation.cli.json {
        format::print_json(&serde_json::to_value(&report)?)?;
        return Ok(exit::OK);
    }
    tell_pruned(&report)
}

fn tell_pruned(report: &PruneReport) -> anyhow::Result<u8> {
    let mut table = format::table(&["JOB", "SIZE", "BECAUSE"]);
    for job in &report.jobs {
        let (id, why) = (printable(&job.job_id, 200), printable(&job.why, 200));
        table.add_row([id, format::bytes(job.bytes), why]);
    }
    if !report.jobs.is_empty() {
        format::print(&table.to_string())?;
    }
    let verb = if report.dry_run { "would be removed" } else { "removed" };
    let size = format::bytes(report.bytes);
    format::tell(&format!("hb: {} jobs {verb}, {size}", report.count));
    Ok(exit::OK)
}
