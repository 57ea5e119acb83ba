//! A file system of our own whose files are disks in memory, one of which keeps a record.
//!
//! Owns: what FUSE asks for, and the order in which it was asked. Knows nothing of what the disks hold.
//!
//! Invariant: one thread answers, so that the record has the order in which writes and flushes were
//! answered; a write that was answered before a flush came stands before it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};

use super::record::{Bytes, Image, Record, Step};

/// How long the kernel may believe an answer: a disk never changes its size.
const BELIEVED: Duration = Duration::from_mins(10);

struct Disk {
    image: Image,
    record: Option<Record>,
}

/// Disks by their number, which is their inode and their name.
#[derive(Default)]
struct Disks {
    disks: BTreeMap<u64, Disk>,
    last: u64,
}

type Shared = Arc<Mutex<Disks>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Disks> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The mounted file system; let go of, it is unmounted.
pub struct Shelf {
    session: Option<fuser::BackgroundSession>,
    shared: Shared,
    at: PathBuf,
}

impl Shelf {
    pub fn mount(at: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(at)?;
        let shared = Shared::default();
        let options = fuser::MountOption::FSName("hb-disks".to_owned());
        let mut config = fuser::Config::default();
        config.mount_options.push(options);
        let session = fuser::spawn_mount(Answers(Arc::clone(&shared)), at, &config)?;
        Ok(Self { session: Some(session), shared, at: at.to_owned() })
    }

    /// Puts a disk there.
    pub fn put(&self, image: Image) -> Placed<'_> {
        let mut disks = lock(&self.shared);
        // The root has 1.
        disks.last = disks.last.max(1) + 1;
        let number = disks.last;
        disks.disks.insert(number, Disk { image, record: None });
        Placed { shelf: self, number }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && session.umount_and_join().is_err()
        {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.at).status();
        }
    }
}

/// A disk that is there until it is let go of.
pub struct Placed<'a> {
    shelf: &'a Shelf,
    number: u64,
}

impl Placed<'_> {
    pub fn path(&self) -> PathBuf {
        self.shelf.at.join(self.number.to_string())
    }

    /// Records what it is told from now on.
    pub fn begin(&self) {
        self.with(|disk| {
            disk.record = Some(Record { first: disk.image.clone(), steps: Vec::new() });
        });
    }

    /// How many steps it was told.
    pub fn position(&self) -> usize {
        self.with(|disk| disk.record.as_ref().map_or(0, |record| record.steps.len()))
    }

    /// Ends the record.
    pub fn end(&self) -> Record {
        self.with(|disk| disk.record.take().unwrap())
    }

    fn with<T>(&self, on: impl FnOnce(&mut Disk) -> T) -> T {
        on(lock(&self.shelf.shared).disks.get_mut(&self.number).unwrap())
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        lock(&self.shelf.shared).disks.remove(&self.number);
    }
}

struct Answers(Shared);

fn attributes(number: u64, bytes: Option<u64>) -> FileAttr {
    let (kind, perm) = match bytes {
        Some(_) => (FileType::RegularFile, 0o600),
        None => (FileType::Directory, 0o700),
    };
    let size = bytes.unwrap_or(0);
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Answers {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name.to_str().and_then(|name| name.parse().ok());
        let disks = lock(&self.0);
        let found = number.and_then(|number| Some((number, disks.disks.get(&number)?)));
        match found {
            Some((number, disk)) if parent == INodeNo::ROOT => {
                let attributes = attributes(number, Some(disk.image.bytes()));
                reply.entry(&BELIEVED, &attributes, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino == INodeNo::ROOT {
            return reply.attr(&BELIEVED, &attributes(ino.0, None));
        }
        match lock(&self.0).disks.get(&ino.0) {
            Some(disk) => reply.attr(&BELIEVED, &attributes(ino.0, Some(disk.image.bytes()))),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = |disk: &Disk| disk.image.read(offset, size as usize);
        match lock(&self.0).disks.get(&ino.0).map(read) {
            Some(bytes) => reply.data(&bytes),
            None => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut disks = lock(&self.0);
        let Some(disk) = disks.disks.get_mut(&ino.0) else {
            return reply.error(Errno::EIO);
        };
        disk.image.write(offset, data);
        if let Some(record) = &mut disk.record {
            record.steps.push(Step::Write { offset, bytes: Bytes::of(data) });
        }
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut disks = lock(&self.0);
        let record = disks.disks.get_mut(&ino.0).and_then(|disk| disk.record.as_mut());
        if let Some(record) = record {
            record.steps.push(Step::Flush);
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
