//! What feeding means: twice is once, older is nothing, and the order is kept.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, event, job, jobs, sealed};
use hb_read_model::{Changes, Count, Filter, JobRow, ReadModel, ReadModelError, Totals};
use hb_types::state::Phase;

fn all(model: &ReadModel) -> Vec<JobRow> {
    model.query(&Filter::default(), None, 1000).unwrap().jobs
}

#[test]
fn the_same_changes_twice_are_the_same_as_once() {
    let place = Place::new();
    let (model, _) = place.open();
    model.apply(&jobs(vec![sealed(1), job(3), job(7)])).unwrap();
    let changes = Changes {
        jobs: vec![sealed(3), job(9), sealed(11)],
        events: vec![event(10, 3), event(11, 9), event(12, 1)],
        forgotten: vec![1, 11, 99],
        applied: 12,
    };
    model.apply(&changes).unwrap();
    let (once, counts) = (all(&model), model.counts_by_phase().unwrap());
    assert_eq!(once, [job(9), job(7), sealed(3)]);
    assert_eq!(model.totals().unwrap(), Totals { jobs: 1, bytes: 3 });
    model.apply(&changes).unwrap();
    assert_eq!(all(&model), once);
    assert_eq!(model.counts_by_phase().unwrap(), counts);
    assert_eq!(model.totals().unwrap(), Totals { jobs: 1, bytes: 3 });
    assert_eq!(model.events_after(0, 10).unwrap(), [event(10, 3), event(11, 9)]);
    assert_eq!(model.applied(), 12);
}

#[test]
fn changes_from_before_are_passed_over() {
    let place = Place::new();
    let (model, _) = place.open();
    let first = jobs(vec![job(1), job(2)]);
    model.apply(&first).unwrap();
    model.apply(&Changes { forgotten: vec![2], applied: 5, ..jobs(vec![sealed(1)]) }).unwrap();
    model.apply(&first).unwrap();
    assert_eq!(all(&model), [sealed(1)]);
    assert_eq!(model.applied(), 5);
}

#[test]
fn a_row_never_goes_back_to_an_older_one() {
    let place = Place::new();
    let (model, _) = place.open();
    model.apply(&Changes { applied: 5, ..jobs(vec![sealed(1)]) }).unwrap();
    model.apply(&Changes { applied: 5, ..jobs(vec![job(1)]) }).unwrap();
    assert_eq!(all(&model), [sealed(1)]);
}

#[test]
fn a_new_job_that_comes_too_late_is_refused_and_nothing_of_its_changes_stays() {
    let place = Place::new();
    let (model, _) = place.open();
    model.apply(&jobs(vec![job(5)])).unwrap();
    let error = model.apply(&Changes { applied: 9, ..jobs(vec![job(4), job(8)]) }).unwrap_err();
    assert!(
        matches!(error, ReadModelError::OutOfOrder { number: 4, newest: 5 }),
        "unexpected: {error}"
    );
    assert_eq!(all(&model), [job(5)]);
    assert_eq!(model.applied(), 5);
    model.apply(&jobs(vec![job(8)])).unwrap();
    assert_eq!(all(&model), [job(8), job(5)]);
}

#[test]
fn jobs_of_one_change_may_come_in_any_order() {
    let place = Place::new();
    let (model, _) = place.open();
    model.apply(&jobs(vec![job(9), job(0), job(4)])).unwrap();
    assert_eq!(all(&model), [job(9), job(4), job(0)]);
}

#[test]
fn numbers_that_cannot_be_kept_are_refused_by_name() {
    let place = Place::new();
    let (model, _) = place.open();
    for (field, wrong) in [
        ("number", JobRow { number: u64::MAX, ..job(1) }),
        ("bytes", JobRow { bytes: 1 << 63, ..job(1) }),
        ("ended_ns", JobRow { ended_ns: Some(u64::MAX), ..sealed(1) }),
    ] {
        let error = model.apply(&Changes { applied: 1, ..jobs(vec![wrong]) }).unwrap_err();
        assert!(error.to_string().starts_with(field), "{error}");
    }
    assert_eq!(all(&model), []);
    model.apply(&jobs(vec![JobRow { bytes: i64::MAX.cast_unsigned(), ..sealed(1) }])).unwrap();
    model.apply(&jobs(vec![JobRow { bytes: i64::MAX.cast_unsigned(), ..sealed(2) }])).unwrap();
    assert_eq!(model.totals().unwrap().bytes, u64::MAX - 1);
    assert_eq!(model.get(u64::MAX).unwrap(), None);
    assert_eq!(model.events_of_job(u64::MAX, u64::MAX, 5).unwrap(), []);
}

#[test]
fn a_model_that_is_cleared_is_empty_and_is_fed_again() {
    let place = Place::new();
    let (model, _) = place.open();
    let changes = Changes { events: vec![event(3, 1)], ..jobs(vec![sealed(1), job(2)]) };
    model.apply(&changes).unwrap();
    model.clear().unwrap();
    assert_eq!(model.applied(), 0);
    assert_eq!(all(&model), []);
    assert_eq!(model.events_after(0, 10).unwrap(), []);
    assert_eq!(model.totals().unwrap(), Totals::default());
    model.apply(&changes).unwrap();
    assert_eq!(all(&model), [job(2), sealed(1)]);
}

#[test]
fn an_answer_is_never_longer_than_a_page_and_a_count_stops() {
    let place = Place::new();
    let (model, _) = place.open();
    let rows = (1..=10_001).map(sealed).collect();
    let events = (1..=2000).map(|lsn| event(lsn, lsn)).collect();
    model.apply(&Changes { events, ..jobs(rows) }).unwrap();
    let page = model.query(&Filter::default(), None, usize::MAX).unwrap();
    assert_eq!(page.jobs.len(), 1000);
    assert_eq!(model.query(&Filter::default(), page.next.as_ref(), 0).unwrap().jobs.len(), 1);
    assert_eq!(model.events_after(0, usize::MAX).unwrap().len(), 1000);
    assert_eq!(model.oldest_ended(u64::MAX, None, usize::MAX).unwrap().len(), 1000);
    assert_eq!(model.count(&Filter::default()).unwrap(), Count::AtLeast(10_000));
    let failed = Filter { phases: [Phase::Failed].into(), ..Filter::default() };
    assert_eq!(model.count(&failed).unwrap(), Count::Exactly(0));
    model.apply(&Changes { forgotten: vec![17], applied: 10_002, ..Changes::default() }).unwrap();
    assert_eq!(model.count(&Filter::default()).unwrap(), Count::Exactly(10_000));
}

#[test]
fn what_is_forgotten_leaves_nothing_behind() {
    let place = Place::new();
    let (model, _) = place.open();
    let label = |number: u64| [("run".to_owned(), number.to_string())].into();
    let rows: Vec<_> = (1..=5000).map(|n| JobRow { labels: label(n), ..sealed(n) }).collect();
    let events = (1..=5000).map(|lsn| event(lsn, lsn)).collect();
    model.apply(&Changes { events, ..jobs(rows) }).unwrap();
    let forgotten = (1..=5000).collect();
    model.apply(&Changes { forgotten, applied: 5002, ..Changes::default() }).unwrap();
    drop(model);
    let file = rusqlite::Connection::open(place.path()).unwrap();
    for table in ["job", "posting", "facet", "block", "event"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let left: i64 = file.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "{table}");
    }
}
