//! The names: directories and what stands in them.
//!
//! Owns: directories, their entries in byte order, and the walk along a path.
//! Knows nothing of: data, quotas, handles.
//!
//! Invariants: every node has exactly one name (there are no links); a directory that was
//! removed is empty and stays only as long as it is open; no path is longer than
//! [`MAX_PATH_BYTES`]. Directory numbers are not used again and never shown to a guest.

use std::{collections::BTreeMap, ops::Bound};

use hb_types::capture::ContentId;

use crate::{
    path::{self, Component, MAX_PATH_BYTES},
    refused::Refused,
};

/// Number of a directory within one world.
pub(crate) type DirectoryNumber = u64;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Directory(DirectoryNumber),
    File(ContentId),
    /// Position in the list of inputs.
    Input(usize),
}

/// Virtual time stamps, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) modified_ns: u64,
    pub(crate) accessed_ns: u64,
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) name: Box<str>,
    /// None for a root and for a directory that was removed.
    pub(crate) parent: Option<DirectoryNumber>,
    pub(crate) entries: BTreeMap<Box<str>, Node>,
    pub(crate) times: Times,
    /// Handles on it.
    pub(crate) opens: usize,
}

/// A name in a directory, whether it exists or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) parent: DirectoryNumber,
    pub(crate) name: &'a str,
    /// The path ended with a slash.
    pub(crate) must_be_directory: bool,
}

/// Where a path ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    /// At a directory, by `.` or `..`, which has no name of its own there.
    Directory(DirectoryNumber),
    /// At a name.
    Place(Place<'a>),
}

/// All directories.
#[derive(Debug)]
pub(crate) struct Tree {
    directories: BTreeMap<DirectoryNumber, Directory>,
    next_number: DirectoryNumber,
    roots: DirectoryNumber,
}

impl Tree {
    /// A tree of empty roots, numbered in the order of `names`.
    pub(crate) fn new(names: &[&str], times: Times) -> Self {
        let mut tree = Self { directories: BTreeMap::new(), next_number: 0, roots: 0 };
        for name in names {
            tree.add(None, name, times);
        }
        tree.roots = tree.next_number;
        tree
    }

    fn add(
        &mut self,
        parent: Option<DirectoryNumber>,
        name: &str,
        times: Times,
    ) -> DirectoryNumber {
        let number = self.next_number;
        self.next_number += 1;
        let directory =
            Directory { name: name.into(), parent, entries: BTreeMap::new(), times, opens: 0 };
        self.directories.insert(number, directory);
        number
    }

    pub(crate) fn is_root(&self, number: DirectoryNumber) -> bool {
        number < self.roots
    }

    /// # Panics
    ///
    /// Where `number` was not given out by this tree or has been forgotten: callers hold numbers
    /// only of directories that have a name or a handle.
    pub(crate) fn directory(&self, number: DirectoryNumber) -> &Directory {
        self.directories.get(&number).expect("a directory in use exists")
    }

    pub(crate) fn directory_mut(&mut self, number: DirectoryNumber) -> &mut Directory {
        self.directories.get_mut(&number).expect("a directory in use exists")
    }

    fn is_linked(&self, number: DirectoryNumber) -> bool {
        self.is_root(number) || self.directory(number).parent.is_some()
    }

    /// Walks along `path` from `base`, never above it. The last name need not exist.
    pub(crate) fn walk<'a>(
        &self,
        base: DirectoryNumber,
        path: &'a str,
    ) -> Result<End<'a>, Refused> {
        let (components, must_be_directory) = path::components(path)?;
        let mut trail = vec![base];
        for (position, component) in components.iter().enumerate() {
            let here = *trail.last().expect("the base stays on the trail");
            match *component {
                Component::Here => {}
                Component::Up if trail.len() == 1 => return Err(Refused::OutsideRoot),
                Component::Up => {
                    trail.pop();
                }
                Component::Name(name) if position + 1 == components.len() => {
                    return Ok(End::Place(Place { parent: here, name, must_be_directory }));
                }
                Component::Name(name) => match self.child(here, name) {
                    Some(Node::Directory(number)) => trail.push(number),
                    Some(_) => return Err(Refused::NotDirectory),
                    None => return Err(Refused::NotFound),
                },
            }
        }
        Ok(End::Directory(*trail.last().expect("the base stays on the trail")))
    }

    /// The node at `path`.
    pub(crate) fn find(&self, base: DirectoryNumber, path: &str) -> Result<Node, Refused> {
        match self.walk(base, path)? {
            End::Directory(number) => Ok(Node::Directory(number)),
            End::Place(place) => self.at(place)?.ok_or(Refused::NotFound),
        }
    }

    /// The node at a place, if there is one.
    pub(crate) fn at(&self, place: Place<'_>) -> Result<Option<Node>, Refused> {
        match self.child(place.parent, place.name) {
            Some(Node::File(_) | Node::Input(_)) if place.must_be_directory => {
                Err(Refused::NotDirectory)
            }
            found => Ok(found),
        }
    }

    fn child(&self, parent: DirectoryNumber, name: &str) -> Option<Node> {
        self.directory(parent).entries.get(name).copied()
    }

    /// The first entry after the name `after`, in byte order.
    pub(crate) fn next_entry(
        &self,
        number: DirectoryNumber,
        after: Option<&str>,
    ) -> Option<(&str, Node)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.directory(number).entries.range::<str, _>((from, Bound::Unbounded));
        rest.next().map(|(name, node)| (&**name, *node))
    }

    /// Whether a new node of path length `below_bytes` may stand at `place`.
    pub(crate) fn check_new(&self, place: Place<'_>, below_bytes: usize) -> Result<(), Refused> {
        if !self.is_linked(place.parent) {
            return Err(Refused::NotFound);
        }
        let path_bytes = self.path(place.parent).len() + 1 + place.name.len() + below_bytes;
        if path_bytes > MAX_PATH_BYTES {
            return Err(Refused::NameTooLong);
        }
        Ok(())
    }

    /// Puts a node at a free place. The caller asked [`Self::check_new`].
    pub(crate) fn insert(&mut self, place: Place<'_>, node: Node) {
        let old = self.directory_mut(place.parent).entries.insert(place.name.into(), node);
        assert!(old.is_none(), "a place is freed before it is filled");
        if let Node::Directory(number) = node {
            let directory = self.directory_mut(number);
            directory.parent = Some(place.parent);
            directory.name = place.name.into();
        }
    }

    /// Makes an empty directory at a free place. The caller asked [`Self::check_new`].
    pub(crate) fn insert_directory(&mut self, place: Place<'_>, times: Times) -> DirectoryNumber {
        let number = self.add(Some(place.parent), place.name, times);
        self.insert(place, Node::Directory(number));
        number
    }

    /// Takes the name away; a directory without handles is forgotten.
    pub(crate) fn remove(&mut self, place: Place<'_>) {
        let node = self.take(place);
        if let Node::Directory(number) = node {
            assert!(self.directory(number).entries.is_empty(), "only empty ones are removed");
            self.directory_mut(number).parent = None;
            self.forget_if_unused(number);
        }
    }

    /// Takes the name away and keeps the node, which the caller puts somewhere else.
    pub(crate) fn take(&mut self, place: Place<'_>) -> Node {
        self.directory_mut(place.parent).entries.remove(place.name).expect("the name was found")
    }

    pub(crate) fn forget_if_unused(&mut self, number: DirectoryNumber) {
        if !self.is_linked(number) && self.directory(number).opens == 0 {
            self.directories.remove(&number);
        }
    }

    /// Forgets everything but the roots.
    pub(crate) fn clear(&mut self) {
        let roots = self.roots;
        self.directories.retain(|number, directory| {
            directory.entries.retain(|_, node| matches!(node, Node::Input(_)));
            *number < roots
        });
    }

    /// The path from the root on, the root's name first, without a leading slash. For a
    /// directory that was removed, its last name alone.
    pub(crate) fn path(&self, number: DirectoryNumber) -> String {
        let mut names = Vec::new();
        let mut next = Some(number);
        while let Some(number) = next {
            let directory = self.directory(number);
            names.push(&*directory.name);
            next = directory.parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Whether `number` is `ancestor` or stands below it.
    pub(crate) fn is_within(&self, number: DirectoryNumber, ancestor: DirectoryNumber) -> bool {
        let mut next = Some(number);
        while let Some(number) = next {
            if number == ancestor {
                return true;
            }
            next = self.directory(number).parent;
        }
        false
    }

    /// Bytes of the longest path below a directory, leading slashes included.
    pub(crate) fn longest_below(&self, number: DirectoryNumber) -> usize {
        let mut longest = 0;
        let mut waiting = vec![(number, 0)];
        while let Some((number, above_bytes)) = waiting.pop() {
            for (name, node) in &self.directory(number).entries {
                let path_bytes = above_bytes + 1 + name.len();
                longest = longest.max(path_bytes);
                if let Node::Directory(number) = *node {
                    waiting.push((number, path_bytes));
                }
            }
        }
        longest
    }
}
