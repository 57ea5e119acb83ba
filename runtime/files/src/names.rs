//! The operations that take a path.
//!
//! Owns: their rules, which are those of POSIX for a file system without links.
//! Knows nothing of: bytes, checkpoints.
//!
//! Invariant: an operation checks everything before it changes anything.

use hb_types::capture::ContentId;

use crate::{
    content::Content,
    refused::Refused,
    tree::{DirectoryNumber, End, Node, Place, Times},
    world::{Entry, FileNode, Handle, Kind, Open, Root, Stat, World},
};

impl World {
    /// Opens what stands at `path`, which starts at the directory `base`.
    pub fn open(
        &mut self,
        base: Handle,
        path: &str,
        how: Open,
        now_ns: u64,
    ) -> Result<Handle, Refused> {
        let base = self.directory(base)?;
        self.check_open()?;
        if how.create && how.directory {
            return Err(Refused::Invalid);
        }
        let found = match self.tree.walk(base, path)? {
            End::Directory(number) => Ok(Node::Directory(number)),
            End::Place(place) => self.tree.at(place)?.ok_or(place),
        };
        let node = match found {
            Ok(_) if how.create && how.exclusive => return Err(Refused::Exists),
            Ok(node) => check_access(node, how)?,
            Err(place) if how.create => Node::File(self.create_file(place, now_ns)?),
            Err(_) => return Err(Refused::NotFound),
        };
        if let Node::File(id) = node
            && how.truncate
        {
            self.set_file_len(id, 0, now_ns)?;
        }
        Ok(self.add_handle(node))
    }

    fn create_file(&mut self, place: Place<'_>, now_ns: u64) -> Result<ContentId, Refused> {
        if place.must_be_directory {
            return Err(Refused::IsDirectory);
        }
        self.check_new(place)?;
        let id = ContentId(self.next_content);
        self.next_content += 1;
        let file = FileNode {
            content: Content::default(),
            times: Times { modified_ns: now_ns, accessed_ns: now_ns },
            has_name: true,
            opens: 0,
        };
        self.files.insert(id, file);
        self.tree.insert(place, Node::File(id));
        self.used_files += 1;
        self.touch(place.parent, now_ns);
        Ok(id)
    }

    /// What stands at `path`.
    pub fn stat_at(&self, base: Handle, path: &str) -> Result<Stat, Refused> {
        Ok(self.stat_node(self.tree.find(self.directory(base)?, path)?))
    }

    /// Sets time stamps of what stands at `path`; none leaves one as it is.
    pub fn set_times_at(
        &mut self,
        base: Handle,
        path: &str,
        accessed_ns: Option<u64>,
        modified_ns: Option<u64>,
    ) -> Result<(), Refused> {
        let node = self.tree.find(self.directory(base)?, path)?;
        self.set_node_times(node, accessed_ns, modified_ns)
    }

    /// The first entry of a directory after the name `after`, in byte order; none at the end.
    ///
    /// A reader keeps nothing but the last name, so that it costs nothing however large the
    /// directory is, and sees every entry that stays throughout exactly once.
    pub fn next_entry(
        &self,
        directory: Handle,
        after: Option<&str>,
    ) -> Result<Option<Entry>, Refused> {
        let number = self.directory(directory)?;
        Ok(self.tree.next_entry(number, after).map(|(name, node)| Entry {
            name: name.to_owned(),
            kind: match node {
                Node::Directory(_) => Kind::Directory,
                Node::File(_) | Node::Input(_) => Kind::File,
            },
        }))
    }

    /// Makes an empty directory.
    pub fn make_directory(&mut self, base: Handle, path: &str, now_ns: u64) -> Result<(), Refused> {
        let End::Place(place) = self.tree.walk(self.directory(base)?, path)? else {
            return Err(Refused::Exists);
        };
        if self.tree.at(Place { must_be_directory: false, ..place })?.is_some() {
            return Err(Refused::Exists);
        }
        self.check_new(place)?;
        self.tree.insert_directory(place, Times { modified_ns: now_ns, accessed_ns: now_ns });
        self.used_files += 1;
        self.touch(place.parent, now_ns);
        Ok(())
    }

    /// Removes an empty directory. Handles on it stay open on an empty directory without a name.
    pub fn remove_directory(
        &mut self,
        base: Handle,
        path: &str,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let End::Place(place) = self.tree.walk(self.directory(base)?, path)? else {
            return Err(Refused::Busy);
        };
        match self.tree.at(place)? {
            None => return Err(Refused::NotFound),
            Some(Node::File(_) | Node::Input(_)) => return Err(Refused::NotDirectory),
            Some(Node::Directory(number)) => self.check_empty(number)?,
        }
        self.remove(place, now_ns);
        Ok(())
    }

    /// Removes the name of a file. Its data stays as long as a handle is open.
    pub fn remove_file(&mut self, base: Handle, path: &str, now_ns: u64) -> Result<(), Refused> {
        let End::Place(place) = self.tree.walk(self.directory(base)?, path)? else {
            return Err(Refused::IsDirectory);
        };
        match self.tree.at(place)? {
            None => return Err(Refused::NotFound),
            Some(Node::Directory(_)) => return Err(Refused::IsDirectory),
            Some(Node::Input(_)) => return Err(Refused::ReadOnly),
            Some(Node::File(_)) => self.remove(place, now_ns),
        }
        Ok(())
    }

    /// Gives a file or directory another name, in place of what stands there: a file for a file,
    /// a directory for an empty directory.
    pub fn rename(
        &mut self,
        from_base: Handle,
        from_path: &str,
        to_base: Handle,
        to_path: &str,
        now_ns: u64,
    ) -> Result<(), Refused> {
        let from_end = self.tree.walk(self.directory(from_base)?, from_path)?;
        let to_end = self.tree.walk(self.directory(to_base)?, to_path)?;
        let (End::Place(from), End::Place(to)) = (from_end, to_end) else {
            return Err(Refused::Busy);
        };
        let moved = self.tree.at(from)?.ok_or(Refused::NotFound)?;
        if from.parent == Root::In.number() || to.parent == Root::In.number() {
            return Err(Refused::ReadOnly);
        }
        if to.must_be_directory && !matches!(moved, Node::Directory(_)) {
            return Err(Refused::NotDirectory);
        }
        let replaced = self.tree.at(Place { must_be_directory: false, ..to })?;
        if replaced == Some(moved) {
            return Ok(());
        }
        self.check_move(moved, to)?;
        match (moved, replaced) {
            (Node::Directory(_), Some(Node::Directory(number))) => self.check_empty(number)?,
            (Node::Directory(_), Some(_)) => return Err(Refused::NotDirectory),
            (_, Some(Node::Directory(_))) => return Err(Refused::IsDirectory),
            (_, None | Some(_)) => {}
        }
        if replaced.is_some() {
            self.remove(to, now_ns);
        }
        let node = self.tree.take(from);
        self.tree.insert(to, node);
        self.touch(from.parent, now_ns);
        self.touch(to.parent, now_ns);
        Ok(())
    }

    fn check_move(&self, moved: Node, to: Place<'_>) -> Result<(), Refused> {
        let Node::Directory(number) = moved else { return self.tree.check_new(to, 0) };
        if self.tree.is_within(to.parent, number) {
            return Err(Refused::Invalid);
        }
        self.tree.check_new(to, self.tree.longest_below(number))
    }

    /// Whether a new node may stand at a free place.
    fn check_new(&self, place: Place<'_>) -> Result<(), Refused> {
        if place.parent == Root::In.number() {
            return Err(Refused::ReadOnly);
        }
        self.tree.check_new(place, 0)?;
        self.check_files()
    }

    fn check_empty(&self, number: DirectoryNumber) -> Result<(), Refused> {
        if self.tree.directory(number).entries.is_empty() {
            return Ok(());
        }
        Err(Refused::NotEmpty)
    }

    /// Takes away the name of a file or of an empty directory.
    fn remove(&mut self, place: Place<'_>, now_ns: u64) {
        let node = self.tree.at(place).ok().flatten().expect("the caller found it");
        self.tree.remove(place);
        self.used_files -= 1;
        if let Node::File(id) = node {
            self.file_mut(id).has_name = false;
            self.forget_if_unused(id);
        }
        self.touch(place.parent, now_ns);
    }

    /// A directory's entries changed.
    fn touch(&mut self, number: DirectoryNumber, now_ns: u64) {
        if !self.tree.is_root(number) {
            self.tree.directory_mut(number).times.modified_ns = now_ns;
        }
    }
}

/// Whether what exists may be opened in this way.
fn check_access(node: Node, how: Open) -> Result<Node, Refused> {
    let changes = how.write || how.truncate;
    match node {
        Node::Directory(_) if changes => Err(Refused::IsDirectory),
        Node::File(_) | Node::Input(_) if how.directory => Err(Refused::NotDirectory),
        Node::Input(_) if changes => Err(Refused::ReadOnly),
        node => Ok(node),
    }
}
