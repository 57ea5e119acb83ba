//! The checker can fail: each promise, broken by hand in a history that otherwise holds.
#![allow(clippy::unwrap_used)]

use hb_api::{event::EventView, job::BlobView};

use super::*;
use crate::told::{BlobTold, Told};

fn event(id: u64, job_id: &str, what: EventBody) -> EventView {
    EventView { id, at: "2026-01-01T00:00:00Z".to_owned(), job: 1, job_id: job_id.to_owned(), what }
}

fn checkpoint(sequence: u64, step: u64) -> EventBody {
    EventBody::Checkpoint {
        sequence,
        step,
        digest: format!("{step:064}"),
        stdout_bytes: step,
        stderr_bytes: 0,
        notes: Vec::new(),
    }
}

fn started(attempt: u32, from_sequence: u64) -> EventBody {
    EventBody::Started { attempt, process: 1, from_sequence }
}

/// The history of a job that crashed once after its second checkpoint.
fn history(job_id: &str, first: u64) -> Vec<EventView> {
    let crashed = EventBody::Interrupted { why: "host-crashed".to_owned(), detail: String::new() };
    let ended = EventBody::Ended {
        outcome: "success".to_owned(),
        outcome_detail: hb_api::job::OutcomeView::of(&hb_types::outcome::Outcome::Success),
        exit_code: 0,
        message: String::new(),
        stdout_bytes: 3,
        stderr_bytes: 0,
    };
    let what = [
        EventBody::Received,
        started(1, 0),
        checkpoint(1, 10),
        checkpoint(2, 20),
        crashed,
        started(2, 2),
        checkpoint(3, 30),
        ended,
        EventBody::Sealed { seal: "5ea1".to_owned() },
    ];
    (first..).zip(what).map(|(id, what)| event(id, job_id, what)).collect()
}

fn blob() -> BlobView {
    BlobView { digest: "d1".to_owned(), bytes: 3 }
}

fn ended(job_id: &str, first: u64) -> Final {
    Final {
        job_hash: "4a54".to_owned(),
        state: "SEALED".to_owned(),
        outcome: "success".to_owned(),
        exit_code: Some(0),
        seal: "5ea1".to_owned(),
        stdout: Some(blob()),
        stderr: Some(blob()),
        crashes: 1,
        history: history(job_id, first),
    }
}

struct World {
    told: Told,
    finals: Finals,
}

impl World {
    /// Two jobs, told and there.
    fn whole() -> Self {
        let jobs = [("a", 1), ("b", 101)];
        let told = jobs.map(|(job_id, first)| JobTold {
            job_id: job_id.to_owned(),
            job_hash: "4a54".to_owned(),
            created: true,
            events: history(job_id, first),
            stdout: BlobTold { bytes: 3, digest: "d1".to_owned() },
            stderr: BlobTold { bytes: 3, digest: "d1".to_owned() },
            over: true,
            ..JobTold::default()
        });
        let finals = jobs.map(|(job_id, first)| (job_id.to_owned(), ended(job_id, first)));
        Self { told: told.into(), finals: finals.into() }
    }

    fn there(&mut self) -> &mut Final {
        self.finals.get_mut("a").unwrap()
    }

    fn broken(&self) -> Vec<&'static str> {
        let references = [Reference { name: "x".to_owned(), ended: ended("undisturbed", 1) }];
        let mut promises: Vec<_> =
            check(&self.told, &self.finals, &references).iter().map(|one| one.promise).collect();
        promises.dedup();
        promises
    }
}

#[test]
fn a_history_in_which_everything_holds_is_not_complained_about() {
    assert_eq!(World::whole().broken(), Vec::<&str>::new());
}

/// What breaks a history, and which promise that is.
type Case = (&'static str, fn(&mut World));

const CASES: &[Case] = &[
    ("lost", |world| drop(world.finals.remove("b"))),
    ("lost", |world| {
        // Somebody was shown a checkpoint that the host knows nothing of.
        world.told[0].over = false;
        world.told[0].events.insert(4, event(50, "a", checkpoint(9, 25)));
        world.told[0].events.truncate(5);
    }),
    ("doubled", |world| drop(world.finals.insert("c".to_owned(), ended("c", 301)))),
    ("doubled", |world| {
        let again = event(11, "a", EventBody::Received);
        world.there().history.push(again.clone());
        world.told[0].events.push(again);
    }),
    ("doubled", |world| {
        // Two jobs cannot have one place in the log.
        world.told[0].over = false;
        world.there().history.insert(0, event(0, "a", EventBody::Scheduled));
        let taken = event(0, "b", EventBody::Scheduled);
        world.told[1].over = false;
        world.finals.get_mut("b").unwrap().history.insert(0, taken);
    }),
    ("backwards", |world| {
        // Resumed from the last but one checkpoint.
        world.there().history[5].what = started(2, 1);
        world.told[0].events[5].what = started(2, 1);
    }),
    ("backwards", |world| {
        world.there().history[6].what = checkpoint(2, 20);
        world.told[0].events[6].what = checkpoint(2, 20);
    }),
    ("changed", |world| "0the4".clone_into(&mut world.there().seal)),
    ("changed", |world| "trap".clone_into(&mut world.there().outcome)),
    ("changed", |world| "0the4".clone_into(&mut world.there().job_hash)),
    ("changed", |world| {
        // A line twice: what was written after the checkpoint was not rolled back.
        world.there().stdout = Some(BlobView { digest: "d2".to_owned(), bytes: 6 });
        world.told[0].stdout = BlobTold { bytes: 6, digest: "d2".to_owned() };
    }),
    ("changed", |world| world.told[0].events[3].what = checkpoint(2, 21)),
    ("unfinished", |world| {
        world.there().seal.clear();
        world.there().history.truncate(7);
        world.there().history.push(event(8, "a", checkpoint(4, 40)));
    }),
    ("stream", |world| drop(world.told[0].events.remove(3))),
    ("stream", |world| {
        let twice = world.told[0].events[3].clone();
        world.told[0].events.insert(3, twice);
    }),
    ("stream", |world| world.told[0].stdout.bytes = 2),
    ("refused", |world| world.told[0].trouble = Some("internal".to_owned())),
];

#[test]
fn each_broken_promise_is_found_and_named() {
    for (number, (promise, break_it)) in CASES.iter().enumerate() {
        let mut world = World::whole();
        break_it(&mut world);
        let broken = world.broken();
        assert!(broken.contains(promise), "case {number}: {promise} expected, {broken:?} found");
    }
}
