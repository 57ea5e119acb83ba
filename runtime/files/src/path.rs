//! What may be a name and a path.
//!
//! Owns: the bounds on names and paths and the cutting of a path into components.
//! Knows nothing of: which names exist.

use crate::refused::Refused;

/// Bytes of one component at most, as on most systems.
pub const MAX_NAME_BYTES: usize = 255;

/// Bytes of a whole path below a root at most, the root's name included, and of any path that
/// a guest passes. It bounds what the names of a checkpoint can weigh: without it a chain of N
/// nested directories would weigh N times N names.
pub const MAX_PATH_BYTES: usize = 1024;

/// A component of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Component<'a> {
    /// `.`
    Here,
    /// `..`
    Up,
    /// Anything else.
    Name(&'a str),
}

/// The components of a path; a trailing slash says that the last must be a directory.
pub(crate) fn components(path: &str) -> Result<(Vec<Component<'_>>, bool), Refused> {
    if path.is_empty() {
        return Err(Refused::NotFound);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(Refused::NameTooLong);
    }
    if path.starts_with('/') {
        return Err(Refused::OutsideRoot);
    }
    let components = path
        .split('/')
        .filter(|component| !component.is_empty())
        .map(|component| match component {
            "." => Ok(Component::Here),
            ".." => Ok(Component::Up),
            name => check_name(name).map(Component::Name),
        })
        .collect::<Result<Vec<_>, Refused>>()?;
    Ok((components, path.ends_with('/')))
}

/// Whether `name` may stand in a directory.
pub(crate) fn check_name(name: &str) -> Result<&str, Refused> {
    if name.len() > MAX_NAME_BYTES {
        return Err(Refused::NameTooLong);
    }
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(Refused::Invalid);
    }
    Ok(name)
}
