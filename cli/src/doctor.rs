//! `hb doctor`: how an examination of the machine looks.
//!
//! What is looked at and judged is in `hb_doctor`.

use std::fmt::Write;

use hb_config::Surroundings;
use hb_doctor::{Check, Examination, Status};
use hb_types::exit;
use serde_json::json;

use crate::{args::Cli, format, settings};

/// Examines the machine: exit 0 when everything works, 1 when something must be mended.
pub fn doctor(cli: &Cli) -> anyhow::Result<u8> {
    let checks = hb_doctor::examine(&Examination {
        around: Surroundings::of_process(),
        file: cli.config.clone(),
        flags: settings::flags(cli),
        compiler: crate::compiler()?,
    });
    let healthy = checks.iter().all(|check| check.status != Status::Fail);
    if cli.json {
        format::print_json(&json!({ "healthy": healthy, "checks": checks }))?;
    } else {
        format::print(&describe(&checks, cli.quiet))?;
    }
    Ok(if healthy { exit::OK } else { exit::FAILED })
}

/// A list, and below it what to do about what is not as it should be.
fn describe(checks: &[Check], quiet: bool) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.title.len()).max().unwrap_or_default();
    for check in checks.iter().filter(|check| !quiet || is_wrong(check)) {
        let Check { title, found, .. } = check;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {title:<width$}  {found}", word(check.status));
    }
    let wrong: Vec<&Check> = checks.iter().filter(|check| is_wrong(check)).collect();
    for (index, check) in wrong.iter().enumerate() {
        let heading = if index == 0 { "\nto mend:\n" } else { "" };
        let Check { title, why, .. } = check;
        let _ = writeln!(text, "{heading}  {}. {title}: {why}", index + 1);
        if let Some(fix) = &check.fix {
            let _ = writeln!(text, "     {fix}");
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let _ = writeln!(
        text,
        "\n{} checks: {} ok, {} to mend, {} that could be better, {} left out",
        checks.len(),
        count(Status::Ok),
        count(Status::Fail),
        count(Status::Warn),
        count(Status::Skip)
    );
    text
}

fn is_wrong(check: &Check) -> bool {
    matches!(check.status, Status::Warn | Status::Fail)
}

/// With a colour, which is taken away again where none is wanted.
fn word(status: Status) -> String {
    let (color, word) = match status {
        Status::Ok => (32, "ok  "),
        Status::Warn => (33, "warn"),
        Status::Fail => (31, "FAIL"),
        Status::Skip => (2, "skip"),
    };
    format!("\u{1b}[{color}m{word}\u{1b}[0m")
}
