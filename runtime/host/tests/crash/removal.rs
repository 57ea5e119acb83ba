//! Power is lost and disks fail while jobs are archived and removed: what was told to be gone stays
//! gone, what was not asked to go stays, and the blobs are those that are needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hb_disk::{CrashChoice, SimulatedDisk, Storage};
use hb_host::{ArchiveOptions, Host, LeftReason};
use hb_types::{Digest, event::JobNumber};

use crate::{
    EIO, ENOSPC, assert_none,
    check::{blobs_are_those_needed, told_is_there},
    choices, for_each, fresh_seed, storage,
    world::{self, Fault, Plan, Script, Told},
};

enum Step {
    Run(Plan),
    Archive,
    Forget(&'static [&'static str]),
    Reopen,
}

/// What callers were told, beyond what becomes of jobs.
#[derive(Clone, Default)]
struct Heard {
    told: Told,
    /// Jobs whose removal was asked for and not answered, with their numbers.
    going: BTreeMap<String, JobNumber>,
    /// Jobs that were said to be gone.
    gone: BTreeSet<String>,
}

fn script() -> Script {
    Script {
        plans: Vec::new(),
        reopen_before: 0,
        max_frame_bytes: 96 << 10,
        segment_bytes: 128 << 10,
        snapshot_every_bytes: 30 << 10,
        archive: ArchiveOptions { kept_in_memory: 1, batch: 2 },
    }
}

/// Number of the first step that archives.
const FIRST_ARCHIVE: usize = 3;

fn steps() -> Vec<Step> {
    let counter = |id, steps| Plan::new(id, hb_guests::COUNTER, &["--steps", steps]);
    let longer = ["--size", "64", "--steps", "5", "--every", "2"];
    let fork = Plan::new("fork", hb_guests::GINZBURG_LANDAU, &longer).from("field", 2);
    vec![
        Step::Run(counter("first", "2")),
        Step::Run(Plan::of_field("field")),
        Step::Run(counter("third", "1")),
        Step::Archive,
        // Goes on from an archived job.
        Step::Run(fork),
        // One of two in an archive, then the other and one in memory.
        Step::Forget(&["first"]),
        Step::Forget(&["field", "third"]),
        Step::Reopen,
        // Its packs were let go of just before, its id too.
        Step::Run(Plan::of_field("field")),
        Step::Run(counter("fifth", "3")),
        Step::Archive,
        Step::Forget(&["fork", "fifth", "field"]),
        Step::Run(counter("first", "1")),
    ]
}

/// One step on an open host.
fn take(host: &Host, step: &Step, heard: &mut Heard) -> Result<(), Fault> {
    match step {
        Step::Run(plan) => {
            heard.gone.remove(&plan.job_id);
            world::run(host, plan, &mut heard.told)?;
        }
        Step::Archive => while host.archive_if_due()? {},
        Step::Forget(job_ids) => {
            for job_id in *job_ids {
                if let Some(told) = heard.told.accepted.remove(*job_id) {
                    heard.going.insert((*job_id).to_owned(), told.number);
                }
            }
            let numbers: Vec<JobNumber> = heard.going.values().copied().collect();
            let report = host.forget(&numbers)?;
            if report.left.iter().any(|(_, why)| *why != LeftReason::Unknown) {
                return Err(format!("{report:?}").into());
            }
            heard.gone.extend(std::mem::take(&mut heard.going).into_keys());
        }
        Step::Reopen => unreachable!("whoever holds the host opens it"),
    }
    Ok(())
}

/// Goes through the steps from number `from` on; says at which one it failed.
fn go(
    disk: &Arc<dyn Storage>,
    steps: &[Step],
    from: usize,
    tries: u32,
    heard: &mut Heard,
) -> Result<(), (usize, Fault)> {
    let script = script();
    let open = |at| world::open(disk, &script).map_err(|error| (at, Fault::from(error)));
    let mut host = open(from)?;
    for (at, step) in steps.iter().enumerate().skip(from) {
        if let Step::Reopen = step {
            drop(host);
            host = open(at)?;
            continue;
        }
        let mut taken = take(&host, step, heard);
        for _ in 1..tries {
            if taken.is_err() {
                taken = take(&host, step, heard);
            }
        }
        taken.map_err(|error| (at, error))?;
    }
    Ok(())
}

/// The jobs that there are, with their seals.
fn jobs(host: &Host) -> BTreeMap<String, Option<Digest>> {
    let numbers: Vec<JobNumber> = host.with_ledger(|ledger| {
        ledger.jobs.keys().chain(ledger.archive.jobs().keys()).copied().collect()
    });
    let seal = |number| {
        let job = host.load(number).unwrap().unwrap();
        (job.job_id, job.seal.map(|kept| kept.seal))
    };
    numbers.into_iter().map(seal).collect()
}

/// What must hold of what is left; goes on from the step at which it was cut.
fn check(
    disk: &Arc<dyn Storage>,
    heard: &Heard,
    (steps, from): (&[Step], usize),
    expected: &BTreeMap<String, Option<Digest>>,
) -> Result<(), String> {
    let mut heard = heard.clone();
    let refused = |error| format!("refused: {}", world::chain(&error));
    let host = world::open(disk, &script()).map_err(refused)?;
    told_is_there(&host, &heard.told)?;
    for job_id in &heard.gone {
        if host.with_ledger(|ledger| ledger.by_id(job_id).is_some()) {
            return Err(format!("{job_id} came back"));
        }
    }
    blobs_are_those_needed(disk, &host)?;
    drop(host);
    go(disk, steps, from, 1, &mut heard)
        .map_err(|(at, error)| format!("step {at}: {}", world::chain(&*error)))?;
    let host = world::open(disk, &script()).map_err(refused)?;
    blobs_are_those_needed(disk, &host)?;
    let found = jobs(&host);
    if found == *expected { Ok(()) } else { Err(format!("{found:?}, {expected:?} expected")) }
}

/// The disk on which jobs have run and nothing was archived, what was told by then, the jobs at the
/// end, and how many operations lead there.
struct Undisturbed {
    begun: SimulatedDisk,
    heard: Heard,
    expected: BTreeMap<String, Option<Digest>>,
    operations: u64,
}

fn undisturbed(steps: &[Step]) -> Undisturbed {
    let disk = SimulatedDisk::new();
    let mut heard = Heard::default();
    go(&storage(&disk), &steps[..FIRST_ARCHIVE], 0, 1, &mut heard).unwrap();
    let (begun, heard_then) = (disk.fork(), heard.clone());
    let disk = begun.fork();
    go(&storage(&disk), steps, FIRST_ARCHIVE, 1, &mut heard).unwrap();
    let operations = disk.operations();
    let host = world::open(&storage(&disk), &script()).unwrap();
    blobs_are_those_needed(&storage(&disk), &host).unwrap();
    let expected = jobs(&host);
    assert_eq!(expected.keys().collect::<Vec<_>>(), ["first"]);
    Undisturbed { begun, heard: heard_then, expected, operations }
}

#[test]
fn no_power_cut_brings_back_what_was_removed_or_takes_what_was_not() {
    let steps = steps();
    let Undisturbed { begun, heard: before, expected, operations } = undisturbed(&steps);
    let seeds = [fresh_seed()];
    let violations = for_each(1..=operations, |at| {
        let disk = begun.fork();
        disk.crash_at(at);
        let mut heard = before.clone();
        let cut = go(&storage(&disk), &steps, FIRST_ARCHIVE, 1, &mut heard);
        let from = cut.err().map_or(steps.len(), |(at, _)| at);
        let broken = |choice| {
            let image = disk.crash_image(choice);
            let what = check(&storage(&image), &heard, (&steps, from), &expected).err()?;
            Some(format!("{at} ({:?}), {choice:?}: {what}", disk.operation_log().last()))
        };
        choices(&disk, at, &seeds).into_iter().filter_map(broken).collect()
    });
    println!("{operations} operations");
    assert_none(&violations);
}

#[test]
fn a_failing_operation_while_jobs_are_removed_loses_nothing() {
    let steps = steps();
    let Undisturbed { begun, heard: before, expected, operations } = undisturbed(&steps);
    let fresh = fresh_seed();
    // Each operation fails in one of two ways.
    let violations = for_each(1..=operations, |at| {
        let errno = if (at + fresh).is_multiple_of(2) { EIO } else { ENOSPC };
        let disk = begun.fork();
        disk.set_seed(at);
        disk.fail_at(at, errno);
        let mut heard = before.clone();
        let cut = go(&storage(&disk), &steps, FIRST_ARCHIVE, 2, &mut heard);
        let from = cut.err().map_or(steps.len(), |(at, _)| at);
        let images = [disk.crash_image(CrashChoice::Nothing), disk.fork()];
        let broken = |image: &SimulatedDisk| {
            let what = check(&storage(image), &heard, (&steps, from), &expected).err()?;
            let log = disk.operation_log();
            let operation = &log[usize::try_from(at).unwrap() - 1];
            Some(format!("{at} ({operation}) failed with {errno}: {what}"))
        };
        images.iter().filter_map(broken).collect()
    });
    assert_none(&violations);
}
