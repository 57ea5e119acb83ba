//! The power is cut under a real host on a real file system, at any moment, and what reached the disk is
//! mounted and recovered.
//!
//! Below the file system lies a disk of our own (FUSE, a loop device on it) that records every write and
//! every flush. Clients note how far that record was when they were told something. Each image of a
//! cut holds what a flush covered and any part of the rest. How many are looked at is in
//! `HB_POWER_IMAGES`; a failure names its seed and place, `HB_POWER_SEED` repeats the choice.

mod check;
mod load;
mod mount;
mod record;
mod shelf;

use check::{Fault, examine};
use load::Run;
use mount::Kind;
use record::{Chance, Cut, Honesty, SECTOR};
use shelf::Shelf;

use crate::{
    faults::{has_strace, skip},
    support::World,
};

/// Images of each kind of run, where nobody asks for more.
const IMAGES: usize = 8;
/// Jobs of each client.
const JOBS: usize = 5;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn images() -> usize {
    number("HB_POWER_IMAGES").map_or(IMAGES, |count| usize::try_from(count).unwrap())
}

fn seed() -> u64 {
    let seed = number("HB_POWER_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("HB_POWER_SEED={seed}");
    seed
}

/// A shelf, where this machine lets us have one.
fn shelf(test: &str, world: &World, kind: Kind) -> Option<Shelf> {
    if !kind.is_here() {
        skip(test, &format!("no {kind:?}"));
        return None;
    }
    let shelf = Shelf::mount(&world.path("disks"));
    if let Err(error) = &shelf {
        skip(test, &format!("no file systems of our own can be mounted: {error}"));
    }
    shelf.ok()
}

fn survives(test: &str, kind: Kind) {
    let world = World::new();
    let Some(shelf) = shelf(test, &world, kind) else { return };
    let mut chance = Chance(seed());
    let run = load::record(&shelf, &world, kind, &[], JOBS);
    let (steps, notes) = (run.record.steps.len(), run.notes.len());
    let flushes = run.record.flushes(steps);
    let jobs = run.endings.len();
    println!("{kind:?}: {jobs} jobs, {steps} steps, {flushes} of them flushes; {notes} notes");
    let (mut told, mut resumed) = (0, 0);
    for image in 0..images() {
        // Half of them right after somebody was told something, where the least is there beyond it.
        let at = if image % 2 == 0 {
            run.notes[chance.below(notes)].at
        } else {
            chance.below(steps + 1)
        };
        let cut = Cut { at, seed: chance.next(), sector: kind.sector(), honesty: Honesty::Honest };
        match examine(&shelf, &world, &run, cut) {
            Ok(recovered) => {
                told += recovered.told;
                resumed += recovered.resumed;
            }
            Err(fault) => panic!("{cut:?}: {fault:?}"),
        }
    }
    println!("{kind:?}: {} images, {told} things told and kept, {resumed} jobs went on", images());
}

#[test]
fn whatever_was_told_before_the_power_was_cut_is_there_afterwards_on_ext4() {
    survives("power cut on ext4", Kind::Ext4);
}

#[test]
fn whatever_was_told_before_the_power_was_cut_is_there_afterwards_on_xfs() {
    survives("power cut on xfs", Kind::Xfs);
}

/// What became of images of which something is missing.
#[derive(Debug, Default)]
struct Caught {
    /// The file system cannot be mounted.
    unmountable: usize,
    /// hb names the damage itself.
    named: usize,
    /// hb says nothing, and the comparison with what was told finds it.
    found: usize,
    /// Nothing that was told is missing.
    harmless: usize,
}

impl Caught {
    fn look(&mut self, disks: &Shelf, world: &World, run: &Run, cut: Cut) {
        match examine(disks, world, run, cut) {
            Ok(_) => self.harmless += 1,
            Err(Fault::Unmountable(why)) => {
                println!("{cut:?}: {why}");
                self.unmountable += 1;
            }
            Err(Fault::Named(said)) => {
                let mut lines = said.lines().filter(|line| !line.starts_with("note: "));
                println!("{cut:?}: {}", lines.next().unwrap_or_default());
                self.named += 1;
            }
            Err(Fault::Broken(what)) => {
                println!("{cut:?}: found: {what}");
                self.found += 1;
            }
        }
    }

    /// Demands that it is seen in so many of a hundred at least.
    #[track_caller]
    fn seen_in(&self, percent: usize) {
        let seen = self.unmountable + self.named + self.found;
        assert!(100 * seen >= percent * (seen + self.harmless), "{self:?}");
    }
}

/// Cuts the power right after somebody was told something and keeps only what the disk says that it
/// keeps.
fn cut_after_notes(
    shelf: &Shelf,
    world: &World,
    run: &Run,
    chance: &mut Chance,
    forgets: usize,
) -> Caught {
    let mut caught = Caught::default();
    for _ in 0..images() {
        let at = run.notes[chance.below(run.notes.len())].at;
        let cut = Cut { at, seed: 0, sector: SECTOR, honesty: Honesty::ForgetsFlushes(forgets) };
        caught.look(shelf, world, run, cut);
    }
    caught
}

#[test]
fn a_disk_that_lies_is_named_or_found_out() {
    let test = "lying disk";
    let world = World::new();
    let Some(shelf) = shelf(test, &world, Kind::Ext4) else { return };
    let mut chance = Chance(seed());
    let run = load::record(&shelf, &world, Kind::Ext4, &[], JOBS);

    let forgotten = cut_after_notes(&shelf, &world, &run, &mut chance, 4);
    println!("the last four flushes did nothing: {forgotten:?}");
    forgotten.seen_in(90);

    let steps = run.record.steps.len();
    let mut holes = Caught::default();
    for _ in 0..images() {
        let hole = steps / 4 + chance.below(steps / 2);
        let cut = Cut { at: steps, seed: 0, sector: SECTOR, honesty: Honesty::ForgetsBefore(hole) };
        holes.look(&shelf, &world, &run, cut);
    }
    println!("one flush in the middle did nothing: {holes:?}");
    // A part of what is flushed is replaced or removed again, or stands elsewhere too.
    holes.seen_in(10);
}

#[test]
fn a_program_that_leaves_a_flush_out_is_found_out() {
    let test = "missing flush";
    if !has_strace() {
        return skip(test, "no strace");
    }
    let world = World::new();
    let Some(shelf) = shelf(test, &world, Kind::Ext4) else { return };
    let mut chance = Chance(seed());
    // A name that was not flushed is often kept all the same: by a flush of something else.
    for (call, percent) in [("fdatasync", 90), ("fsync", 10)] {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:retval=0"));
        let under = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-o",
            "/dev/null",
            "-e",
            &trace,
            "-e",
            &inject,
        ];
        let run = load::record(&shelf, &world, Kind::Ext4, &under, JOBS);
        let flushes = run.record.flushes(run.record.steps.len());
        let caught = cut_after_notes(&shelf, &world, &run, &mut chance, 0);
        println!("without {call} ({flushes} flushes left): {caught:?}");
        caught.seen_in(percent);
    }
}
