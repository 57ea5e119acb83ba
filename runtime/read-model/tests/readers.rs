//! Many who read while one writes, and answers that take too long.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{LEDGER, Place, job, jobs, sealed};
use hb_read_model::{Changes, Count, Filter, JobRow, Options, ReadModel, ReadModelError};
use hb_types::state::Phase;

const ROUNDS: u64 = 200;
const EACH: u64 = 50;

/// Round by round, so many jobs become received and those of the round before are sealed: whatever
/// snapshot a reader has, all sealed jobs are older than all received ones.
fn write(model: &ReadModel) {
    for round in 0..ROUNDS {
        let numbers = |round: u64| round * EACH * 2 + 1..(round + 1) * EACH * 2;
        let mut rows: Vec<JobRow> = numbers(round).step_by(2).map(job).collect();
        if let Some(before) = round.checked_sub(1) {
            rows.extend(numbers(before).step_by(2).map(sealed));
        }
        model.apply(&Changes { applied: (round + 1) * EACH * 2, ..jobs(rows) }).unwrap();
    }
}

/// Tells the readers to stop, also when the writer fails.
struct StopWhenDropped<'s>(&'s AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn read(model: &ReadModel, stop: &AtomicBool) -> u64 {
    let phase = |phase| Filter { phases: [phase].into(), ..Filter::default() };
    let (mut answers, mut seen) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let page = model.query(&Filter::default(), None, 200).unwrap();
        assert!(page.jobs.is_sorted_by(|one, next| one.number > next.number));
        let received = page.jobs.iter().filter(|job| job.phase == Phase::Received).count() as u64;
        assert!(page.jobs.is_empty() || received == EACH, "{received} received in one snapshot");
        assert!(page.jobs.iter().skip(50).all(|job| job.phase == Phase::Sealed));

        let counts = model.counts_by_phase().unwrap();
        assert!(counts[&Phase::Sealed].is_multiple_of(EACH));
        assert!(counts[&Phase::Sealed] >= seen, "a reader saw an older state than before");
        seen = counts[&Phase::Sealed];
        assert!(model.query(&phase(Phase::Received), None, 100).unwrap().jobs.len() <= 50);
        let Count::Exactly(sealed) = model.count(&phase(Phase::Sealed)).unwrap() else {
            panic!("there are fewer than ten thousand")
        };
        assert!(sealed.is_multiple_of(EACH) && sealed >= seen);
        answers += 1;
    }
    answers
}

#[test]
fn readers_see_whole_changes_while_they_are_written() {
    let place = Place::new();
    let (model, _) = place.open();
    let stop = AtomicBool::new(false);
    let begin = Barrier::new(9);
    let answers: u64 = thread::scope(|scope| {
        // More readers than connections.
        let readers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    read(&model, &stop)
                })
            })
            .collect();
        begin.wait();
        let stopping = StopWhenDropped(&stop);
        write(&model);
        drop(stopping);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    assert!(answers > 0);
    assert_eq!(model.counts_by_phase().unwrap()[&Phase::Received], EACH);
}

#[test]
fn readers_of_a_model_that_is_cleared_see_all_or_nothing() {
    let place = Place::new();
    let (model, _) = place.open();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let found = model.query(&Filter::default(), None, 1000).unwrap().jobs.len();
                    assert!(found == 0 || found == 100, "{found} of a hundred");
                }
            });
        }
        let _stopping = StopWhenDropped(&stop);
        for _ in 0..100 {
            model.apply(&jobs((1..=100).map(job).collect())).unwrap();
            model.clear().unwrap();
        }
    });
}

#[test]
fn an_answer_that_takes_too_long_is_refused_by_name_and_the_next_one_is_given() {
    let place = Place::new();
    let options = Options { answer_time: Duration::ZERO, ..Options::default() };
    let (model, _) = ReadModel::open_with(&place.path(), LEDGER, options).unwrap();
    model.apply(&jobs((1..=100).map(job).collect())).unwrap();
    for _ in 0..10 {
        let error = model.query(&Filter::default(), None, 10).unwrap_err();
        assert!(matches!(error, ReadModelError::TooSlow { limit_ms: 0, .. }), "{error:?}");
        assert!(error.to_string().contains("narrow the filter"), "{error}");
    }
    drop(model);
    let (model, _) = place.open();
    assert_eq!(model.query(&Filter::default(), None, 10).unwrap().jobs.len(), 10);
}

#[test]
fn the_log_beside_the_file_is_cut_while_readers_overlap() {
    let place = Place::new();
    let options = Options { max_side_log_bytes: 0, ..Options::default() };
    let (model, _) = ReadModel::open_with(&place.path(), LEDGER, options).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| read(&model, &stop));
        }
        let _stopping = StopWhenDropped(&stop);
        write(&model);
    });
    assert_eq!(std::fs::metadata(place.side("-wal")).unwrap().len(), 0);
    assert_eq!(model.counts_by_phase().unwrap()[&Phase::Received], EACH);
}
