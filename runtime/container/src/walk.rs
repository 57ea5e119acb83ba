//! Walks a directory that a stranger may change meanwhile.
//!
//! Owns: that nothing outside of the directory is ever looked at. Each step opens one name below an
//! open directory and follows no link. Knows nothing of what is done with what is found.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat},
    io::Errno,
};

/// Directories within directories.
const DEPTH_MAX: usize = 100;
/// Names in one directory: what is read of it lies in memory.
const NAMES_MAX: usize = 1_000_000;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Directory,
    File,
    /// What no checkpoint can keep: a link, a device, a socket, a pipe.
    Other(&'static str),
}

/// One name.
pub(crate) struct Entry<'a> {
    /// Its path from the top, without a leading slash.
    pub path: &'a str,
    pub found: Found,
    pub stat: &'a Stat,
    /// The directory that it is in, and its name there.
    pub parent: BorrowedFd<'a>,
    pub name: &'a str,
}

/// Why a walk was ended.
#[derive(Debug)]
pub(crate) enum WalkError<E> {
    /// A name or a depth that cannot be kept.
    Refused(String),
    /// The machine.
    Io(io::Error),
    /// Whoever was told of what was found.
    Visit(E),
}

/// Tells of everything below `top`, in order of name, directories before what is in them.
pub(crate) fn walk<E>(
    top: &OwnedFd,
    prefix: &str,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), WalkError<E>> {
    below(top, prefix, 0, visit)
}

fn below<E>(
    directory: &OwnedFd,
    path: &str,
    depth: usize,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), WalkError<E>> {
    if depth > DEPTH_MAX {
        return Err(WalkError::Refused(format!("/{path} is too deep")));
    }
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let Ok(name) = entry.file_name().to_str() else {
            return Err(WalkError::Refused(format!("/{path} has a name that is not UTF-8")));
        };
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
        if names.len() > NAMES_MAX {
            return Err(WalkError::Refused(format!("/{path} has more than {NAMES_MAX} names")));
        }
    }
    names.sort_unstable();
    for name in names {
        use std::os::fd::AsFd as _;
        let stat = match statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It was removed meanwhile.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(io(error)),
        };
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Found::Directory,
            FileType::RegularFile => Found::File,
            FileType::Symlink => Found::Other("a symbolic link"),
            FileType::Fifo => Found::Other("a pipe"),
            FileType::Socket => Found::Other("a socket"),
            _ => Found::Other("a device"),
        };
        let entry =
            Entry { path: &path, found, stat: &stat, parent: directory.as_fd(), name: &name };
        visit(&entry).map_err(WalkError::Visit)?;
        if found == Found::Directory {
            match open_directory(directory.as_fd(), &name) {
                Ok(inner) => below(&inner, &path, depth + 1, visit)?,
                // It was removed, or became something else.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(io(error)),
            }
        }
    }
    Ok(())
}

fn io<E>(error: Errno) -> WalkError<E> {
    WalkError::Io(error.into())
}

/// Opens a directory by one name.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens a file by one name for reading. A pipe that took its place does not keep us waiting.
pub(crate) fn open_file(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn links_are_named_and_never_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("a")).unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        std::fs::write(dir.path().join("b/c"), "y").unwrap();
        let mut seen = Vec::new();
        let top = &std::fs::File::open(dir.path()).unwrap().into();
        walk::<()>(top, "job", &mut |entry| {
            seen.push((entry.path.to_owned(), entry.found));
            Ok(())
        })
        .unwrap();
        let expected = [
            ("job/a".to_owned(), Found::Other("a symbolic link")),
            ("job/b".to_owned(), Found::Directory),
            ("job/b/c".to_owned(), Found::File),
        ];
        assert_eq!(seen, expected);
    }
}
