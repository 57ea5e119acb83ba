//! Names, handles and time stamps: the rules that a guest can see.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;

use common::{CREATE, READ, START_NS, job, list, read_all, world, write_all};
use hb_files::{Handle, Input, Kind, MAX_NAME_BYTES, MAX_PATH_BYTES, Open, Refused, Root, World};
use hb_types::limits::Limits;

fn plain() -> (World, Handle) {
    let mut world = world(&Limits::default());
    let job = job(&mut world);
    (world, job)
}

fn open_directory(world: &mut World, base: Handle, path: &str) -> Handle {
    world.open(base, path, Open { directory: true, ..READ }, START_NS).unwrap()
}

#[test]
fn paths_are_walked_component_by_component_and_never_above_their_base() {
    let (mut world, job) = plain();
    world.make_directory(job, "a", START_NS).unwrap();
    world.make_directory(job, "a/b/", START_NS).unwrap();
    write_all(&mut world, job, "./a//b/../f", b"x").unwrap();
    for path in ["a/f", "./a/./f", "a/b/../f", "a/b/../../a/f"] {
        assert_eq!(world.stat_at(job, path).unwrap().size_bytes, 1, "{path}");
    }
    for path in [".", "a/..", "a/b/../..", "a/", "a/b/."] {
        assert_eq!(world.stat_at(job, path).unwrap().kind, Kind::Directory, "{path}");
    }
    let inner = open_directory(&mut world, job, "a");
    for (base, path) in
        [(job, ".."), (job, "a/../../x"), (job, "/a/f"), (inner, "../a"), (inner, "/")]
    {
        assert!(matches!(world.stat_at(base, path), Err(Refused::OutsideRoot)), "{path}");
    }
    assert!(matches!(world.stat_at(job, ""), Err(Refused::NotFound)));
    assert!(matches!(world.stat_at(job, "a/x/../f"), Err(Refused::NotFound)));
    assert!(matches!(world.stat_at(job, "a/f/../f"), Err(Refused::NotDirectory)));
    assert!(matches!(world.stat_at(job, "a/f/"), Err(Refused::NotDirectory)));
    assert!(matches!(world.stat_at(job, "a/f/."), Err(Refused::NotDirectory)));
    assert!(matches!(world.stat_at(job, "a\0b"), Err(Refused::Invalid)));
    let file = world.open(job, "a/f", READ, START_NS).unwrap();
    assert!(matches!(world.stat_at(file, "x"), Err(Refused::NotDirectory)));
}

#[test]
fn names_and_paths_have_their_longest() {
    let (mut world, job) = plain();
    let longest = "n".repeat(MAX_NAME_BYTES);
    write_all(&mut world, job, &longest, b"").unwrap();
    let result = write_all(&mut world, job, &format!("{longest}n"), b"");
    assert!(matches!(result, Err(Refused::NameTooLong)));

    // "job" and four components of 254 and a slash make 1023 bytes.
    let component = "d".repeat(254);
    let mut path = String::new();
    for _ in 0..4 {
        path = if path.is_empty() { component.clone() } else { format!("{path}/{component}") };
        world.make_directory(job, &path, START_NS).unwrap();
    }
    let deepest = open_directory(&mut world, job, &path);
    assert_eq!("job/".len() + path.len(), MAX_PATH_BYTES - 1);
    assert!(matches!(write_all(&mut world, deepest, "x", b""), Err(Refused::NameTooLong)));
    // Nor can a move make what stands below too deep.
    world.make_directory(job, "e", START_NS).unwrap();
    let result = world.rename(job, &component, job, &format!("e/{component}"), START_NS);
    assert!(matches!(result, Err(Refused::NameTooLong)));
    let result = world.rename(job, &component, job, &"x".repeat(255), START_NS);
    result.unwrap();
}

#[test]
fn opening_follows_its_flags() {
    let (mut world, job) = plain();
    let exclusive = Open { exclusive: true, ..CREATE };
    let file = world.open(job, "f", exclusive, START_NS).unwrap();
    world.write_at(file, 0, b"hello", START_NS).unwrap();
    let mut open = |path: &str, how| world.open(job, path, how, START_NS);
    assert!(matches!(open("f", exclusive), Err(Refused::Exists)));
    assert!(matches!(open(".", exclusive), Err(Refused::Exists)));
    assert!(matches!(open("g", READ), Err(Refused::NotFound)));
    assert!(matches!(open("g/", CREATE), Err(Refused::IsDirectory)));
    assert!(matches!(open("f", Open { directory: true, ..READ }), Err(Refused::NotDirectory)));
    assert!(matches!(open("g", Open { directory: true, ..CREATE }), Err(Refused::Invalid)));
    assert!(matches!(open(".", Open { write: true, ..READ }), Err(Refused::IsDirectory)));
    assert!(matches!(open(".", Open { truncate: true, ..READ }), Err(Refused::IsDirectory)));
    let again = open("f", CREATE).unwrap();
    assert_eq!(world.stat(again).unwrap().size_bytes, 5);
    assert!(world.same_object(file, again).unwrap());
    let cut = world.open(job, "f", Open { truncate: true, ..CREATE }, START_NS).unwrap();
    assert_eq!(world.stat(cut).unwrap().size_bytes, 0);
    let directory = open_directory(&mut world, job, ".");
    assert!(world.same_object(job, directory).unwrap());
    assert!(!world.same_object(job, file).unwrap());
    assert!(matches!(world.read_at(directory, 0, &mut [0]), Err(Refused::IsDirectory)));
    assert!(matches!(world.write_at(directory, 0, &[0], 0), Err(Refused::IsDirectory)));
}

#[test]
fn a_removed_file_lives_until_it_is_closed_and_its_name_is_free_at_once() {
    let limits = Limits { files_bytes: 200_000, ..Limits::default() };
    let mut world = world(&limits);
    let job = job(&mut world);
    write_all(&mut world, job, "f", &vec![7; 150_000]).unwrap();
    let old = world.open(job, "f", READ, START_NS).unwrap();
    world.remove_file(job, "f", START_NS).unwrap();
    assert!(matches!(world.stat_at(job, "f"), Err(Refused::NotFound)));
    write_all(&mut world, job, "f", b"new").unwrap();

    let mut bytes = vec![0; 150_000];
    assert_eq!(world.read_at(old, 0, &mut bytes).unwrap(), 150_000);
    assert!(bytes.iter().all(|byte| *byte == 7));
    let (contents, names) = world.capture();
    assert_eq!((contents.len(), names.len()), (3, 1), "it is in no checkpoint");
    // Its bytes count as long as they are there.
    let result = write_all(&mut world, job, "g", &vec![0; 100_000]);
    assert!(matches!(result, Err(Refused::Quota(_))));
    world.close(old);
    assert!(matches!(world.stat(old), Err(Refused::StaleHandle)));
    write_all(&mut world, job, "g", &vec![0; 100_000]).unwrap();
    assert_eq!(read_all(&mut world, job, "f").unwrap(), b"new");
}

#[test]
fn a_removed_directory_stays_open_empty_and_takes_nothing() {
    let (mut world, job) = plain();
    world.make_directory(job, "d", START_NS).unwrap();
    let directory = open_directory(&mut world, job, "d");
    world.make_directory(job, "d/e", START_NS).unwrap();
    assert!(matches!(world.remove_directory(job, "d", START_NS), Err(Refused::NotEmpty)));
    world.remove_directory(job, "d/e", START_NS).unwrap();
    world.remove_directory(job, "d", START_NS).unwrap();
    assert_eq!(list(&mut world, directory), []);
    assert!(matches!(write_all(&mut world, directory, "f", b""), Err(Refused::NotFound)));
    let result = world.make_directory(directory, "f", START_NS);
    assert!(matches!(result, Err(Refused::NotFound)));
    write_all(&mut world, job, "f", b"").unwrap();
    let result = world.rename(job, "f", directory, "f", START_NS);
    assert!(matches!(result, Err(Refused::NotFound)));
    assert_eq!(world.stat(directory).unwrap().kind, Kind::Directory);
    world.close(directory);
}

#[test]
fn roots_can_be_neither_removed_nor_moved() {
    let (mut world, job) = plain();
    world.make_directory(job, "d", START_NS).unwrap();
    assert!(matches!(world.remove_directory(job, ".", START_NS), Err(Refused::Busy)));
    assert!(matches!(world.remove_directory(job, "d/..", START_NS), Err(Refused::Busy)));
    assert!(matches!(world.rename(job, ".", job, "d/x", START_NS), Err(Refused::Busy)));
    assert!(matches!(world.remove_file(job, "d", START_NS), Err(Refused::IsDirectory)));
    assert!(matches!(world.remove_file(job, ".", START_NS), Err(Refused::IsDirectory)));
    assert!(matches!(world.make_directory(job, "d/", START_NS), Err(Refused::Exists)));
    assert!(matches!(world.make_directory(job, ".", START_NS), Err(Refused::Exists)));
    assert!(matches!(world.set_times(job, Some(1), None), Err(Refused::NotPermitted)));
}

#[test]
fn a_directory_is_never_moved_into_itself() {
    let (mut world, job) = plain();
    world.make_directory(job, "d", START_NS).unwrap();
    world.make_directory(job, "d/e", START_NS).unwrap();
    world.make_directory(job, "dd", START_NS).unwrap();
    for to in ["d/x", "d/e/x", "d/e/../x"] {
        let result = world.rename(job, "d", job, to, START_NS);
        assert!(matches!(result, Err(Refused::Invalid)), "{to}");
    }
    world.rename(job, "d", job, "d", START_NS).unwrap();
    assert!(matches!(world.rename(job, "d/e", job, "d", START_NS), Err(Refused::NotEmpty)));
    world.rename(job, "d", job, "dd/d", START_NS).unwrap();
    assert_eq!(world.stat_at(job, "dd/d/e").unwrap().kind, Kind::Directory);
}

#[test]
fn a_file_moves_between_the_roots_and_open_handles_follow_it() {
    let (mut world, job) = plain();
    let out = world.open_root(Root::Out).unwrap();
    write_all(&mut world, job, "draft", b"one").unwrap();
    write_all(&mut world, out, "final", b"old").unwrap();
    let identity = world.stat_at(job, "draft").unwrap().identity;
    let handle = world.open(job, "draft", CREATE, START_NS).unwrap();
    let replaced = world.open(out, "final", READ, START_NS).unwrap();
    world.rename(job, "draft", out, "final", START_NS).unwrap();
    world.append(handle, b" two", START_NS).unwrap();
    assert_eq!(read_all(&mut world, out, "final").unwrap(), b"one two");
    assert_eq!(world.stat_at(out, "final").unwrap().identity, identity);
    assert_eq!(list(&mut world, job), []);
    let mut old = [0; 3];
    world.read_at(replaced, 0, &mut old).unwrap();
    assert_eq!(&old, b"old");
    assert!(matches!(
        world.rename(out, "final", out, "other/", START_NS),
        Err(Refused::NotDirectory)
    ));
}

#[test]
fn a_directory_is_read_in_byte_order_while_it_changes() {
    let (mut world, job) = plain();
    for name in ["b", "a", "ü", "B", "aa"] {
        write_all(&mut world, job, name, b"").unwrap();
    }
    world.make_directory(job, "ab", START_NS).unwrap();
    let names: Vec<String> = list(&mut world, job).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["B", "a", "aa", "ab", "b", "ü"]);

    // What `rm -r` does: each entry goes while the reading goes on.
    let mut after: Option<String> = None;
    while let Some(entry) = world.next_entry(job, after.as_deref()).unwrap() {
        match entry.kind {
            Kind::File => world.remove_file(job, &entry.name, START_NS).unwrap(),
            Kind::Directory => world.remove_directory(job, &entry.name, START_NS).unwrap(),
        }
        after = Some(entry.name);
    }
    assert_eq!(list(&mut world, job), []);
    write_all(&mut world, job, "f", b"").unwrap();
    let file = world.open(job, "f", READ, START_NS).unwrap();
    assert!(matches!(world.next_entry(file, None), Err(Refused::NotDirectory)));
}

#[test]
fn time_stamps_are_those_of_the_virtual_clock() {
    let (mut world, job) = plain();
    world.make_directory(job, "d", 100).unwrap();
    let file = world.open(job, "d/f", CREATE, 200).unwrap();
    let times = |world: &World, path: &str| {
        let stat = world.stat_at(job, path).unwrap();
        (stat.modified_ns, stat.accessed_ns)
    };
    assert_eq!(times(&world, "d"), (200, 100));
    world.write_at(file, 0, b"abc", 300).unwrap();
    world.write_at(file, 1, b"", 301).unwrap();
    world.read_at(file, 0, &mut [0]).unwrap();
    assert_eq!(times(&world, "d/f"), (300, 200), "reading leaves no trace");
    world.set_len(file, 1, 500).unwrap();
    assert_eq!(times(&world, "d/f"), (500, 200));
    world.set_times_at(job, "d/f", Some(7), None).unwrap();
    assert_eq!(times(&world, "d/f"), (500, 7));
    world.set_times(file, None, Some(8)).unwrap();
    assert_eq!(times(&world, "d/f"), (8, 7));
    let directory = open_directory(&mut world, job, "d");
    world.next_entry(directory, None).unwrap();
    world.rename(job, "d/f", job, "g", 700).unwrap();
    assert_eq!(times(&world, "d"), (700, 100));
    assert_eq!(times(&world, "g"), (8, 7));
    assert_eq!(times(&world, "."), (START_NS, START_NS), "roots stand in no checkpoint");
}

#[test]
fn inputs_are_flat_and_can_only_be_read() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"ACGT and what is not part of it").unwrap();
    let inputs = vec![Input { name: "genome".to_owned(), file, len_bytes: 4 }];
    let scratch = tempfile::tempfile().unwrap();
    let mut world = World::new(scratch, &Limits::default(), START_NS, inputs).unwrap();
    let (job, input) = (job(&mut world), world.open_root(Root::In).unwrap());
    assert_eq!(list(&mut world, input), [("genome".to_owned(), Kind::File)]);
    assert_eq!(read_all(&mut world, input, "genome").unwrap(), b"ACGT");
    let genome = world.open(input, "genome", READ, START_NS).unwrap();
    let mut rest = [0; 9];
    assert_eq!(world.read_at(genome, 3, &mut rest).unwrap(), 1);
    assert_eq!(world.read_at(genome, 4, &mut rest).unwrap(), 0);
    assert_eq!(world.read_at(genome, u64::MAX, &mut rest).unwrap(), 0);
    write_all(&mut world, job, "f", b"").unwrap();

    let refused = [
        world.open(input, "genome", CREATE, 0).map(drop),
        world.open(input, "new", CREATE, 0).map(drop),
        world.open(input, "genome", Open { truncate: true, ..READ }, 0).map(drop),
        world.make_directory(input, "new", 0),
        world.remove_file(input, "genome", 0),
        world.rename(input, "genome", job, "genome", 0),
        world.rename(job, "f", input, "f", 0),
        world.set_times(genome, Some(1), Some(1)),
        world.set_times(input, Some(1), Some(1)),
        world.write_at(genome, 0, b"x", 0),
        world.append(genome, b"x", 0),
        world.set_len(genome, 0, 0),
    ];
    for (position, result) in refused.into_iter().enumerate() {
        assert!(matches!(result, Err(Refused::ReadOnly)), "operation {position}: {result:?}");
    }
    assert_eq!(world.capture().1.keys().collect::<Vec<_>>(), ["job/f"]);
}

#[test]
fn an_input_needs_a_good_name_of_its_own() {
    let make = |names: &[&str]| {
        let inputs = names.iter().map(|name| {
            let file = tempfile::tempfile().unwrap();
            Input { name: (*name).to_owned(), file, len_bytes: 0 }
        });
        let scratch = tempfile::tempfile().unwrap();
        World::new(scratch, &Limits::default(), START_NS, inputs.collect())
    };
    assert!(make(&["a", "b.txt"]).is_ok());
    assert!(matches!(make(&["a", "a"]), Err(Refused::Exists)));
    for name in ["", ".", "..", "a/b", "a\0"] {
        assert!(matches!(make(&[name]), Err(Refused::Invalid)), "{name:?}");
    }
    assert!(matches!(make(&[&"x".repeat(256)]), Err(Refused::NameTooLong)));
}

#[test]
fn no_two_objects_share_an_identity() {
    let (mut world, job) = plain();
    let out = world.open_root(Root::Out).unwrap();
    for name in ["a", "b"] {
        world.make_directory(job, name, START_NS).unwrap();
        world.make_directory(out, name, START_NS).unwrap();
        write_all(&mut world, job, &format!("{name}/f"), b"").unwrap();
    }
    let mut identities: Vec<u64> = ["a", "b", "a/f", "b/f", "."]
        .iter()
        .map(|path| world.stat_at(job, path).unwrap().identity)
        .chain(["a", "b", "."].iter().map(|path| world.stat_at(out, path).unwrap().identity))
        .collect();
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(identities.len(), 8);
}
