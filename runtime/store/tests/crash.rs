//! Power cuts, full disks and failing flushes at every operation of a scripted history.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc};

use hb_disk::{CrashChoice, SimulatedDisk, Storage};
use hb_store::{Store, StoreError};
use hb_types::Digest;
use proptest::prelude::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn open(disk: &SimulatedDisk) -> Result<Store, StoreError> {
    Store::open(Arc::new(disk.clone()))
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + seed * 7) % 251).unwrap()).collect()
}

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Write(usize, usize),
    Remove(usize, usize),
    SweepAllBut(usize, usize),
    Reopen,
}

/// What a history has been told.
#[derive(Clone, Default)]
struct Told {
    /// Acknowledged and not given up since.
    durable: BTreeSet<Digest>,
    /// Ever handed to the store.
    known: BTreeSet<Digest>,
}

fn act(
    disk: &SimulatedDisk,
    store: &mut Store,
    step: &Step,
    told: &mut Told,
) -> Result<(), StoreError> {
    match *step {
        Step::Put(seed, len) => {
            let bytes = pattern(seed, len);
            told.known.insert(Digest::of(&bytes));
            told.durable.insert(store.put(&bytes)?);
        }
        Step::Write(seed, len) => {
            let bytes = pattern(seed, len);
            told.known.insert(Digest::of(&bytes));
            let mut writer = store.writer()?;
            for piece in bytes.chunks(100_000) {
                writer.write(piece)?;
            }
            told.durable.insert(writer.finish()?.0);
        }
        Step::Remove(seed, len) => {
            let digest = Digest::of(&pattern(seed, len));
            told.durable.remove(&digest);
            store.remove(digest)?;
        }
        Step::SweepAllBut(seed, len) => {
            let kept = Digest::of(&pattern(seed, len));
            told.durable.retain(|digest| *digest == kept);
            store.sweep(&|digest| digest == kept)?;
        }
        Step::Reopen => *store = open(disk)?,
    }
    Ok(())
}

/// Runs a history until it ends or fails; says what was acknowledged.
fn run(disk: &SimulatedDisk, history: &[Step]) -> (Told, Result<(), StoreError>) {
    let mut told = Told::default();
    let result = open(disk).and_then(|mut store| {
        history.iter().try_for_each(|step| act(disk, &mut store, step, &mut told))
    });
    (told, result)
}

/// Opens what a power cut left and checks the two promises: what was acknowledged is there and
/// whole, and nothing that is there is damaged.
fn check_image(image: &SimulatedDisk, told: &Told, context: &str) {
    let store = open(image).unwrap_or_else(|error| panic!("{context}: {error}"));
    let audit = store.verify_all().unwrap();
    assert_eq!(audit.damaged, 0, "{context}: {:?}", audit.findings);
    assert!(audit.foreign.is_empty(), "{context}: {:?}", audit.foreign);
    let there: BTreeSet<_> = store.list().map(|entry| entry.unwrap().0).collect();
    assert!(told.durable.is_subset(&there), "{context}: an acknowledged blob is gone");
    assert!(there.is_subset(&told.known), "{context}: a blob that nobody put");
    assert!(image.list("blob/tmp").unwrap().is_empty(), "{context}: a half-written blob stayed");
    // The store goes on where it stopped, and a sweep leaves nothing behind.
    let again = store.put(&pattern(1, 3000)).unwrap();
    assert_eq!(store.get(again).unwrap(), pattern(1, 3000), "{context}");
    store.sweep(&|_| false).unwrap();
    assert!(image.contents().is_empty(), "{context}: {:?}", image.contents().keys());
}

fn choices(disk: &SimulatedDisk, seeds: u64) -> Vec<CrashChoice> {
    let units = disk.pending_units(false);
    let mut choices = vec![CrashChoice::Nothing, CrashChoice::Everything];
    if units <= 5 {
        choices.extend((0..1 << units).map(CrashChoice::Writes));
    }
    choices.extend((0..seeds).map(CrashChoice::Seeded));
    choices
}

fn history() -> Vec<Step> {
    vec![
        Step::Put(1, 100),
        Step::Put(1, 3000),
        Step::Write(2, 300_000),
        Step::Put(1, 100),
        Step::Write(1, 3000),
        Step::Put(3, 0),
        Step::Remove(1, 3000),
        Step::Put(1, 3000),
        Step::Reopen,
        Step::Put(1, 100),
        Step::Put(4, 700),
        Step::SweepAllBut(4, 700),
        Step::Put(1, 100),
    ]
}

#[test]
fn a_power_cut_at_any_operation_leaves_what_was_acknowledged_and_nothing_damaged() {
    let founded = SimulatedDisk::new();
    drop(open(&founded).unwrap());
    let undisturbed = founded.fork();
    let (_, result) = run(&undisturbed, &history());
    result.unwrap();
    let operations = undisturbed.operations();
    assert!(operations > 40, "the history does too little: {operations} operations");
    for at in 1..=operations {
        let disk = founded.fork();
        disk.crash_at(at);
        let (told, result) = run(&disk, &history());
        assert!(disk.crashed() && result.is_err(), "operation {at}");
        for choice in choices(&disk, 4) {
            let context = format!("cut at {at}, {choice:?}: {:?}", disk.operation_log().last());
            check_image(&disk.crash_image(choice), &told, &context);
        }
    }
}

#[test]
fn a_power_cut_while_the_store_is_founded_leaves_one_that_can_be_opened() {
    let undisturbed = SimulatedDisk::new();
    let history = [Step::Put(1, 100)];
    run(&undisturbed, &history).1.unwrap();
    for at in 1..=undisturbed.operations() {
        let disk = SimulatedDisk::new();
        disk.crash_at(at);
        let (told, _) = run(&disk, &history);
        for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seeded(at)] {
            check_image(&disk.crash_image(choice), &told, &format!("cut at {at}, {choice:?}"));
        }
    }
}

/// A process renames a blob and dies before it can flush the directory. The next one finds the
/// blob, whole, and must not acknowledge it before the name is durable, or a power cut takes it.
#[test]
fn a_name_that_an_earlier_process_did_not_make_durable_is_made_so_before_it_is_acknowledged() {
    let bytes = pattern(1, 100);
    // Both ways create, write, flush and rename first; the writer then has two directories.
    let flushes = [(Step::Put(1, 100), 5), (Step::Write(1, 100), 5), (Step::Write(1, 100), 6)];
    for (step, failing) in flushes {
        let disk = SimulatedDisk::new();
        let mut store = open(&disk).unwrap();
        disk.fail_at(disk.operations() + failing, EIO);
        act(&disk, &mut store, &step, &mut Told::default()).unwrap_err();
        drop(store);

        let store = open(&disk).unwrap();
        assert!(store.contains(Digest::of(&bytes)).unwrap(), "{step:?} {failing}");
        let digest = store.put(&bytes).unwrap();
        let image = disk.crash_image(CrashChoice::Nothing);
        assert_eq!(open(&image).unwrap().get(digest).unwrap(), bytes, "{step:?} {failing}");
    }
}

/// A name can be seen although its flush failed. Whoever accepts a job that refers to it would lose
/// the blob with the next power cut.
#[test]
fn a_blob_whose_name_may_be_lost_is_never_said_to_be_there_durably() {
    for (step, failing) in [(Step::Put(1, 100), 5), (Step::Write(1, 100), 5)] {
        let digest = Digest::of(&pattern(1, 100));
        let disk = SimulatedDisk::new();
        let mut store = open(&disk).unwrap();
        assert_eq!(store.durable_len(digest).unwrap(), None);
        disk.fail_at(disk.operations() + failing, EIO);
        act(&disk, &mut store, &step, &mut Told::default()).unwrap_err();
        assert_eq!(store.len(digest).unwrap(), Some(100));
        assert!(matches!(store.durable_len(digest).unwrap_err(), StoreError::Stopped { .. }));

        let store = open(&disk).unwrap();
        assert_eq!(store.durable_len(digest).unwrap(), Some(100));
        let image = disk.crash_image(CrashChoice::Nothing);
        assert_eq!(open(&image).unwrap().len(digest).unwrap(), Some(100), "{step:?}");
    }
}

#[test]
fn a_failing_operation_is_an_error_and_never_an_acknowledgement_of_what_is_lost() {
    let founded = SimulatedDisk::new();
    drop(open(&founded).unwrap());
    let undisturbed = founded.fork();
    run(&undisturbed, &history()).1.unwrap();
    for errno in [EIO, ENOSPC] {
        for at in 1..=undisturbed.operations() {
            let disk = founded.fork();
            disk.set_seed(at);
            disk.fail_at(at, errno);
            let (told, _) = run(&disk, &history());
            for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seeded(at)] {
                let context = format!("errno {errno} at {at}, {choice:?}");
                check_image(&disk.crash_image(choice), &told, &context);
            }
        }
    }
}

#[test]
fn after_a_directory_could_not_be_made_durable_nothing_more_is_acknowledged() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    let kept = store.put(b"kept").unwrap();
    disk.fail_at(disk.operations() + 5, EIO);
    let error = store.put(b"lost").unwrap_err();
    assert!(matches!(error, StoreError::Io { doing: "make durable the names in", .. }), "{error}");
    assert!(matches!(store.put(b"lost").unwrap_err(), StoreError::Stopped { .. }));
    assert!(matches!(store.put(b"kept").unwrap_err(), StoreError::Stopped { .. }));
    assert!(matches!(store.writer().unwrap_err(), StoreError::Stopped { .. }));
    assert_eq!(store.get(kept).unwrap(), b"kept");
    open(&disk).unwrap().put(b"lost").unwrap();
}

#[test]
fn a_full_disk_is_named_with_its_figures_leaves_nothing_and_passes() {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    let kept = store.put(&pattern(1, 1000)).unwrap();
    disk.set_capacity(Some(5000));
    let refuse = |error: StoreError, needed| {
        let text = error.to_string();
        let StoreError::Full { needed_bytes, free_bytes, .. } = error else { panic!("{text}") };
        assert_eq!((needed_bytes, free_bytes), (needed, 4000));
        assert!(text.contains("free some space"), "{text}");
    };
    refuse(store.put(&pattern(2, 4001)).unwrap_err(), 4001);
    let mut writer = store.writer().unwrap();
    writer.write(&pattern(3, 4001)).unwrap();
    refuse(writer.finish().unwrap_err(), 4001);
    assert_eq!(disk.contents().len(), 1, "a refused blob left something behind");
    assert_eq!(store.get(kept).unwrap(), pattern(1, 1000));
    store.put(&pattern(2, 4000)).unwrap();
    disk.set_capacity(None);
    store.put(&pattern(2, 4001)).unwrap();
}

fn step() -> impl Strategy<Value = Step> {
    let blob = || (0..4usize, prop::sample::select(vec![0usize, 1, 511, 513, 5000]));
    prop_oneof![
        4 => blob().prop_map(|(seed, len)| Step::Put(seed, len)),
        2 => blob().prop_map(|(seed, len)| Step::Write(seed, len)),
        1 => blob().prop_map(|(seed, len)| Step::Remove(seed, len)),
        1 => blob().prop_map(|(seed, len)| Step::SweepAllBut(seed, len)),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn any_history_cut_anywhere_keeps_what_was_acknowledged(
        history in prop::collection::vec(step(), 1..20),
        cut in 0.0..1.0f64,
        seed: u64,
    ) {
        let founded = SimulatedDisk::new();
        drop(open(&founded).unwrap());
        let undisturbed = founded.fork();
        let (told, result) = run(&undisturbed, &history);
        result.unwrap();
        // Undisturbed, the store holds what was put and not given up, and nothing else.
        let there: BTreeSet<_> =
            open(&undisturbed).unwrap().list().map(|entry| entry.unwrap().0).collect();
        prop_assert_eq!(&there, &told.durable);

        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = 1 + (undisturbed.operations() as f64 * cut) as u64;
        let disk = founded.fork();
        disk.crash_at(at);
        let (told, _) = run(&disk, &history);
        check_image(&disk.crash_image(CrashChoice::Seeded(seed)), &told, &format!("cut at {at}"));
    }
}
