//! One host for one data directory.
//!
//! Owns: taking the lock, and how long to wait for an owner that is on its way out. A process that
//! was killed keeps its files open until the kernel has finished its last flush; whoever starts
//! the next one at once should not be told that the ledger is in use.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use hb_disk::{LockGuard, RealDisk};

use crate::layout::LOCK;

/// How long an owner that shows no sign of ending is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long one that is being killed is waited for: its last flush may take a slow disk's time.
const PATIENCE_WITH_THE_DYING: Duration = Duration::from_secs(20);
/// Time between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// Takes the lock; `None` when another process has it and keeps it.
pub(crate) fn take(disk: &RealDisk) -> io::Result<Option<LockGuard>> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = disk.lock(LOCK)? {
            return Ok(Some(lock));
        }
        let dying = disk.lock_owner(LOCK).is_none_or(is_dying);
        let patience = if dying { PATIENCE_WITH_THE_DYING } else { PATIENCE };
        if begun.elapsed() >= patience {
            return Ok(None);
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// Whether a process owns the ledger of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// None does.
    Free,
    /// One does; its process id where that can be read.
    Owned(Option<u32>),
}

/// Who owns the ledger of a data directory; makes nothing and leaves no trace.
pub fn ownership(root: &Path) -> io::Result<Ownership> {
    if !root.is_dir() {
        return Ok(Ownership::Free);
    }
    let disk = RealDisk::open(root)?;
    Ok(if disk.is_locked()? { Ownership::Owned(disk.lock_owner(LOCK)) } else { Ownership::Free })
}

/// Whether a process is gone, a zombie, or has a SIGKILL waiting for it (proc(5)). Where there is
/// no `/proc`, every owner is given the longer time.
pub fn is_dying(process: u32) -> bool {
    const SIGKILL_BIT: u64 = 1 << 8;
    let Ok(status) = std::fs::read_to_string(format!("/proc/{process}/status")) else {
        return true;
    };
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let gone = field("State:").is_some_and(|state| state.starts_with(['Z', 'X']));
    let pending = |name| field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let killed = ["SigPnd:", "ShdPnd:"]
        .into_iter()
        .any(|name| pending(name).is_some_and(|mask| mask & SIGKILL_BIT != 0));
    gone || killed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_that_was_waited_for_is_not() {
        assert!(!is_dying(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_dying(child.id()));
    }

    #[test]
    fn a_living_owner_keeps_its_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        assert_eq!(ownership(dir.path()).unwrap(), Ownership::Free);
        let _owner = take(&disk).unwrap().unwrap();
        assert!(take(&RealDisk::open(dir.path()).unwrap()).unwrap().is_none());
        let me = Some(std::process::id());
        assert_eq!(ownership(dir.path()).unwrap(), Ownership::Owned(me));
        let missing = dir.path().join("missing");
        assert_eq!(ownership(&missing).unwrap(), Ownership::Free);
        assert!(!missing.exists(), "looking makes nothing");
    }
}
