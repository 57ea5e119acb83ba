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

use std::collections::BTreeMap;

use check::{Fault, examine};
use load::{Run, Told};
use mount::Kind;
use record::{Chance, Cut, Honesty};
use shelf::Shelf;

use crate::{
    faults::{has_strace, skip},
    support::World,
};

/// Images of each kind of run, where nobody asks for more.
const IMAGES: usize = 12;
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
    println!("{kind:?}: {steps} steps, {flushes} of them flushes; {notes} notes");
    let (mut told, mut resumed) = (0, 0);
    for image in 0..images() {
        // Half of them right after somebody was told something, where the least is there beyond it.
        let at = if image % 2 == 0 { run.notes[chance.below(notes)].at } else { chance.below(steps + 1) };
        let cut = Cut { at, seed: chance.next(), honesty: Honesty::Honest };
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
