//! Between the directories of the machine and the job's own files.
//!
//! Owns: which files changed since the last look, the bytes of those that did, and the way back when
//! a checkpoint is given. Knows nothing of checkpoints' numbers and of engines.
//!
//! Invariants: no link is followed; what a checkpoint cannot keep (a link, a pipe, a device) is
//! refused and never left out silently; times are not kept, so that two runs hold the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hb_files::{Handle, Open, Root, World};
use hb_types::capture::{CHUNK_BYTES, ChunkSource as _, NodeKind, chunk_count};
use rustix::{fs::Stat, io::Errno};

use crate::{
    beneath,
    end::{End, refused},
    place::Place,
    walk::{self, Entry, Found, WalkError},
};

/// A file that was changed so shortly before it was read may change again without its time showing
/// it: clocks of file systems tick.
const FRESH: Duration = Duration::from_millis(50);

/// By what a file's change is seen.
type Print = (u64, i64, i64, i64, i64, i64);

fn print(stat: &Stat) -> Print {
    let nanoseconds = |value| i64::try_from(value).unwrap_or(i64::MAX);
    (
        stat.st_ino,
        stat.st_size,
        stat.st_mtime,
        nanoseconds(stat.st_mtime_nsec),
        stat.st_ctime,
        nanoseconds(stat.st_ctime_nsec),
    )
}

/// What was seen of the directories when they were last looked at.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    seen: BTreeMap<String, Print>,
}

const ROOTS: [Root; 2] = [Root::Job, Root::Out];

impl Mirror {
    /// Takes over what the directories hold now.
    pub(crate) fn pull(
        &mut self,
        place: &Place,
        world: &mut World,
        start_ns: u64,
    ) -> Result<(), End> {
        let mut present: BTreeMap<String, Found> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for root in ROOTS {
            let name = root.name();
            let top = File::open(place.path(name)).map_err(End::io("a job's files are gone"))?;
            let base = world.open_root(root).map_err(|why| refused(name, why))?;
            let walked = walk::walk(&top.into(), name, &mut |entry| {
                present.insert(entry.path.to_owned(), entry.found);
                self.take(entry, world, base, start_ns, &mut seen)
            });
            world.close(base);
            walked.map_err(|error| match error {
                WalkError::Visit(end) => end,
                WalkError::Refused(why) => End::Contract(format!("{why}: it cannot be kept")),
                WalkError::Io(error) => unreadable(name, &error),
            })?;
        }
        remove_absent(world, &present, start_ns)?;
        self.seen = seen;
        Ok(())
    }

    fn take(
        &self,
        entry: &Entry<'_>,
        world: &mut World,
        base: Handle,
        start_ns: u64,
        seen: &mut BTreeMap<String, Print>,
    ) -> Result<(), End> {
        let Some((_, inner)) = entry.path.split_once('/') else { return Ok(()) };
        let why = |why| refused(entry.path, why);
        let kind = world.stat_at(base, inner).ok().map(|stat| stat.kind);
        let other = |kind| match entry.found {
            Found::Directory => kind != hb_files::Kind::Directory,
            Found::File | Found::Other(_) => kind != hb_files::Kind::File,
        };
        if kind.is_some_and(other) {
            remove_whole(world, entry.path, start_ns)?;
        }
        match entry.found {
            Found::Other(what) => Err(End::Contract(format!(
                "/{} is {what}: only files and directories can be kept below /job and /out",
                entry.path
            ))),
            Found::Directory if kind == Some(hb_files::Kind::Directory) => Ok(()),
            Found::Directory => world.make_directory(base, inner, start_ns).map_err(why),
            Found::File => {
                let now = print(entry.stat);
                let known =
                    kind == Some(hb_files::Kind::File) && self.seen.get(entry.path) == Some(&now);
                if !known {
                    copy(entry, world, base, inner, start_ns)?;
                }
                if !is_fresh(entry.stat) {
                    seen.insert(entry.path.to_owned(), now);
                }
                Ok(())
            }
        }
    }

    /// Gives the directories what the job's files hold, in place of everything in them. The program
    /// may run meanwhile.
    pub(crate) fn push(&mut self, place: &Place, world: &World) -> io::Result<()> {
        self.seen.clear();
        for root in ROOTS {
            for entry in fs::read_dir(place.path(root.name()))? {
                let entry = entry?;
                // Neither follows a link, whatever takes this name meanwhile.
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        let (contents, names) = world.capture();
        let lengths: BTreeMap<_, _> =
            contents.iter().map(|content| (content.id, content.len_bytes)).collect();
        let tops = [File::open(place.path("job"))?, File::open(place.path("out"))?];
        // In byte order a directory comes before everything below it.
        for (path, node) in &names {
            let Some((root, inner)) = path.split_once('/') else { continue };
            let top = &tops[usize::from(root == Root::Out.name())];
            match node.kind {
                NodeKind::Directory => beneath::create_directory(top, inner, place.user)?,
                NodeKind::File(id) => {
                    let mut file = beneath::create_file(top, inner, place.user)?;
                    for index in 0..chunk_count(lengths.get(&id).copied().unwrap_or(0)) {
                        file.write_all(&world.read_chunk(id, index)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads a file and takes over the chunks that differ.
fn copy(
    entry: &Entry<'_>,
    world: &mut World,
    base: Handle,
    inner: &str,
    start_ns: u64,
) -> Result<(), End> {
    let why = |why| refused(entry.path, why);
    let file = walk::open_file(entry.parent, entry.name);
    let file = file.map_err(|error| unreadable(entry.path, &error.into()))?;
    let stat = rustix::fs::fstat(file.as_fd());
    let stat = stat.map_err(|error| unreadable(entry.path, &error.into()))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(End::Contract(format!("/{} changed while it was kept", entry.path)));
    }
    let how = Open { create: true, write: true, ..Open::default() };
    let handle = world.open(base, inner, how, start_ns).map_err(why)?;
    let mut file = File::from(file);
    let mut chunk = vec![0; CHUNK_BYTES as usize];
    let mut held = vec![0; CHUNK_BYTES as usize];
    let mut offset = 0u64;
    loop {
        let len =
            read_full(&mut file, &mut chunk).map_err(|error| unreadable(entry.path, &error))?;
        if len == 0 {
            break;
        }
        let before = world.read_at(handle, offset, &mut held[..len]).map_err(why)?;
        if held[..before] != chunk[..len] {
            world.write_at(handle, offset, &chunk[..len], start_ns).map_err(why)?;
        }
        offset += len as u64;
    }
    let stat = world.stat(handle).map_err(why)?;
    if stat.size_bytes > offset {
        world.set_len(handle, offset, start_ns).map_err(why)?;
    }
    world.close(handle);
    Ok(())
}

/// What the job's files have and the directories no longer.
fn remove_absent(
    world: &mut World,
    present: &BTreeMap<String, Found>,
    start_ns: u64,
) -> Result<(), End> {
    let (_, names) = world.capture();
    // What is deepest comes last in byte order, and goes first.
    let gone: Vec<&String> = names.keys().filter(|path| !present.contains_key(*path)).collect();
    for path in gone.into_iter().rev() {
        remove_one(world, path, start_ns)?;
    }
    Ok(())
}

/// Removes what stands at a path, with everything below.
fn remove_whole(world: &mut World, path: &str, start_ns: u64) -> Result<(), End> {
    let (_, names) = world.capture();
    let below = format!("{path}/");
    let all: BTreeSet<&String> =
        names.keys().filter(|name| *name == path || name.starts_with(&below)).collect();
    for path in all.into_iter().rev() {
        remove_one(world, path, start_ns)?;
    }
    Ok(())
}

fn remove_one(world: &mut World, path: &str, start_ns: u64) -> Result<(), End> {
    let Some((root, inner)) = path.split_once('/') else { return Ok(()) };
    let root = if root == Root::Job.name() { Root::Job } else { Root::Out };
    let why = |why| refused(path, why);
    let base = world.open_root(root).map_err(why)?;
    let removed = match world.stat_at(base, inner) {
        Ok(stat) if stat.kind == hb_files::Kind::Directory => {
            world.remove_directory(base, inner, start_ns)
        }
        Ok(_) => world.remove_file(base, inner, start_ns),
        Err(error) => Err(error),
    };
    world.close(base);
    removed.map_err(why)
}

fn is_fresh(stat: &Stat) -> bool {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    SystemTime::now().duration_since(changed).is_ok_and(|age| age < FRESH)
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A program that took the rights to its own files away broke the contract; anything else is the
/// machine's failure.
fn unreadable(path: &str, error: &io::Error) -> End {
    let changed = [Errno::NOENT, Errno::LOOP, Errno::NXIO, Errno::NOTDIR];
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => {
            End::Contract(format!("/{path} cannot be read: its rights were taken away"))
        }
        Some(errno) if changed.contains(&errno) => {
            End::Contract(format!("/{path} changed while it was kept"))
        }
        _ => End::Fault(hb_session::HostFault::message(format!("/{path} cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hb_types::limits::Limits;

    use super::*;
    use crate::place::User;

    struct Pair {
        _dir: tempfile::TempDir,
        place: Place,
        world: World,
        mirror: Mirror,
    }

    impl Pair {
        fn new(limits: &Limits) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let place = Place::new(dir.path().join("p"), User::choose(false).unwrap());
            place.prepare(&[], None, None).unwrap();
            let scratch = tempfile::tempfile().unwrap();
            let world = World::new(scratch, limits, 0, Vec::new()).unwrap();
            Self { _dir: dir, place, world, mirror: Mirror::default() }
        }

        fn pull(&mut self) -> Result<(), End> {
            self.mirror.pull(&self.place, &mut self.world, 0)
        }

        fn names(&self) -> Vec<String> {
            self.world.capture().1.into_keys().collect()
        }
    }

    #[test]
    fn what_was_pulled_is_pushed_back_as_it_was() {
        let mut pair = Pair::new(&Limits::default());
        let big: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
        fs::create_dir_all(pair.place.path("job/a/b")).unwrap();
        fs::write(pair.place.path("job/a/b/big"), &big).unwrap();
        fs::write(pair.place.path("out/empty"), "").unwrap();
        pair.pull().unwrap();
        fs::write(pair.place.path("job/later"), "x").unwrap();
        fs::remove_file(pair.place.path("out/empty")).unwrap();
        pair.mirror.push(&pair.place, &pair.world).unwrap();
        assert_eq!(fs::read(pair.place.path("job/a/b/big")).unwrap(), big);
        assert!(pair.place.path("out/empty").exists());
        assert!(!pair.place.path("job/later").exists());
        pair.pull().unwrap();
        assert_eq!(pair.names(), ["job/a", "job/a/b", "job/a/b/big", "out/empty"]);
    }

    #[test]
    fn only_chunks_that_changed_are_taken_over() {
        let mut pair = Pair::new(&Limits::default());
        let path = pair.place.path("job/data");
        let mut bytes = vec![1u8; 3 * CHUNK_BYTES as usize];
        fs::write(&path, &bytes).unwrap();
        pair.pull().unwrap();
        pair.world.mark_clean();
        bytes[CHUNK_BYTES as usize + 5] = 2;
        fs::write(&path, &bytes).unwrap();
        pair.pull().unwrap();
        let (contents, _) = pair.world.capture();
        let dirty: Vec<u32> =
            contents.iter().flat_map(|content| &content.dirty).map(|chunk| chunk.index).collect();
        assert_eq!(dirty, [1]);
    }

    #[test]
    fn a_file_that_became_a_directory_and_back_is_followed() {
        let mut pair = Pair::new(&Limits::default());
        let path = pair.place.path("job/x");
        fs::write(&path, "file").unwrap();
        pair.pull().unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("inner")).unwrap();
        pair.pull().unwrap();
        assert_eq!(pair.names(), ["job/x", "job/x/inner"]);
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "again").unwrap();
        pair.pull().unwrap();
        assert_eq!(pair.names(), ["job/x"]);
    }

    #[test]
    fn a_link_is_refused_and_what_it_leads_to_never_read() {
        let mut pair = Pair::new(&Limits::default());
        std::os::unix::fs::symlink("/etc/passwd", pair.place.path("out/leak")).unwrap();
        match pair.pull() {
            Err(End::Contract(why)) => assert!(why.contains("/out/leak"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_exceeds_the_quota_is_its_limit() {
        let limits = Limits { files_bytes: 100_000, ..Limits::default() };
        let mut pair = Pair::new(&limits);
        fs::write(pair.place.path("out/much"), vec![0; 100_001]).unwrap();
        assert!(matches!(pair.pull(), Err(End::Limit(_))));
    }
}
