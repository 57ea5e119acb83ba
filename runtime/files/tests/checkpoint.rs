//! Captures and restoring, where a random history would seldom go.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;

use common::{CREATE, Durable, READ, START_NS, job, list, read_all, world, write_all};
use hb_files::{Refused, RestoreError, Root};
use hb_types::{
    capture::{ChunkSource, ContentId, NameTree, Node, NodeKind},
    limits::Limits,
};

#[test]
fn a_small_change_to_a_large_file_makes_one_dirty_chunk() {
    let mut world = world(&Limits::default());
    let job = job(&mut world);
    write_all(&mut world, job, "large", &vec![1; 10_000_000]).unwrap();
    write_all(&mut world, job, "other", &vec![1; 10_000_000]).unwrap();
    let mut durable = Durable::default();
    durable.save(&mut world);
    let file = world.open(job, "large", CREATE, START_NS).unwrap();
    world.write_at(file, 5_000_000, &[2; 10], START_NS).unwrap();
    let (captures, _) = world.capture();
    let dirty: Vec<_> = captures.iter().flat_map(|capture| &capture.dirty).collect();
    assert_eq!(dirty.len(), 1);
    assert_eq!(dirty[0].index, 76);
    assert_eq!(dirty[0].clean_prefix_bytes, 5_000_000 - 76 * 65_536);
    durable.save(&mut world);
    assert_eq!(durable, Durable::full(&world));
}

#[test]
fn everything_after_a_checkpoint_is_rolled_back() {
    let mut world = world(&Limits::default());
    let (job, out) = (job(&mut world), world.open_root(Root::Out).unwrap());
    world.append_output(ContentId::STDOUT, b"line 1\n").unwrap();
    world.make_directory(job, "d", START_NS).unwrap();
    write_all(&mut world, job, "d/keep", &vec![5; 100_000]).unwrap();
    write_all(&mut world, job, "gone", b"it comes back").unwrap();
    world.set_times_at(job, "d", Some(11), Some(12)).unwrap();
    let mut durable = Durable::default();
    durable.save(&mut world);
    let before = durable.clone();

    world.append_output(ContentId::STDOUT, b"line 2\n").unwrap();
    world.append_output(ContentId::STDERR, &vec![7; 70_000]).unwrap();
    let file = world.open(job, "d/keep", CREATE, START_NS).unwrap();
    world.write_at(file, 3, b"changed", START_NS + 5).unwrap();
    world.set_len(file, 70_000, START_NS + 6).unwrap();
    world.remove_file(job, "gone", START_NS).unwrap();
    world.rename(job, "d", out, "moved", START_NS).unwrap();
    write_all(&mut world, out, "artifact", b"too early").unwrap();
    let numbered = world.next_content();

    durable.restore(&mut world);
    assert_eq!(Durable::full(&world), before);
    assert!(world.next_content() < numbered, "numbers are given again in the same order");
    assert_eq!(list(&mut world, out), []);
    assert_eq!(read_all(&mut world, job, "gone").unwrap(), b"it comes back");
    assert_eq!(world.stat_at(job, "d").unwrap().modified_ns, 12);
    assert_eq!(world.content_len(ContentId::STDERR), Some(0));

    // The second time is as good as the first.
    world.append_output(ContentId::STDOUT, b"line 2\n").unwrap();
    durable.restore(&mut world);
    assert_eq!(Durable::full(&world), before);
}

#[test]
fn handles_from_before_a_restoring_are_stale_except_those_on_roots() {
    let mut world = world(&Limits::default());
    let job = job(&mut world);
    let mut durable = Durable::default();
    durable.save(&mut world);
    write_all(&mut world, job, "f", b"x").unwrap();
    world.make_directory(job, "d", START_NS).unwrap();
    let file = world.open(job, "f", READ, START_NS).unwrap();
    let directory = world.open(job, "d", READ, START_NS).unwrap();
    durable.restore(&mut world);
    // A new file has the old one's number, and the old handle must not reach it.
    write_all(&mut world, job, "other", b"secret").unwrap();
    let mut bytes = [0; 6];
    assert!(matches!(world.read_at(file, 0, &mut bytes), Err(Refused::StaleHandle)));
    assert!(matches!(world.write_at(file, 0, b"x", START_NS), Err(Refused::StaleHandle)));
    assert!(matches!(world.stat_at(directory, "."), Err(Refused::StaleHandle)));
    assert!(matches!(world.same_object(file, job), Err(Refused::StaleHandle)));
    world.close(file);
    world.close(directory);
    assert_eq!(list(&mut world, job).len(), 1);
    assert_eq!(read_all(&mut world, job, "other").unwrap(), b"secret");
}

#[test]
fn what_was_over_a_lowered_limit_is_put_back_but_cannot_grow() {
    let mut first = world(&Limits::default());
    let base = job(&mut first);
    write_all(&mut first, base, "f", &[1; 500]).unwrap();
    first.append_output(ContentId::STDOUT, &[1; 500]).unwrap();
    let mut durable = Durable::default();
    durable.save(&mut first);

    let limits = Limits { files_bytes: 100, files: 1, stdout_bytes: 100, ..Limits::default() };
    let mut second = world(&limits);
    let base = job(&mut second);
    durable.restore(&mut second);
    let file = second.open(base, "f", CREATE, START_NS).unwrap();
    assert!(matches!(second.append(file, &[1], START_NS), Err(Refused::Quota(_))));
    second.write_at(file, 0, &[2; 500], START_NS).unwrap();
    let result = second.append_output(ContentId::STDOUT, &[1]);
    assert!(matches!(result, Err(Refused::OutputLimit(_))));
    assert_eq!(second.content_len(ContentId::STDOUT), Some(500));
}

#[test]
fn what_was_rolled_back_gives_its_room_back() {
    let limits = Limits { files_bytes: 100, files: 2, ..Limits::default() };
    let mut world = world(&limits);
    let job = job(&mut world);
    write_all(&mut world, job, "f", &[1; 40]).unwrap();
    let mut durable = Durable::default();
    durable.save(&mut world);
    for _ in 0..3 {
        write_all(&mut world, job, "g", &[1; 60]).unwrap();
        let result = write_all(&mut world, job, "h", &[]);
        assert!(matches!(result, Err(Refused::Quota(_))));
        durable.restore(&mut world);
    }
    write_all(&mut world, job, "g", &[1; 60]).unwrap();
    let file = world.open(job, "f", CREATE, START_NS).unwrap();
    assert!(matches!(world.append(file, &[1], START_NS), Err(Refused::Quota(_))));
}

/// Contents with their lengths, and names.
type Parts<'a> = (&'a [(u64, u64)], &'a [(&'a str, Node)]);

#[test]
fn a_checkpoint_whose_parts_do_not_belong_together_is_refused() {
    struct Zeros(usize);
    impl ChunkSource for Zeros {
        fn read_chunk(&self, _: ContentId, _: u32) -> io::Result<Vec<u8>> {
            Ok(vec![0; self.0])
        }
    }
    let node = |kind| Node { kind, modified_ns: 0, accessed_ns: 0 };
    let file = |number| node(NodeKind::File(ContentId(number)));
    let directory = node(NodeKind::Directory);
    let names = |entries: &[(&str, Node)]| -> NameTree {
        entries.iter().map(|(path, node)| ((*path).to_owned(), *node)).collect()
    };
    let restore = |contents: &[(u64, u64)], names: &NameTree| {
        let contents: Vec<_> = contents.iter().map(|(id, len)| (ContentId(*id), *len)).collect();
        world(&Limits::default()).restore(&contents, names, 20, &Zeros(3))
    };
    restore(&[(1, 0), (16, 3)], &names(&[("job/d", directory), ("job/d/f", file(16))])).unwrap();

    let long = format!("job/{}", "x".repeat(256));
    let inconsistent: &[Parts] = &[
        (&[], &[("job/f", file(16))]),
        (&[(16, 3)], &[]),
        (&[(16, 3), (16, 3)], &[("job/f", file(16))]),
        (&[(1, 3), (1, 3)], &[]),
        (&[(16, 3)], &[("job/f", file(16)), ("job/g", file(16))]),
        (&[(16, 3)], &[("job/d/f", file(16))]),
        (&[(16, 3), (17, 3)], &[("job/f", file(16)), ("job/f/g", file(17))]),
        (&[(16, 3)], &[("in/f", file(16))]),
        (&[(16, 3)], &[("f", file(16))]),
        (&[(16, 3)], &[("job/..", file(16))]),
        (&[(16, 3)], &[("job/", file(16))]),
        (&[(16, 3)], &[(&long, file(16))]),
        (&[], &[("job", directory)]),
        (&[(20, 3)], &[("job/f", file(20))]),
        (&[(0, 3)], &[]),
        (&[(3, 3)], &[("job/f", file(3))]),
    ];
    for (contents, entries) in inconsistent {
        let result = restore(contents, &names(entries));
        assert!(matches!(result, Err(RestoreError::Inconsistent(_))), "{entries:?}: {result:?}");
    }
    let result = restore(&[(16, 4)], &names(&[("job/f", file(16))]));
    let RestoreError::ChunkLength { expected_bytes: 4, found_bytes: 3, .. } = result.unwrap_err()
    else {
        panic!("the chunk is too short");
    };
}
