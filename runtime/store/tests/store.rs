//! What the store promises while nothing fails, and what it finds when something is wrong.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    io::{Cursor, Read},
    sync::{Arc, Barrier},
    thread,
};

use hb_disk::{RealDisk, SimulatedDisk, Storage};
use hb_store::{Store, StoreError, WhileHeld};
use hb_types::Digest;

fn simulated() -> (SimulatedDisk, Store) {
    let disk = SimulatedDisk::new();
    let store = Store::open(Arc::new(disk.clone())).unwrap();
    (disk, store)
}

fn path(digest: Digest) -> String {
    format!("blob/{}/{digest}", &digest.to_string()[..2])
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

fn operations_during(disk: &SimulatedDisk, act: impl FnOnce()) -> Vec<String> {
    let before = disk.operation_log().len();
    act();
    disk.operation_log().split_off(before)
}

#[test]
fn what_was_put_comes_back_whole_and_in_parts() {
    let (_disk, store) = simulated();
    for len in [0, 1, 4096, 300_000] {
        let bytes = pattern(len);
        let digest = store.put(&bytes).unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(store.get(digest).unwrap(), bytes);
        assert_eq!(store.len(digest).unwrap(), Some(len as u64));
        assert!(store.contains(digest).unwrap());
        let blob = store.open_verified(digest).unwrap();
        let mut streamed = Vec::new();
        blob.cursor().read_to_end(&mut streamed).unwrap();
        assert_eq!(streamed, bytes);
        let middle = len / 3..len / 2;
        assert_eq!(
            store.read_range(digest, middle.start as u64, middle.len()).unwrap(),
            bytes[middle]
        );
    }
}

#[test]
fn a_blob_written_in_pieces_of_any_size_is_the_blob_put_at_once() {
    let (disk, store) = simulated();
    let bytes = pattern(700_000);
    for piece in [1000, 262_143, 262_144, 262_145, 700_000] {
        let mut writer = store.writer().unwrap();
        bytes.chunks(piece).for_each(|piece| writer.write(piece).unwrap());
        assert_eq!(writer.len(), 700_000);
        assert_eq!(writer.finish().unwrap(), (Digest::of(&bytes), 700_000));
        store.remove(Digest::of(&bytes)).unwrap();
    }
    let mut writer = store.writer().unwrap();
    assert!(writer.is_empty());
    assert_eq!(writer.copy_from(&mut Cursor::new(&bytes)).unwrap(), 700_000);
    let (digest, _) = writer.finish().unwrap();
    assert_eq!(store.get(digest).unwrap(), bytes);
    assert_eq!(disk.contents().into_keys().collect::<Vec<_>>(), [path(digest)]);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let (disk, store) = simulated();
    let mut writer = store.writer().unwrap();
    writer.write(&pattern(600_000)).unwrap();
    assert_eq!(disk.contents().len(), 1);
    drop(writer);
    assert!(disk.contents().is_empty());
    assert!(store.is_empty().unwrap());
}

#[test]
fn a_blob_that_is_there_is_not_written_again_by_either_way() {
    let (disk, store) = simulated();
    let bytes = pattern(1000);
    let digest = store.put(&bytes).unwrap();
    assert!(operations_during(&disk, || _ = store.put(&bytes).unwrap()).is_empty());
    let operations = operations_during(&disk, || {
        let mut writer = store.writer().unwrap();
        writer.write(&bytes).unwrap();
        assert_eq!(writer.finish().unwrap().0, digest);
    });
    assert!(!operations.iter().any(|operation| operation.starts_with("rename")), "{operations:?}");
    assert_eq!(disk.contents().len(), 1);
}

#[test]
fn putting_costs_one_flush_of_the_file_and_one_of_its_directory() {
    let (disk, store) = simulated();
    let operations = operations_during(&disk, || _ = store.put(b"x").unwrap());
    let kinds: Vec<_> =
        operations.iter().map(|operation| operation.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["create", "write", "flush", "rename", "sync_dir"]);
}

#[test]
fn a_missing_blob_is_named() {
    let (_disk, store) = simulated();
    let digest = Digest::of(b"never put");
    assert_eq!(store.len(digest).unwrap(), None);
    assert!(!store.contains(digest).unwrap());
    let error = store.get(digest).unwrap_err();
    assert!(matches!(error, StoreError::Missing { digest: named } if named == digest));
    assert!(error.to_string().contains(&digest.to_string()), "{error}");
    store.remove(digest).unwrap();
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (disk, store) = simulated();
    let bytes = pattern(64);
    let digest = store.put(&bytes).unwrap();
    let is_damaged = |what: &str| {
        for error in [store.get(digest).unwrap_err(), store.open_verified(digest).unwrap_err()] {
            assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error}");
        }
    };
    for bit in 0..bytes.len() * 8 {
        let flip = |content: &mut Vec<u8>| content[bit / 8] ^= 1 << (bit % 8);
        assert!(disk.tamper(&path(digest), flip));
        is_damaged("flip");
        assert!(disk.tamper(&path(digest), flip));
    }
    for len in 0..bytes.len() {
        disk.tamper(&path(digest), |content| content.truncate(len));
        is_damaged("cut");
        disk.tamper(&path(digest), |content| content.clone_from(&bytes));
    }
    disk.tamper(&path(digest), |content| content.push(0));
    is_damaged("longer");
}

#[test]
fn putting_the_original_again_mends_a_damaged_blob() {
    let (disk, store) = simulated();
    let bytes = pattern(5000);
    let digest = store.put(&bytes).unwrap();
    for damage in [4999, 5000] {
        disk.tamper(&path(digest), |content| {
            content[17] ^= 1;
            content.truncate(damage);
        });
        assert!(store.get(digest).is_err());
        store.put(&bytes).unwrap();
        assert_eq!(store.get(digest).unwrap(), bytes);
    }
    disk.tamper(&path(digest), |content| content[0] ^= 1);
    let mut writer = store.writer().unwrap();
    writer.write(&bytes).unwrap();
    writer.finish().unwrap();
    assert_eq!(store.get(digest).unwrap(), bytes);
}

#[test]
fn an_audit_counts_what_is_whole_and_names_what_is_not() {
    let (disk, store) = simulated();
    let digests: Vec<_> = (0..40).map(|seed| store.put(&pattern(seed * 10)).unwrap()).collect();
    disk.tamper(&path(digests[7]), |content| content[3] ^= 4);
    disk.tamper(&path(digests[9]), |content| content.truncate(1));
    disk.open("blob/00/notes.txt", hb_disk::Open::Create).unwrap();
    let audit = store.verify_all().unwrap();
    assert_eq!((audit.whole, audit.damaged), (38, 2));
    let found: BTreeSet<_> = audit.findings.iter().map(|finding| finding.digest).collect();
    assert_eq!(found, BTreeSet::from([digests[7], digests[9]]));
    assert!(audit.findings.iter().all(|one| matches!(one.error, StoreError::Damaged { .. })));
    assert_eq!(audit.foreign, ["blob/00/notes.txt"]);
}

#[test]
fn a_reference_past_the_end_is_refused_before_anything_is_allocated() {
    let (_disk, store) = simulated();
    let digest = store.put(&pattern(100)).unwrap();
    for (offset, len) in [(0, 101), (100, 1), (u64::MAX, 1), (1, usize::MAX), (101, 0)] {
        let error = store.read_range(digest, offset, len).unwrap_err();
        assert!(
            matches!(error, StoreError::OutOfRange { found_len_bytes: 100, .. }),
            "{offset} {len}: {error}"
        );
    }
    assert!(store.read_range(digest, 100, 0).unwrap().is_empty());
}

#[test]
fn a_sweep_removes_exactly_what_nothing_needs() {
    let (disk, store) = simulated();
    let digests: Vec<_> = (1..60).map(|seed| store.put(&pattern(seed * 7)).unwrap()).collect();
    let live: BTreeSet<_> = digests.iter().copied().step_by(3).collect();
    let report = store.sweep(&|digest| live.contains(&digest)).unwrap();
    assert_eq!((report.kept, report.removed), (20, 39));
    let total: u64 = (1..60).map(|seed| seed * 7).sum();
    let kept: u64 = store.list().map(|entry| entry.unwrap().1).sum();
    assert_eq!(report.removed_bytes, total - kept);
    let left: Vec<_> = store.list().map(|entry| entry.unwrap().0).collect();
    assert_eq!(left, live.iter().copied().collect::<Vec<_>>());
    assert_eq!(disk.contents().len(), 20);
}

#[test]
fn many_threads_that_put_the_same_blobs_leave_one_of_each() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealDisk::open(root.path()).unwrap())).unwrap();
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                for seed in 1..20 {
                    let bytes = pattern(seed * 1000);
                    let digest = if (seed + thread) % 2 == 0 {
                        store.put(&bytes).unwrap()
                    } else {
                        let mut writer = store.writer().unwrap();
                        writer.write(&bytes).unwrap();
                        writer.finish().unwrap().0
                    };
                    // Whatever the others are doing, what was acknowledged here is whole.
                    assert_eq!(store.get(digest).unwrap(), bytes);
                }
            });
        }
    });
    let audit = store.verify_all().unwrap();
    assert_eq!((audit.whole, audit.damaged), (19, 0));
    assert!(audit.foreign.is_empty());
    assert_eq!(std::fs::read_dir(root.path().join("blob/tmp")).unwrap().count(), 0);
}

#[test]
fn the_real_disk_hands_out_the_very_file_that_was_verified() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(RealDisk::open(root.path()).unwrap())).unwrap();
    let bytes = pattern(300_000);
    let digest = store.put(&bytes).unwrap();
    let blob = store.open_verified(digest).unwrap();
    // Removed and replaced under its name: what is read is still what was verified.
    store.remove(digest).unwrap();
    std::fs::write(root.path().join(path(digest)), b"another").unwrap();
    let mut read = vec![0; 300_000];
    let file = blob.host_file().unwrap().unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut read, 0).unwrap();
    assert_eq!(read, bytes);
    assert!(store.get(digest).is_err());
}

#[test]
fn a_store_that_was_never_founded_can_be_read_and_is_empty() {
    let disk = SimulatedDisk::new();
    let store = Store::attach(Arc::new(disk.clone()));
    assert_eq!(store.list().count(), 0);
    assert_eq!(store.verify_all().unwrap().whole, 0);
    assert!(matches!(store.get(Digest::of(b"")).unwrap_err(), StoreError::Missing { .. }));
    assert_eq!(disk.operations(), 0);
}

#[test]
fn what_nobody_needs_is_left_while_a_hold_is_out_and_what_somebody_needs_is_left_always() {
    let (_disk, store) = simulated();
    let [needed, unneeded] = [100, 3000].map(|len| store.put(&pattern(len)).unwrap());
    let live = |digest| digest == needed;
    let hold = store.hold();
    let both = [needed, unneeded];
    assert!(!store.remove_unneeded(&both, &live, WhileHeld::Leave).unwrap());
    assert!(store.contains(unneeded).unwrap());
    drop(hold);
    assert!(store.remove_unneeded(&both, &live, WhileHeld::Leave).unwrap());
    assert!(store.contains(needed).unwrap() && !store.contains(unneeded).unwrap());
    assert!(store.remove_unneeded(&[needed], &|_| false, WhileHeld::Wait).unwrap());
    assert!(store.is_empty().unwrap());
}
