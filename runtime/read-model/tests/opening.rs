//! Whatever lies where the read model should be: it is gone on with, or it is started anew and that
//! is said.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{LEDGER, Place, Random, job, jobs, sealed};
use hb_read_model::{Filter, FreshReason, JobRow, Opened, ReadModel, ReadModelError};

fn all(model: &ReadModel) -> Result<Vec<JobRow>, ReadModelError> {
    Ok(model.query(&Filter::default(), None, 1000)?.jobs)
}

/// A model with some jobs, closed.
fn filled() -> Place {
    let place = Place::new();
    let (model, opened) = place.open();
    assert_eq!(opened, Opened::Fresh(FreshReason::Absent));
    model.apply(&jobs((1..=300).map(sealed).collect())).unwrap();
    place
}

/// Opens what is there, which must work, and shows that it can be used.
fn usable(place: &Place) -> Opened {
    let (model, opened) = place.open();
    if let Opened::Fresh(_) = opened {
        assert_eq!(model.applied(), 0);
        assert_eq!(all(&model).unwrap(), []);
        model.apply(&jobs(vec![job(1)])).unwrap();
        assert_eq!(all(&model).unwrap(), [job(1)]);
    }
    opened
}

#[test]
fn a_model_that_was_closed_goes_on_where_it_stopped() {
    let place = filled();
    let (model, opened) = place.open();
    assert_eq!(opened, Opened::Existing);
    assert_eq!(model.applied(), 301);
    assert_eq!(all(&model).unwrap().len(), 300);
}

#[test]
fn a_model_of_another_ledger_is_started_anew() {
    let place = filled();
    let (model, opened) = ReadModel::open(&place.path(), [9; 16]).unwrap();
    assert_eq!(opened, Opened::Fresh(FreshReason::OtherLedger));
    assert_eq!(all(&model).unwrap(), []);
}

#[test]
fn a_model_of_another_version_is_started_anew() {
    let place = filled();
    let file = rusqlite::Connection::open(place.path()).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    drop(file);
    assert_eq!(usable(&place), Opened::Fresh(FreshReason::OtherVersion));
}

#[test]
fn files_that_are_something_else_are_started_anew() {
    let other = Place::new();
    let database = rusqlite::Connection::open(other.path()).unwrap();
    database.execute_batch("CREATE TABLE meta (id); INSERT INTO meta VALUES (1)").unwrap();
    drop(database);
    for bytes in [
        Vec::new(),
        b"not a database".to_vec(),
        vec![0; 100_000],
        b"SQLite format 3\0".to_vec(),
        fs::read(other.path()).unwrap(),
    ] {
        let place = Place::new();
        fs::write(place.path(), &bytes).unwrap();
        let opened = usable(&place);
        assert!(matches!(opened, Opened::Fresh(_)), "{} bytes: {opened:?}", bytes.len());
    }
}

#[test]
fn a_file_that_was_cut_off_anywhere_is_started_anew() {
    let whole = fs::read(filled().path()).unwrap();
    let mut lengths: Vec<usize> = (0..whole.len()).step_by(1999).collect();
    lengths.extend([1, 15, 16, 99, 100, 511, 512, 4095, 4096, whole.len() - 1]);
    for length in lengths {
        let place = Place::new();
        fs::write(place.path(), &whole[..length]).unwrap();
        let opened = usable(&place);
        assert!(matches!(opened, Opened::Fresh(_)), "{length} of {}: {opened:?}", whole.len());
    }
}

#[test]
fn garbage_in_a_file_is_found_on_opening_or_named_when_it_is_met_and_clearing_mends_it() {
    let whole = fs::read(filled().path()).unwrap();
    let mut random = Random(5);
    let (mut anew, mut met) = (0, 0);
    for _ in 0..60 {
        let place = Place::new();
        let mut bytes = whole.clone();
        let start = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        let length = 1 + usize::try_from(random.below(8192)).unwrap();
        for byte in bytes.iter_mut().skip(start).take(length) {
            *byte = u8::try_from(random.below(256)).unwrap();
        }
        fs::write(place.path(), &bytes).unwrap();
        let (model, opened) = place.open();
        if let Opened::Fresh(_) = opened {
            anew += 1;
        }
        for filter in
            [Filter::default(), Filter { program: Some("kmer".into()), ..Filter::default() }]
        {
            for outcome in [
                model.query(&filter, None, 1000).map(|_| ()),
                model.count(&filter).map(|_| ()),
                model.oldest_ended(u64::MAX, None, 1000).map(|_| ()),
                model.apply(&jobs(vec![job(1000), sealed(5)])),
            ] {
                match outcome {
                    Ok(()) => {}
                    Err(ReadModelError::Damaged { .. }) => met += 1,
                    Err(other) => panic!("garbage at {start}+{length}: {other:?}"),
                }
            }
        }
        model.clear().unwrap();
        model.apply(&jobs(vec![sealed(1)])).unwrap();
        assert_eq!(all(&model).unwrap(), [sealed(1)]);
    }
    assert!(anew > 0 && met > 0, "{anew} were started anew, garbage was met {met} times");
}

#[test]
fn a_log_that_was_left_behind_by_another_file_does_no_harm() {
    let place = filled();
    let (model, _) = place.open();
    model.apply(&jobs(vec![sealed(400)])).unwrap();
    let log = fs::read(place.side("-wal")).unwrap();
    assert!(!log.is_empty());
    drop(model);
    fs::remove_file(place.path()).unwrap();
    fs::write(place.side("-wal"), log).unwrap();
    assert_eq!(usable(&place), Opened::Fresh(FreshReason::Absent));
}

#[test]
fn a_process_that_was_killed_leaves_a_model_that_goes_on() {
    let place = filled();
    let (model, _) = place.open();
    model.apply(&jobs(vec![sealed(400)])).unwrap();
    // What a killed process leaves: the file and its log as they are on the disk.
    let copy = Place::new();
    for suffix in ["", "-wal"] {
        fs::copy(place.side(suffix), copy.side(suffix)).unwrap();
    }
    let (model, opened) = copy.open();
    assert_eq!(opened, Opened::Existing);
    assert_eq!(model.applied(), 401);
    assert_eq!(all(&model).unwrap().len(), 301);
}

#[test]
fn a_place_that_cannot_be_used_is_refused_with_its_path() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    let error = ReadModel::open(&place.path(), LEDGER).unwrap_err();
    assert!(
        matches!(error, ReadModelError::Database { .. } | ReadModelError::Io { .. }),
        "{error:?}"
    );
    let missing = place.path().join("missing").join("history.sqlite");
    let error = ReadModel::open(&missing, LEDGER).unwrap_err();
    assert!(
        matches!(error, ReadModelError::Database { .. } | ReadModelError::Io { .. }),
        "{error:?}"
    );
    assert!(place.path().is_dir());
}
