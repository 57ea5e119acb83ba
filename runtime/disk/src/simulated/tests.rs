//! The simulated disk keeps its own rules.
#![allow(clippy::unwrap_used)]

use super::*;

fn disk_with_file(bytes: &[u8]) -> (SimulatedDisk, Box<dyn StorageFile>) {
    let disk = SimulatedDisk::new();
    disk.create_dir("d").unwrap();
    let file = disk.open("d/f", Open::Create).unwrap();
    file.write_at(0, bytes).unwrap();
    file.flush().unwrap();
    disk.sync_dir("").unwrap();
    disk.sync_dir("d").unwrap();
    (disk, file)
}

fn bytes(disk: &SimulatedDisk, path: &str) -> Option<Vec<u8>> {
    disk.contents().remove(path)
}

#[test]
fn what_is_not_flushed_may_be_lost_and_what_is_may_not() {
    let (disk, file) = disk_with_file(&[1; 1024]);
    file.write_at(0, &[2; 1024]).unwrap();
    assert_eq!(disk.pending_units(false), 1);
    assert_eq!(disk.pending_units(true), 2);
    let left = |choice| bytes(&disk.crash_image(choice), "d/f").unwrap();
    assert_eq!(left(CrashChoice::Nothing), [1; 1024]);
    assert_eq!(left(CrashChoice::Everything), [2; 1024]);
    assert_eq!(left(CrashChoice::Writes(1)), [2; 1024]);
    let torn = left(CrashChoice::Sectors(0b10));
    assert_eq!((torn[0], torn[511], torn[512]), (1, 1, 2));
    file.flush().unwrap();
    assert_eq!(disk.pending_units(true), 0);
    assert_eq!(bytes(&disk.crash_image(CrashChoice::Nothing), "d/f").unwrap(), [2; 1024]);
}

#[test]
fn seeded_cuts_tear_and_repeat() {
    let (disk, file) = disk_with_file(&[1; 4096]);
    file.write_at(0, &[2; 4096]).unwrap();
    let images: Vec<_> = (0..64)
        .map(|seed| bytes(&disk.crash_image(CrashChoice::Seeded(seed)), "d/f").unwrap())
        .collect();
    let again = bytes(&disk.crash_image(CrashChoice::Seeded(7)), "d/f").unwrap();
    assert_eq!(again, images[7]);
    assert!(images.contains(&vec![1; 4096]));
    assert!(images.contains(&vec![2; 4096]));
    assert!(images.iter().any(|image| image.contains(&1) && image.contains(&2)));
}

#[test]
fn names_are_durable_only_after_their_directory_is_synced() {
    let (disk, _file) = disk_with_file(b"old");
    let new = disk.open("d/t", Open::Create).unwrap();
    new.write_at(0, b"new").unwrap();
    new.flush().unwrap();
    disk.rename("d/t", "d/f").unwrap();
    assert_eq!(bytes(&disk, "d/f").unwrap(), b"new");
    let cut = |mask| disk.crash_image(CrashChoice::Writes(mask)).contents();
    // Neither; only the create; the rename without its create cannot be; both.
    assert_eq!(cut(0b00).into_iter().collect::<Vec<_>>(), [("d/f".into(), b"old".to_vec())]);
    assert_eq!(cut(0b01).len(), 2);
    assert_eq!(cut(0b10), cut(0b00));
    assert_eq!(cut(0b11).into_iter().collect::<Vec<_>>(), [("d/f".into(), b"new".to_vec())]);
    disk.sync_dir("d").unwrap();
    assert_eq!(cut(0).into_iter().collect::<Vec<_>>(), [("d/f".into(), b"new".to_vec())]);
}

#[test]
fn a_rename_between_directories_needs_both_synced() {
    let (disk, _file) = disk_with_file(b"x");
    disk.create_dir("e").unwrap();
    disk.sync_dir("").unwrap();
    disk.rename("d/f", "e/f").unwrap();
    disk.sync_dir("e").unwrap();
    assert_eq!(bytes(&disk.crash_image(CrashChoice::Nothing), "d/f").unwrap(), b"x");
    disk.sync_dir("d").unwrap();
    let left = disk.crash_image(CrashChoice::Nothing).contents();
    assert_eq!(left.into_iter().collect::<Vec<_>>(), [("e/f".into(), b"x".to_vec())]);
}

#[test]
fn power_ends_at_the_operation_that_was_named() {
    let (disk, file) = disk_with_file(b"a");
    disk.crash_at(disk.operations() + 2);
    file.write_at(0, b"b").unwrap();
    assert!(file.flush().is_err());
    assert!(disk.crashed());
    assert!(file.len().is_err());
    assert!(disk.list("").is_err());
    assert_eq!(bytes(&disk.crash_image(CrashChoice::Nothing), "d/f").unwrap(), b"a");
    assert_eq!(bytes(&disk.crash_image(CrashChoice::Everything), "d/f").unwrap(), b"b");
}

#[test]
fn after_a_failed_flush_reads_show_what_no_later_flush_makes_durable() {
    let (disk, file) = disk_with_file(&[1; 4096]);
    disk.set_seed(5);
    file.write_at(0, &[2; 4096]).unwrap();
    disk.fail_at(disk.operations() + 1, 5);
    assert_eq!(file.flush().unwrap_err().raw_os_error(), Some(5));
    file.flush().unwrap();
    assert_eq!(bytes(&disk, "d/f").unwrap(), [2; 4096]);
    let durable = bytes(&disk.crash_image(CrashChoice::Everything), "d/f").unwrap();
    assert!(durable.contains(&1) && durable.contains(&2));
}

#[test]
fn the_disk_is_full_at_its_capacity_and_goes_on_when_there_is_room() {
    let (disk, file) = disk_with_file(&[1; 100]);
    disk.set_capacity(Some(150));
    assert_eq!(disk.free_bytes().unwrap(), 50);
    file.write_at(50, &[2; 50]).unwrap();
    let error = file.write_at(100, &[2; 51]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.set_capacity(None);
    file.write_at(100, &[2; 51]).unwrap();
}

#[test]
fn late_and_lying_flushes_do_as_they_say() {
    let (disk, file) = disk_with_file(b"a");
    let durable = || bytes(&disk.crash_image(CrashChoice::Nothing), "d/f").unwrap();
    disk.set_flush_mode(FlushMode::Late);
    file.write_at(0, b"b").unwrap();
    file.flush().unwrap();
    assert_eq!(durable(), b"a");
    file.write_at(0, b"c").unwrap();
    file.flush().unwrap();
    assert_eq!(durable(), b"b");
    disk.set_flush_mode(FlushMode::Lying);
    file.flush().unwrap();
    assert_eq!(durable(), b"b");
}

#[test]
fn a_file_opened_for_reading_is_not_written() {
    let (disk, _file) = disk_with_file(b"a");
    let file = disk.open("d/f", Open::Read).unwrap();
    assert!(file.write_at(0, b"b").is_err());
    assert!(disk.open("../x", Open::Read).is_err());
}
