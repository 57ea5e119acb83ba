//! Directories of the machine that a container sees.
//!
//! Owns: that a mount leads to where its text says, below a directory that the operator allowed. A
//! path is resolved without following any link, and once the container has it, what it has is
//! compared with what was meant: between the two, somebody could have changed the path.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hb_session::HostFault;
use hb_types::{
    container::{Container, Mount},
    text::printable,
};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::{end::End, options::ContainerOptions};

/// A directory that is about to be shown.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its path, links of the allowed directory itself resolved.
    pub source: String,
    target: String,
    /// Which one it is.
    identity: (u64, u64),
    /// Keeps the directory, and so its number, as long as this lives.
    _held: File,
}

/// Opens what a container wants to see.
pub(crate) fn open(options: &ContainerOptions, container: &Container) -> Result<Vec<Opened>, End> {
    container.mounts.iter().map(|mount| open_one(options, mount)).collect()
}

fn open_one(options: &ContainerOptions, mount: &Mount) -> Result<Opened, End> {
    let shown = || printable(&mount.source, 200);
    let allowed = options.allowed(mount).map_err(|error| End::NotRunnable(error.to_string()))?;
    let base = allowed.directory.as_path();
    let refuse = |why: io::Error| {
        End::NotRunnable(format!(
            "{} cannot be shown to the container ({why}): it must be a directory or file below {}, \
             without links on the way",
            shown(),
            base.display()
        ))
    };
    // The operator's own directory may be reached by links; what is below it may not.
    let top: PathBuf = fs::canonicalize(base).map_err(refuse)?;
    let directory = File::open(&top).map_err(refuse)?;
    let inner = Path::new(&mount.source).strip_prefix(base).unwrap_or(Path::new(""));
    let source = if inner.as_os_str().is_empty() { top.clone() } else { top.join(inner) };
    let name = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let how = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let held = openat2(&directory, name, flags, Mode::empty(), how);
    let held = File::from(held.map_err(|error| refuse(error.into()))?);
    let metadata = held.metadata().map_err(refuse)?;
    if !metadata.is_dir() && !metadata.is_file() {
        return Err(refuse(io::Error::other("it is neither a directory nor a file")));
    }
    let source = source.into_os_string().into_string();
    let source = source.map_err(|_| refuse(io::Error::other("its path is not UTF-8")))?;
    let identity = (metadata.dev(), metadata.ino());
    Ok(Opened { source, target: mount.target.clone(), identity, _held: held })
}

/// Compares what a container, whose program still waits, sees with what was opened.
pub(crate) fn verify(mounts: &[Opened], pid: i64) -> Result<(), End> {
    for mount in mounts {
        let seen = fs::metadata(format!("/proc/{pid}/root{}", mount.target));
        let seen = seen.map_err(|error| {
            HostFault::new(
                format!(
                    "what the container sees as {} cannot be compared with what was meant: hb must \
                     run as the user of the container, or as root",
                    printable(&mount.target, 200)
                ),
                error,
            )
        })?;
        if (seen.dev(), seen.ino()) != mount.identity {
            return Err(End::NotRunnable(format!(
                "{} was changed while it was shown to the container",
                printable(&mount.source, 200)
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn try_open(allowed: &Path, source: &Path) -> Result<Vec<Opened>, End> {
        let mut container = Container::of_image(String::new(), String::new());
        let source = source.to_str().unwrap().to_owned();
        container.mounts.push(Mount { target: "/data".to_owned(), source, writable: false });
        let options = ContainerOptions {
            mounts: vec![allowed.to_str().unwrap().parse().unwrap()],
            ..ContainerOptions::default()
        };
        open(&options, &container)
    }

    #[test]
    fn links_and_climbing_do_not_lead_out_of_an_allowed_directory() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("secret")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("inside")).unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(try_open(dir.path(), &at("a/b")).unwrap().len(), 1);
        assert_eq!(try_open(dir.path(), dir.path()).unwrap().len(), 1);
        for bad in ["link", "link/secret", "inside", "inside/b", "absent", "../secret", "a/../../x"]
        {
            assert!(matches!(try_open(dir.path(), &at(bad)), Err(End::NotRunnable(_))), "{bad}");
        }
        let elsewhere = try_open(dir.path(), &outside.path().join("secret"));
        assert!(matches!(elsewhere, Err(End::NotRunnable(_))));
    }
}
