//! Schedules: which moments are due, and the job of each.
//!
//! Owns: cron expressions (in UTC), and how a moment gives exactly one job. Knows nothing of how jobs
//! are run.
//!
//! Invariant: the id of a moment's job is made of the schedule's name and the moment, so a moment
//! that is submitted twice, before and after a crash, is one job.

use chrono::{DateTime, Utc};
use croner::{
    Cron,
    parser::{CronParser, Seconds},
};
use hb_types::{
    event::{ScheduleFired, ScheduleRemoved, ScheduleSet},
    job::check_name,
    schedule::{Missed, Schedule},
    text::printable,
};

use crate::{
    Host, clock, dispatch::Shared, error::ChangeError, execute::chain_of, journal::Urgency,
    submit::Submission,
};

/// Schedules that a host takes.
const SCHEDULES_MAX: usize = 10_000;
/// Bytes of a schedule's name: the job's id is made of it.
const NAME_BYTES: usize = 100;
const SECOND_NS: u64 = 1_000_000_000;

/// A schedule that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The expression.
    #[error(
        "{cron:?} is not a cron expression ({why}): expected five or six fields, such as \"0 6 * * 1\" for Mondays at 6:00 UTC"
    )]
    Cron {
        /// The expression, printable.
        cron: String,
        /// Why.
        why: String,
    },
    /// It never comes due.
    #[error("{cron:?} names no moment in the next years")]
    Never {
        /// The expression, printable.
        cron: String,
    },
    /// The name.
    #[error("the name of a schedule has at most {NAME_BYTES} bytes, {bytes} found")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// There are too many.
    #[error("a host takes at most {SCHEDULES_MAX} schedules: remove one first")]
    TooMany,
    /// Anything else about it.
    #[error(transparent)]
    Invalid(#[from] hb_types::job::InvalidSpec),
    /// The job of a moment would not be accepted.
    #[error("the job of a moment would not be accepted")]
    Submit(#[from] crate::SubmitError),
    /// The ledger.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

fn parse(cron: &str) -> Result<Cron, ScheduleError> {
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    parser.parse(cron).map_err(|error| ScheduleError::Cron {
        cron: printable(cron, 100),
        why: printable(&error.to_string(), 200),
    })
}

fn time_of(ns: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(ns / SECOND_NS).ok()?, 0)
}

fn ns_of(time: &DateTime<Utc>) -> Option<u64> {
    u64::try_from(time.timestamp()).ok()?.checked_mul(SECOND_NS)
}

/// The first moment of a cron expression after a time, both in nanoseconds since the Unix epoch.
pub fn next_moment_ns(cron: &str, after_ns: u64) -> Option<u64> {
    let next = parse(cron).ok()?.find_next_occurrence(&time_of(after_ns)?, false).ok()?;
    ns_of(&next)
}

/// The last moment of a cron expression up to a time.
fn newest_moment_ns(cron: &str, up_to_ns: u64) -> Option<u64> {
    let newest = parse(cron).ok()?.find_previous_occurrence(&time_of(up_to_ns)?, true).ok()?;
    ns_of(&newest)
}

/// Checks a cron expression.
pub fn check_cron(cron: &str) -> Result<(), ScheduleError> {
    parse(cron)?;
    match next_moment_ns(cron, clock::now_ns()) {
        Some(_) => Ok(()),
        None => Err(ScheduleError::Never { cron: printable(cron, 100) }),
    }
}

/// The moment that is due at `now_ns`, if one is. Moments that passed while no host was there are
/// one at most: what is due is made up for, not repeated.
fn due_moment_ns(schedule: &Schedule, host_started_ns: u64, now_ns: u64) -> Option<u64> {
    let newest = newest_moment_ns(&schedule.cron, now_ns)?;
    if newest <= schedule.since_ns || newest <= schedule.fired_ns {
        return None;
    }
    match schedule.missed {
        Missed::Latest => Some(newest),
        Missed::Skip => (newest >= host_started_ns).then_some(newest),
    }
}

impl Host {
    /// Makes a schedule, or replaces the one of that name.
    pub fn set_schedule(&self, name: &str, schedule: Schedule) -> Result<(), ScheduleError> {
        check_name("schedule", name)?;
        if name.len() > NAME_BYTES {
            return Err(ScheduleError::NameTooLong { bytes: name.len() });
        }
        check_cron(&schedule.cron)?;
        schedule.spec.check(self.ceilings())?;
        schedule.terms.check()?;
        let room = self.with_ledger(|ledger| {
            ledger.schedules.contains_key(name) || ledger.schedules.len() < SCHEDULES_MAX
        });
        if !room {
            return Err(ScheduleError::TooMany);
        }
        let hold = self.store().hold();
        self.take_container(&schedule.spec)?;
        self.check_presence(&schedule.spec)?;
        let record = ScheduleSet { name: name.to_owned(), schedule, at_ns: self.now_ns() };
        let decided = self.decide_whole(record.into(), Urgency::New).map_err(ChangeError::from)?;
        drop(hold);
        Ok(self.settle(decided).map_err(ChangeError::from)?)
    }

    /// Removes a schedule. Jobs that it made stay.
    pub fn remove_schedule(&self, name: &str) -> Result<(), ChangeError> {
        if !self.with_ledger(|ledger| ledger.schedules.contains_key(name)) {
            return Err(ChangeError::NoSuchSchedule { name: printable(name, 100) });
        }
        let record = ScheduleRemoved { name: name.to_owned(), at_ns: self.now_ns() };
        let decided = self.decide_whole(record.into(), Urgency::Closing)?;
        Ok(self.settle(decided)?)
    }
}

impl Shared {
    /// Submits the jobs of moments that are due.
    pub(crate) fn fire_schedules(&self, now_ns: u64) {
        let due: Vec<(String, u64, Schedule)> = self.host.with_ledger(|ledger| {
            let schedules = ledger.schedules.iter();
            let due = schedules.filter_map(|(name, schedule)| {
                let moment_ns = due_moment_ns(schedule, self.host.started_ns(), now_ns)?;
                Some((name.clone(), moment_ns, schedule.clone()))
            });
            due.collect()
        });
        for (name, moment_ns, schedule) in due {
            if let Err(error) = self.fire(&name, moment_ns, schedule) {
                tracing::warn!(
                    schedule = name,
                    error = chain_of(&error),
                    "a moment is tried again"
                );
            }
        }
    }

    fn fire(&self, name: &str, moment_ns: u64, schedule: Schedule) -> Result<(), ScheduleError> {
        let submission = Submission {
            job_id: Some(Schedule::job_id(name, moment_ns)),
            name_hint: name.to_owned(),
            spec: schedule.spec,
            terms: schedule.terms,
            rerun: false,
        };
        // The job first: if the host dies in between, the moment is submitted again and is there.
        let submitted = self.host.submit(&submission)?;
        if let Some(job) = self.host.job(submitted.number()) {
            self.offer(&job);
        }
        let record = ScheduleFired { name: name.to_owned(), moment_ns, at_ns: self.host.now_ns() };
        let decided =
            self.host.decide_whole(record.into(), Urgency::Closing).map_err(ChangeError::from)?;
        Ok(self.host.settle(decided).map_err(ChangeError::from)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hb_types::units::parse_time_ns;

    use super::*;

    fn at(text: &str) -> u64 {
        parse_time_ns(text).unwrap()
    }

    #[test]
    fn the_next_moment_is_the_calendar_s() {
        let mondays = "0 6 * * 1";
        assert_eq!(
            next_moment_ns(mondays, at("2026-11-24T06:00:00Z")),
            Some(at("2026-11-30T06:00:00Z"))
        );
        let every_ten_seconds = "*/10 * * * * *";
        assert_eq!(
            next_moment_ns(every_ten_seconds, at("2026-11-24T06:00:01Z")),
            Some(at("2026-11-24T06:00:10Z"))
        );
        assert_eq!(
            newest_moment_ns(mondays, at("2026-11-30T06:00:00Z")),
            Some(at("2026-11-30T06:00:00Z"))
        );
    }

    #[test]
    fn what_is_no_expression_or_never_comes_is_refused() {
        for bad in ["", "often", "61 * * * *", "* * * *", "0 0 31 2 *"] {
            assert!(check_cron(bad).is_err(), "{bad}");
        }
        check_cron("*/5 * * * *").unwrap();
    }

    #[test]
    fn of_many_missed_moments_the_newest_is_made_up_for_or_none() {
        let spec = serde_json::json!({
            "component": {"digest": "00".repeat(32), "len_bytes": 0}, "arguments": [],
            "environment": [], "stdin": null, "inputs": {}, "limits": {}, "seed": 0,
            "start_ns": 0, "checkpoints": "never", "max_crashes": 1, "labels": {},
        });
        let mut schedule = Schedule {
            cron: "0 * * * *".into(),
            missed: Missed::Latest,
            spec: serde_json::from_value(spec).unwrap(),
            terms: hb_types::terms::Terms::default(),
            since_ns: at("2026-11-24T00:30:00Z"),
            fired_ns: 0,
        };
        let (started, now) = (at("2026-11-24T06:10:00Z"), at("2026-11-24T06:20:00Z"));
        let due = |schedule: &Schedule, now| due_moment_ns(schedule, started, now);
        assert_eq!(due(&schedule, at("2026-11-24T00:40:00Z")), None, "nothing before it was made");
        assert_eq!(due(&schedule, now), Some(at("2026-11-24T06:00:00Z")));
        schedule.fired_ns = at("2026-11-24T06:00:00Z");
        assert_eq!(due(&schedule, now), None);
        schedule.fired_ns = 0;
        schedule.missed = Missed::Skip;
        assert_eq!(due(&schedule, now), None);
        assert_eq!(due(&schedule, at("2026-11-24T07:00:00Z")), Some(at("2026-11-24T07:00:00Z")));
    }
}
