//! Every quota at its edge, and the faults of the machine's own disk.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;

use common::{CREATE, READ, START_NS, job, read_all, world, write_all};
use hb_files::{Input, Refused, Root, World};
use hb_types::{
    capture::{ChunkSource, ContentId},
    limits::{Limit, LimitReached, Limits},
};

#[test]
fn bytes_are_counted_by_length_and_refused_whole() {
    let limits = Limits { files_bytes: 1000, ..Limits::default() };
    let mut world = world(&limits);
    let job = job(&mut world);
    write_all(&mut world, job, "a", &[1; 600]).unwrap();
    let file = world.open(job, "b", CREATE, START_NS).unwrap();
    let full = |wanted| LimitReached { limit: Limit::FilesBytes, value: 1000, wanted };
    for result in [
        world.write_at(file, 0, &[2; 401], START_NS),
        world.write_at(file, 400, &[2], START_NS),
        world.set_len(file, 401, START_NS),
        world.append(file, &[2; 401], START_NS),
    ] {
        match result {
            Err(Refused::Quota(reached)) => assert_eq!(reached, full(1001)),
            other => panic!("{other:?}"),
        }
        assert_eq!(world.stat(file).unwrap().size_bytes, 0, "nothing was written");
    }
    world.set_len(file, 400, START_NS).unwrap();
    world.write_at(file, 0, &[2; 400], START_NS).unwrap();
    // Overwriting needs no room, cutting gives some back, and so does removing.
    write_all(&mut world, job, "a", &[3; 600]).unwrap();
    world.set_len(file, 100, START_NS).unwrap();
    write_all(&mut world, job, "c", &[4; 300]).unwrap();
    world.remove_file(job, "a", START_NS).unwrap();
    world.append(file, &[5; 600], START_NS).unwrap();
    assert!(matches!(world.append(file, &[5], START_NS), Err(Refused::Quota(_))));
    assert_eq!(read_all(&mut world, job, "c").unwrap(), [4; 300]);
}

#[test]
fn positions_beyond_any_file_are_refused() {
    let limits = Limits { files_bytes: u64::MAX, ..Limits::default() };
    let mut world = world(&limits);
    let job = job(&mut world);
    let file = world.open(job, "a", CREATE, START_NS).unwrap();
    for offset in [u64::MAX, u64::MAX - 1, 1 << 60] {
        let result = world.write_at(file, offset, &[1, 2], START_NS);
        assert!(matches!(result, Err(Refused::FileTooLarge)), "{offset}");
    }
    assert!(matches!(world.set_len(file, u64::MAX, START_NS), Err(Refused::FileTooLarge)));
    assert_eq!(world.read_at(file, u64::MAX, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn files_and_directories_are_counted_together_as_long_as_they_have_a_name() {
    let limits = Limits { files: 3, ..Limits::default() };
    let mut world = world(&limits);
    let job = job(&mut world);
    world.make_directory(job, "d", START_NS).unwrap();
    write_all(&mut world, job, "d/a", b"").unwrap();
    write_all(&mut world, job, "d/b", b"").unwrap();
    let next = world.next_content();
    for result in [write_all(&mut world, job, "c", b""), world.make_directory(job, "e", START_NS)] {
        match result {
            Err(Refused::Quota(reached)) => {
                assert_eq!(reached, LimitReached { limit: Limit::Files, value: 3, wanted: 4 });
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.next_content(), next, "a refused file takes no number");
    world.rename(job, "d/a", job, "d/b", START_NS).unwrap();
    write_all(&mut world, job, "c", b"").unwrap();
    assert!(matches!(write_all(&mut world, job, "x", b""), Err(Refused::Quota(_))));
}

#[test]
fn every_handle_counts_as_open() {
    let limits = Limits { open_files: 3, ..Limits::default() };
    let mut world = world(&limits);
    let job = job(&mut world);
    let out = world.open_root(Root::Out).unwrap();
    let file = world.open(job, "a", CREATE, START_NS).unwrap();
    let many = LimitReached { limit: Limit::OpenFiles, value: 3, wanted: 4 };
    for result in [
        world.open(job, "a", READ, START_NS),
        world.open(job, "b", CREATE, START_NS),
        world.open_root(Root::In),
    ] {
        match result {
            Err(Refused::TooManyOpen(reached)) => assert_eq!(reached, many),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(world.stat_at(job, "b"), Err(Refused::NotFound)), "nothing was made");
    world.close(out);
    world.close(out);
    world.open(job, "b", CREATE, START_NS).unwrap();
    world.close(file);
    world.open(job, "a", READ, START_NS).unwrap();
    assert!(world.open_root(Root::In).is_err());
}

#[test]
fn an_output_keeps_exactly_what_it_may_hold() {
    let limits = Limits { stdout_bytes: 70_000, stderr_bytes: 0, ..Limits::default() };
    let mut world = world(&limits);
    world.append_output(ContentId::STDOUT, &vec![1; 69_999]).unwrap();
    match world.append_output(ContentId::STDOUT, &[2, 3, 4]) {
        Err(Refused::OutputLimit(reached)) => assert_eq!(
            reached,
            LimitReached { limit: Limit::Stdout, value: 70_000, wanted: 70_002 }
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.content_len(ContentId::STDOUT), Some(70_000));
    let mut whole = world.read_chunk(ContentId::STDOUT, 0).unwrap();
    whole.extend(world.read_chunk(ContentId::STDOUT, 1).unwrap());
    assert!(whole[..69_999].iter().all(|byte| *byte == 1));
    assert_eq!(whole[69_999..], [2]);
    assert!(world.read_chunk(ContentId::STDOUT, 2).is_err());

    world.append_output(ContentId::STDERR, b"").unwrap();
    let result = world.append_output(ContentId::STDERR, b"x");
    assert!(matches!(result, Err(Refused::OutputLimit(_))));
}

#[test]
fn an_output_that_ends_with_a_chunk_has_no_empty_chunk_behind_it() {
    let mut world = world(&Limits::default());
    world.append_output(ContentId::STDERR, &vec![1; 65_536]).unwrap();
    let (captures, _) = world.capture();
    assert_eq!(captures[1].dirty.len(), 1);
    world.mark_clean();
    world.append_output(ContentId::STDERR, &[2]).unwrap();
    let (captures, _) = world.capture();
    let marks: Vec<_> =
        captures[1].dirty.iter().map(|chunk| (chunk.index, chunk.clean_prefix_bytes)).collect();
    assert_eq!(marks, [(1, 0)]);
}

#[test]
fn the_scratch_file_grows_with_what_is_there_and_not_with_what_was() {
    let scratch = tempfile::tempfile().unwrap();
    let watched = scratch.try_clone().unwrap();
    let mut world = World::new(scratch, &Limits::default(), START_NS, Vec::new()).unwrap();
    let job = job(&mut world);
    for round in 0..50 {
        let (first, second) = (format!("a{round}"), format!("b{round}"));
        write_all(&mut world, job, &first, &vec![1; 200_000]).unwrap();
        write_all(&mut world, job, &second, &vec![1; 200_000]).unwrap();
        write_all(&mut world, job, &second, b"short").unwrap();
        world.remove_file(job, &first, START_NS).unwrap();
        world.remove_file(job, &second, START_NS).unwrap();
    }
    assert!(watched.metadata().unwrap().len() <= 8 * 65_536);
    // A hole takes nothing.
    let file = world.open(job, "hole", CREATE, START_NS).unwrap();
    world.set_len(file, 200_000_000, START_NS).unwrap();
    world.write_at(file, 100_000_000, b"x", START_NS).unwrap();
    assert!(watched.metadata().unwrap().len() <= 8 * 65_536);
}

#[test]
fn a_failing_disk_is_a_fault_of_the_host_and_of_nobody_else() {
    // Open for writing only: every reading fails, as on a disk that has died.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("scratch");
    let scratch = File::create(&path).unwrap();
    let mut world = World::new(scratch, &Limits::default(), START_NS, Vec::new()).unwrap();
    let job = job(&mut world);
    write_all(&mut world, job, "f", b"hello").unwrap();
    match read_all(&mut world, job, "f") {
        Err(Refused::Host(fault)) => {
            assert_eq!(
                fault.to_string(),
                "the host's disk failed while it was reading the scratch file"
            );
        }
        other => panic!("{other:?}"),
    }
    // And for reading only: every writing.
    let scratch = File::open(&path).unwrap();
    let mut world = World::new(scratch, &Limits::default(), START_NS, Vec::new()).unwrap();
    let job = common::job(&mut world);
    assert!(matches!(write_all(&mut world, job, "f", b"x"), Err(Refused::Host(_))));
    let result = world.append_output(ContentId::STDOUT, &vec![0; 65_536]);
    assert!(matches!(result, Err(Refused::Host(_))));
}

#[test]
fn an_input_that_became_shorter_is_a_fault_of_the_host() {
    let inputs =
        vec![Input { name: "i".to_owned(), file: tempfile::tempfile().unwrap(), len_bytes: 10 }];
    let scratch = tempfile::tempfile().unwrap();
    let mut world = World::new(scratch, &Limits::default(), START_NS, inputs).unwrap();
    let root = world.open_root(Root::In).unwrap();
    assert!(matches!(read_all(&mut world, root, "i"), Err(Refused::Host(_))));
}
