//! Makes files and directories below a directory that a stranger may change meanwhile.
//!
//! Owns: that nothing is ever made, or given away, outside of the directory: paths are resolved below
//! it and through no link, and what was made is reached by its own handle.

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchown, mkdirat, openat2},
    io::Errno,
};

use crate::place::User;

const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

fn owner(user: User) -> Option<(Uid, Gid)> {
    user.give.then(|| (Uid::from_raw(user.uid), Gid::from_raw(user.gid)))
}

/// Makes a file that is not there yet and gives it to the container's user.
pub(crate) fn create_file(top: &File, path: &str, user: User) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(top, path, flags, Mode::from_raw_mode(0o644), WITHIN)?;
    if let Some((uid, gid)) = owner(user) {
        fchown(&file, Some(uid), Some(gid))?;
    }
    Ok(file.into())
}

/// Makes a directory that is not there yet and gives it to the container's user.
pub(crate) fn create_directory(top: &File, path: &str, user: User) -> io::Result<()> {
    let path = Path::new(path);
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let parent: OwnedFd = openat2(top, parent, flags, Mode::empty(), WITHIN)?;
    mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
    if let Some((uid, gid)) = owner(user) {
        chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_is_made_through_a_link_that_took_a_directorys_place() {
        let user = User::choose(false).unwrap();
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let top = File::open(dir.path()).unwrap();
        create_directory(&top, "a", user).unwrap();
        create_directory(&top, "a/b", user).unwrap();
        create_file(&top, "a/b/c", user).unwrap();
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        symlink(outside.path(), dir.path().join("a")).unwrap();
        assert!(create_directory(&top, "a/b", user).is_err());
        assert!(create_file(&top, "a/c", user).is_err());
        symlink(outside.path().join("d"), dir.path().join("d")).unwrap();
        assert!(create_file(&top, "d", user).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
