//! Why an operation on a job's files was not done.
//!
//! Owns: one closed vocabulary, near enough to POSIX that each variant maps to one error code
//! of WASI. Nothing was changed by an operation that was refused, except where a variant says so.

use std::io;

use hb_types::limits::LimitReached;

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A name on the path does not exist, or the directory was removed.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken already.
    #[error("the name exists already")]
    Exists,
    /// Something other than a directory stands where a directory must stand.
    #[error("not a directory")]
    NotDirectory,
    /// A directory stands where a file must stand.
    #[error("is a directory")]
    IsDirectory,
    /// A directory that must be empty is not.
    #[error("the directory is not empty")]
    NotEmpty,
    /// A path with a NUL, or a combination that has no meaning: a directory moved into itself, a
    /// file that is created as a directory.
    #[error("invalid path or combination of options")]
    Invalid,
    /// An absolute path, or one that climbs above the directory it starts from.
    #[error("the path leaves the directory that it starts from")]
    OutsideRoot,
    /// A component above [`MAX_NAME_BYTES`](crate::MAX_NAME_BYTES) or a path above
    /// [`MAX_PATH_BYTES`](crate::MAX_PATH_BYTES).
    #[error("name or path too long")]
    NameTooLong,
    /// The operation is not for this object: the time stamps of a root cannot be set.
    #[error("not permitted")]
    NotPermitted,
    /// The object is one of the job's inputs.
    #[error("inputs are read-only")]
    ReadOnly,
    /// A root cannot be removed or moved.
    #[error("a root directory is in use")]
    Busy,
    /// A position or length beyond what any file can have.
    #[error("file too large")]
    FileTooLarge,
    /// The handle was opened before a checkpoint was restored, or was closed.
    #[error("the handle is no longer open")]
    StaleHandle,
    /// The bytes or the files below `/job` and `/out` would exceed their limit.
    #[error(transparent)]
    Quota(LimitReached),
    /// Too many handles would be open.
    #[error(transparent)]
    TooManyOpen(LimitReached),
    /// An output stream would exceed its limit. What fitted was kept: the stream then holds
    /// exactly its first `value` bytes.
    #[error(transparent)]
    OutputLimit(LimitReached),
    /// The machine's own disk failed. A fault of the host and not of the job; the world may be
    /// half changed and must not be used any more.
    #[error(transparent)]
    Host(#[from] HostFault),
}

/// The machine's own disk failed under a job.
#[derive(Debug, thiserror::Error)]
#[error("the host's disk failed while it was {doing}")]
pub struct HostFault {
    /// What was being done, as in "reading the scratch file".
    pub doing: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}
