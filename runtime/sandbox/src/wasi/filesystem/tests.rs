//! The host functions as a guest would call them, without one.

use std::{io::Write as _, sync::atomic::Ordering};

use hb_files::Input;
use hb_types::limits::{Limit, LimitReached, Limits};
use wasmtime::component::Resource;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, StreamError};

use super::{
    descriptor::Descriptor,
    error::{Answer, FilesystemError},
    preopens::Host as _,
    types::{
        DescriptorFlags, DescriptorType, ErrorCode, Host as _, HostDescriptor,
        HostDirectoryEntryStream, NewTimestamp, OpenFlags, PathFlags,
    },
    *,
};
use crate::{abort::Abort, session::Control};

const START_NS: u64 = 1_700_000_000_000_000_000;

struct Fixed;

impl Now for Fixed {
    fn now_ns(&self) -> u64 {
        START_NS + 5
    }
}

struct Fixture {
    world: SharedWorld,
    clock: Arc<dyn Now>,
    pulse: Pulse,
    control: Control,
    table: ResourceTable,
}

/// What a guest has when it starts: `/job`, `/out` and `/in`.
struct Roots {
    job: Resource<Descriptor>,
    out: Resource<Descriptor>,
    input: Resource<Descriptor>,
}

impl Fixture {
    fn new(limits: &Limits) -> (Self, Roots) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'A'; 3 * MAX_TRANSFER_BYTES]).unwrap();
        let len_bytes = 3 * MAX_TRANSFER_BYTES as u64;
        let inputs = vec![Input { name: "genome".to_owned(), file, len_bytes }];
        let scratch = tempfile::tempfile().unwrap();
        let world = World::new(scratch, limits, START_NS, inputs).unwrap();
        let world = Arc::new(Mutex::new(world));
        let control = Control::default();
        let pulse = Pulse::new(&control, limits);
        let table = ResourceTable::new();
        let mut fixture = Self { world, clock: Arc::new(Fixed), pulse, control, table };
        let directories = fixture.ctx().get_directories().unwrap();
        let names: Vec<&str> = directories.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["/job", "/out", "/in"]);
        let mut directories = directories.into_iter().map(|(descriptor, _)| descriptor);
        let mut next = || directories.next().unwrap();
        (fixture, Roots { job: next(), out: next(), input: next() })
    }

    fn ctx(&mut self) -> FilesystemCtx<'_> {
        FilesystemCtx {
            world: &self.world,
            clock: &self.clock,
            pulse: &self.pulse,
            table: &mut self.table,
        }
    }

    fn open(
        &mut self,
        base: &Resource<Descriptor>,
        path: &str,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> Answer<Resource<Descriptor>> {
        self.ctx().open_at(same(base), PathFlags::empty(), path.to_owned(), how, flags)
    }

    fn create(&mut self, base: &Resource<Descriptor>, path: &str) -> Resource<Descriptor> {
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        self.open(base, path, OpenFlags::CREATE, flags).unwrap()
    }

    fn reader(&mut self, file: &Resource<Descriptor>, offset: u64) -> Resource<DynInputStream> {
        self.ctx().read_via_stream(same(file), offset).unwrap()
    }

    fn read(&mut self, stream: &Resource<DynInputStream>, size: usize) -> Option<Vec<u8>> {
        match self.table.get_mut(stream).unwrap().read(size) {
            Ok(bytes) => Some(bytes.to_vec()),
            Err(StreamError::Closed) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn write(
        &mut self,
        stream: &Resource<DynOutputStream>,
        bytes: &'static [u8],
    ) -> Result<(), StreamError> {
        self.table.get_mut(stream).unwrap().write(bytes.into())
    }
}

/// The same handle once more, as the guest passes it with each call.
fn same<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

fn own<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_own(resource.rep())
}

#[track_caller]
fn code<T>(answer: Answer<T>) -> ErrorCode {
    match answer {
        Ok(_) => panic!("it was not refused"),
        Err(FilesystemError::Code(code)) => code,
        Err(FilesystemError::Trap(error)) => panic!("it trapped: {error:?}"),
    }
}

#[test]
fn a_file_is_written_and_read_by_calls_and_by_streams() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    let file = fixture.create(&roots.job, "f");
    assert_eq!(fixture.ctx().write(same(&file), b"hello".to_vec(), 2).unwrap(), 5);
    let writer = fixture.ctx().write_via_stream(same(&file), 0).unwrap();
    fixture.write(&writer, b"a").unwrap();
    fixture.write(&writer, b"b").unwrap();
    let appender = fixture.ctx().append_via_stream(same(&file)).unwrap();
    fixture.write(&appender, b" and").unwrap();
    fixture.ctx().write(same(&file), b"!".to_vec(), 11).unwrap();
    fixture.write(&appender, b" on").unwrap();
    assert_eq!(fixture.ctx().read(same(&file), 100, 0).unwrap().0, b"abhello and! on");
    assert_eq!(fixture.ctx().read(same(&file), 100, 15).unwrap(), (Vec::new(), true));
    assert_eq!(fixture.ctx().read(same(&file), 0, 0).unwrap(), (Vec::new(), false));
    let reader = fixture.reader(&file, 2);
    assert_eq!(fixture.read(&reader, 5).unwrap(), b"hello");
    assert_eq!(fixture.read(&reader, 0).unwrap(), b"");
    assert_eq!(fixture.read(&reader, 500).unwrap(), b" and! on");
    assert_eq!(fixture.read(&reader, 500), None);
    fixture.write(&appender, b"more").unwrap();
    assert_eq!(fixture.read(&reader, 500), None, "closed is closed");
}

#[test]
fn no_call_gives_or_takes_more_than_a_bounded_amount() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    let genome =
        fixture.open(&roots.input, "genome", OpenFlags::empty(), DescriptorFlags::READ).unwrap();
    let (bytes, at_end) = fixture.ctx().read(same(&genome), u64::MAX, 0).unwrap();
    assert_eq!((bytes.len(), at_end), (MAX_TRANSFER_BYTES, false));
    let reader = fixture.reader(&genome, 0);
    let mut total = 0;
    while let Some(bytes) = fixture.read(&reader, usize::MAX) {
        assert_eq!(bytes.len(), MAX_TRANSFER_BYTES);
        total += bytes.len();
    }
    assert_eq!(total, 3 * MAX_TRANSFER_BYTES);

    let file = fixture.create(&roots.job, "f");
    let writer = fixture.ctx().write_via_stream(same(&file), 0).unwrap();
    let stream = fixture.table.get_mut(&writer).unwrap();
    let permitted = stream.check_write().unwrap();
    stream.write(vec![1; permitted].into()).unwrap();
    let too_much = stream.write(vec![1; permitted + 1].into());
    let Err(StreamError::Trap(error)) = too_much else { panic!("it must trap") };
    assert!(matches!(error.downcast_ref(), Some(Abort::Contract(_))));
}

#[test]
fn rights_are_kept() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    let writable = fixture.create(&roots.job, "f");
    let readable =
        fixture.open(&roots.job, "f", OpenFlags::empty(), DescriptorFlags::empty()).unwrap();
    let write_only =
        fixture.open(&roots.job, "f", OpenFlags::empty(), DescriptorFlags::WRITE).unwrap();
    fixture.ctx().write(same(&writable), b"x".to_vec(), 0).unwrap();
    assert_eq!(fixture.ctx().get_flags(same(&readable)).unwrap(), DescriptorFlags::READ);
    assert_eq!(fixture.ctx().read(same(&readable), 1, 0).unwrap().0, b"x");
    let mut ctx = fixture.ctx();
    assert_eq!(code(ctx.write(same(&readable), vec![1], 0)), ErrorCode::BadDescriptor);
    assert_eq!(code(ctx.set_size(same(&readable), 0)), ErrorCode::BadDescriptor);
    assert_eq!(code(ctx.write_via_stream(same(&readable), 0)), ErrorCode::BadDescriptor);
    assert_eq!(code(ctx.append_via_stream(same(&readable))), ErrorCode::BadDescriptor);
    assert_eq!(code(ctx.read(same(&write_only), 1, 0)), ErrorCode::BadDescriptor);
    assert_eq!(code(ctx.read_via_stream(same(&write_only), 0)), ErrorCode::BadDescriptor);
    assert_eq!(code(ctx.read(same(&roots.job), 1, 0)), ErrorCode::IsDirectory);
    assert_eq!(code(ctx.read_via_stream(same(&roots.job), 0)), ErrorCode::IsDirectory);
    assert_eq!(code(ctx.read_directory(same(&writable))), ErrorCode::NotDirectory);

    let all = DescriptorFlags::READ | DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
    assert_eq!(ctx.get_flags(same(&roots.out)).unwrap(), all);
    assert_eq!(ctx.get_flags(same(&roots.input)).unwrap(), DescriptorFlags::READ);
    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let refused = fixture.open(&roots.input, "genome", OpenFlags::empty(), write);
    assert_eq!(code(refused), ErrorCode::ReadOnly);
    let refused = fixture.open(&roots.job, "f", OpenFlags::TRUNCATE, DescriptorFlags::READ);
    assert_eq!(code(refused), ErrorCode::Invalid);
}

#[test]
fn links_exist_nowhere() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    fixture.create(&roots.job, "f");
    let mut ctx = fixture.ctx();
    let (job, f) = (&roots.job, "f".to_owned());
    let answer = ctx.link_at(same(job), PathFlags::empty(), f.clone(), same(job), "g".to_owned());
    assert_eq!(code(answer), ErrorCode::Unsupported);
    let answer = ctx.symlink_at(same(job), f.clone(), "g".to_owned());
    assert_eq!(code(answer), ErrorCode::NotPermitted);
    assert_eq!(code(ctx.readlink_at(same(job), f)), ErrorCode::Invalid);
    assert_eq!(code(ctx.readlink_at(same(job), "g".to_owned())), ErrorCode::NoEntry);
}

#[test]
fn a_stat_shows_virtual_time_and_a_stable_identity() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    let file = fixture.create(&roots.job, "f");
    let mut ctx = fixture.ctx();
    let stat = ctx.stat(same(&file)).unwrap();
    assert_eq!((stat.type_, stat.link_count, stat.size), (DescriptorType::RegularFile, 1, 0));
    let modified = stat.data_modification_timestamp.unwrap();
    assert_eq!((modified.seconds, modified.nanoseconds), (1_700_000_000, 5));
    let before = ctx.metadata_hash(same(&file)).unwrap();
    ctx.write(same(&file), b"x".to_vec(), 0).unwrap();
    let path = "./f".to_owned();
    let after = ctx.metadata_hash_at(same(&roots.job), PathFlags::empty(), path).unwrap();
    assert_eq!((before.lower, after.lower), (16, 16), "the inode number stays");
    assert_ne!(before.upper, after.upper, "the change shows");

    let time =
        |seconds, nanoseconds| NewTimestamp::Timestamp(types::Datetime { seconds, nanoseconds });
    ctx.set_times(same(&file), time(3, 7), NewTimestamp::NoChange).unwrap();
    let stat = ctx.stat_at(same(&roots.job), PathFlags::empty(), "f".to_owned()).unwrap();
    let accessed = stat.data_access_timestamp.unwrap();
    assert_eq!((accessed.seconds, accessed.nanoseconds), (3, 7));
    let answer = ctx.set_times(same(&file), time(u64::MAX, 0), NewTimestamp::Now);
    assert_eq!(code(answer), ErrorCode::Overflow);
}

#[test]
fn a_directory_stream_gives_each_name_once_in_order() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    for name in ["b", "c", "a"] {
        fixture.create(&roots.out, name);
    }
    let mut ctx = fixture.ctx();
    ctx.create_directory_at(same(&roots.out), "aa".to_owned()).unwrap();
    let stream = ctx.read_directory(same(&roots.out)).unwrap();
    let mut names = Vec::new();
    while let Some(entry) = ctx.read_directory_entry(same(&stream)).unwrap() {
        ctx.rename_at(same(&roots.out), entry.name.clone(), same(&roots.job), entry.name.clone())
            .unwrap();
        names.push((entry.name, entry.type_ == DescriptorType::Directory));
    }
    let expected = [("a", false), ("aa", true), ("b", false), ("c", false)];
    assert_eq!(names, expected.map(|(name, is_directory)| (name.to_owned(), is_directory)));
}

#[test]
fn a_stream_that_was_refused_tells_why_and_is_closed() {
    let limits = Limits { files_bytes: 3, ..Limits::default() };
    let (mut fixture, roots) = Fixture::new(&limits);
    let file = fixture.create(&roots.job, "f");
    let appender = fixture.ctx().append_via_stream(same(&file)).unwrap();
    fixture.write(&appender, b"abc").unwrap();
    let Err(StreamError::LastOperationFailed(error)) = fixture.write(&appender, b"d") else {
        panic!("the quota is used up");
    };
    let error = fixture.table.push(error).unwrap();
    let told = fixture.ctx().filesystem_error_code(same(&error)).unwrap();
    assert_eq!(told, Some(ErrorCode::InsufficientSpace));
    let other = fixture.table.push(wasmtime::Error::msg("something else")).unwrap();
    assert_eq!(fixture.ctx().filesystem_error_code(other).unwrap(), None);
    assert!(matches!(fixture.write(&appender, b""), Err(StreamError::Closed)));
    let stream = fixture.table.get_mut(&appender).unwrap();
    assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
    assert_eq!(fixture.ctx().stat(same(&file)).unwrap().size, 3);
}

#[test]
fn open_files_are_those_that_a_descriptor_or_stream_still_holds() {
    let limits = Limits { open_files: 5, ..Limits::default() };
    let (mut fixture, roots) = Fixture::new(&limits);
    let first = fixture.create(&roots.job, "a");
    let second = fixture.create(&roots.job, "b");
    let open = |fixture: &mut Fixture| {
        fixture.open(&roots.job, "a", OpenFlags::empty(), DescriptorFlags::READ)
    };
    assert_eq!(code(open(&mut fixture)), ErrorCode::Quota);
    let reader = fixture.reader(&first, 0);
    HostDescriptor::drop(&mut fixture.ctx(), own(&first)).unwrap();
    assert_eq!(code(open(&mut fixture)), ErrorCode::Quota, "the stream keeps it open");
    drop(fixture.table.delete(own(&reader)).unwrap());
    let third = open(&mut fixture).unwrap();
    assert!(!fixture.ctx().is_same_object(same(&second), same(&third)).unwrap());
    assert!(fixture.ctx().is_same_object(same(&third), same(&third)).unwrap());
}

#[test]
fn a_full_table_of_handles_closes_what_was_just_opened() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    fixture.table.set_max_capacity(3);
    for _ in 0..1000 {
        let answer = fixture.open(
            &roots.job,
            "f",
            OpenFlags::CREATE,
            DescriptorFlags::READ | DescriptorFlags::WRITE,
        );
        assert!(matches!(answer, Err(FilesystemError::Trap(_))));
    }
    fixture.table.set_max_capacity(4);
    fixture.create(&roots.job, "f");
}

#[test]
fn a_failing_host_ends_the_guest_and_is_never_an_error_code() {
    let (mut fixture, _roots) = Fixture::new(&Limits::default());
    let unreadable = std::fs::File::create(tempfile::tempdir().unwrap().path().join("s")).unwrap();
    *fixture.world.lock().unwrap() =
        World::new(unreadable, &Limits::default(), START_NS, Vec::new()).unwrap();
    // The table's descriptors belong to the world that was replaced; open the roots anew.
    let directories = fixture.ctx().get_directories().unwrap();
    assert_eq!(directories.len(), 3);
    let file = fixture.create(&directories[0].0, "f");
    fixture.ctx().write(same(&file), b"hello".to_vec(), 0).unwrap();
    let Err(FilesystemError::Trap(error)) = fixture.ctx().read(same(&file), 5, 0) else {
        panic!("the scratch file cannot be read");
    };
    assert!(matches!(error.downcast_ref(), Some(Abort::Fault(_))));
    let reader = fixture.reader(&file, 0);
    let Err(StreamError::Trap(error)) = fixture.table.get_mut(&reader).unwrap().read(5) else {
        panic!("the scratch file cannot be read");
    };
    assert!(matches!(error.downcast_ref(), Some(Abort::Fault(_))));
}

#[test]
fn a_cancelled_run_ends_at_its_next_call() {
    let (mut fixture, roots) = Fixture::new(&Limits::default());
    let file = fixture.create(&roots.job, "f");
    let reader = fixture.reader(&file, 0);
    let writer = fixture.ctx().append_via_stream(same(&file)).unwrap();
    fixture.control.cancel.store(true, Ordering::Relaxed);
    let mut ctx = fixture.ctx();
    let ends = [
        ctx.write(same(&file), vec![1], 0).map(drop),
        ctx.stat(same(&file)).map(drop),
        ctx.set_size(same(&file), 5),
        ctx.create_directory_at(same(&roots.job), "d".to_owned()),
        fixture.open(&roots.job, "g", OpenFlags::CREATE, DescriptorFlags::WRITE).map(drop),
    ];
    for answer in ends {
        let Err(FilesystemError::Trap(error)) = answer else { panic!("{answer:?}") };
        assert!(matches!(error.downcast_ref(), Some(Abort::Cancelled)));
    }
    let Err(StreamError::Trap(_)) = fixture.write(&writer, b"x") else { panic!("it went on") };
    let Err(StreamError::Trap(_)) = fixture.table.get_mut(&reader).unwrap().read(1) else {
        panic!("it went on");
    };
}

#[test]
fn a_limit_below_the_given_directories_ends_the_guest_by_its_name() {
    let (mut fixture, _roots) = Fixture::new(&Limits { open_files: 5, ..Limits::default() });
    let error = fixture.ctx().get_directories().unwrap_err();
    let Some(Abort::Limit(reached)) = error.downcast_ref() else { panic!("{error:?}") };
    assert_eq!((reached.limit, reached.value, reached.wanted), (Limit::OpenFiles, 5, 6));
}

#[test]
fn every_refusal_has_its_code() {
    use hb_files::Refused;
    let reached = |limit| LimitReached { limit, value: 1, wanted: 2 };
    let table = [
        (Refused::NotFound, ErrorCode::NoEntry),
        (Refused::Exists, ErrorCode::Exist),
        (Refused::NotDirectory, ErrorCode::NotDirectory),
        (Refused::IsDirectory, ErrorCode::IsDirectory),
        (Refused::NotEmpty, ErrorCode::NotEmpty),
        (Refused::Invalid, ErrorCode::Invalid),
        (Refused::OutsideRoot, ErrorCode::NotPermitted),
        (Refused::NameTooLong, ErrorCode::NameTooLong),
        (Refused::NotPermitted, ErrorCode::NotPermitted),
        (Refused::ReadOnly, ErrorCode::ReadOnly),
        (Refused::Busy, ErrorCode::Busy),
        (Refused::FileTooLarge, ErrorCode::FileTooLarge),
        (Refused::StaleHandle, ErrorCode::BadDescriptor),
        (Refused::Quota(reached(Limit::FilesBytes)), ErrorCode::InsufficientSpace),
        (Refused::Quota(reached(Limit::Files)), ErrorCode::Quota),
        (Refused::TooManyOpen(reached(Limit::OpenFiles)), ErrorCode::Quota),
    ];
    for (refused, expected) in table {
        assert_eq!(code::<()>(Err(refused.into())), expected);
    }
    let ended = FilesystemError::from(Refused::OutputLimit(reached(Limit::Stdout)));
    let FilesystemError::Trap(error) = ended else { panic!("no code says this") };
    assert!(matches!(error.downcast_ref(), Some(Abort::Limit(_))));
}
