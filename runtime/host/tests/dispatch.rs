//! Many jobs at once, on a real disk with real guests.
//!
//! Waits for states, never for times.
#![allow(clippy::unwrap_used)]

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hb_guests::{COUNTER, GREEDY, Guest, HELLO};
use hb_host::{
    ArchiveOptions, Capacity, Change, ChangeError, DispatchOptions, Dispatcher, Host, HostOptions,
    Listener, NotRunning, Piece, SNAPSHOT_EVERY_BYTES, Submission, SubmitError, Submitted, Waiting,
};
use hb_sandbox::{Compiler, Stream};
use hb_types::{
    event::JobNumber,
    history::Happening,
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    ledger::Job,
    limits::Limits,
    outcome::Outcome,
    state::{Interruption, Phase},
    terms::{Resources, Retry, Terms},
};

/// Long enough for any machine; reached only when something is stuck.
const PATIENCE: Duration = Duration::from_mins(2);

fn open(root: &Path) -> Arc<Host> {
    let program = env!("CARGO_BIN_EXE_hb-host-compile").into();
    let options = HostOptions {
        compiler: Compiler { program, arguments: vec![] },
        containers: hb_host::ContainerOptions::default(),
        ceilings: Limits::ceilings(),
        log: hb_wal::Options::default(),
        snapshot_every_bytes: SNAPSHOT_EVERY_BYTES,
        archive: ArchiveOptions::default(),
        wrap_disk: None,
    };
    Arc::new(Host::open(root, options).unwrap())
}

/// Wakes the test whenever something became durable or was printed.
#[derive(Default)]
struct Bell {
    rung: Mutex<u64>,
    wake: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() += 1;
        self.wake.notify_all();
    }
}

impl Listener for Bell {
    fn changed(&self, _: Change) {
        self.ring();
    }

    fn printed(&self, _: JobNumber, _: Stream) {
        self.ring();
    }

    fn progressed(&self, _: JobNumber) {}

    fn forgotten(&self, _: &[JobNumber]) {}
}

struct World {
    dispatcher: Dispatcher,
    bell: Arc<Bell>,
}

impl World {
    fn start(root: &Path, max_waiting: usize) -> Self {
        let host = open(root);
        let bell = Arc::new(Bell::default());
        host.listen(bell.clone());
        let machine = Capacity { cpu_milli: 2000, memory_bytes: 8 << 30 };
        let options = DispatchOptions::new(machine, 8, max_waiting);
        Self { dispatcher: Dispatcher::start(host, options).unwrap(), bell }
    }

    fn host(&self) -> &Arc<Host> {
        self.dispatcher.host()
    }

    fn component(&self, guest: Guest) -> BlobRef {
        let bytes = std::fs::read(guest.path()).unwrap();
        self.host().add_component(bytes, &Limits::default()).unwrap()
    }

    fn submission(&self, job_id: &str, guest: Guest, arguments: &[&str]) -> Submission {
        let program = [guest.name].into_iter();
        Submission {
            job_id: Some(job_id.to_owned()),
            name_hint: guest.name.to_owned(),
            spec: JobSpec {
                component: self.component(guest),
                container: None,
                arguments: program.chain(arguments.iter().copied()).map(str::to_owned).collect(),
                environment: vec![],
                stdin: None,
                inputs: [].into(),
                limits: Limits::default(),
                seed: 0,
                start_ns: DEFAULT_START_NS,
                origin: None,
                checkpoints: CheckpointPolicy::EverySteps(1),
                max_crashes: 10,
                labels: [].into(),
            },
            terms: Terms::default(),
            rerun: false,
        }
    }

    fn submit(&self, submission: &Submission) -> JobNumber {
        let (submitted, decided) = self.dispatcher.submit(submission).unwrap();
        if let Some(decided) = decided {
            let (sender, receiver) = std::sync::mpsc::channel();
            self.host().when_durable(decided, move |result| sender.send(result).unwrap());
            receiver.recv().unwrap().unwrap();
        }
        submitted.number()
    }

    /// Waits until `look` gives something.
    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let rung = *self.bell.rung.lock().unwrap();
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for {what}");
            let seen = self.bell.rung.lock().unwrap();
            if *seen == rung {
                // Some states change without a record; the bound only makes them seen sooner.
                drop(self.bell.wake.wait_timeout(seen, Duration::from_millis(20)).unwrap());
            }
        }
    }

    fn ended(&self, number: JobNumber) -> Job {
        self.wait("the end of a job", || {
            self.host()
                .load(number)
                .unwrap()
                .filter(Job::is_over)
                .filter(|job| self.host().durable_lsn() >= job.last)
        })
    }
}

fn happenings(job: &Job) -> Vec<&'static str> {
    job.events_after(0, 1000).iter().map(|event| event.what.name()).collect()
}

#[test]
fn many_jobs_run_at_once_and_each_is_sealed_once() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1000);
    let most = AtomicU64::new(0);
    let jobs: Vec<JobNumber> = (0..40)
        .map(|index| {
            let job_id = format!("job-{index}");
            world.submit(&world.submission(&job_id, COUNTER, &["--steps", "3"]))
        })
        .collect();
    for number in jobs {
        let job = world.ended(number);
        assert_eq!((job.state.phase, job.state.attempts), (Phase::Sealed, 1));
        let expected =
            ["received", "scheduled", "started", "checkpoint", "checkpoint", "checkpoint"];
        let happened = happenings(&job);
        assert_eq!(happened[..3], expected[..3]);
        assert_eq!(happened[happened.len() - 2..], ["ended", "sealed"]);
        let figures = world.dispatcher.figures();
        most.fetch_max(figures.used.cpu_milli, Ordering::Relaxed);
        assert!(figures.used.fits(&figures.machine));
    }
    assert_eq!(world.dispatcher.figures().waiting, 0);
}

#[test]
fn a_job_that_waits_and_one_that_runs_can_be_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1000);
    let endless = |job_id: &str| world.submission(job_id, GREEDY, &["loop"]);
    let running = [world.submit(&endless("a")), world.submit(&endless("b"))];
    for number in running {
        world.wait("a start", || {
            (world.dispatcher.why(number).unwrap() == NotRunning::Runs).then_some(())
        });
    }
    let waiting = world.submit(&endless("c"));
    let why = world.dispatcher.why(waiting).unwrap();
    assert!(matches!(why, NotRunning::Waiting(Waiting::Resources { .. })), "{why:?}");
    for number in [waiting, running[0], running[1]] {
        world.dispatcher.cancel(number).unwrap();
        let job = world.ended(number);
        assert_eq!(job.state.phase, Phase::Cancelled);
        assert_eq!(job.conclusion.unwrap().outcome, Outcome::Cancelled);
        let error = world.dispatcher.cancel(number).unwrap_err();
        assert!(matches!(error, ChangeError::Ended { .. }), "{error}");
    }
}

#[test]
fn a_job_on_hold_stops_at_a_checkpoint_and_goes_on_to_the_same_seal() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1000);
    let arguments = ["--steps", "150", "--work", "20"];
    let calm = world.ended(world.submit(&world.submission("calm", COUNTER, &arguments)));
    let number = world.submit(&world.submission("held", COUNTER, &arguments));
    world.wait("a checkpoint", || world.host().job(number).filter(|job| job.state.sequence > 0));
    world.dispatcher.hold(number, false).unwrap();
    let held = world.wait("the hold", || {
        world.host().job(number).filter(|job| job.state.phase != Phase::Running)
    });
    if held.is_unfinished() {
        assert_eq!(world.dispatcher.why(number).unwrap(), NotRunning::Held);
        assert!(matches!(
            world.dispatcher.hold(number, false).unwrap_err(),
            ChangeError::Already { .. }
        ));
        world.dispatcher.release(number).unwrap();
    }
    let job = world.ended(number);
    assert_eq!(job.seal.unwrap().seal, calm.seal.unwrap().seal);
    let stdout = |number| match world.host().read_output(number, Stream::Stdout, 0, 1 << 20, true) {
        Ok(Piece::Bytes { bytes, .. }) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(stdout(number), stdout(calm.number));
}

#[test]
fn a_failure_is_tried_again_as_often_as_its_terms_say() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1000);
    let mut submission = world.submission("stubborn", GREEDY, &["exit", "3"]);
    submission.terms.retry =
        Retry { max_retries: 2, backoff_ms: 1, max_backoff_ms: 5, ..Retry::default() };
    let job = world.ended(world.submit(&submission));
    assert_eq!(job.state.phase, Phase::Failed);
    assert_eq!((job.state.attempts, job.state.retries), (3, 2));
    let retried = happenings(&job).iter().filter(|name| **name == "retried").count();
    assert_eq!(retried, 2);
    let conclusion = job.conclusion.unwrap();
    assert_eq!(conclusion.outcome, Outcome::Exit { code: 3 });
}

#[test]
fn a_drained_host_stops_at_checkpoints_and_the_next_one_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let arguments = ["--steps", "150", "--work", "20"];
    let number = {
        let world = World::start(root.path(), 1000);
        let number = world.submit(&world.submission("long", COUNTER, &arguments));
        world
            .wait("a checkpoint", || world.host().job(number).filter(|job| job.state.sequence > 0));
        assert!(world.dispatcher.drain(PATIENCE));
        number
    };
    let world = World::start(root.path(), 1000);
    let job = world.ended(number);
    assert_eq!(job.state.phase, Phase::Sealed);
    assert_eq!(job.state.crashes, 0, "a shutdown is no crash");
    for event in job.events_after(0, 10_000) {
        if let Happening::Interrupted { why, .. } = event.what {
            assert_eq!(why, Interruption::Shutdown);
        }
    }
}

#[test]
fn a_job_starts_not_before_its_time_and_ends_when_its_time_is_over() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1000);
    let now_ns = u64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos(),
    )
    .unwrap();
    let mut later = world.submission("later", HELLO, &[]);
    later.terms.not_before_ns = now_ns + 300_000_000;
    let number = world.submit(&later);
    let job = world.ended(number);
    assert!(job.attempts[0].started_ns >= later.terms.not_before_ns);
    let mut never = world.submission("never", HELLO, &["x"]);
    never.terms.not_before_ns = now_ns + 3_600_000_000_000;
    never.terms.finish_by_ns = now_ns + 400_000_000;
    let job = world.ended(world.submit(&never));
    assert!(matches!(job.conclusion.unwrap().outcome, Outcome::Limit { .. }));
    assert!(job.attempts.is_empty());
    let mut endless = world.submission("endless", GREEDY, &["loop"]);
    endless.terms.finish_by_ns = now_ns + 500_000_000;
    let job = world.ended(world.submit(&endless));
    assert_eq!(job.conclusion.unwrap().outcome.exit_code(), 124);
}

#[test]
fn what_cannot_ever_run_is_refused_and_so_is_more_than_the_queue_takes() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1);
    let mut large = world.submission("large", HELLO, &[]);
    large.terms.resources = Resources { cpu_milli: 5000, memory_bytes: 0 };
    let refused = world.dispatcher.submit(&large).err().unwrap();
    assert!(matches!(refused, SubmitError::TooLarge { asked: 5000, have: 2000, .. }), "{refused}");
    world.dispatcher.pause_starts(true).unwrap();
    let first = world.submission("first", HELLO, &["1"]);
    let number = world.submit(&first);
    assert_eq!(world.dispatcher.why(number).unwrap(), NotRunning::StartsPaused);
    let second = world.submission("second", HELLO, &["2"]);
    let refused = world.dispatcher.submit(&second).err().unwrap();
    assert!(matches!(refused, SubmitError::QueueFull { queued: 1, max: 1 }), "{refused}");
    let (again, _) = world.dispatcher.submit(&first).unwrap();
    assert_eq!(again, Submitted::Existing(number), "a repeated request is answered all the same");
    world.dispatcher.pause_starts(false).unwrap();
    world.ended(number);
    world.ended(world.submit(&second));
}

#[test]
fn bytes_that_are_no_component_end_the_job_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let world = World::start(root.path(), 1000);
    let mut garbage = world.submission("garbage", HELLO, &[]);
    let bytes = b"\0asm\x01\0\0\0 nothing of the kind".as_slice();
    garbage.spec.component = world.host().add_blob(&mut { bytes }).unwrap();
    let job = world.ended(world.submit(&garbage));
    assert_eq!(job.state.phase, Phase::Failed);
    let conclusion = job.conclusion.unwrap();
    assert_eq!(conclusion.outcome, Outcome::NotRunnable);
    assert!(!conclusion.explanation.message.is_empty());
    world.ended(world.submit(&world.submission("after", HELLO, &[])));
}

#[test]
fn jobs_that_are_over_leave_memory_and_are_found_all_the_same() {
    const JOBS: u64 = 1200;
    let root = tempfile::tempdir().unwrap();
    let check = |world: &World, numbers: &[JobNumber]| {
        for (index, number) in numbers.iter().enumerate() {
            let job = world.host().load(*number).unwrap().unwrap();
            assert_eq!((job.number, job.job_id), (*number, format!("job-{index}")));
            assert_eq!(job.state.phase, Phase::Sealed);
        }
        let index = 7;
        let again = world.submission("job-7", HELLO, &["7"]);
        let (submitted, _) = world.dispatcher.submit(&again).unwrap();
        assert_eq!(submitted, Submitted::Existing(numbers[index]));
        let other = world.submission("job-7", HELLO, &["other"]);
        let refused = world.dispatcher.submit(&other).err().unwrap();
        assert!(matches!(refused, SubmitError::Conflict { .. }), "{refused}");
        let nameless = Submission { job_id: None, ..world.submission("x", HELLO, &["7"]) };
        let (submitted, _) = world.dispatcher.submit(&nameless).unwrap();
        assert_eq!(submitted, Submitted::Existing(numbers[index]), "answered from the archive");
        let stdout = world.host().read_output(numbers[0], Stream::Stdout, 0, 100, true).unwrap();
        assert!(matches!(stdout, Piece::Bytes { durable: true, .. }));
    };
    let numbers = {
        let world = World::start(root.path(), 10_000);
        let numbers: Vec<JobNumber> = (0..JOBS)
            .map(|index| {
                let argument = index.to_string();
                let submission = world.submission(&format!("job-{index}"), HELLO, &[&argument]);
                world.dispatcher.submit(&submission).unwrap().0.number()
            })
            .collect();
        for number in &numbers {
            world.ended(*number);
        }
        world.wait("the archive", || {
            world.host().with_ledger(|ledger| (ledger.jobs.len() < 768).then_some(()))
        });
        check(&world, &numbers);
        numbers
    };
    let world = World::start(root.path(), 10_000);
    assert!(world.host().with_ledger(|ledger| ledger.jobs.len()) < 768);
    check(&world, &numbers);
    drop(world);
    let report = hb_host::care::check(root.path()).unwrap();
    assert!(report.is_healthy());
}
