//! Jobs that go on from another one's checkpoint are proven by repetition too.

use hb_guests::COUNTER;
use hb_host::{
    ContainerOptions, Containers, Expected, LedgerView, Programs, Verdict, Verifier, VerifyError,
};
use hb_sandbox::Control;
use hb_seal::CheckpointMark;
use hb_types::{
    Digest,
    job::{BlobRef, JobSpec},
    ledger::Job,
    outcome::Outcome,
};

use crate::world::{World, sandbox, words};

fn expected(job: &Job) -> Expected {
    let conclusion = job.conclusion.as_ref().unwrap();
    let artifacts = conclusion.artifacts.iter();
    let marks = job.checkpoint_chain().iter();
    Expected {
        seal: job.seal.as_ref().unwrap().seal,
        outcome: conclusion.outcome,
        stdout: conclusion.stdout.digest,
        stderr: conclusion.stderr.digest,
        artifacts: artifacts.map(|(name, one)| (name.clone(), one.blob.digest)).collect(),
        checkpoints: marks
            .map(|mark| CheckpointMark {
                sequence: mark.sequence,
                step: mark.step,
                digest: mark.digest,
            })
            .collect(),
        checkpoints_complete: true,
        reproducible: conclusion.reproducible,
    }
}

fn verify(
    world: &World,
    spec: &JobSpec,
    expected: &Expected,
    by_checkpoints: bool,
    control: &Control,
) -> Result<Verdict, VerifyError> {
    let view = LedgerView::open(world.root()).unwrap();
    let sandbox = sandbox();
    let containers = Containers::new(ContainerOptions::default());
    let programs = Programs { store: view.store(), executor: &*sandbox, containers: &containers };
    Verifier(programs).verify(spec, spec.hash(), expected, by_checkpoints, control)
}

fn forked(world: &World) -> (Job, Job) {
    let to = |steps: &'static str| {
        move |spec: &mut JobSpec| spec.arguments = words(COUNTER, &["--steps", steps])
    };
    let source = world.ended("source", world.spec(COUNTER, &["--steps", "4"]));
    let fork = world.host.fork_spec(source.number, Some(2), to("5")).unwrap();
    let fork = world.ended("fork", fork);
    let again = world.host.fork_spec(fork.number, Some(3), to("6")).unwrap();
    let again = world.ended("again", again);
    (fork, again)
}

#[test]
fn a_fork_and_a_fork_of_a_fork_verify_whole_and_by_checkpoints() {
    let world = World::new();
    let (fork, again) = forked(&world);
    for job in [&fork, &again] {
        let compared = job.checkpoint_chain().len() as u64;
        for (by_checkpoints, restarts) in [(false, 0), (true, compared - 1)] {
            let control = Control::default();
            let verdict =
                verify(&world, &job.spec, &expected(job), by_checkpoints, &control).unwrap();
            assert!(verdict.is_same(), "{verdict:?}");
            assert_eq!((verdict.checkpoints_compared, verdict.restarts), (compared, restarts));
        }
    }
}

#[test]
fn a_fork_verifies_after_its_source_was_removed() {
    let world = World::new();
    let (fork, again) = forked(&world);
    let source = world.host.with_ledger(|ledger| ledger.by_id("source").unwrap().number());
    let report = world.host.forget(&[source, fork.number]).unwrap();
    assert_eq!(report.forgotten, [source, fork.number]);
    let world = world.reopened();
    world.assert_healthy();
    for by_checkpoints in [false, true] {
        let control = Control::default();
        let verdict =
            verify(&world, &again.spec, &expected(&again), by_checkpoints, &control).unwrap();
        assert!(verdict.is_same(), "{verdict:?}");
    }
    // And a job that goes on from what is left runs without them.
    let spec = world.host.fork_spec(again.number, None, |_| {}).unwrap();
    let last = world.ended("last", spec);
    assert_eq!(world.left(&last), world.left(&again));
}

#[test]
fn what_was_not_so_is_found_in_a_fork_as_in_every_job() {
    let world = World::new();
    let (fork, _) = forked(&world);
    let mut other = expected(&fork);
    other.stdout = Digest::of(b"other");
    let verdict = verify(&world, &fork.spec, &other, false, &Control::default()).unwrap();
    assert_eq!(verdict.differences[0].what, "stdout");

    let mut other = expected(&fork);
    other.checkpoints[0].digest = Digest::of(b"other");
    let verdict = verify(&world, &fork.spec, &other, true, &Control::default()).unwrap();
    assert_eq!(verdict.differences[0].what, "checkpoint 1 at step 2");
}

#[test]
fn a_fork_of_a_checkpoint_that_never_was_is_different_from_what_was_claimed() {
    let world = World::new();
    let (fork, _) = forked(&world);
    let mut spec = fork.spec.clone();
    spec.origin.as_mut().unwrap().checkpoint = Digest::of(b"never");
    let verdict = verify(&world, &spec, &expected(&fork), false, &Control::default()).unwrap();
    let parts: Vec<&str> =
        verdict.differences.iter().map(|difference| &difference.what[..]).collect();
    assert_eq!(parts, ["checkpoint to go on from, at step 2", "outcome"]);
    assert_eq!(verdict.outcome, Outcome::NotRunnable);
}

#[test]
fn a_fork_whose_origin_is_not_here_cannot_be_checked_and_one_that_is_interrupted_neither() {
    let world = World::new();
    let (fork, _) = forked(&world);
    let control = Control::default();
    control.cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = verify(&world, &fork.spec, &expected(&fork), false, &control).unwrap_err();
    assert!(matches!(error, VerifyError::Interrupted), "{error}");
    let mut spec = fork.spec.clone();
    spec.origin.as_mut().unwrap().spec = BlobRef { digest: Digest::of(b"elsewhere"), len_bytes: 9 };
    let control = Control::default();
    let error = verify(&world, &spec, &expected(&fork), false, &control).unwrap_err();
    assert!(matches!(error, VerifyError::Missing { .. }), "{error}");
}
