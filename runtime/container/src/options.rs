//! What an operator allows.
//!
//! Owns: which grants and which directories a job may ask for. Knows nothing of engines.

use std::{path::PathBuf, str::FromStr};

use hb_types::{
    container::{Container, Grant, Mount},
    text::printable,
};

/// A directory below which containers may see something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedMount {
    /// The directory, absolute.
    pub directory: PathBuf,
    /// Whether it may be changed from inside.
    pub writable: bool,
}

impl FromStr for AllowedMount {
    type Err = String;

    /// `/srv/data`, `/srv/scratch:rw`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (path, writable) = match text.strip_suffix(":rw") {
            Some(path) => (path, true),
            None => (text.strip_suffix(":ro").unwrap_or(text), false),
        };
        let directory = PathBuf::from(path);
        if !directory.is_absolute() {
            let found = printable(text, 200);
            return Err(format!(
                "expected an absolute directory, or one with :rw, found {found:?}"
            ));
        }
        Ok(Self { directory, writable })
    }
}

/// How containers are run here.
#[derive(Clone, Debug, Default)]
pub struct ContainerOptions {
    /// The engine's address; where none is given, `DOCKER_HOST` or the usual sockets.
    pub engine: Option<String>,
    /// Where running containers have their files.
    pub directory: PathBuf,
    /// Directories that containers may see.
    pub mounts: Vec<AllowedMount>,
    /// Names of grants that a job may ask for.
    pub grants: Vec<String>,
}

/// A container that an operator did not allow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// A grant.
    #[error(
        "this host does not grant {grant} to containers: leave it out, or let the operator add {:?} to container.grants",
        grant.name()
    )]
    Grant {
        /// Which.
        grant: Grant,
    },
    /// A mount.
    #[error(
        "this host does not show {} to containers: it lies below no directory of container.mounts{}; mount one that does, or let the operator add it",
        printable(&mount.source, 200),
        if mount.writable { " that has :rw" } else { "" }
    )]
    Mount {
        /// Which.
        mount: Mount,
    },
}

impl ContainerOptions {
    /// Whether a container asks for no more than is allowed.
    pub fn check(&self, container: &Container) -> Result<(), NotAllowed> {
        for grant in &container.grants {
            if !self.grants.iter().any(|name| name == grant.name()) {
                return Err(NotAllowed::Grant { grant: grant.clone() });
            }
        }
        for mount in &container.mounts {
            self.allowed(mount)?;
        }
        Ok(())
    }

    /// The directory below which a mount lies by its text, the deepest. Where the path really
    /// leads is found out when it is opened.
    pub(crate) fn allowed(&self, mount: &Mount) -> Result<&AllowedMount, NotAllowed> {
        let fits = |allowed: &&AllowedMount| {
            std::path::Path::new(&mount.source).starts_with(&allowed.directory)
                && (allowed.writable || !mount.writable)
        };
        self.mounts
            .iter()
            .filter(fits)
            .max_by_key(|allowed| allowed.directory.as_os_str().len())
            .ok_or_else(|| NotAllowed::Mount { mount: mount.clone() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options() -> ContainerOptions {
        ContainerOptions {
            mounts: vec!["/srv/data".parse().unwrap(), "/srv/data/out:rw".parse().unwrap()],
            grants: vec!["network".to_owned()],
            ..ContainerOptions::default()
        }
    }

    fn with(mounts: &[&str], grants: &[&str]) -> Container {
        let mut container = Container::of_image(String::new(), String::new());
        container.mounts = mounts.iter().map(|text| text.parse().unwrap()).collect();
        container.grants = grants.iter().map(|text| text.parse().unwrap()).collect();
        container
    }

    #[test]
    fn only_what_was_allowed_by_name_is_granted() {
        options().check(&with(&[], &["network"])).unwrap();
        for refused in ["root-user", "pids=10", "capability=SYS_ADMIN"] {
            assert!(options().check(&with(&[], &[refused])).is_err(), "{refused}");
        }
        assert!(ContainerOptions::default().check(&with(&[], &["network"])).is_err());
    }

    #[test]
    fn only_what_lies_below_an_allowed_directory_is_shown() {
        for good in ["/srv/data:/d", "/srv/data/a:/d:ro", "/srv/data/out/b:/d:rw"] {
            options().check(&with(&[good], &[])).unwrap();
        }
        for bad in ["/srv:/d", "/srv/database:/d", "/srv/data/a:/d:rw", "/etc:/d"] {
            assert!(options().check(&with(&[bad], &[])).is_err(), "{bad}");
        }
    }
}
