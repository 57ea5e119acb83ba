//! Everything that a job owns on its files' side, and the operations on handles.
//!
//! Owns: the two output streams, the tree, the data of files, the inputs, open handles and
//! quotas. Operations that take paths stand in `names`, checkpoints in `capture`.
//! Knows nothing of: access rights of a handle (whoever opened it for reading only must not write
//! through it); clocks (the present time is an argument, in nanoseconds since the Unix epoch).
//!
//! Invariants: `used_bytes` is the sum of the lengths of all files, those that were removed but are
//! still open included; `used_files` counts what has a name below `/job` and `/out`; a node stays
//! as long as it has a name or a handle. Handles are never used twice.
//!
//! Time stamps: changing data sets the modification time of a file; adding, removing and renaming
//! entries that of a directory. Reading sets nothing, as where a disk is mounted `noatime`: a job
//! that reads its files again after a crash must leave no trace of it. The three roots and the
//! inputs show the job's start for ever, because they stand in no checkpoint.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

use hb_types::{
    capture::ContentId,
    limits::{Limit, LimitReached, Limits},
};

use crate::{
    content::Content,
    output::Output,
    path,
    refused::{HostFault, Refused},
    scratch::Scratch,
    tree::{DirectoryNumber, Node, Times, Tree},
};

/// Set in the identity of every directory.
const DIRECTORY_IDENTITY: u64 = 1 << 63;
/// Set in the identity of every input.
const INPUT_IDENTITY: u64 = 1 << 62;

/// The longest that any file may be, whatever the quota says.
const MAX_FILE_BYTES: u64 = 1 << 46;

/// One of the directories that a job is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// `/job`: the job's own files.
    Job,
    /// `/out`: becomes its artifacts.
    Out,
    /// `/in`: its inputs, flat and read-only.
    In,
}

impl Root {
    /// All of them, in the order in which a guest is given them.
    pub const ALL: [Self; 3] = [Self::Job, Self::Out, Self::In];

    /// The name without the slash.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Out => "out",
            Self::In => "in",
        }
    }

    pub(crate) const fn number(self) -> DirectoryNumber {
        match self {
            Self::Job => 0,
            Self::Out => 1,
            Self::In => 2,
        }
    }
}

/// A read-only file below `/in`.
#[derive(Debug)]
pub struct Input {
    /// Its name: one component, unique.
    pub name: String,
    /// Its bytes; must not change as long as the world lives.
    pub file: File,
    /// How many of them.
    pub len_bytes: u64,
}

/// An open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub(crate) u64);

/// What a handle or a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File,
}

/// What can be known of a file or directory. Nothing has more than one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Length of a file; zero for a directory.
    pub size_bytes: u64,
    /// Last change of its data.
    pub modified_ns: u64,
    /// When it was made, or what was set since; reading does not change it.
    pub accessed_ns: u64,
    /// A number that no other file or directory of the job has at the same time, the same in
    /// every run and after every restoring. A directory's follows from its path.
    pub identity: u64,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without the path.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// How a path is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "these are the independent flags of open(2)")]
pub struct Open {
    /// Make a file where there is none.
    pub create: bool,
    /// With `create`: refuse where there is anything.
    pub exclusive: bool,
    /// Cut a file to nothing.
    pub truncate: bool,
    /// Refuse what is not a directory.
    pub directory: bool,
    /// The handle will be used for writing.
    pub write: bool,
}

/// A file with the handles and the name it has.
#[derive(Debug)]
pub(crate) struct FileNode {
    pub(crate) content: Content,
    pub(crate) times: Times,
    pub(crate) has_name: bool,
    pub(crate) opens: usize,
}

/// The streams and files of one job.
#[derive(Debug)]
pub struct World {
    pub(crate) scratch: Scratch,
    pub(crate) limits: Limits,
    pub(crate) start: Times,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) tree: Tree,
    pub(crate) files: BTreeMap<ContentId, FileNode>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) handles: BTreeMap<Handle, Node>,
    pub(crate) next_handle: u64,
    pub(crate) next_content: u64,
    pub(crate) used_bytes: u64,
    pub(crate) used_files: u64,
}

impl World {
    /// An empty world.
    ///
    /// `scratch` is an empty file that nobody else uses, best one without a name. `start_ns` is
    /// the job's virtual start.
    ///
    /// # Errors
    ///
    /// [`Refused::Invalid`], [`Refused::NameTooLong`] or [`Refused::Exists`] where the name of an
    /// input is not a name or stands twice.
    pub fn new(
        scratch: File,
        limits: &Limits,
        start_ns: u64,
        inputs: Vec<Input>,
    ) -> Result<Self, Refused> {
        let start = Times { modified_ns: start_ns, accessed_ns: start_ns };
        let mut tree = Tree::new(&Root::ALL.map(Root::name), start);
        let entries = &mut tree.directory_mut(Root::In.number()).entries;
        for (position, input) in inputs.iter().enumerate() {
            let name = path::check_name(&input.name)?;
            if entries.insert(name.into(), Node::Input(position)).is_some() {
                return Err(Refused::Exists);
            }
        }
        Ok(Self {
            scratch: Scratch::new(scratch),
            limits: limits.clone(),
            start,
            stdout: Output::new(Limit::Stdout, limits),
            stderr: Output::new(Limit::Stderr, limits),
            tree,
            files: BTreeMap::new(),
            inputs,
            handles: BTreeMap::new(),
            next_handle: 0,
            next_content: ContentId::FIRST_FILE.0,
            used_bytes: 0,
            used_files: 0,
        })
    }

    /// Appends to standard output or standard error.
    ///
    /// # Errors
    ///
    /// [`Refused::OutputLimit`]; the stream then holds exactly as many bytes as it may.
    ///
    /// # Panics
    ///
    /// Where `id` is neither of the two.
    pub fn append_output(&mut self, id: ContentId, bytes: &[u8]) -> Result<(), Refused> {
        let output = match id {
            ContentId::STDOUT => &mut self.stdout,
            ContentId::STDERR => &mut self.stderr,
            other => panic!("content {} is not an output stream", other.0),
        };
        output.append(&mut self.scratch, bytes)
    }

    /// The length of an output stream or file; none where there is no such content.
    pub fn content_len(&self, id: ContentId) -> Option<u64> {
        match id {
            ContentId::STDOUT => Some(self.stdout.len_bytes()),
            ContentId::STDERR => Some(self.stderr.len_bytes()),
            id => self.files.get(&id).map(|file| file.content.len_bytes()),
        }
    }

    /// The number that the next new file gets.
    pub fn next_content(&self) -> u64 {
        self.next_content
    }

    /// Opens one of the directories that a job is given.
    pub fn open_root(&mut self, root: Root) -> Result<Handle, Refused> {
        self.check_open()?;
        Ok(self.add_handle(Node::Directory(root.number())))
    }

    /// Closes a handle. What has no name and no other handle ceases to be. A handle that is not
    /// open is ignored: a restored checkpoint closed it.
    pub fn close(&mut self, handle: Handle) {
        let Some(node) = self.handles.remove(&handle) else { return };
        match node {
            Node::Directory(number) => {
                self.tree.directory_mut(number).opens -= 1;
                self.tree.forget_if_unused(number);
            }
            Node::File(id) => {
                self.file_mut(id).opens -= 1;
                self.forget_if_unused(id);
            }
            Node::Input(_) => {}
        }
    }

    /// Whether two handles are of one file or directory.
    pub fn same_object(&self, a: Handle, b: Handle) -> Result<bool, Refused> {
        Ok(self.node(a)? == self.node(b)?)
    }

    /// What the handle is of.
    pub fn stat(&self, handle: Handle) -> Result<Stat, Refused> {
        Ok(self.stat_node(self.node(handle)?))
    }

    /// Reads from `offset` on; fewer bytes than asked for only at the end of the file.
    pub fn read_at(&self, handle: Handle, offset: u64, bytes: &mut [u8]) -> Result<usize, Refused> {
        match self.node(handle)? {
            Node::Directory(_) => Err(Refused::IsDirectory),
            Node::File(id) => Ok(self.file(id).content.read_at(&self.scratch, offset, bytes)?),
            Node::Input(position) => Ok(read_input(&self.inputs[position], offset, bytes)?),
        }
    }

    /// Writes all of `bytes` at `offset`, or nothing; a gap before it becomes zeros.
    pub fn write_at(
        &mut self,
        handle: Handle,
        offset: u64,
        bytes: &[u8],
        now_ns: u64,
    ) -> Result<(), Refused> {
        let id = self.writable_file(handle)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(Refused::FileTooLarge)?;
        let len_bytes = self.file(id).content.len_bytes();
        self.resize(len_bytes, len_bytes.max(end))?;
        let file = self.files.get_mut(&id).expect("an open file exists");
        file.content.write_at(&mut self.scratch, offset, bytes)?;
        file.times.modified_ns = now_ns;
        Ok(())
    }

    /// Writes all of `bytes` at the end, or nothing.
    pub fn append(&mut self, handle: Handle, bytes: &[u8], now_ns: u64) -> Result<(), Refused> {
        let id = self.writable_file(handle)?;
        let end = self.file(id).content.len_bytes();
        self.write_at(handle, end, bytes, now_ns)
    }

    /// Cuts a file, or fills it up with zeros.
    pub fn set_len(&mut self, handle: Handle, len_bytes: u64, now_ns: u64) -> Result<(), Refused> {
        let id = self.writable_file(handle)?;
        self.set_file_len(id, len_bytes, now_ns)
    }

    pub(crate) fn set_file_len(
        &mut self,
        id: ContentId,
        len_bytes: u64,
        now_ns: u64,
    ) -> Result<(), Refused> {
        self.resize(self.file(id).content.len_bytes(), len_bytes)?;
        let file = self.files.get_mut(&id).expect("a file in use exists");
        file.content.set_len(&mut self.scratch, len_bytes)?;
        file.times.modified_ns = now_ns;
        Ok(())
    }

    /// Sets time stamps; none leaves one as it is.
    pub fn set_times(
        &mut self,
        handle: Handle,
        accessed_ns: Option<u64>,
        modified_ns: Option<u64>,
    ) -> Result<(), Refused> {
        self.set_node_times(self.node(handle)?, accessed_ns, modified_ns)
    }

    pub(crate) fn set_node_times(
        &mut self,
        node: Node,
        accessed_ns: Option<u64>,
        modified_ns: Option<u64>,
    ) -> Result<(), Refused> {
        let times = match node {
            Node::Input(_) => return Err(Refused::ReadOnly),
            Node::Directory(number) if number == Root::In.number() => {
                return Err(Refused::ReadOnly);
            }
            Node::Directory(number) if self.tree.is_root(number) => {
                return Err(Refused::NotPermitted);
            }
            Node::Directory(number) => &mut self.tree.directory_mut(number).times,
            Node::File(id) => &mut self.file_mut(id).times,
        };
        times.accessed_ns = accessed_ns.unwrap_or(times.accessed_ns);
        times.modified_ns = modified_ns.unwrap_or(times.modified_ns);
        Ok(())
    }

    pub(crate) fn stat_node(&self, node: Node) -> Stat {
        let (kind, size_bytes, times, identity) = match node {
            Node::Directory(number) => {
                let identity = DIRECTORY_IDENTITY | fnv1a(self.tree.path(number).as_bytes());
                (Kind::Directory, 0, self.tree.directory(number).times, identity)
            }
            Node::File(id) => {
                let file = self.file(id);
                (Kind::File, file.content.len_bytes(), file.times, id.0)
            }
            Node::Input(position) => {
                let size_bytes = self.inputs[position].len_bytes;
                (Kind::File, size_bytes, self.start, INPUT_IDENTITY | position as u64)
            }
        };
        let Times { modified_ns, accessed_ns } = times;
        Stat { kind, size_bytes, modified_ns, accessed_ns, identity }
    }

    pub(crate) fn node(&self, handle: Handle) -> Result<Node, Refused> {
        self.handles.get(&handle).copied().ok_or(Refused::StaleHandle)
    }

    pub(crate) fn directory(&self, handle: Handle) -> Result<DirectoryNumber, Refused> {
        match self.node(handle)? {
            Node::Directory(number) => Ok(number),
            Node::File(_) | Node::Input(_) => Err(Refused::NotDirectory),
        }
    }

    fn writable_file(&self, handle: Handle) -> Result<ContentId, Refused> {
        match self.node(handle)? {
            Node::Directory(_) => Err(Refused::IsDirectory),
            Node::Input(_) => Err(Refused::ReadOnly),
            Node::File(id) => Ok(id),
        }
    }

    pub(crate) fn file(&self, id: ContentId) -> &FileNode {
        self.files.get(&id).expect("a file in use exists")
    }

    pub(crate) fn file_mut(&mut self, id: ContentId) -> &mut FileNode {
        self.files.get_mut(&id).expect("a file in use exists")
    }

    /// Whether one more handle may be open.
    pub(crate) fn check_open(&self) -> Result<(), Refused> {
        let wanted = self.handles.len() as u64 + 1;
        within(Limit::OpenFiles, &self.limits, wanted).map_err(Refused::TooManyOpen)
    }

    pub(crate) fn add_handle(&mut self, node: Node) -> Handle {
        match node {
            Node::Directory(number) => self.tree.directory_mut(number).opens += 1,
            Node::File(id) => self.file_mut(id).opens += 1,
            Node::Input(_) => {}
        }
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        self.handles.insert(handle, node);
        handle
    }

    /// Whether one more file or directory may have a name.
    pub(crate) fn check_files(&self) -> Result<(), Refused> {
        within(Limit::Files, &self.limits, self.used_files + 1).map_err(Refused::Quota)
    }

    /// Accounts for a file that changes its length.
    fn resize(&mut self, old_bytes: u64, new_bytes: u64) -> Result<(), Refused> {
        if new_bytes > MAX_FILE_BYTES {
            return Err(Refused::FileTooLarge);
        }
        let others = self.used_bytes - old_bytes;
        if new_bytes > old_bytes {
            within(Limit::FilesBytes, &self.limits, others + new_bytes).map_err(Refused::Quota)?;
        }
        self.used_bytes = others + new_bytes;
        Ok(())
    }

    pub(crate) fn forget_if_unused(&mut self, id: ContentId) {
        let file = self.file(id);
        if file.has_name || file.opens > 0 {
            return;
        }
        let file = self.files.remove(&id).expect("it was just looked at");
        self.used_bytes -= file.content.len_bytes();
        file.content.release(&mut self.scratch);
    }
}

fn within(limit: Limit, limits: &Limits, wanted: u64) -> Result<(), LimitReached> {
    let value = limits.get(limit);
    if wanted > value {
        return Err(LimitReached { limit, value, wanted });
    }
    Ok(())
}

fn read_input(input: &Input, offset: u64, bytes: &mut [u8]) -> Result<usize, HostFault> {
    let rest = input.len_bytes.saturating_sub(offset);
    let len = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
    input
        .file
        .read_exact_at(&mut bytes[..len], offset)
        .map_err(|source| HostFault { doing: "reading an input", source })?;
    Ok(len)
}

/// The 64-bit FNV-1a hash (draft-eastlake-fnv). A collision would only make a guest take two of
/// its own directories for one.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
