//! The exit codes of `hb`, all of them. Where a convention exists it is followed.

/// Success, or: the two things compared are the same.
pub const OK: u8 = 0;
/// The command failed, or: the two things compared differ.
pub const FAILED: u8 = 1;
/// The command line could not be understood, or: a comparison could not be made.
pub const USAGE: u8 = 2;
/// The job's wall-clock limit ran out (as coreutils `timeout`).
pub const DEADLINE: u8 = 124;
/// `hb` itself failed (as `docker run`).
pub const HOST_FAILED: u8 = 125;
/// The component cannot be run here (as a shell's "found but not executable").
pub const NOT_RUNNABLE: u8 = 126;
/// A file, job or blob was not found (as a shell's "command not found").
pub const NOT_FOUND: u8 = 127;
/// Cancelled by the user (128 + SIGINT).
pub const CANCELLED: u8 = 130;
/// The guest trapped (128 + SIGABRT).
pub const TRAP: u8 = 134;
/// The guest exceeded a memory or space limit (128 + SIGKILL, as the kernel's own answer).
pub const MEMORY: u8 = 137;
/// The guest ran out of fuel (128 + SIGXCPU).
pub const FUEL: u8 = 152;
