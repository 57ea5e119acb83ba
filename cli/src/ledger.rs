//! `hb ledger check | repair | stats`.

use hb_host::care::{self, LedgerReport};
use hb_types::exit;
use serde_json::json;

use crate::{
    Invocation,
    args::{LedgerVerb, RepairArgs},
    format,
};

/// Does what was asked for.
pub fn ledger(invocation: &Invocation<'_>, verb: &LedgerVerb) -> anyhow::Result<u8> {
    match verb {
        LedgerVerb::Check => check(invocation),
        LedgerVerb::Repair(args) => repair(invocation, args),
        LedgerVerb::Stats => stats(invocation),
    }
}

fn check(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    let report = care::check(invocation.root())?;
    let healthy = report.is_healthy();
    if invocation.cli.json {
        let problems: Vec<String> = problems(&report);
        let notices: Vec<String> = report.log.notices.iter().map(ToString::to_string).collect();
        format::print_json(&json!({
            "healthy": healthy,
            "problems": problems,
            "notices": notices,
            "segments": report.log.segments.len(),
            "last_good_lsn": report.log.last_good_lsn,
            "acknowledged_lsn": report.log.acknowledged_lsn,
            "blobs": report.blobs.whole,
            "blobs_damaged": report.blobs.damaged,
            "blobs_missing": report.missing,
            "jobs": report.jobs,
        }))?;
    } else {
        format::print(&describe(&report))?;
    }
    Ok(if healthy { exit::OK } else { exit::FAILED })
}

fn problems(report: &LedgerReport) -> Vec<String> {
    let mut problems: Vec<String> = report.log.problems.iter().map(ToString::to_string).collect();
    if let Some(error) = &report.records {
        problems.push(crate::failure::line_of(error));
    }
    problems.extend(report.blobs.findings.iter().map(|finding| {
        format!("blob {} is damaged: {}", finding.digest, crate::failure::line_of(&finding.error))
    }));
    problems.extend(report.missing.iter().map(|digest| {
        format!("blob {digest} is missing although a job needs it: restore it from a copy")
    }));
    problems
}

fn describe(report: &LedgerReport) -> String {
    let mut lines: Vec<String> =
        report.log.notices.iter().map(|notice| format!("note: {notice}")).collect();
    lines.extend(problems(report).iter().map(|problem| format!("problem: {problem}")));
    let verdict = if report.is_healthy() { "healthy" } else { "damaged" };
    let live = if report.live { "; another process is writing to it" } else { "" };
    lines.push(format!(
        "{verdict}: {} segments, records up to {}, {} jobs, {} blobs{live}",
        report.log.segments.len(),
        report.log.last_good_lsn,
        report.jobs,
        report.blobs.whole
    ));
    lines.join("\n")
}

fn repair(invocation: &Invocation<'_>, args: &RepairArgs) -> anyhow::Result<u8> {
    let report = care::repair(invocation.root(), args.to, &crate::log_options())?;
    if invocation.cli.json {
        format::print_json(&json!({
            "kept_to": report.kept_to,
            "resumed_at": report.resumed_at,
            "removed_dir": report.removed_dir,
            "moved": report.moved,
        }))?;
        return Ok(exit::OK);
    }
    let text = match (&report.resumed_at, &report.removed_dir) {
        (None, _) => format!("nothing to do: the log is sound up to record {}", report.kept_to),
        (Some(_), None) => format!("kept everything up to record {}", report.kept_to),
        (Some(_), Some(dir)) => format!(
            "kept everything up to record {}; what was given up is in {}",
            report.kept_to,
            invocation.root().join(dir).display()
        ),
    };
    format::print(&text)?;
    Ok(exit::OK)
}

fn stats(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    let figures = care::figures(invocation.root())?;
    let used: u64 = figures.log.segments.iter().map(|segment| segment.used_bytes).sum();
    let allocated: u64 = figures.log.segments.iter().map(|segment| segment.bytes).sum();
    let records: u64 = figures.log.segments.iter().map(|segment| segment.records).sum();
    if invocation.cli.json {
        let jobs = figures.jobs.iter().map(|(phase, count)| (phase.name(), *count));
        let jobs: std::collections::BTreeMap<_, _> = jobs.collect();
        format::print_json(&json!({
            "log": {
                "segments": figures.log.segments.len(), "records": records,
                "last_lsn": figures.log.last_good_lsn, "used_bytes": used,
                "allocated_bytes": allocated, "snapshots": figures.log.snapshots,
            },
            "jobs": jobs,
            "checkpoints": figures.checkpoints,
            "blobs": figures.blobs,
            "blob_bytes": figures.blob_bytes,
            "free_bytes": figures.free_bytes,
        }))?;
        return Ok(exit::OK);
    }
    let mut lines = vec![
        format!(
            "log          {} segments, {records} records up to {}, {} of {} used, {} snapshots",
            figures.log.segments.len(),
            figures.log.last_good_lsn,
            format::bytes(used),
            format::bytes(allocated),
            figures.log.snapshots.len()
        ),
        format!("blobs        {}, {}", figures.blobs, format::bytes(figures.blob_bytes)),
        format!("checkpoints  {}", figures.checkpoints),
        format!("free         {}", format::bytes(figures.free_bytes)),
    ];
    let jobs = figures.jobs.iter().filter(|(_, count)| *count > 0);
    lines.extend(jobs.map(|(phase, count)| format!("{:<12} {count}", phase.name())));
    format::print(&lines.join("\n"))?;
    Ok(exit::OK)
}
