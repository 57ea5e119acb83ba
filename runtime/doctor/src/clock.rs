//! The clock: that it is sane, and that somebody keeps it so.
//!
//! The kernel's own answer needs `adjtimex`, which no safe library offers; systemd is asked
//! instead, or what its time service left.

use std::{
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::check::{Check, Topic};

const CLOCK: Topic = Topic {
    id: "clock",
    title: "clock",
    why: "times in records and seals are this clock's; jobs have clocks of their own",
};

const SYNCHRONISED: Topic = Topic {
    id: "clock-synchronised",
    title: "clock kept right",
    why: "a clock that jumps makes the order of times in seals of several machines wrong",
};

/// The year before this was written: a clock before it has lost its time.
const SANE_FROM: &str = "2025-01-01T00:00:00Z";

pub(crate) fn check() -> Vec<Check> {
    vec![judge_clock(SystemTime::now()), judge_synchronised(&ask())]
}

fn judge_clock(now: SystemTime) -> Check {
    let shown = humantime::format_rfc3339_seconds(now.max(SystemTime::UNIX_EPOCH)).to_string();
    let sane_from = humantime::parse_rfc3339(SANE_FROM).unwrap_or(SystemTime::UNIX_EPOCH);
    if now < sane_from {
        return CLOCK.fail(format!("{shown}, which has passed"), "sudo timedatectl set-ntp true");
    }
    CLOCK.ok(shown)
}

/// What was said about the clock.
enum Answer {
    Synchronised(&'static str),
    Not(&'static str),
    Unknown(String),
}

fn ask() -> Answer {
    const TIMESYNCD: &str = "systemd-timesyncd";
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Answer::Synchronised(TIMESYNCD);
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return Answer::Unknown(
            "systemd does not run here, and nobody else can be asked".to_owned(),
        );
    }
    match timedatectl() {
        Ok(answer) if answer.trim() == "yes" => Answer::Synchronised("timedatectl"),
        Ok(answer) if answer.trim() == "no" => Answer::Not("timedatectl"),
        Ok(_) => Answer::Unknown("timedatectl does not say".to_owned()),
        Err(error) => Answer::Unknown(format!("timedatectl: {error}")),
    }
}

/// Its answer is a word; it gets a moment for it.
fn timedatectl() -> std::io::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(2);
    const LOOK: Duration = Duration::from_millis(10);
    let mut child = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill()?;
        }
        thread::sleep(LOOK);
    }
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge_synchronised(answer: &Answer) -> Check {
    match answer {
        Answer::Synchronised(by) => SYNCHRONISED.ok(format!("yes, says {by}")),
        Answer::Not(by) => {
            SYNCHRONISED.warn(format!("no, says {by}"), "sudo timedatectl set-ntp true")
        }
        Answer::Unknown(why) => SYNCHRONISED.skip(why),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::Status;

    #[test]
    fn a_clock_that_lost_its_time_is_noticed() {
        assert_eq!(judge_clock(SystemTime::UNIX_EPOCH).status, Status::Fail);
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(judge_clock(before).status, Status::Fail);
        let year_later = humantime::parse_rfc3339(SANE_FROM).unwrap() + Duration::from_hours(8766);
        assert_eq!(judge_clock(year_later).status, Status::Ok);
    }

    #[test]
    fn what_nobody_says_is_not_guessed() {
        let status = |answer| judge_synchronised(&answer).status;
        assert_eq!(status(Answer::Synchronised("x")), Status::Ok);
        assert_eq!(status(Answer::Not("x")), Status::Warn);
        assert_eq!(status(Answer::Unknown("why".to_owned())), Status::Skip);
    }
}
