//! The data directory: that it is there, whose it is, and that its names can be made durable.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::check::{Check, Topic, causes, shell_word};

const DIRECTORY: Topic = Topic {
    id: "data-directory",
    title: "data directory",
    why: "jobs, their checkpoints and their results are kept there",
};

const FLUSH: Topic = Topic {
    id: "directory-flush",
    title: "flush of a directory",
    why: "a file that was flushed can still vanish with a power cut if its name was not",
};

/// Where the data directory is, or will be.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory itself.
    pub data: PathBuf,
    /// It, or the nearest directory above it that is there.
    pub existing: PathBuf,
}

impl Place {
    pub fn of(data: &Path) -> Self {
        let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
        let existing = absolute.ancestors().find(|path| path.is_dir());
        let existing = existing.unwrap_or(Path::new("/")).to_owned();
        Self { data: absolute, existing }
    }

    pub fn is_there(&self) -> bool {
        self.data == self.existing
    }
}

/// What is known of a directory.
struct Facts {
    is_there: bool,
    /// Something else has its name.
    is_taken: bool,
    owner: u32,
    me: u32,
    mode: u32,
    /// Whether a file could be made in it, and why not.
    written: io::Result<()>,
}

pub(crate) fn check(place: &Place) -> Check {
    let metadata = fs::metadata(&place.existing);
    let facts = Facts {
        is_there: place.is_there(),
        is_taken: fs::symlink_metadata(&place.data).is_ok() && !place.data.is_dir(),
        owner: metadata.as_ref().map_or(0, MetadataExt::uid),
        me: rustix::process::geteuid().as_raw(),
        mode: metadata.as_ref().map_or(0, |metadata| metadata.mode() & 0o777),
        written: tempfile::tempfile_in(&place.existing).map(drop),
    };
    judge(place, &facts)
}

fn judge(place: &Place, facts: &Facts) -> Check {
    let shown = place.data.display();
    let word = shell_word(&place.data.to_string_lossy());
    if facts.is_taken {
        let fix = format!("mv {word} {word}.old");
        return DIRECTORY.fail(format!("{shown} is there and is no directory"), fix);
    }
    if let Err(error) = &facts.written {
        let existing = place.existing.display();
        let found = format!("{shown}: no file can be made in {existing}: {error}");
        let fix = format!("sudo install -d -m 700 -o \"$USER\" {word}");
        return DIRECTORY.fail(found, fix);
    }
    if !facts.is_there {
        return DIRECTORY.ok(format!("{shown} is not there yet; the first job makes it"));
    }
    if facts.mode & 0o022 != 0 {
        let found = format!("{shown} can be changed by others (mode {:03o})", facts.mode);
        return DIRECTORY.warn(found, format!("chmod go-rwx {word}"));
    }
    if facts.owner != facts.me {
        let (owner, me) = (facts.owner, facts.me);
        let found = format!("{shown} belongs to user {owner}, and this is user {me}");
        return DIRECTORY.warn(found, format!("sudo chown -R \"$USER\" {word}"));
    }
    DIRECTORY.ok(format!("{shown} can be written to"))
}

/// Makes a name durable, as the ledger does with every new segment and blob.
pub(crate) fn check_flush(place: &Place) -> Check {
    match flush_names(&place.existing) {
        Ok(()) => FLUSH.ok("a new name and a renamed one were made durable"),
        Err(error) => FLUSH.fail(
            format!("{}: {}", place.existing.display(), causes(&error)),
            "put the data directory on a local disk with ext4, XFS, Btrfs or ZFS: export HB_DATA=…",
        ),
    }
}

fn flush_names(directory: &Path) -> io::Result<()> {
    let names = tempfile::Builder::new().prefix(".hb-doctor-").tempdir_in(directory)?;
    let (before, after) = (names.path().join("before"), names.path().join("after"));
    let flush = |path: &Path| File::open(path).and_then(|directory| directory.sync_all());
    let file = File::create(&before)?;
    file.sync_all()?;
    flush(names.path())?;
    fs::rename(&before, &after)?;
    flush(names.path())?;
    flush(directory)?;
    names.close()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::Status;

    fn facts() -> Facts {
        Facts { is_there: true, is_taken: false, owner: 1, me: 1, mode: 0o700, written: Ok(()) }
    }

    fn place() -> Place {
        Place { data: "/d/hb".into(), existing: "/d/hb".into() }
    }

    #[test]
    fn a_directory_of_ones_own_is_fine_and_so_is_one_that_is_not_there_yet() {
        assert_eq!(judge(&place(), &facts()).status, Status::Ok);
        let check = judge(&place(), &Facts { is_there: false, ..facts() });
        assert!(check.status == Status::Ok && check.found.contains("not there yet"));
    }

    #[test]
    fn what_keeps_files_from_being_made_is_told_with_what_mends_it() {
        let taken = judge(&place(), &Facts { is_taken: true, ..facts() });
        assert_eq!(taken.fix.as_deref(), Some("mv /d/hb /d/hb.old"));
        let denied = Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let denied = judge(&place(), &Facts { written: denied, ..facts() });
        assert!(denied.status == Status::Fail && denied.found.contains("permission denied"));
        for doubtful in [Facts { mode: 0o777, ..facts() }, Facts { owner: 2, ..facts() }] {
            assert_eq!(judge(&place(), &doubtful).status, Status::Warn);
        }
    }

    #[test]
    fn a_real_directory_is_looked_at_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let there = Place::of(root.path());
        assert!(there.is_there());
        assert_eq!(check_flush(&there).status, Status::Ok);
        assert_eq!(check(&there).status, Status::Ok);
        let later = Place::of(&root.path().join("a/b"));
        assert_eq!((later.is_there(), &later.existing), (false, &there.existing));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(check(&Place::of(&root.path().join("file"))).status, Status::Fail);
    }
}
