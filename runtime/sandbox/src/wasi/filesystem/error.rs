//! Refusals as WASI's error codes, or as the end of the guest.
//!
//! Owns: the one table from [`Refused`] to codes. What no code can say (the host's disk failed)
//! becomes an [`Abort`], which the guest does not survive and never sees.

use hb_files::Refused;
use hb_types::limits::Limit;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi_io::streams::StreamError;

use super::types::ErrorCode;
use crate::abort::{Abort, HostFault};

/// Why a host function of `wasi:filesystem` failed.
#[derive(Debug)]
pub enum FilesystemError {
    /// The guest is told.
    Code(ErrorCode),
    /// The guest is ended.
    Trap(wasmtime::Error),
}

/// What came of a host function.
pub(super) type Answer<T> = Result<T, FilesystemError>;

impl From<ErrorCode> for FilesystemError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

/// The table of handles is full, or the guest used a handle that it does not have.
impl From<ResourceTableError> for FilesystemError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

/// The run is over.
impl From<Abort> for FilesystemError {
    fn from(abort: Abort) -> Self {
        Self::Trap(abort.into())
    }
}

/// For functions that cannot refuse: every refusal ends the guest.
pub(crate) fn end_of_guest(refused: Refused) -> wasmtime::Error {
    match refused {
        Refused::TooManyOpen(reached) | Refused::Quota(reached) => Abort::from(reached).into(),
        other => match FilesystemError::from(other) {
            FilesystemError::Code(code) => code.into(),
            FilesystemError::Trap(error) => error,
        },
    }
}

impl From<Refused> for FilesystemError {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::NotFound => ErrorCode::NoEntry,
            Refused::Exists => ErrorCode::Exist,
            Refused::NotDirectory => ErrorCode::NotDirectory,
            Refused::IsDirectory => ErrorCode::IsDirectory,
            Refused::NotEmpty => ErrorCode::NotEmpty,
            Refused::Invalid => ErrorCode::Invalid,
            Refused::OutsideRoot | Refused::NotPermitted => ErrorCode::NotPermitted,
            Refused::NameTooLong => ErrorCode::NameTooLong,
            Refused::ReadOnly => ErrorCode::ReadOnly,
            Refused::Busy => ErrorCode::Busy,
            Refused::FileTooLarge => ErrorCode::FileTooLarge,
            Refused::StaleHandle => ErrorCode::BadDescriptor,
            Refused::Quota(reached) if reached.limit == Limit::FilesBytes => {
                ErrorCode::InsufficientSpace
            }
            // WASI has no code for too many open files.
            Refused::Quota(_) | Refused::TooManyOpen(_) => ErrorCode::Quota,
            Refused::OutputLimit(reached) => return Abort::from(reached).into(),
            Refused::Host(fault) => {
                let fault = HostFault::new("the job's files could not be used", fault);
                return Abort::from(fault).into();
            }
        };
        Self::Code(code)
    }
}

/// A stream carries the code inside its error; `filesystem-error-code` takes it out again.
impl From<FilesystemError> for StreamError {
    fn from(error: FilesystemError) -> Self {
        match error {
            FilesystemError::Code(code) => Self::LastOperationFailed(code.into()),
            FilesystemError::Trap(error) => Self::Trap(error),
        }
    }
}
