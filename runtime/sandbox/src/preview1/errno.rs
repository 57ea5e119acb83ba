//! Error numbers of preview 1, and how a call fails.
//!
//! Owns: the numbers, and their table from the codes of WASI 0.2. Which refusal of the job's files
//! becomes which code is decided in one place for both interfaces, `wasi/filesystem/error.rs`.

use hb_files::Refused;

use crate::{
    abort::Abort,
    wasi::filesystem::{ErrorCode, FilesystemError},
};

/// The error numbers that are answered here, as `typenames.witx` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Errno {
    Acces = 2,
    Again = 6,
    Already = 7,
    Badf = 8,
    Busy = 10,
    Deadlk = 16,
    Dquot = 19,
    Exist = 20,
    Fault = 21,
    Fbig = 22,
    Ilseq = 25,
    Inprogress = 26,
    Intr = 27,
    Inval = 28,
    Io = 29,
    Isdir = 31,
    Loop = 32,
    Mlink = 34,
    Msgsize = 35,
    Nametoolong = 37,
    Nodev = 43,
    Noent = 44,
    Nolck = 46,
    Nomem = 48,
    Nospc = 51,
    Notdir = 54,
    Notempty = 55,
    Notrecoverable = 56,
    Notsock = 57,
    Notsup = 58,
    Notty = 59,
    Nxio = 60,
    Overflow = 61,
    Perm = 63,
    Pipe = 64,
    Rofs = 69,
    Spipe = 70,
    Txtbsy = 74,
    Xdev = 75,
}

impl Errno {
    pub(super) fn number(self) -> u16 {
        self as u16
    }
}

/// Why a call was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The guest is told.
    Errno(Errno),
    /// The guest is ended.
    End(wasmtime::Error),
}

/// What came of a call. What it found stands in the guest's memory.
pub(super) type Answer<T = ()> = Result<T, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Abort> for Failure {
    fn from(abort: Abort) -> Self {
        Self::End(abort.into())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match FilesystemError::from(refused) {
            FilesystemError::Code(code) => Self::Errno(code.into()),
            FilesystemError::Trap(error) => Self::End(error),
        }
    }
}

impl From<ErrorCode> for Errno {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::Access => Self::Acces,
            ErrorCode::WouldBlock => Self::Again,
            ErrorCode::Already => Self::Already,
            ErrorCode::BadDescriptor => Self::Badf,
            ErrorCode::Busy => Self::Busy,
            ErrorCode::Deadlock => Self::Deadlk,
            ErrorCode::Quota => Self::Dquot,
            ErrorCode::Exist => Self::Exist,
            ErrorCode::FileTooLarge => Self::Fbig,
            ErrorCode::IllegalByteSequence => Self::Ilseq,
            ErrorCode::InProgress => Self::Inprogress,
            ErrorCode::Interrupted => Self::Intr,
            ErrorCode::Invalid => Self::Inval,
            ErrorCode::Io => Self::Io,
            ErrorCode::IsDirectory => Self::Isdir,
            ErrorCode::Loop => Self::Loop,
            ErrorCode::TooManyLinks => Self::Mlink,
            ErrorCode::MessageSize => Self::Msgsize,
            ErrorCode::NameTooLong => Self::Nametoolong,
            ErrorCode::NoDevice => Self::Nodev,
            ErrorCode::NoEntry => Self::Noent,
            ErrorCode::NoLock => Self::Nolck,
            ErrorCode::InsufficientMemory => Self::Nomem,
            ErrorCode::InsufficientSpace => Self::Nospc,
            ErrorCode::NotDirectory => Self::Notdir,
            ErrorCode::NotEmpty => Self::Notempty,
            ErrorCode::NotRecoverable => Self::Notrecoverable,
            ErrorCode::Unsupported => Self::Notsup,
            ErrorCode::NoTty => Self::Notty,
            ErrorCode::NoSuchDevice => Self::Nxio,
            ErrorCode::Overflow => Self::Overflow,
            ErrorCode::NotPermitted => Self::Perm,
            ErrorCode::Pipe => Self::Pipe,
            ErrorCode::ReadOnly => Self::Rofs,
            ErrorCode::InvalidSeek => Self::Spipe,
            ErrorCode::TextFileBusy => Self::Txtbsy,
            ErrorCode::CrossDevice => Self::Xdev,
        }
    }
}
