//! The guest's table of descriptors.
//!
//! Owns: the numbers, and what stands behind each. Knows nothing of: the guest's memory.
//!
//! Invariants: a new descriptor gets the lowest number that is free; the numbers in use and those
//! that are free together are all from 0 up to some number. A descriptor never gains the right to
//! read or write.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hb_files::Root;
use hb_types::limits::{Limit, Limits};

use super::errno::{Answer, Errno};
use crate::{
    abort::Abort,
    session::Stream,
    wasi::filesystem::{OpenNode, SharedWorld, end_of_guest, lock},
};

/// A number of a descriptor.
pub(super) type Fd = u32;

/// An entry of the table.
pub(super) struct Descriptor {
    pub(super) object: Object,
    /// `fdflags`, kept to be told. Only [`flag::APPEND`] has an effect: nothing here ever blocks,
    /// and nothing is buffered.
    pub(super) flags: u16,
}

/// Bits of `fdflags`.
pub(super) mod flag {
    pub(in super::super) const APPEND: u16 = 1;
    /// `append`, `dsync`, `nonblock`, `rsync` and `sync`.
    pub(in super::super) const ALL: u16 = 0b1_1111;
}

/// What a descriptor is of.
pub(super) enum Object {
    Stdin,
    Output(Stream),
    File(File),
    Directory(Directory),
}

/// An open file.
pub(super) struct File {
    pub(super) node: OpenNode,
    pub(super) position: u64,
    pub(super) can_read: bool,
    pub(super) can_write: bool,
}

/// An open directory.
pub(super) struct Directory {
    pub(super) node: OpenNode,
    /// Where it is one of those that a guest is given.
    pub(super) root: Option<Root>,
    /// Names at which a reader may go on: cookies that the last listing gave, and after which
    /// name each stands.
    pub(super) resume: Vec<(u64, String)>,
}

/// All descriptors of a guest.
#[derive(Default)]
pub(crate) struct Descriptors {
    used: BTreeMap<Fd, Descriptor>,
    free: BTreeSet<Fd>,
    max_used: u64,
}

impl Descriptors {
    /// What a guest starts with: its three streams, then `/job`, `/out` and `/in`.
    pub(crate) fn open(world: &SharedWorld, limits: &Limits) -> wasmtime::Result<Self> {
        let mut descriptors =
            Self { used: BTreeMap::new(), free: BTreeSet::new(), max_used: limits.handles };
        for stream in
            [Object::Stdin, Object::Output(Stream::Stdout), Object::Output(Stream::Stderr)]
        {
            descriptors.insert(stream, 0)?;
        }
        for root in Root::ALL {
            let handle = lock(world).open_root(root).map_err(end_of_guest)?;
            let node = OpenNode::new(Arc::clone(world), handle);
            let directory = Directory { node, root: Some(root), resume: Vec::new() };
            descriptors.insert(Object::Directory(directory), 0)?;
        }
        Ok(descriptors)
    }

    /// Gives an object the lowest free number.
    pub(super) fn insert(&mut self, object: Object, flags: u16) -> Result<Fd, Abort> {
        let wanted = self.used.len() as u64 + 1;
        if wanted > self.max_used {
            let limit = Limit::Handles;
            let reached = hb_types::limits::LimitReached { limit, value: self.max_used, wanted };
            return Err(Abort::Limit(reached));
        }
        let fd = match self.free.pop_first() {
            Some(fd) => fd,
            None => Fd::try_from(self.used.len()).expect("fewer descriptors than files"),
        };
        self.used.insert(fd, Descriptor { object, flags });
        Ok(fd)
    }

    pub(super) fn get(&self, fd: Fd) -> Result<&Descriptor, Errno> {
        self.used.get(&fd).ok_or(Errno::Badf)
    }

    pub(super) fn get_mut(&mut self, fd: Fd) -> Result<&mut Descriptor, Errno> {
        self.used.get_mut(&fd).ok_or(Errno::Badf)
    }

    /// Something that has a name or had one: not a stream.
    pub(super) fn node(&self, fd: Fd) -> Result<&OpenNode, Errno> {
        match &self.get(fd)?.object {
            Object::Stdin | Object::Output(_) => Err(Errno::Badf),
            Object::File(file) => Ok(&file.node),
            Object::Directory(directory) => Ok(&directory.node),
        }
    }

    pub(super) fn directory(&self, fd: Fd) -> Result<&Directory, Errno> {
        match &self.get(fd)?.object {
            Object::Stdin | Object::Output(_) => Err(Errno::Badf),
            Object::File(_) => Err(Errno::Notdir),
            Object::Directory(directory) => Ok(directory),
        }
    }

    pub(super) fn directory_mut(&mut self, fd: Fd) -> Result<&mut Directory, Errno> {
        match &mut self.get_mut(fd)?.object {
            Object::Stdin | Object::Output(_) => Err(Errno::Badf),
            Object::File(_) => Err(Errno::Notdir),
            Object::Directory(directory) => Ok(directory),
        }
    }

    /// A file, for what can be done with files only.
    pub(super) fn file(&mut self, fd: Fd) -> Result<&mut File, Errno> {
        match &mut self.get_mut(fd)?.object {
            Object::Stdin | Object::Output(_) => Err(Errno::Badf),
            Object::File(file) => Ok(file),
            Object::Directory(_) => Err(Errno::Isdir),
        }
    }

    /// A file with a position.
    pub(super) fn seekable(&mut self, fd: Fd) -> Result<&mut File, Errno> {
        match &mut self.get_mut(fd)?.object {
            Object::Stdin | Object::Output(_) => Err(Errno::Spipe),
            Object::File(file) => Ok(file),
            Object::Directory(_) => Err(Errno::Badf),
        }
    }

    pub(super) fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        self.used.remove(&fd).ok_or(Errno::Badf)?;
        self.free.insert(fd);
        Ok(())
    }

    /// Gives what is `from` the number `to`, whose own object is closed.
    pub(super) fn renumber(&mut self, from: Fd, to: Fd) -> Result<(), Errno> {
        self.get(to)?;
        let descriptor = self.used.remove(&from).ok_or(Errno::Badf)?;
        if from != to {
            self.free.insert(from);
        }
        self.used.insert(to, descriptor);
        Ok(())
    }
}

impl File {
    pub(super) fn check_read(&self) -> Answer {
        if self.can_read { Ok(()) } else { Err(Errno::Badf.into()) }
    }

    pub(super) fn check_write(&self) -> Answer {
        if self.can_write { Ok(()) } else { Err(Errno::Badf.into()) }
    }
}
