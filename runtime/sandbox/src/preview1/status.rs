//! What can be known of a descriptor or file, and setting flags and time stamps.

use hb_files::{Kind, Stat};

use super::{
    Call,
    descriptors::{Descriptor, Fd, Object, flag},
    errno::{Answer, Errno},
};
use crate::wasi::clocks::VirtualClock;

/// `filetype`.
const UNKNOWN: u8 = 0;
const DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;

/// The only device that there is; streams are on none.
const DEVICE: u64 = 1;

/// Bits of `rights`. They are told and not enforced one by one: a descriptor can be read or
/// written or not, and what the names of the job's files permit is decided there.
pub(super) mod right {
    pub(in super::super) const FD_READ: u64 = 1 << 1;
    pub(in super::super) const FD_WRITE: u64 = 1 << 6;
    pub(super) const FD_FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub(super) const FD_SYNC: u64 = 1 << 0 | 1 << 4;
    pub(super) const FD_FILESTAT_GET: u64 = 1 << 21;
    pub(super) const POLL_FD_READWRITE: u64 = 1 << 27;
    /// Of every descriptor.
    pub(super) const ANY: u64 = FD_FDSTAT_SET_FLAGS | FD_SYNC | FD_FILESTAT_GET;
    /// Of every file: seeking, telling, advising and setting times.
    pub(super) const FILE: u64 = ANY | POLL_FD_READWRITE | 1 << 2 | 1 << 5 | 1 << 7 | 1 << 23;
    /// Of a file that can be written: allocating and cutting.
    pub(super) const WRITABLE: u64 = FD_WRITE | 1 << 8 | 1 << 22;
    /// Of every directory: all functions on paths, listing and setting times.
    pub(super) const DIRECTORY: u64 = ANY | 0x1ff << 9 | 1 << 18 | 1 << 20 | 0b111 << 24 | 1 << 23;
    /// Of what is opened below a directory. C libraries ask for nothing beyond it, so that it
    /// must name the right to write also below `/in`; else they would open files there for
    /// reading that a program wants to write, and say nothing.
    pub(super) const BELOW: u64 = DIRECTORY | FILE | FD_READ | WRITABLE;
}

impl Call<'_> {
    pub(super) fn fd_fdstat_get(&mut self, fd: Fd, out: u32) -> Answer {
        let out = self.memory.part(out, 24)?;
        let Descriptor { object, flags } = self.guest.preview1.descriptors.get(fd)?;
        let (file_type, base, inheriting) = match object {
            Object::Stdin => (UNKNOWN, right::ANY | right::POLL_FD_READWRITE | right::FD_READ, 0),
            Object::Output(_) => {
                (UNKNOWN, right::ANY | right::POLL_FD_READWRITE | right::FD_WRITE, 0)
            }
            Object::File(file) => {
                let read = if file.can_read { right::FD_READ } else { 0 };
                let write = if file.can_write { right::WRITABLE } else { 0 };
                (REGULAR_FILE, right::FILE | read | write, 0)
            }
            Object::Directory(_) => (DIRECTORY, right::DIRECTORY, right::BELOW),
        };
        let mut record = [0; 24];
        record[0] = file_type;
        record[2..4].copy_from_slice(&flags.to_le_bytes());
        record[8..16].copy_from_slice(&base.to_le_bytes());
        record[16..24].copy_from_slice(&inheriting.to_le_bytes());
        self.memory.put(&out, &record);
        Ok(())
    }

    pub(super) fn fd_fdstat_set_flags(&mut self, fd: Fd, flags: u32) -> Answer {
        let flags = file_flags(flags)?;
        self.guest.preview1.descriptors.get_mut(fd)?.flags = flags;
        Ok(())
    }

    /// Rights are not kept one by one, so that none can be given up.
    pub(super) fn fd_fdstat_set_rights(&mut self, fd: Fd, _base: u64, _inheriting: u64) -> Answer {
        self.guest.preview1.descriptors.get(fd)?;
        Err(Errno::Notsup.into())
    }

    pub(super) fn fd_filestat_get(&mut self, fd: Fd, out: u32) -> Answer {
        let out = self.memory.part(out, 64)?;
        let descriptors = &self.guest.preview1.descriptors;
        let record = match descriptors.get(fd)?.object {
            Object::Stdin | Object::Output(_) => [0; 64],
            Object::File(_) | Object::Directory(_) => {
                let node = descriptors.node(fd)?;
                file_status(&node.world().stat(node.handle())?)
            }
        };
        self.memory.put(&out, &record);
        Ok(())
    }

    pub(super) fn fd_filestat_set_times(
        &mut self,
        fd: Fd,
        accessed_ns: u64,
        modified_ns: u64,
        flags: u32,
    ) -> Answer {
        let (accessed_ns, modified_ns) = times(&self.guest.clock, accessed_ns, modified_ns, flags)?;
        let node = self.guest.preview1.descriptors.node(fd)?;
        Ok(node.world().set_times(node.handle(), accessed_ns, modified_ns)?)
    }
}

/// `fdflags` without any unknown bit.
pub(super) fn file_flags(flags: u32) -> Result<u16, Errno> {
    u16::try_from(flags).ok().filter(|flags| flags & !flag::ALL == 0).ok_or(Errno::Inval)
}

pub(super) fn file_type(kind: Kind) -> u8 {
    match kind {
        Kind::Directory => DIRECTORY,
        Kind::File => REGULAR_FILE,
    }
}

/// The record `filestat`. When a file's status changed is not kept, and told as 0.
pub(super) fn file_status(stat: &Stat) -> [u8; 64] {
    let mut record = [0; 64];
    let fields =
        [DEVICE, stat.identity, 0, 1, stat.size_bytes, stat.accessed_ns, stat.modified_ns, 0];
    for (field, value) in record.chunks_exact_mut(8).zip(fields) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    record[16] = file_type(stat.kind);
    record
}

/// The time stamps to set, the last access first; none leaves one as it is.
pub(super) fn times(
    clock: &VirtualClock,
    accessed_ns: u64,
    modified_ns: u64,
    flags: u32,
) -> Result<(Option<u64>, Option<u64>), Errno> {
    let time = |given: u32, value_ns| match flags >> given & 0b11 {
        0b00 => Ok(None),
        0b01 => Ok(Some(value_ns)),
        0b10 => Ok(Some(clock.wall_ns())),
        _ => Err(Errno::Inval),
    };
    if flags > 0b1111 {
        return Err(Errno::Inval);
    }
    Ok((time(0, accessed_ns)?, time(2, modified_ns)?))
}
