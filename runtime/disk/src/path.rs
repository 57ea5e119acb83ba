//! What a path inside a storage may look like.
//!
//! Owns: the check that every path passes before it reaches a disk, real or simulated.
//! Knows nothing of: directories, files, the operating system.

use std::io;

/// Refuses absolute paths, empty, `.` and `..` components, and bytes that no name may hold.
/// The root, `""`, passes only where `root_allowed`.
pub(crate) fn check(path: &str, root_allowed: bool) -> io::Result<()> {
    if path.is_empty() && root_allowed {
        return Ok(());
    }
    let bad = path.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains('\0'));
    if bad {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("path {path:?} leaves its directory: expected relative names without `..`"),
        ));
    }
    Ok(())
}

/// The directory that holds `path`, `""` for the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_names_pass() {
        for good in ["a", "a/b", "wal/0000000001.seg", "..a", "a..", "..."] {
            assert!(check(good, false).is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert!(check(bad, false).is_err(), "{bad:?}");
        }
        assert!(check("", true).is_ok());
        assert_eq!(parent("a/b/c"), "a/b");
        assert_eq!(parent("a"), "");
    }
}
