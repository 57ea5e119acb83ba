//! Which jobs a policy removes, and that nothing else goes with them.

use std::{collections::BTreeMap, thread};

use hb_guests::{COUNTER, GINZBURG_LANDAU};
use hb_host::{ArchiveOptions, LeftReason, PruneReason, RetentionPolicy, SubmitError, Submitted};
use hb_types::{
    event::JobNumber,
    job::{JobSpec, KEEP_LABEL},
    ledger::{Found, Job, Ledger},
    terms::Terms,
};
use proptest::prelude::*;

use crate::world::{World, submission};

const SMALL_ARCHIVES: ArchiveOptions = ArchiveOptions { kept_in_memory: 1, batch: 2 };

fn counter(world: &World, steps: u64) -> JobSpec {
    world.spec(COUNTER, &["--steps", &steps.to_string()])
}

fn ended_ns(job: &Job) -> u64 {
    job.conclusion.as_ref().unwrap().at_ns
}

/// Five jobs, of which the first has the most output.
fn five(world: &World) -> Vec<Job> {
    (0..5).map(|at| world.ended(&format!("job-{at}"), counter(world, 9 - at))).collect()
}

fn planned(world: &World, policy: RetentionPolicy, now_ns: u64) -> Vec<(String, PruneReason)> {
    let plan = world.host.prune_plan(&policy, now_ns);
    assert_eq!((plan.more, plan.unreadable), (false, 0));
    assert_eq!(plan.bytes, plan.jobs.iter().map(|job| job.bytes).sum::<u64>());
    plan.jobs.into_iter().map(|job| (job.job_id, job.why)).collect()
}

fn named(count: usize, why: PruneReason) -> Vec<(String, PruneReason)> {
    (0..count).map(|at| (format!("job-{at}"), why)).collect()
}

#[test]
fn a_policy_removes_the_oldest_jobs_by_age_by_count_and_by_bytes() {
    let world = World::that_archives(SMALL_ARCHIVES);
    let jobs = five(&world);
    // The same whether jobs are in memory or archived.
    for archived in [0, 4] {
        while world.host.archive_if_due().unwrap() {}
        if archived == 0 {
            assert_eq!(world.host.with_ledger(|ledger| ledger.archive.jobs().len()), 4);
        }
        let now_ns = ended_ns(&jobs[2]) + 5_000_000_000;
        let policy = RetentionPolicy::default();
        assert_eq!(planned(&world, policy, u64::MAX), []);
        let by_age = RetentionPolicy { max_age_ms: Some(5000), ..policy };
        let old = |job: &&Job| (now_ns.saturating_sub(ended_ns(job))) / 1_000_000 > 5000;
        let old = jobs.iter().filter(old).count();
        assert_eq!(planned(&world, by_age, now_ns), named(old, PruneReason::Age));
        assert_eq!(planned(&world, by_age, u64::MAX), named(5, PruneReason::Age));
        let by_count = RetentionPolicy { max_jobs: Some(3), ..policy };
        assert_eq!(planned(&world, by_count, 0), named(2, PruneReason::Count));
        let bytes: u64 = jobs.iter().map(Job::kept_bytes).sum();
        let by_bytes = RetentionPolicy { max_bytes: Some(bytes - 1), ..policy };
        assert_eq!(planned(&world, by_bytes, 0), named(1, PruneReason::Bytes));
        let by_bytes = RetentionPolicy { max_bytes: Some(0), ..policy };
        assert_eq!(planned(&world, by_bytes, 0), named(5, PruneReason::Bytes));
        let both = RetentionPolicy { max_jobs: Some(4), max_bytes: Some(0), ..policy };
        let plan = planned(&world, both, 0);
        assert_eq!((plan[0].1, plan[1].1), (PruneReason::Count, PruneReason::Bytes));
    }
    // Planning changed nothing.
    let plan = world.host.prune_plan(&RetentionPolicy::default(), 0);
    assert_eq!((plan.jobs_over, plan.spared), (5, 0));
    assert_eq!(plan.bytes_over, jobs.iter().map(Job::kept_bytes).sum::<u64>());
    world.assert_healthy();
}

#[test]
fn what_is_to_be_kept_and_what_others_need_is_spared() {
    let world = World::that_archives(SMALL_ARCHIVES);
    let mut labelled = counter(&world, 2);
    labelled.labels.insert(KEEP_LABEL.to_owned(), "true".to_owned());
    world.ended("labelled", labelled);
    let before = world.ended("before", counter(&world, 3));
    let source = world.ended("source", counter(&world, 4));
    world.ended("other", counter(&world, 5));
    let terms = Terms { successor_of: Some(before.number), ..Terms::default() };
    let successor = world.submit_under("successor", counter(&world, 6), terms);
    let fork = world.host.fork_spec(source.number, None, |_| {}).unwrap();
    let fork = world.submit("fork", fork);
    let all = RetentionPolicy { max_jobs: Some(0), ..RetentionPolicy::default() };
    for _ in 0..2 {
        let plan = world.host.prune_plan(&all, 0);
        assert_eq!(plan.jobs.iter().map(|job| &job.job_id[..]).collect::<Vec<_>>(), ["other"]);
        assert_eq!((plan.jobs_over, plan.spared), (4, 3));
        while world.host.archive_if_due().unwrap() {}
    }
    // Once these are over, nobody needs the others any more.
    world.run(successor);
    world.run(fork);
    let names = planned(&world, all, 0).into_iter().map(|(job_id, _)| job_id);
    assert_eq!(names.collect::<Vec<_>>(), ["before", "source", "other", "successor", "fork"]);
}

#[test]
fn a_removed_job_is_gone_with_all_that_only_it_needed_and_its_id_is_free() {
    let world = World::that_archives(SMALL_ARCHIVES);
    let field = |steps| world.spec(GINZBURG_LANDAU, &["--size", "64", "--steps", steps]);
    let jobs = ["a", "b", "c", "d"].map(|name| world.ended(name, field("2")));
    assert!(world.host.archive_if_due().unwrap());
    let waiting = world.submit("waiting", counter(&world, 1));
    let blobs = |world: &World| {
        let view = hb_host::LedgerView::open(world.root()).unwrap();
        view.store().list().count()
    };
    let before = blobs(&world);
    let numbers: Vec<JobNumber> = jobs.iter().map(|job| job.number).collect();
    let report = world.host.forget(&[numbers[3], waiting, numbers[0], 999, numbers[0]]).unwrap();
    assert_eq!(report.forgotten, [numbers[0], numbers[3]]);
    assert_eq!(report.left, [(waiting, LeftReason::NotOver), (999, LeftReason::Unknown)]);
    assert_eq!(blobs(&world), before, "the others need the same blobs");
    let report = world.host.forget(&numbers).unwrap();
    assert_eq!(report.forgotten, [numbers[1], numbers[2]]);
    assert!(world.host.load(numbers[1]).unwrap().is_none());
    // Packs, the archive and the component went; a component is left, of the job that waits.
    assert_eq!(blobs(&world), 1);
    world.assert_healthy();
    let again = world.host.submit(&submission("a", field("3"), Terms::default()));
    assert!(matches!(again, Ok(Submitted::New(_))), "{again:?}");
    let again = world.host.submit(&submission("a", field("4"), Terms::default()));
    assert!(matches!(again, Err(SubmitError::Conflict { .. })), "{again:?}");
    let world = world.reopened();
    world.assert_healthy();
}

#[test]
fn jobs_that_several_threads_remove_at_once_are_removed_once() {
    let world = World::that_archives(SMALL_ARCHIVES);
    let numbers: Vec<JobNumber> =
        (0..12).map(|at| world.ended(&format!("job-{at}"), counter(&world, 1)).number).collect();
    let mut forgotten: Vec<JobNumber> = thread::scope(|scope| {
        let archiving = scope.spawn(|| while world.host.archive_if_due().is_ok_and(|did| did) {});
        let removers: Vec<_> = (0..3)
            .map(|shift| {
                let (host, numbers) = (&world.host, &numbers);
                scope.spawn(move || {
                    let parts = numbers[shift..].chunks(4);
                    let reports = parts.map(|part| host.forget(part).unwrap().forgotten);
                    reports.flatten().collect::<Vec<_>>()
                })
            })
            .collect();
        archiving.join().unwrap();
        removers.into_iter().flat_map(|remover| remover.join().unwrap()).collect()
    });
    forgotten.sort_unstable();
    assert_eq!(forgotten, numbers);
    world.assert_healthy();
}

/// What happens in a random history.
#[derive(Clone, Debug)]
enum Act {
    Run { steps: u64, keep: bool },
    RunField,
    Accept,
    Fork(usize),
    Archive,
    Forget(Vec<usize>),
    Prune { max_jobs: u64 },
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (1..4u64, any::<bool>()).prop_map(|(steps, keep)| Act::Run { steps, keep }),
        2 => Just(Act::RunField),
        1 => Just(Act::Accept),
        2 => any::<usize>().prop_map(Act::Fork),
        3 => Just(Act::Archive),
        2 => prop::collection::vec(any::<usize>(), 1..4).prop_map(Act::Forget),
        2 => (0..4u64).prop_map(|max_jobs| Act::Prune { max_jobs }),
        1 => Just(Act::Reopen),
    ]
}

/// The jobs that should be there, by number: their names, whether they are kept.
type Expected = BTreeMap<JobNumber, (String, bool)>;

fn nth(expected: &Expected, at: usize) -> Option<JobNumber> {
    expected.keys().copied().nth(at % expected.len().max(1))
}

fn perform(world: World, act: &Act, name: String, expected: &mut Expected) -> World {
    let is_over = |number| {
        world.host.with_ledger(|ledger| match ledger.by_number(number) {
            Some(Found::Here(job)) => job.is_over(),
            Some(Found::Archived(..)) => true,
            None => false,
        })
    };
    match act {
        Act::Run { steps, keep } => {
            let mut spec = counter(&world, *steps);
            if *keep {
                spec.labels.insert(KEEP_LABEL.to_owned(), "true".to_owned());
            }
            let number = world.ended(&name, spec).number;
            expected.insert(number, (name, *keep));
        }
        Act::RunField => {
            let spec = world.spec(GINZBURG_LANDAU, &["--size", "64", "--steps", "2"]);
            let number = world.ended(&name, spec).number;
            expected.insert(number, (name, false));
        }
        Act::Accept => {
            let number = world.submit(&name, counter(&world, 9));
            expected.insert(number, (name, false));
        }
        Act::Fork(at) => {
            let spec = nth(expected, *at).and_then(|n| world.host.fork_spec(n, None, |_| {}).ok());
            if let Some(spec) = spec {
                let keep = spec.is_kept();
                let number = world.ended(&name, spec).number;
                expected.insert(number, (name, keep));
            }
        }
        Act::Archive => while world.host.archive_if_due().unwrap() {},
        Act::Forget(which) => {
            let numbers: Vec<JobNumber> =
                which.iter().filter_map(|at| nth(expected, *at)).collect();
            let report = world.host.forget(&numbers).unwrap();
            for number in report.forgotten {
                expected.remove(&number).unwrap();
            }
            assert!(report.left.iter().all(|(_, why)| *why == LeftReason::NotOver));
        }
        Act::Prune { max_jobs } => {
            let policy = RetentionPolicy { max_jobs: Some(*max_jobs), ..Default::default() };
            let plan = world.host.prune_plan(&policy, 0);
            let over = expected.keys().filter(|number| is_over(**number)).count() as u64;
            assert_eq!(plan.jobs_over, over);
            let numbers: Vec<JobNumber> = plan.jobs.iter().map(|job| job.job).collect();
            for job in &plan.jobs {
                let (name, keep) = &expected[&job.job];
                assert!(*name == job.job_id && !keep && is_over(job.job));
            }
            assert!(over - numbers.len() as u64 <= max_jobs + plan.spared);
            let report = world.host.forget(&numbers).unwrap();
            assert!(report.left.is_empty(), "{report:?}");
            for number in report.forgotten {
                expected.remove(&number).unwrap();
            }
        }
        Act::Reopen => return world.reopened(),
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..Default::default() })]

    #[test]
    fn whatever_is_run_archived_and_removed_the_ledger_stays_whole(
        acts in prop::collection::vec(act(), 1..24)
    ) {
        let mut world = World::that_archives(SMALL_ARCHIVES);
        let mut expected = Expected::new();
        for (at, act) in acts.iter().enumerate() {
            world = perform(world, act, format!("job-{at}"), &mut expected);
        }
        let world = world.reopened();
        world.assert_healthy();
        for (number, (name, _)) in &expected {
            let job = world.host.load(*number).unwrap().unwrap();
            prop_assert_eq!(&job.job_id, name);
            if job.is_over() {
                world.left(&job);
            }
        }
        prop_assert_eq!(world.host.with_ledger(Ledger::count), expected.len());
        // Without its jobs nothing is left at all.
        let over: Vec<JobNumber> = expected.keys().copied().collect();
        world.host.forget(&over).unwrap();
        world.assert_healthy();
    }
}
