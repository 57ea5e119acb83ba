//! Descriptors: the guest's handles on files and directories, and what can be done with them.
//!
//! Owns: the rights of a descriptor, and closing what nobody holds any more. The rules of the
//! tree and its quotas are those of [`hb_files`].
//!
//! Invariant: a descriptor never gains rights: what is below `/in` cannot be written to, and a
//! file that was opened for reading only is not written through that descriptor.

use std::sync::{Arc, MutexGuard};

use hb_files::{Handle, Kind, Open, Root, Stat, World};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::{
    FilesystemCtx, MAX_TRANSFER_BYTES, SharedWorld,
    error::{self, Answer, FilesystemError},
    lock, preopens,
    streams::{Place, Reader, Writer},
    types::{
        self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
        HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
        PathFlags,
    },
};

const NANOSECONDS: u64 = 1_000_000_000;

/// A handle that closes itself. Descriptors and the streams made from them share it.
pub(crate) struct OpenNode {
    world: SharedWorld,
    handle: Handle,
}

impl OpenNode {
    pub(crate) fn new(world: SharedWorld, handle: Handle) -> Self {
        Self { world, handle }
    }

    /// To be let go of before any `OpenNode` of this world is dropped.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// At most `len_bytes` from `offset` on; nothing only at the end.
    pub(super) fn read(&self, offset: u64, len_bytes: u64) -> Answer<Vec<u8>> {
        let world = self.world();
        let rest = world.stat(self.handle)?.size_bytes.saturating_sub(offset);
        let len = usize::try_from(len_bytes.min(rest)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(MAX_TRANSFER_BYTES)];
        let len = world.read_at(self.handle, offset, &mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8], now_ns: u64) -> Answer<()> {
        Ok(self.world().write_at(self.handle, offset, bytes, now_ns)?)
    }
}

impl Drop for OpenNode {
    fn drop(&mut self) {
        self.world().close(self.handle);
    }
}

/// The resource `descriptor`.
pub struct Descriptor {
    node: Arc<OpenNode>,
    flags: DescriptorFlags,
}

/// The resource `directory-entry-stream`: how far a directory has been read.
pub struct Entries {
    directory: Arc<OpenNode>,
    after: Option<String>,
}

impl FilesystemCtx<'_> {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The handle behind a descriptor, and the world to use it in.
    fn at(&self, descriptor: &Resource<Descriptor>) -> Answer<(MutexGuard<'_, World>, Handle)> {
        self.pulse.check()?;
        let node = &self.table.get(descriptor)?.node;
        Ok((node.world(), node.handle))
    }

    fn push(&mut self, handle: Handle, flags: DescriptorFlags) -> Answer<Resource<Descriptor>> {
        let node = Arc::new(OpenNode::new(Arc::clone(self.world), handle));
        Ok(self.table.push(Descriptor { node, flags })?)
    }

    /// A file that was opened with the right `needed`.
    fn file(
        &self,
        descriptor: &Resource<Descriptor>,
        needed: DescriptorFlags,
    ) -> Answer<Arc<OpenNode>> {
        self.pulse.check()?;
        let Descriptor { node, flags } = self.table.get(descriptor)?;
        if node.world().stat(node.handle)?.kind == Kind::Directory {
            return Err(ErrorCode::IsDirectory.into());
        }
        if !flags.contains(needed) {
            return Err(ErrorCode::BadDescriptor.into());
        }
        Ok(Arc::clone(node))
    }

    fn push_writer(
        &mut self,
        descriptor: &Resource<Descriptor>,
        place: Place,
    ) -> Answer<Resource<DynOutputStream>> {
        let node = self.file(descriptor, DescriptorFlags::WRITE)?;
        let (clock, pulse) = (Arc::clone(self.clock), self.pulse.clone());
        let writer = Writer { node, clock, pulse, place };
        let writer: DynOutputStream = Box::new(writer);
        Ok(self.table.push(writer)?)
    }

    /// What a new time stamp means; none leaves the old one.
    fn timestamp(&self, new: NewTimestamp) -> Answer<Option<u64>> {
        match new {
            NewTimestamp::NoChange => Ok(None),
            NewTimestamp::Now => Ok(Some(self.now_ns())),
            NewTimestamp::Timestamp(time) => {
                let ns = time.seconds.checked_mul(NANOSECONDS);
                let ns = ns.and_then(|ns| ns.checked_add(time.nanoseconds.into()));
                Ok(Some(ns.ok_or(ErrorCode::Overflow)?))
            }
        }
    }
}

impl preopens::Host for FilesystemCtx<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        Root::ALL
            .iter()
            .map(|&root| {
                // The interface has no way to refuse.
                let handle = lock(self.world).open_root(root).map_err(error::end_of_guest)?;
                match self.push(handle, root_flags(root)) {
                    Ok(descriptor) => Ok((descriptor, format!("/{}", root.name()))),
                    Err(FilesystemError::Code(code)) => Err(code.into()),
                    Err(FilesystemError::Trap(error)) => Err(error),
                }
            })
            .collect()
    }
}

fn root_flags(root: Root) -> DescriptorFlags {
    match root {
        Root::Job | Root::Out => {
            DescriptorFlags::READ | DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY
        }
        Root::In => DescriptorFlags::READ,
    }
}

impl types::Host for FilesystemCtx<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        match error {
            FilesystemError::Code(code) => Ok(code),
            FilesystemError::Trap(error) => Err(error),
        }
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<ErrorCode>().copied())
    }
}

impl HostDescriptor for FilesystemCtx<'_> {
    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> Answer<Resource<DynInputStream>> {
        let node = self.file(&fd, DescriptorFlags::READ)?;
        let reader = Reader { node, pulse: self.pulse.clone(), offset: Some(offset) };
        let reader: DynInputStream = Box::new(reader);
        Ok(self.table.push(reader)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: u64,
    ) -> Answer<Resource<DynOutputStream>> {
        self.push_writer(&fd, Place::At(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> Answer<Resource<DynOutputStream>> {
        self.push_writer(&fd, Place::End)
    }

    fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        _offset: u64,
        _length: u64,
        _advice: Advice,
    ) -> Answer<()> {
        self.file(&fd, DescriptorFlags::empty()).map(drop)
    }

    fn sync_data(&mut self, fd: Resource<Descriptor>) -> Answer<()> {
        self.sync(fd)
    }

    fn get_flags(&mut self, fd: Resource<Descriptor>) -> Answer<DescriptorFlags> {
        Ok(self.table.get(&fd)?.flags)
    }

    fn get_type(&mut self, fd: Resource<Descriptor>) -> Answer<DescriptorType> {
        let (world, handle) = self.at(&fd)?;
        Ok(descriptor_type(world.stat(handle)?.kind))
    }

    fn set_size(&mut self, fd: Resource<Descriptor>, size: u64) -> Answer<()> {
        let node = self.file(&fd, DescriptorFlags::WRITE)?;
        Ok(node.world().set_len(node.handle, size, self.now_ns())?)
    }

    fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Answer<()> {
        let (accessed_ns, modified_ns) = (self.timestamp(accessed)?, self.timestamp(modified)?);
        let (mut world, handle) = self.at(&fd)?;
        Ok(world.set_times(handle, accessed_ns, modified_ns)?)
    }

    fn read(
        &mut self,
        fd: Resource<Descriptor>,
        length: u64,
        offset: u64,
    ) -> Answer<(Vec<u8>, bool)> {
        let node = self.file(&fd, DescriptorFlags::READ)?;
        let bytes = node.read(offset, length)?;
        let at_end = bytes.is_empty() && length > 0;
        Ok((bytes, at_end))
    }

    fn write(&mut self, fd: Resource<Descriptor>, buffer: Vec<u8>, offset: u64) -> Answer<u64> {
        let node = self.file(&fd, DescriptorFlags::WRITE)?;
        node.write(offset, &buffer, self.now_ns())?;
        Ok(buffer.len() as u64)
    }

    fn read_directory(&mut self, fd: Resource<Descriptor>) -> Answer<Resource<Entries>> {
        let directory = Arc::clone(&self.table.get(&fd)?.node);
        if directory.world().stat(directory.handle)?.kind != Kind::Directory {
            return Err(ErrorCode::NotDirectory.into());
        }
        Ok(self.table.push(Entries { directory, after: None })?)
    }

    fn sync(&mut self, fd: Resource<Descriptor>) -> Answer<()> {
        // Only a checkpoint makes anything durable.
        let (world, handle) = self.at(&fd)?;
        Ok(world.stat(handle).map(drop)?)
    }

    fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> Answer<()> {
        let (mut world, handle) = self.at(&fd)?;
        Ok(world.make_directory(handle, &path, self.now_ns())?)
    }

    fn stat(&mut self, fd: Resource<Descriptor>) -> Answer<DescriptorStat> {
        let (world, handle) = self.at(&fd)?;
        Ok(descriptor_stat(&world.stat(handle)?))
    }

    fn stat_at(
        &mut self,
        fd: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
    ) -> Answer<DescriptorStat> {
        let (world, handle) = self.at(&fd)?;
        Ok(descriptor_stat(&world.stat_at(handle, &path)?))
    }

    fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Answer<()> {
        let (accessed_ns, modified_ns) = (self.timestamp(accessed)?, self.timestamp(modified)?);
        let (mut world, handle) = self.at(&fd)?;
        Ok(world.set_times_at(handle, &path, accessed_ns, modified_ns)?)
    }

    fn link_at(
        &mut self,
        _fd: Resource<Descriptor>,
        _flags: PathFlags,
        _old_path: String,
        _new_fd: Resource<Descriptor>,
        _new_path: String,
    ) -> Answer<()> {
        Err(ErrorCode::Unsupported.into())
    }

    fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> Answer<Resource<Descriptor>> {
        let how = Open {
            create: how.contains(OpenFlags::CREATE),
            exclusive: how.contains(OpenFlags::EXCLUSIVE),
            truncate: how.contains(OpenFlags::TRUNCATE),
            directory: how.contains(OpenFlags::DIRECTORY),
            write: flags.contains(DescriptorFlags::WRITE),
        };
        if how.truncate && !how.write {
            return Err(ErrorCode::Invalid.into());
        }
        self.pulse.check()?;
        let base = self.table.get(&fd)?;
        let now_ns = self.now_ns();
        let (opened, kind) = {
            let mut world = base.node.world();
            let opened = world.open(base.node.handle, &path, how, now_ns)?;
            (opened, world.stat(opened)?.kind)
        };
        let flags = match kind {
            // Rights on what is below a directory follow from its root.
            Kind::Directory => base.flags,
            Kind::File if how.write => flags,
            // What was opened for nothing can be read, as elsewhere.
            Kind::File => flags | DescriptorFlags::READ,
        };
        self.push(opened, flags)
    }

    fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> Answer<String> {
        let (world, handle) = self.at(&fd)?;
        world.stat_at(handle, &path)?;
        // It exists and is no symbolic link, because there are none.
        Err(ErrorCode::Invalid.into())
    }

    fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> Answer<()> {
        let (mut world, handle) = self.at(&fd)?;
        Ok(world.remove_directory(handle, &path, self.now_ns())?)
    }

    fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old_path: String,
        new_fd: Resource<Descriptor>,
        new_path: String,
    ) -> Answer<()> {
        let to = self.table.get(&new_fd)?.node.handle;
        let (mut world, from) = self.at(&fd)?;
        Ok(world.rename(from, &old_path, to, &new_path, self.now_ns())?)
    }

    fn symlink_at(
        &mut self,
        _fd: Resource<Descriptor>,
        _old_path: String,
        _new_path: String,
    ) -> Answer<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> Answer<()> {
        let (mut world, handle) = self.at(&fd)?;
        Ok(world.remove_file(handle, &path, self.now_ns())?)
    }

    fn is_same_object(
        &mut self,
        a: Resource<Descriptor>,
        b: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let (a, b) = (&self.table.get(&a)?.node, &self.table.get(&b)?.node);
        // What is no longer open is not the same as anything.
        Ok(a.world().same_object(a.handle, b.handle).unwrap_or(false))
    }

    fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> Answer<MetadataHashValue> {
        let (world, handle) = self.at(&fd)?;
        Ok(metadata_hash(&world.stat(handle)?))
    }

    fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        _flags: PathFlags,
        path: String,
    ) -> Answer<MetadataHashValue> {
        let (world, handle) = self.at(&fd)?;
        Ok(metadata_hash(&world.stat_at(handle, &path)?))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(fd)?;
        Ok(())
    }
}

impl HostDirectoryEntryStream for FilesystemCtx<'_> {
    fn read_directory_entry(
        &mut self,
        stream: Resource<Entries>,
    ) -> Answer<Option<DirectoryEntry>> {
        self.pulse.check()?;
        let entries = self.table.get_mut(&stream)?;
        let entry = entries
            .directory
            .world()
            .next_entry(entries.directory.handle, entries.after.as_deref())?;
        let Some(entry) = entry else { return Ok(None) };
        entries.after = Some(entry.name.clone());
        Ok(Some(DirectoryEntry { type_: descriptor_type(entry.kind), name: entry.name }))
    }

    fn drop(&mut self, stream: Resource<Entries>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

fn descriptor_type(kind: Kind) -> DescriptorType {
    match kind {
        Kind::Directory => DescriptorType::Directory,
        Kind::File => DescriptorType::RegularFile,
    }
}

fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(stat.kind),
        link_count: 1,
        size: stat.size_bytes,
        data_access_timestamp: Some(datetime(stat.accessed_ns)),
        data_modification_timestamp: Some(datetime(stat.modified_ns)),
        // Not kept.
        status_change_timestamp: None,
    }
}

fn datetime(ns: u64) -> Datetime {
    let nanoseconds = u32::try_from(ns % NANOSECONDS).expect("less than a second");
    Datetime { seconds: ns / NANOSECONDS, nanoseconds }
}

/// The C library makes the inode number from the lower half, so it stays the same when a file
/// changes; the upper half sees changes.
fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    let upper = stat.modified_ns.rotate_left(32) ^ stat.size_bytes;
    MetadataHashValue { lower: stat.identity, upper }
}
