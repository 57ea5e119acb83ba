//! Functions that take a path. The rules are those of the job's files; there are no links.

use std::sync::Arc;

use hb_files::{Kind, Open};

use super::{
    Call,
    descriptors::{Directory, Fd, File, Object},
    errno::{Answer, Errno},
    status::{self, right},
};
use crate::wasi::filesystem::OpenNode;

/// Bits of `oflags`.
const CREATE: u32 = 1;
const DIRECTORY: u32 = 1 << 1;
const EXCLUSIVE: u32 = 1 << 2;
const TRUNCATE: u32 = 1 << 3;

impl Call<'_> {
    /// `base` says what the descriptor is for. Rights to inherit have no effect: what is below a
    /// directory follows from which of the job's directories it stands in.
    #[expect(clippy::too_many_arguments, reason = "preview 1 has it so")]
    pub(super) fn path_open(
        &mut self,
        fd: Fd,
        lookup: u32,
        path: u32,
        len: u32,
        how: u32,
        base: u64,
        _inheriting: u64,
        flags: u32,
        out: u32,
    ) -> Answer {
        let out = self.memory.part(out, 4)?;
        let path = self.memory.path(path, len)?;
        check_lookup(lookup)?;
        let flags = status::file_flags(flags)?;
        let how = open_flags(how, base)?;
        let guest = &mut *self.guest;
        let directory = guest.preview1.descriptors.directory(fd)?;
        let (handle, kind) = {
            let mut world = directory.node.world();
            let handle = world.open(directory.node.handle(), path, how, guest.clock.wall_ns())?;
            (handle, world.stat(handle)?.kind)
        };
        let node = OpenNode::new(Arc::clone(&guest.stdio.world), handle);
        let object = match kind {
            Kind::Directory => {
                Object::Directory(Directory { node, root: None, resume: Vec::new() })
            }
            Kind::File => Object::File(File {
                node,
                position: 0,
                // What was opened for nothing can be read, as elsewhere.
                can_read: base & right::FD_READ != 0 || !how.write,
                can_write: how.write,
            }),
        };
        let fd = guest.preview1.descriptors.insert(object, flags)?;
        self.memory.put(&out, &fd.to_le_bytes());
        Ok(())
    }

    pub(super) fn path_filestat_get(
        &mut self,
        fd: Fd,
        lookup: u32,
        path: u32,
        len: u32,
        out: u32,
    ) -> Answer {
        let out = self.memory.part(out, 64)?;
        let path = self.memory.path(path, len)?;
        check_lookup(lookup)?;
        let node = &self.guest.preview1.descriptors.directory(fd)?.node;
        let record = status::file_status(&node.world().stat_at(node.handle(), path)?);
        self.memory.put(&out, &record);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "preview 1 has it so")]
    pub(super) fn path_filestat_set_times(
        &mut self,
        fd: Fd,
        lookup: u32,
        path: u32,
        len: u32,
        accessed_ns: u64,
        modified_ns: u64,
        flags: u32,
    ) -> Answer {
        let path = self.memory.path(path, len)?;
        check_lookup(lookup)?;
        let (accessed_ns, modified_ns) =
            status::times(&self.guest.clock, accessed_ns, modified_ns, flags)?;
        let node = &self.guest.preview1.descriptors.directory(fd)?.node;
        Ok(node.world().set_times_at(node.handle(), path, accessed_ns, modified_ns)?)
    }

    pub(super) fn path_create_directory(&mut self, fd: Fd, path: u32, len: u32) -> Answer {
        let path = self.memory.path(path, len)?;
        let guest = &*self.guest;
        let node = &guest.preview1.descriptors.directory(fd)?.node;
        Ok(node.world().make_directory(node.handle(), path, guest.clock.wall_ns())?)
    }

    pub(super) fn path_remove_directory(&mut self, fd: Fd, path: u32, len: u32) -> Answer {
        let path = self.memory.path(path, len)?;
        let guest = &*self.guest;
        let node = &guest.preview1.descriptors.directory(fd)?.node;
        Ok(node.world().remove_directory(node.handle(), path, guest.clock.wall_ns())?)
    }

    pub(super) fn path_unlink_file(&mut self, fd: Fd, path: u32, len: u32) -> Answer {
        let path = self.memory.path(path, len)?;
        let guest = &*self.guest;
        let node = &guest.preview1.descriptors.directory(fd)?.node;
        Ok(node.world().remove_file(node.handle(), path, guest.clock.wall_ns())?)
    }

    pub(super) fn path_rename(
        &mut self,
        fd: Fd,
        old: u32,
        old_len: u32,
        new_fd: Fd,
        new: u32,
        new_len: u32,
    ) -> Answer {
        let (old, new) = (self.memory.path(old, old_len)?, self.memory.path(new, new_len)?);
        let guest = &*self.guest;
        let from = &guest.preview1.descriptors.directory(fd)?.node;
        let to = &guest.preview1.descriptors.directory(new_fd)?.node;
        let now_ns = guest.clock.wall_ns();
        Ok(from.world().rename(from.handle(), old, to.handle(), new, now_ns)?)
    }

    /// Hard links do not exist.
    #[expect(clippy::too_many_arguments, reason = "preview 1 has it so")]
    pub(super) fn path_link(
        &mut self,
        old_fd: Fd,
        lookup: u32,
        old_path: u32,
        old_len: u32,
        new_fd: Fd,
        new_path: u32,
        new_len: u32,
    ) -> Answer {
        self.memory.path(old_path, old_len)?;
        self.memory.path(new_path, new_len)?;
        check_lookup(lookup)?;
        self.guest.preview1.descriptors.directory(old_fd)?;
        self.guest.preview1.descriptors.directory(new_fd)?;
        Err(Errno::Notsup.into())
    }

    /// Neither do symbolic ones.
    pub(super) fn path_symlink(
        &mut self,
        old: u32,
        old_len: u32,
        fd: Fd,
        new: u32,
        new_len: u32,
    ) -> Answer {
        self.memory.path(old, old_len)?;
        self.memory.path(new, new_len)?;
        self.guest.preview1.descriptors.directory(fd)?;
        Err(Errno::Perm.into())
    }

    /// What exists is no symbolic link.
    pub(super) fn path_readlink(
        &mut self,
        fd: Fd,
        path: u32,
        len: u32,
        buffer: u32,
        buffer_len: u32,
        out: u32,
    ) -> Answer {
        self.memory.part(out, 4)?;
        self.memory.part(buffer, buffer_len)?;
        let path = self.memory.path(path, len)?;
        let node = &self.guest.preview1.descriptors.directory(fd)?.node;
        node.world().stat_at(node.handle(), path)?;
        Err(Errno::Inval.into())
    }
}

/// Without symbolic links it does not matter whether they are followed.
fn check_lookup(lookup: u32) -> Result<(), Errno> {
    if lookup > 1 { Err(Errno::Inval) } else { Ok(()) }
}

fn open_flags(how: u32, base: u64) -> Result<Open, Errno> {
    if how & !(CREATE | DIRECTORY | EXCLUSIVE | TRUNCATE) != 0 {
        return Err(Errno::Inval);
    }
    let how = Open {
        create: how & CREATE != 0,
        exclusive: how & EXCLUSIVE != 0,
        truncate: how & TRUNCATE != 0,
        directory: how & DIRECTORY != 0,
        write: base & right::FD_WRITE != 0,
    };
    if how.truncate && !how.write {
        return Err(Errno::Inval);
    }
    Ok(how)
}
