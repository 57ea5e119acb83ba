//! Text that was chosen by an enemy comes back as it went in and breaks no question.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, event, job, jobs, sealed};
use hb_read_model::{
    Changes, Count, EventRow, Filter, IdMatch, InvalidFilter, JobRow, LabelMatch, ReadModelError,
};

fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "'",
        "\"",
        "'; DROP TABLE job; --",
        "\" OR 1=1 --",
        "%",
        "_%",
        "*?[a-z]",
        "\0",
        "before\0after",
        "\u{2}\u{2}s",
        "\\",
        "?1",
        ":slot",
        "\u{202e}reversed",
        "\u{1b}[2J",
        "é\u{301}",
        "ﬀ🦀",
        "NULL",
        "0",
        "-1",
        "1e999",
        "{\"a\":1}",
        "\u{ffff}\u{10ffff}",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(100 << 10));
    texts.push("'\0\"é".repeat(20 << 10));
    texts
}

/// A job that has the text wherever one fits.
fn of(number: u64, text: &str) -> JobRow {
    JobRow {
        job_id: text.to_owned(),
        outcome: Some(text.to_owned()),
        program: text.to_owned(),
        queue: text.to_owned(),
        labels: [(text.to_owned(), text.to_owned()), ("plain".to_owned(), text.to_owned())].into(),
        ..sealed(number)
    }
}

/// Every filter that can name a text.
fn filters(text: &str) -> Vec<Filter> {
    let some = || Some(text.to_owned());
    let label = |name: &str, value| LabelMatch { name: name.to_owned(), value };
    vec![
        Filter { program: some(), ..Filter::default() },
        Filter { queue: some(), ..Filter::default() },
        Filter { outcome: some(), ..Filter::default() },
        Filter { labels: vec![label(text, None)], ..Filter::default() },
        Filter { labels: vec![label(text, some()), label("plain", some())], ..Filter::default() },
        Filter { id: Some(IdMatch::Prefix(text.to_owned())), program: some(), ..Filter::default() },
    ]
}

#[test]
fn hostile_text_is_kept_and_found_exactly() {
    let place = Place::new();
    let (model, _) = place.open();
    let texts = hostile();
    let rows: Vec<_> = (1..).zip(&texts).map(|(number, text)| of(number, text)).collect();
    let kept = |lsn, job: &JobRow| EventRow {
        kind: job.program.clone(),
        json: job.program.clone(),
        ..event(lsn, job.number)
    };
    let events: Vec<_> = (1..).zip(&rows).map(|(lsn, job)| kept(lsn, job)).collect();
    model.apply(&Changes { events: events.clone(), ..jobs(rows.clone()) }).unwrap();
    for (row, text) in rows.iter().zip(&texts) {
        assert_eq!(model.get(row.number).unwrap().as_ref(), Some(row));
        for filter in filters(text) {
            let page = model.query(&filter, None, 1000).unwrap();
            assert!(page.jobs.iter().eq([row]), "{filter:?}");
            assert_eq!(model.count(&filter).unwrap(), Count::Exactly(1), "{filter:?}");
        }
    }
    assert_eq!(model.events_after(0, 1000).unwrap(), events);
}

#[test]
fn hostile_text_that_nothing_has_finds_nothing() {
    let place = Place::new();
    let (model, _) = place.open();
    model.apply(&jobs((1..=100).map(job).collect())).unwrap();
    for text in hostile() {
        for filter in filters(&text) {
            assert_eq!(model.query(&filter, None, 10).unwrap().jobs, [], "{filter:?}");
        }
    }
    assert_eq!(model.count(&Filter::default()).unwrap(), Count::Exactly(100));
}

#[test]
fn any_part_of_a_name_is_searched_for_or_refused() {
    let place = Place::new();
    let (model, _) = place.open();
    let texts = hostile();
    model.apply(&jobs((1..).zip(&texts).map(|(number, text)| of(number, text)).collect())).unwrap();
    for text in &texts {
        let filter = Filter { id: Some(IdMatch::Contains(text.clone())), ..Filter::default() };
        match (text.len(), model.query(&filter, None, 1000)) {
            (0..=2, Err(ReadModelError::Filter(InvalidFilter::ShortPart { .. })))
            | (129.., Err(ReadModelError::Filter(InvalidFilter::LongPart { .. }))) => {}
            (3..=128, Ok(page)) => {
                assert!(page.jobs.iter().any(|job| job.job_id == *text), "{text:?}");
            }
            (length, other) => panic!("{length} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_filter_with_too_many_labels_is_refused() {
    let place = Place::new();
    let (model, _) = place.open();
    let label = |number: u32| LabelMatch { name: number.to_string(), value: None };
    let filter = Filter { labels: (0..17).map(label).collect(), ..Filter::default() };
    for error in [model.query(&filter, None, 1).unwrap_err(), model.count(&filter).unwrap_err()] {
        let expected = InvalidFilter::TooManyLabels { labels: 17 };
        assert!(matches!(&error, ReadModelError::Filter(found) if *found == expected), "{error:?}");
    }
}

#[test]
fn a_cursor_is_refused_for_another_filter() {
    let place = Place::new();
    let (model, _) = place.open();
    model.apply(&jobs((1..=10).map(job).collect())).unwrap();
    let next = model.query(&Filter::default(), None, 5).unwrap().next.unwrap();
    let other = Filter { queue: Some("default".to_owned()), ..Filter::default() };
    let error = model.query(&other, Some(&next), 5).unwrap_err();
    assert!(matches!(error, ReadModelError::Cursor(_)), "{error:?}");
    assert_eq!(model.query(&Filter::default(), Some(&next), 5).unwrap().jobs.len(), 5);
}
