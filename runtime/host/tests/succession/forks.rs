//! Jobs that go on from a checkpoint of another job.

use std::sync::Arc;

use hb_guests::{COUNTER, GINZBURG_LANDAU, GREEDY, HELLO, KMER};
use hb_host::{
    Capacity, DispatchOptions, Dispatcher, Executed, ForkError, Notice, Orders, OriginError,
    SubmitError,
};
use hb_types::{
    Digest,
    job::{CheckpointPolicy, JobSpec, Origin},
    ledger::Job,
    limits::{Limit, Limits},
    outcome::Outcome,
    state::{Interruption, Phase},
    terms::{Resources, Retry, Terms},
};

use crate::world::{At, Silent, World, submission, words};

fn kmer(world: &World) -> JobSpec {
    let genome = include_bytes!("../../../../tests/data/lambda_virus.fa");
    let mut spec = world.spec(KMER, &["-k", "11", "--buffer", "4096"]);
    let blob = world.host.add_blob(&mut &genome[..16 << 10]).unwrap();
    spec.inputs.insert("genome".to_owned(), blob);
    spec.checkpoints = CheckpointPolicy::EverySteps(4000);
    spec
}

fn field(world: &World, steps: &str) -> JobSpec {
    world.spec(GINZBURG_LANDAU, &["--size", "32", "--steps", steps, "--every", "2"])
}

/// Goes on from each checkpoint of a job without changing anything.
fn goes_on_from_everywhere(world: &World, source: &Job) {
    let chain = source.checkpoint_chain();
    assert!(chain.len() > 1, "{} checkpoints", chain.len());
    for mark in chain {
        let spec = world.host.fork_spec(source.number, Some(mark.sequence), |_| {}).unwrap();
        let fork = world.ended(&format!("{}-{}", source.job_id, mark.sequence), spec);
        assert_eq!(world.left(&fork), world.left(source), "from checkpoint {}", mark.sequence);
        let first = &fork.checkpoint_chain()[0];
        assert_eq!((first.sequence, first.step, first.digest), (1, mark.step, mark.digest));
        let others = |marks: &[hb_types::ledger::CheckpointMark]| -> Vec<(u64, Digest)> {
            marks.iter().map(|mark| (mark.step, mark.digest)).collect()
        };
        let from = usize::try_from(mark.sequence).unwrap() - 1;
        assert_eq!(others(fork.checkpoint_chain()), others(&chain[from..]));
        assert_ne!(fork.job_hash, source.job_hash);
    }
}

#[test]
fn a_fork_without_changes_ends_as_its_source_did_from_every_checkpoint() {
    let world = World::new();
    let specs = [world.spec(COUNTER, &["--steps", "5"]), kmer(&world), field(&world, "6")];
    for (spec, name) in specs.into_iter().zip(["counter", "kmer", "field"]) {
        let source = world.ended(name, spec);
        goes_on_from_everywhere(&world, &source);
    }
    let world = world.reopened();
    world.assert_healthy();
}

#[test]
fn a_fork_with_other_arguments_ends_as_if_its_source_had_had_them() {
    let world = World::new();
    let source = world.ended("source", field(&world, "4"));
    let longer = field(&world, "7");
    let change = |spec: &mut JobSpec| spec.arguments.clone_from(&longer.arguments);
    let fork = world.ended("fork", world.host.fork_spec(source.number, None, change).unwrap());
    let whole = world.ended("whole", longer.clone());
    assert_eq!(world.left(&fork), world.left(&whole));
    assert_eq!(fork.checkpoint_chain()[0].step, 4);
}

#[test]
fn a_fork_of_a_fork_goes_on_too_and_so_does_one_of_its_first_checkpoint() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "4"]));
    let to = |steps: &'static str| {
        move |spec: &mut JobSpec| spec.arguments = words(COUNTER, &["--steps", steps])
    };
    let fork = world.host.fork_spec(source.number, Some(2), to("6")).unwrap();
    let fork = world.ended("fork", fork);
    for (sequence, step) in [(1, 2), (3, 4), (5, 6)] {
        let spec = world.host.fork_spec(fork.number, Some(sequence), to("8")).unwrap();
        let again = world.ended(&format!("again-{sequence}"), spec);
        assert_eq!(again.checkpoint_chain()[0].step, step);
        let whole = world.ended("whole", world.spec(COUNTER, &["--steps", "8"]));
        assert_eq!(world.left(&again), world.left(&whole));
    }
    let world = world.reopened();
    world.assert_healthy();
}

/// A limit that was reached is final; going on from a checkpoint is the way past it.
#[test]
fn a_job_that_ran_out_of_fuel_goes_on_under_a_higher_limit() {
    let world = World::new();
    let spec = world.spec(COUNTER, &["--steps", "8", "--work", "1"]);
    let whole = world.ended("whole", spec.clone());
    let mut short = spec;
    short.limits.fuel = whole.counters.fuel_used / 2;
    let source = world.ended("short", short);
    assert_eq!(source.state.phase, Phase::Failed);
    let reached = source.conclusion.as_ref().unwrap().outcome;
    assert!(matches!(reached, Outcome::Limit { reached } if reached.limit == Limit::Fuel));

    let enough = 2 * whole.counters.fuel_used;
    let spec = world.host.fork_spec(source.number, None, |spec| spec.limits.fuel = enough).unwrap();
    let fork = world.ended("fork", spec);
    assert_eq!(world.left(&fork), world.left(&whole));
    let used = source.checkpoint_chain().last().unwrap().fuel_used;
    assert_eq!(fork.checkpoint_chain()[0].fuel_used, used, "what the source used counts");

    // With no more fuel than the source had, it comes no further.
    let same = world.ended("same", world.host.fork_spec(source.number, None, |_| {}).unwrap());
    assert_eq!(same.conclusion.unwrap().outcome, reached);
    let less = world.host.fork_spec(source.number, None, |spec| spec.limits.fuel = used / 2);
    let less = world.ended("less", less.unwrap());
    let outcome = less.conclusion.unwrap().outcome;
    assert!(matches!(outcome, Outcome::Limit { reached } if reached.limit == Limit::Fuel));
}

#[test]
fn a_source_that_still_holds_the_checkpoint_lends_it_and_both_go_on() {
    let world = World::new();
    // Fields of 64 KiB lie in blobs, which the two jobs then share.
    let big = |steps| world.spec(GINZBURG_LANDAU, &["--size", "64", "--steps", steps]);
    let source = world.submit("source", big("3"));
    world.run_to_next_checkpoint(source);
    let held = world.run_to_next_checkpoint(source);
    assert_eq!((held.state.phase, held.state.sequence), (Phase::Scheduled, 2));

    let spec = world.host.fork_spec(source, None, |_| {}).unwrap();
    let fork = world.submit("fork", spec);
    let mut ran = 0;
    let mut count = At(|notice: &Notice| {
        ran += u64::from(matches!(notice, Notice::Materialising { .. }));
    });
    let orders = Orders::default();
    orders.stop_at_checkpoint(Interruption::Shutdown);
    assert!(matches!(
        world.host.execute(fork, &orders, &mut count).unwrap(),
        Executed::Stopped { why: Interruption::Shutdown, .. }
    ));
    assert_eq!(ran, 0, "nothing was run again");
    let taken = world.host.job(fork).unwrap();
    assert_eq!((taken.state.sequence, &taken.holdings), (1, &held.holdings));
    assert_eq!(taken.counters, held.counters);

    let ended = world.run(source);
    let fork = world.run(fork);
    assert_eq!(world.left(&fork), world.left(&ended));
    world.assert_healthy();
}

#[test]
fn what_ends_a_job_from_outside_ends_it_while_its_checkpoint_is_made_again() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let spec = world.host.fork_spec(source.number, None, |_| {}).unwrap();
    let undisturbed = world.ended("undisturbed", spec.clone());
    let when_it_runs = |number, orders: &Orders, what: &(dyn Fn(&Orders) + Sync)| {
        let mut watch = At(|notice: &Notice| {
            if let Notice::Materialising { .. } = notice {
                what(orders);
            }
        });
        world.host.execute(number, orders, &mut watch).unwrap()
    };

    let cancelled = world.submit("cancelled", spec.clone());
    let executed = when_it_runs(cancelled, &Orders::default(), &Orders::cancel);
    assert!(matches!(executed, Executed::Ended(_)));
    let cancelled = world.host.job(cancelled).unwrap();
    assert_eq!(cancelled.state.phase, Phase::Cancelled);
    assert!(world.left(&cancelled).stdout.is_empty());

    let stopped = world.submit("stopped", spec.clone());
    let stop_now = |orders: &Orders| orders.stop_now(Interruption::Held);
    let executed = when_it_runs(stopped, &Orders::default(), &stop_now);
    assert!(matches!(executed, Executed::Stopped { why: Interruption::Held, .. }));
    assert_eq!(world.host.job(stopped).unwrap().state.sequence, 0);
    let stop_then = |orders: &Orders| orders.stop_at_checkpoint(Interruption::Shutdown);
    let executed = when_it_runs(stopped, &Orders::default(), &stop_then);
    assert!(matches!(executed, Executed::Stopped { why: Interruption::Shutdown, .. }));
    assert_eq!(world.host.job(stopped).unwrap().state.sequence, 1);
    let stopped = world.run(stopped);
    assert_eq!(world.left(&stopped), world.left(&undisturbed));
    assert_eq!(stopped.seal.unwrap().seal, undisturbed.seal.unwrap().seal);
}

#[test]
fn real_time_that_is_spent_before_a_job_begins_counts_too() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let no_time = |spec: &mut JobSpec| spec.limits.deadline_ms = 0;
    let spec = world.host.fork_spec(source.number, None, no_time).unwrap();
    let late = world.ended("late", spec.clone());
    let outcome = late.conclusion.unwrap().outcome;
    assert!(matches!(outcome, Outcome::Limit { reached } if reached.limit == Limit::Deadline));

    let retry = Retry { max_retries: 1, backoff_ms: 0, ..Retry::default() };
    let again = world.submit_under("again", spec, Terms { retry, ..Terms::default() });
    let executed = world.host.execute(again, &Orders::default(), &mut Silent).unwrap();
    assert!(matches!(executed, Executed::Retried { .. }));
}

#[test]
fn a_checkpoint_that_its_source_does_not_make_ends_the_job_as_not_runnable() {
    type Change = fn(&mut Origin);
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let spec = world.host.fork_spec(source.number, Some(2), |_| {}).unwrap();
    let cases: [(&str, Change); 3] = [
        ("what the job holds there is", |origin| origin.checkpoint = Digest::of(b"another")),
        ("what the job holds there is", |origin| origin.step = 3),
        ("the job ended before it saved there (exit 0)", |origin| origin.step = 4),
    ];
    for (number, (words, change)) in cases.into_iter().enumerate() {
        let mut tampered = spec.clone();
        change(tampered.origin.as_mut().unwrap());
        let job = world.ended(&format!("tampered-{number}"), tampered);
        assert_eq!(job.state.phase, Phase::Failed);
        let conclusion = job.conclusion.unwrap();
        assert_eq!(conclusion.outcome, Outcome::NotRunnable);
        let message = conclusion.explanation.message;
        assert!(message.contains(words) && message.contains("step"), "{message}");
        assert!(!conclusion.reproducible);
    }
}

#[test]
fn an_origin_that_cannot_be_believed_is_not_accepted() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let good = world.host.fork_spec(source.number, Some(2), |_| {}).unwrap();
    let refused = |change: &dyn Fn(&mut Origin)| {
        let mut spec = good.clone();
        change(spec.origin.as_mut().unwrap());
        let submission = submission("refused", spec, Terms::default());
        world.host.submit(&submission).unwrap_err()
    };
    let other = refused(&|origin| origin.job_hash = Digest::of(b"other"));
    assert!(matches!(other, SubmitError::Origin(OriginError::Hash { .. })), "{other}");
    let bare = refused(&|origin| origin.needs.clear());
    assert!(matches!(bare, SubmitError::Origin(OriginError::Incomplete { .. })), "{bare}");
    let blob = world.host.add_blob(&mut &b"{}"[..]).unwrap();
    let none = refused(&|origin| origin.spec = blob);
    assert!(matches!(none, SubmitError::Origin(OriginError::NotASpecification { .. })), "{none}");
    let blob = world.host.add_blob(&mut &vec![b' '; 5 << 20][..]).unwrap();
    let long = refused(&|origin| origin.spec = blob);
    assert!(matches!(long, SubmitError::Origin(OriginError::TooLong { .. })), "{long}");
    let gone = refused(&|origin| origin.spec.digest = Digest::of(b"gone"));
    assert!(matches!(gone, SubmitError::Missing { .. }), "{gone}");
}

#[test]
fn there_is_nothing_to_go_on_from_where_nothing_was_saved() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let error = world.host.fork_spec(source.number, Some(4), |_| {}).unwrap_err();
    assert!(error.to_string().contains("choose one from 1 to 3"), "{error}");
    let hello = world.ended("hello", world.spec(HELLO, &[]));
    let error = world.host.fork_spec(hello.number, None, |_| {}).unwrap_err();
    assert!(matches!(error, ForkError::NoCheckpoints { .. }), "{error}");
    let error = world.host.fork_spec(999, None, |_| {}).unwrap_err();
    assert!(matches!(error, ForkError::NoSuchJob { job: 999 }), "{error}");

    // It saves, traps, and when it is tried again saves from its beginning.
    let mut spec = world.spec(GREEDY, &[]);
    spec.component = world.saves_only();
    let retry = Retry { max_retries: 1, backoff_ms: 0, ..Retry::default() };
    let number = world.submit_under("never", spec, Terms { retry, ..Terms::default() });
    assert_eq!(world.run(number).attempts.len(), 2);
    let error = world.host.fork_spec(number, None, |_| {}).unwrap_err();
    assert!(matches!(error, ForkError::NeverRestores { .. }), "{error}");
}

/// Otherwise a run from the beginning would be sealed as one that goes on.
#[test]
fn a_program_that_does_not_ask_for_its_checkpoint_cannot_go_on() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let greedy = world.component(GREEDY);
    for (name, component, arguments, words) in [
        ("hello", world.component(HELLO), &[][..], "it ended (ended with success)"),
        ("exit", greedy, &["exit", "3"], "it ended (ended with exit code 3)"),
        ("trap", greedy, &["unreachable"], "it ended (the guest trapped"),
        ("saves", world.saves_only(), &[], "it saved"),
    ] {
        let other = |spec: &mut JobSpec| {
            (spec.component, spec.arguments) = (component, crate::world::words(GREEDY, arguments));
        };
        let spec = world.host.fork_spec(source.number, None, other).unwrap();
        let job = world.ended(name, spec);
        let conclusion = job.conclusion.as_ref().unwrap();
        assert_eq!(conclusion.outcome, Outcome::NotRunnable, "{conclusion:?}");
        assert!(conclusion.explanation.message.contains(words), "{conclusion:?}");
        // What is kept is the checkpoint that it did not ask for.
        assert_eq!(world.left(&job).stdout, world.left(&source).stdout);
    }
    let world = world.reopened();
    world.assert_healthy();
}

/// Making its checkpoint again may take as much memory as the jobs before it may.
#[test]
fn a_fork_reserves_the_memory_that_its_source_may_need() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    let change = |spec: &mut JobSpec| spec.limits.memory_bytes = 16 << 20;
    let spec = world.host.fork_spec(source.number, None, change).unwrap();
    let start = |memory_bytes| {
        let machine = Capacity { cpu_milli: 1000, memory_bytes };
        let options = DispatchOptions::new(machine, 1, 9);
        Dispatcher::start(Arc::clone(&world.host), options).unwrap()
    };
    let own = submission("fork", spec.clone(), Terms::default());
    let error = start(64 << 20).submit(&own).map(|_| ()).unwrap_err();
    let asked = source.spec.limits.memory_bytes;
    assert!(matches!(error, SubmitError::TooLarge { asked: found, .. } if found == asked));
    // Who says what the job needs is believed.
    let resources = Resources { memory_bytes: 32 << 20, ..Resources::default() };
    let own = submission("fork", spec, Terms { resources, ..Terms::default() });
    let (submitted, _) = start(64 << 20).submit(&own).unwrap();
    assert_eq!(world.host.job(submitted.number()).unwrap().terms.resources, resources);
}

/// A new version of a program is tried against a stored checkpoint.
#[test]
fn another_component_goes_on_where_it_understands_the_state() {
    let world = World::new();
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "3"]));
    // The same program with other bytes: an empty custom section at its end.
    let mut bytes = std::fs::read(COUNTER.path()).unwrap();
    bytes.extend([0, 2, 1, b'x']);
    let component = world.host.add_component(bytes, &Limits::default()).unwrap();
    assert_ne!(component, source.spec.component);
    let change = |spec: &mut JobSpec| {
        spec.component = component;
        spec.arguments = words(COUNTER, &["--steps", "5"]);
    };
    let fork = world.ended("new", world.host.fork_spec(source.number, Some(2), change).unwrap());
    let whole = world.ended("whole", world.spec(COUNTER, &["--steps", "5"]));
    assert_eq!(world.left(&fork), world.left(&whole));
}
