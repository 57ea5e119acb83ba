//! Power is lost, processes are killed and disks fail at every operation of the histories of a
//! whole host: log, blobs, checkpoints, seals, snapshots and recovery together.
#![allow(clippy::unwrap_used)]

mod check;
mod removal;
mod spoiled;
mod world;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use check::{Depth, check};
use hb_disk::{CrashChoice, FlushMode, SimulatedDisk, Storage};
use hb_types::outcome::Outcome;
use spoiled::{Forgotten, Killed, Paused, Spoiled};
use world::{Finished, Plan, Script, Told, history};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Samples are drawn from this seed and from a fresh one; a broken promise names the very image.
const SEED: u64 = 0x5EED;

fn storage(disk: &SimulatedDisk) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

fn fresh_seed() -> u64 {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into();
    println!("fresh seed {seed}");
    seed
}

/// A history that went through, and the disk that it began on.
struct Undisturbed {
    script: Script,
    founded: SimulatedDisk,
    finished: Vec<Finished>,
    operations: u64,
}

impl Undisturbed {
    fn of(script: Script) -> Self {
        let disk = SimulatedDisk::new();
        drop(world::open(&storage(&disk), &script).unwrap());
        let founded = disk.fork();
        let disk = founded.fork();
        let finished = history(&storage(&disk), &script, &mut Told::default()).unwrap();
        Self { script, founded, finished, operations: disk.operations() }
    }

    fn check(&self, image: &SimulatedDisk, told: &Told, depth: Depth) -> Result<Told, String> {
        check(&storage(image), &self.script, &self.finished, told, depth)
    }

    /// The disk and what was told when power ends at an operation.
    fn cut_at(&self, at: u64) -> (SimulatedDisk, Told) {
        let disk = self.founded.fork();
        disk.crash_at(at);
        let mut told = Told::default();
        let ended = history(&storage(&disk), &self.script, &mut told);
        // Closing a host, and a snapshot, say nothing of a failure.
        assert!(ended.is_ok() || disk.crashed(), "operation {at}");
        (disk, told)
    }
}

/// The images that a power cut may leave: each subset where few, a sample where many.
fn choices(disk: &SimulatedDisk, at: u64, seeds: &[u64]) -> Vec<CrashChoice> {
    let mut choices = vec![CrashChoice::Nothing, CrashChoice::Everything];
    let (writes, sectors) = (disk.pending_units(false), disk.pending_units(true));
    if writes <= 3 {
        // The empty and the full one stand there already.
        choices.extend((1..(1_u128 << writes).saturating_sub(1)).map(CrashChoice::Writes));
    }
    if sectors > writes.max(1) || writes > 3 {
        choices.extend(seeds.iter().map(|seed| CrashChoice::Seeded(seed << 20 ^ at)));
    }
    choices
}

/// Runs `each` for all numbers, on all processors; returns what they found.
fn for_each(
    numbers: impl IntoIterator<Item = u64>,
    each: impl Fn(u64) -> Vec<String> + Sync,
) -> Vec<String> {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    let (next, found) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(number) = usize::try_from(next.fetch_add(1, Ordering::SeqCst))
                    .ok()
                    .and_then(|at| numbers.get(at))
                {
                    let violations = each(*number);
                    found.lock().unwrap().extend(violations);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Fails with the first violations, in full.
fn assert_none(violations: &[String]) {
    let shown: Vec<&String> = violations.iter().take(3).collect();
    assert!(violations.is_empty(), "{} broken promises: {shown:#?}", violations.len());
}

fn explore_power_cuts(script: Script) {
    let undisturbed = Undisturbed::of(script);
    assert!(undisturbed.operations > 100, "{} operations", undisturbed.operations);
    let seeds = [SEED, fresh_seed()];
    let states = AtomicU64::new(0);
    let violations = for_each(1..=undisturbed.operations + 1, |at| {
        let (disk, told) = undisturbed.cut_at(at);
        assert_eq!(disk.crashed(), at <= undisturbed.operations);
        let broken = |choice| {
            states.fetch_add(1, Ordering::SeqCst);
            let image = disk.crash_image(choice);
            let what = undisturbed.check(&image, &told, Depth::RunToTheEnd).err()?;
            Some(format!("{at} ({:?}), {choice:?}: {what}", disk.operation_log().last()))
        };
        choices(&disk, at, &seeds).into_iter().filter_map(broken).collect()
    });
    println!("{} operations, {states:?} states", undisturbed.operations);
    assert_none(&violations);
    assert!(states.into_inner() > 3 * undisturbed.operations);
}

#[test]
fn no_power_cut_loses_what_was_told_of_jobs_in_records() {
    explore_power_cuts(Script::of_records());
}

#[test]
fn no_power_cut_loses_what_was_told_of_jobs_in_packs() {
    explore_power_cuts(Script::of_packs());
}

#[test]
fn no_power_cut_loses_what_was_told_of_jobs_that_go_on_from_others() {
    explore_power_cuts(Script::of_forks());
}

#[test]
fn a_host_can_be_founded_again_wherever_power_ended_while_it_was_founded() {
    let undisturbed = Undisturbed::of(Script::of_one_chance());
    let whole = SimulatedDisk::new();
    drop(world::open(&storage(&whole), &undisturbed.script).unwrap());
    let operations = whole.operations();
    // Most of them make directories, one like the other.
    let at = (1..=operations).filter(|at| at % 8 == 0 || *at < 24 || *at + 24 > operations);
    let violations = for_each(at, |at| {
        let disk = SimulatedDisk::new();
        disk.crash_at(at);
        drop(world::open(&storage(&disk), &undisturbed.script));
        let broken = |choice| {
            let image = disk.crash_image(choice);
            let what = undisturbed.check(&image, &Told::default(), Depth::RunToTheEnd).err()?;
            Some(format!("{at} ({:?}), {choice:?}: {what}", disk.operation_log().last()))
        };
        choices(&disk, at, &[SEED]).into_iter().filter_map(broken).collect()
    });
    assert_none(&violations);
}

/// A second cut, while a host recovers from the first, at every operation of that recovery.
#[test]
fn recovery_can_be_cut_short_anywhere() {
    let fresh = fresh_seed();
    for script in [Script::of_records(), Script::of_packs()] {
        let undisturbed = Undisturbed::of(script);
        let sampled = (1..=undisturbed.operations).filter(|at| at % 5 == fresh % 5);
        let violations = for_each(sampled, |at| {
            let (disk, told) = undisturbed.cut_at(at);
            let mut violations = Vec::new();
            for first in [CrashChoice::Everything, CrashChoice::Seeded(fresh << 20 ^ at)] {
                let probe = disk.crash_image(first);
                drop(world::open(&storage(&probe), &undisturbed.script));
                for again in 1..=probe.operations() {
                    let image = disk.crash_image(first);
                    image.crash_at(again);
                    drop(world::open(&storage(&image), &undisturbed.script));
                    for second in [CrashChoice::Nothing, CrashChoice::Seeded(again)] {
                        let left = image.crash_image(second);
                        if let Err(what) = undisturbed.check(&left, &told, Depth::Opened) {
                            violations.push(format!("{at} {first:?}, {again} {second:?}: {what}"));
                        }
                    }
                }
            }
            violations
        });
        assert_none(&violations);
    }
}

/// A process that is killed leaves what it wrote readable and not durable. The next one reads it,
/// shows it and acts on it; then power ends.
#[test]
fn what_a_host_shows_after_a_kill_survives_a_power_cut() {
    for script in [Script::of_records(), Script::of_packs(), Script::of_forks()] {
        let undisturbed = Undisturbed::of(script);
        let violations = for_each(1..=undisturbed.operations, |at| {
            let mut violations = Vec::new();
            // Whether it acts on what it read matters after the reading does.
            let depths = [Depth::Opened, Depth::RunToTheEnd];
            for depth in depths.into_iter().take(if at % 3 == 0 { 2 } else { 1 }) {
                let disk = undisturbed.founded.fork();
                let mut told = Told::default();
                let killed = Killed::after(&disk, at - 1);
                let ended = history(&killed, &undisturbed.script, &mut told);
                drop(ended);
                let shown = undisturbed.check(&disk, &told, depth);
                let choices = [CrashChoice::Nothing, CrashChoice::Seeded(at)];
                let survives = |told: Told| {
                    choices.iter().try_for_each(|choice| {
                        let left = disk.crash_image(*choice);
                        undisturbed.check(&left, &told, Depth::Opened).map(drop)
                    })
                };
                if let Err(what) = shown.and_then(survives) {
                    violations.push(format!("killed at {at}: {what}"));
                }
            }
            violations
        });
        assert_none(&violations);
    }
}

/// One operation fails. The caller tries again on the same host, may be told more, then the host
/// is opened again, with and without a power cut in between.
#[test]
fn a_failing_operation_never_makes_a_host_tell_what_is_lost() {
    for script in [Script::of_records(), Script::of_packs(), Script::of_forks()] {
        let undisturbed = Undisturbed::of(script);
        let refused = AtomicU64::new(0);
        let operations = undisturbed.operations;
        let violations = for_each(2..2 * operations + 2, |case| {
            let (at, errno) = (case / 2, [EIO, ENOSPC][usize::from(case % 2 == 1)]);
            let disk = undisturbed.founded.fork();
            disk.set_seed(case);
            disk.fail_at(at, errno);
            let mut told = Told::default();
            let script = &undisturbed.script;
            let again = |host: &_, plan: &_, _, told: &mut Told| world::run(host, plan, told);
            let ended = world::history_with(&storage(&disk), script, &mut told, again);
            refused.fetch_add(u64::from(ended.is_err()), Ordering::SeqCst);
            let survives = || {
                for choice in [CrashChoice::Nothing, CrashChoice::Seeded(case)] {
                    let left = disk.crash_image(choice);
                    undisturbed.check(&left, &told, Depth::Opened)?;
                }
                let told = undisturbed.check(&disk, &told, Depth::RunToTheEnd)?;
                undisturbed.check(&disk.crash_image(CrashChoice::Nothing), &told, Depth::Opened)
            };
            let what = survives().err();
            let operation = || disk.operation_log()[usize::try_from(at).unwrap() - 1].clone();
            what.map(|what| format!("{at} ({}) failed with {errno}: {what}", operation()))
                .into_iter()
                .collect()
        });
        println!("{refused:?} of {} histories ended early", 2 * operations);
        assert_none(&violations);
        assert!(refused.into_inner() > operations / 2);
    }
}

/// The disk is full at some point; the attempt ends as a fault of the host and not of the job, and
/// once there is room the same host runs every job to its end.
#[test]
fn a_job_on_a_full_disk_goes_on_when_there_is_room() {
    for script in [Script::of_records(), Script::of_packs(), Script::of_forks()] {
        let undisturbed = Undisturbed::of(script);
        let used = |disk: &SimulatedDisk| -> u64 {
            disk.contents().values().map(|bytes| bytes.len() as u64).sum()
        };
        let (disk, _) = undisturbed.cut_at(undisturbed.operations + 1);
        let (from, to) = (used(&undisturbed.founded), used(&disk) + 200_000);
        let full = AtomicU64::new(0);
        let violations = for_each(0..60, |part| {
            let disk = undisturbed.founded.fork();
            disk.set_capacity(Some(from + (to - from) * part / 60));
            let mut told = Told::default();
            let room = |host: &hb_host::Host, plan: &Plan, error: world::Fault, told: &mut Told| {
                full.fetch_add(1, Ordering::SeqCst);
                if !hb_host::is_disk_full(&*error) {
                    return Err(format!(
                        "not told that the disk is full: {}",
                        world::chain(&*error)
                    )
                    .into());
                }
                let job = host
                    .with_ledger(|ledger| ledger.by_id(&plan.job_id).map(|found| found.number()))
                    .and_then(|number| host.load(number).unwrap());
                if job.is_some_and(|job| job.state.token.is_some() || !job.is_unfinished()) {
                    return Err("the interruption of the attempt was not written down".into());
                }
                disk.set_capacity(None);
                world::run(host, plan, told)
            };
            let script = &undisturbed.script;
            let ended = world::history_with(&storage(&disk), script, &mut told, room);
            let opened =
                ended.as_ref().err().is_some_and(|error| error.is::<hb_host::OpenHostError>());
            disk.set_capacity(None);
            let what = match ended {
                Ok(finished) if finished == undisturbed.finished => None,
                Ok(finished) => Some(format!("{finished:?}")),
                // A host that does not even open has not run anything.
                Err(_) if opened => None,
                Err(error) => Some(world::chain(&*error)),
            };
            let what = what.or_else(|| undisturbed.check(&disk, &told, Depth::RunToTheEnd).err());
            what.map(|what| format!("full at part {part}: {what}")).into_iter().collect()
        });
        println!("{full:?} attempts found the disk full");
        assert_none(&violations);
        assert!(full.into_inner() > 20);
    }
}

/// A job that is set aside gets an outcome and a seal like every other.
#[test]
fn setting_a_job_aside_can_be_cut_short_anywhere() {
    let undisturbed = Undisturbed::of(Script::of_one_chance());
    let script = &undisturbed.script;
    let mut poisoned = 0;
    for at in 1..=undisturbed.operations {
        let (disk, told) = undisturbed.cut_at(at);
        let whole = disk.crash_image(CrashChoice::Everything);
        let finished = history(&storage(&whole), script, &mut told.clone()).unwrap();
        if finished[0].outcome != Outcome::Poisoned {
            assert_eq!(finished, undisturbed.finished, "operation {at}");
            continue;
        }
        poisoned += 1;
        assert!(finished[0].seal.is_some());
        for again in 1..=whole.operations() {
            let image = disk.crash_image(CrashChoice::Everything);
            image.crash_at(again);
            let mut told = told.clone();
            drop(history(&storage(&image), script, &mut told));
            for choice in choices(&image, again, &[SEED]) {
                let left = image.crash_image(choice);
                let checked = check(&storage(&left), script, &finished, &told, Depth::RunToTheEnd);
                checked.unwrap_or_else(|what| panic!("{at}, {again} {choice:?}: {what}"));
            }
        }
    }
    assert!(poisoned > 2, "{poisoned} were set aside");
}

/// The same exploration sees through each step that a host could forget.
#[test]
fn the_checks_catch_hosts_that_forget_a_step() {
    let undisturbed = Undisturbed::of(Script::of_packs());
    let forgotten = [
        Some(Forgotten::Flush("blob/")),
        Some(Forgotten::SyncDir("blob/")),
        Some(Forgotten::Removal("blob/")),
        Some(Forgotten::Flush("wal/")),
        Some(Forgotten::SyncDir("wal")),
        // Every answer comes before its flush.
        None,
    ];
    for forgotten in forgotten {
        let spoil = |disk: &SimulatedDisk| {
            if let Some(forgotten) = forgotten {
                return Spoiled::on(disk, forgotten);
            }
            disk.set_flush_mode(FlushMode::Late);
            storage(disk)
        };
        let states = AtomicU64::new(0);
        let violations = for_each((1..=undisturbed.operations).filter(|at| at % 2 == 0), |at| {
            let disk = undisturbed.founded.fork();
            disk.crash_at(at);
            let mut told = Told::default();
            drop(history(&spoil(&disk), &undisturbed.script, &mut told));
            let broken = |choice| {
                states.fetch_add(1, Ordering::SeqCst);
                let image = disk.crash_image(choice);
                let left = spoil(&image);
                let (script, finished) = (&undisturbed.script, &undisturbed.finished);
                check(&left, script, finished, &told, Depth::Opened).err()
            };
            let choices = [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seeded(at)];
            choices.into_iter().filter_map(broken).collect()
        });
        println!(
            "{forgotten:?}: {} of {states:?} states; {:?}",
            violations.len(),
            violations.first()
        );
        assert!(!violations.is_empty(), "{forgotten:?} went unnoticed");
    }
}

#[test]
fn the_same_history_twice_is_the_same_operations() {
    let undisturbed = Undisturbed::of(Script::of_packs());
    let log = || undisturbed.cut_at(undisturbed.operations + 1).0.operation_log();
    assert_eq!(log(), log());
}

/// Two jobs that do the same have equal packs. One job found its pack in the store, put there by
/// the other, and had not yet recorded that it needs it too, when the other let go of it: the pack
/// was removed, and the record named a blob that was gone.
#[test]
fn a_pack_that_is_taken_up_again_is_not_removed_by_who_lets_go_of_it() {
    let script = Script::of_packs();
    let disk = SimulatedDisk::new();
    // What was found is not written again: its temporary file is removed, just before the record.
    let (paused, found, permit) = Paused::before_removal(&disk, "blob/tmp/");
    let host = world::open(&paused, &script).unwrap();
    let plans = [Plan::of_field("first"), Plan::of_field("second")];
    let (saved, was_saved) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| {
            let mut seen = 0;
            let mut wait_once = move || {
                seen += 1;
                if seen == 1 {
                    saved.send(()).unwrap();
                    may_go_on.recv().unwrap();
                }
            };
            world::run_with(&host, &plans[0], &mut Told::default(), &mut wait_once)
        });
        was_saved.recv().unwrap();
        let second = scope.spawn(|| {
            // Later checkpoints let go of the pack in their turn, so that the end shows nothing.
            let mut whole = || check::blobs_are_those_needed(&paused, &host).unwrap();
            world::run_with(&host, &plans[1], &mut Told::default(), &mut whole)
        });
        found.recv().unwrap();
        go_on.send(()).unwrap();
        let first = first.join().unwrap().unwrap();
        permit.send(()).unwrap();
        (first, second.join().unwrap().unwrap())
    });
    assert_eq!(first, second);
    check::blobs_are_those_needed(&paused, &host).unwrap();
}

/// Each of many short-lived hosts writes less than would make a snapshot due; together they do.
#[test]
fn the_log_that_a_start_reads_stays_short_over_many_short_hosts() {
    let script = Script { snapshot_every_bytes: 60 << 10, ..Script::of_records() };
    let disk = SimulatedDisk::new();
    let mut snapshots = 0;
    for name in ('a'..='x').map(String::from) {
        let written = disk.operations();
        let plan = Plan::new(&name, hb_guests::COUNTER, &["--steps", "1"]);
        let host = world::open(&storage(&disk), &script).unwrap();
        world::run(&host, &plan, &mut Told::default()).unwrap();
        drop(host);
        let log = disk.operation_log();
        let made = |entry: &&String| entry.starts_with("rename wal/snap/");
        snapshots += log[usize::try_from(written).unwrap()..].iter().filter(made).count();
        // Two snapshots and what follows the older one are kept, each at most two segments more.
        let files = disk.list("wal").unwrap().len();
        assert!(files <= 9, "job {name}: {files} files");
    }
    assert!((4..=12).contains(&snapshots), "{snapshots} snapshots over 24 hosts");
}
