//! The read model beside a naive one: whatever happens and whatever is asked, both say the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Naive, Place, Random, any_filter, any_job, event};
use hb_read_model::{Changes, Count, Ended, Filter, Opened, ReadModel, bounds::MAX_COUNT};
use hb_types::state::Phase;
use proptest::prelude::*;

/// One thing that is done with both.
#[derive(Clone, Debug)]
enum Step {
    Change {
        seed: u64,
        new: u64,
    },
    /// Changes come between the pages.
    Ask {
        seed: u64,
        limit: usize,
    },
    Reopen,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    let new = prop_oneof![4 => 0..20_u64, 1 => 0..6000_u64];
    prop_oneof![
        4 => (any::<u64>(), new).prop_map(|(seed, new)| Step::Change { seed, new }),
        8 => (any::<u64>(), 1..400_usize).prop_map(|(seed, limit)| Step::Ask { seed, limit }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ]
}

struct Both {
    place: Place,
    model: Option<ReadModel>,
    naive: Naive,
}

impl Both {
    fn new() -> Self {
        let place = Place::new();
        let model = Some(place.open().0);
        Self { place, model, naive: Naive::default() }
    }

    fn model(&self) -> &ReadModel {
        self.model.as_ref().unwrap()
    }

    /// New jobs, changed jobs, events and forgotten jobs, the same ones twice.
    fn change(&mut self, seed: u64, new: u64) {
        let mut random = Random(seed);
        let mut applied = self.naive.applied + 1;
        let mut changes = Changes::default();
        let known: Vec<u64> = self.naive.jobs.keys().copied().collect();
        if !known.is_empty() {
            for _ in 0..random.below(30) {
                let number = random.pick(&known);
                changes.jobs.push(any_job(&mut random, number, applied));
                applied += 1;
            }
            let most = if random.one_in(5) { 500 } else { 10 };
            for _ in 0..random.below(most) {
                changes.forgotten.push(random.pick(&known));
            }
        }
        let mut number = self.naive.newest;
        for _ in 0..new {
            number += 1 + random.below(4);
            let job = any_job(&mut random, number, applied);
            changes.events.push(event(applied, random.below(number + 1)));
            changes.jobs.push(job);
            applied += 1;
        }
        changes.applied = applied;
        self.naive.apply(&changes);
        self.model().apply(&changes).unwrap();
        if random.one_in(3) {
            self.model().apply(&changes).unwrap();
        }
        assert_eq!(self.model().applied(), self.naive.applied);
    }

    fn ask(&mut self, seed: u64, limit: usize) {
        let mut random = Random(seed);
        let filter = any_filter(&mut random);
        self.count(&filter);
        let (mut below, mut cursor) = (u64::MAX, None);
        for _ in 0..40 {
            let page = self.model().query(&filter, cursor.as_ref(), limit).unwrap();
            let mut expected: Vec<_> = self.naive.find(&filter, below).take(limit + 1).collect();
            let has_more = expected.len() > limit;
            expected.truncate(limit);
            assert!(page.jobs.iter().eq(expected), "{filter:?} below {below}");
            assert_eq!(page.next.is_some(), has_more, "{filter:?} below {below}");
            let Some(last) = page.jobs.last().filter(|_| has_more) else { break };
            below = last.number;
            // As it comes back from a client.
            cursor = Some(page.next.unwrap().to_string().parse().unwrap());
            if random.one_in(4) {
                let new = random.below(10);
                self.change(random.next(), new);
            }
        }
        self.others(&mut random, limit);
    }

    fn count(&self, filter: &Filter) {
        let expected = self.naive.find(filter, u64::MAX).count() as u64;
        let expected =
            if expected > MAX_COUNT { Count::AtLeast(MAX_COUNT) } else { Count::Exactly(expected) };
        assert_eq!(self.model().count(filter).unwrap(), expected, "{filter:?}");
    }

    /// Everything but pages.
    fn others(&self, random: &mut Random, limit: usize) {
        let (model, naive) = (self.model(), &self.naive);
        let mut counts: BTreeMap<Phase, u64> = Phase::ALL.map(|phase| (phase, 0)).into();
        naive.jobs.values().for_each(|job| *counts.get_mut(&job.phase).unwrap() += 1);
        assert_eq!(model.counts_by_phase().unwrap(), counts);

        let ended = naive.jobs.values().filter(|job| job.phase.is_final());
        let totals = model.totals().unwrap();
        assert_eq!(totals.jobs, ended.clone().count() as u64);
        assert_eq!(totals.bytes, ended.clone().map(|job| job.bytes).sum::<u64>());

        let place = |job: &hb_read_model::JobRow| {
            job.ended_ns.map(|ended_ns| Ended { ended_ns, number: job.number })
        };
        let (before_ns, after) = (random.below(300_000), random.below(100_000));
        let after = random.one_in(2).then_some(Ended { ended_ns: after, number: after / 10 });
        let mut expected: Vec<_> = ended
            .filter(|job| place(job).is_some_and(|at| at.ended_ns < before_ns && Some(at) > after))
            .collect();
        expected.sort_by_key(|job| place(job));
        expected.truncate(limit);
        let found = model.oldest_ended(before_ns, after, limit).unwrap();
        assert!(found.iter().eq(expected), "ended before {before_ns}, after {after:?}");

        let after = random.below(naive.applied + 2);
        let expected = naive.events.range(after + 1..).map(|(_, event)| event);
        let found = model.events_after(after, limit).unwrap();
        assert!(found.iter().eq(expected.clone().take(limit)), "events after {after}");
        let job = random.below(naive.newest + 2);
        let found = model.events_of_job(job, after, limit).unwrap();
        let expected = expected.filter(|event| event.job == job);
        assert!(found.iter().eq(expected.take(limit)), "events of {job} after {after}");
        assert_eq!(model.get(job).unwrap().as_ref(), naive.jobs.get(&job));
    }

    fn reopen(&mut self) {
        self.model = None;
        let (model, opened) = self.place.open();
        assert_eq!(opened, Opened::Existing);
        assert_eq!(model.applied(), self.naive.applied);
        self.model = Some(model);
    }

    /// Empties the model and feeds it the present state, as a host does from its ledger.
    fn rebuild(&self) {
        let model = self.model();
        model.clear().unwrap();
        assert_eq!(model.applied(), 0);
        let jobs: Vec<_> = self.naive.jobs.values().cloned().collect();
        for jobs in jobs.chunks(1000) {
            model.apply(&Changes { jobs: jobs.to_vec(), ..Changes::default() }).unwrap();
            assert_eq!(model.applied(), 0);
        }
        let events = self.naive.events.values().cloned().collect();
        let applied = self.naive.applied;
        model.apply(&Changes { events, applied, ..Changes::default() }).unwrap();
        assert_eq!(model.applied(), applied);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happens_every_answer_is_that_of_a_naive_model(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut both = Both::new();
        for step in steps {
            match step {
                Step::Change { seed, new } => both.change(seed, new),
                Step::Ask { seed, limit } => both.ask(seed, limit),
                Step::Reopen => both.reopen(),
                Step::Rebuild => both.rebuild(),
            }
        }
    }
}

#[test]
fn questions_that_span_many_blocks_are_answered_as_by_a_naive_model() {
    let mut both = Both::new();
    for seed in 0..5 {
        both.change(seed, 5000);
    }
    for seed in 0..60 {
        both.ask(seed, 1 + usize::try_from(seed).unwrap() * 7);
    }
    both.reopen();
    both.rebuild();
    for seed in 100..160 {
        both.ask(seed, 1000);
    }
}
