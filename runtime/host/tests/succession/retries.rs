//! Jobs that try again what another one did not bring to an end.

use hb_guests::{COUNTER, GREEDY};
use hb_host::{RetryError, RetryFrom};
use hb_types::{
    outcome::Outcome,
    state::Phase,
    terms::{Retry, Terms},
};

use crate::world::World;

#[test]
fn a_failed_job_is_tried_again_as_a_new_one_under_the_next_free_name() {
    let world = World::new();
    let retry = Retry { max_retries: 0, backoff_ms: 3, ..Retry::default() };
    let terms = Terms {
        priority: 5,
        queue: "night".to_owned(),
        retry,
        finish_by_ns: u64::MAX,
        submitted_by: Some("somebody".to_owned()),
        ..Terms::default()
    };
    let number = world.submit_under("job", world.spec(GREEDY, &["exit", "3"]), terms.clone());
    let first = world.run(number);
    assert_eq!(first.state.phase, Phase::Failed);

    let again = world.host.retry_submission(number, RetryFrom::Beginning).unwrap();
    assert_eq!(again.job_id.as_deref(), Some("job-retry-1"));
    assert_eq!(again.spec, first.spec);
    let expected =
        Terms { finish_by_ns: 0, submitted_by: None, successor_of: Some(number), ..terms };
    assert_eq!(again.terms, expected);
    let second = world.run(world.host.submit(&again).unwrap().number());
    assert_ne!(second.number, first.number);
    assert_eq!(second.seal.unwrap().seal, first.seal.unwrap().seal);

    // Of the repetition of a repetition, too.
    let third = world.host.retry_submission(second.number, RetryFrom::Beginning).unwrap();
    assert_eq!(third.job_id.as_deref(), Some("job-retry-2"));
}

#[test]
fn a_retry_from_the_newest_checkpoint_goes_on_there() {
    let world = World::new();
    let mut spec = world.spec(COUNTER, &["--steps", "6", "--work", "1"]);
    let whole = world.ended("whole", spec.clone());
    spec.limits.deadline_ms = 0;
    let late = world.ended("late", spec);
    let error = world.host.retry_submission(late.number, RetryFrom::NewestCheckpoint).unwrap_err();
    assert!(matches!(error, RetryError::Fork(_)), "it came to no checkpoint: {error}");

    let mut spec = whole.spec.clone();
    spec.limits.fuel = whole.counters.fuel_used / 2;
    let short = world.ended("short", spec);
    let saved = short.checkpoint_chain().last().unwrap().step;
    let again = world.host.retry_submission(short.number, RetryFrom::NewestCheckpoint).unwrap();
    let mut again = again;
    again.spec.limits.fuel = 2 * whole.counters.fuel_used;
    let again = world.run(world.host.submit(&again).unwrap().number());
    assert_eq!(world.left(&again), world.left(&whole));
    assert_eq!((again.checkpoint_chain()[0].step, &again.job_id[..]), (saved, "short-retry-1"));
}

#[test]
fn only_what_failed_or_was_cancelled_is_tried_again() {
    let world = World::new();
    let done = world.ended("done", world.spec(COUNTER, &["--steps", "2"]));
    let error = world.host.retry_submission(done.number, RetryFrom::Beginning).unwrap_err();
    assert!(matches!(error, RetryError::Succeeded { .. }), "{error}");
    let waiting = world.submit("waiting", world.spec(COUNTER, &["--steps", "3"]));
    let error = world.host.retry_submission(waiting, RetryFrom::Beginning).unwrap_err();
    let phase = Phase::Received;
    assert!(matches!(error, RetryError::NotOver { phase: found, .. } if found == phase), "{error}");
    let error = world.host.retry_submission(12345, RetryFrom::Beginning).unwrap_err();
    assert!(matches!(error, RetryError::NoSuchJob { job: 12345 }), "{error}");

    let control = hb_sandbox::Control::default();
    control.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let cancelled = world.host.run(waiting, &control, &mut crate::world::Silent).unwrap();
    assert_eq!(cancelled.conclusion.unwrap().outcome, Outcome::Cancelled);
    let again = world.host.retry_submission(waiting, RetryFrom::Beginning).unwrap();
    let again = world.run(world.host.submit(&again).unwrap().number());
    assert_eq!(again.conclusion.unwrap().outcome, Outcome::Success);
}
