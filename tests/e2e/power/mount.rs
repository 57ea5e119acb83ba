//! File systems on disks of ours, mounted through a loop device each.
//!
//! Owns: making, mounting and unmounting. Knows nothing of what is stored.
//!
//! Invariant: what is mounted here is unmounted when it is let go of, in a panic too; its loop device
//! goes with it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Which file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    /// The smallest disk on which it can be made, and that holds a ledger under load.
    pub fn disk_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 256 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    /// What the disk below must write at once or not at all. XFS tells by the first sector of a block of
    /// metadata whether its log has to be applied to it, so it does not come back from a block that was
    /// torn: seen in one of about ninety images.
    pub fn sector(self) -> usize {
        match self {
            Self::Ext4 => super::record::SECTOR,
            Self::Xfs => 4096,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    pub fn is_here(self) -> bool {
        Command::new(self.program()).arg("-V").output().is_ok_and(|out| out.status.success())
    }

    pub fn make(self, disk: &Path) {
        let flags: &[&str] = match self {
            // All tables now: nothing shall be written later that no test asked for.
            Self::Ext4 => &["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0"],
            Self::Xfs => &["-q", "-f", "-K", "-s", "size=4096"],
        };
        run(Command::new(self.program()).args(flags).arg(disk)).unwrap();
    }

    fn options(self) -> &'static str {
        match self {
            Self::Ext4 => "loop,noatime",
            // Images of one disk have one name.
            Self::Xfs => "loop,noatime,nouuid",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// A mounted file system.
pub struct Mounted {
    at: PathBuf,
}

impl Mounted {
    pub fn mount(kind: Kind, disk: &Path, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).unwrap();
        run(Command::new("mount")
            .args(["-t", kind.name(), "-o", kind.options()])
            .arg(disk)
            .arg(at))?;
        Ok(Self { at: at.to_owned() })
    }

    pub fn at(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(&self.at)) {
            println!("{error}");
            // Whoever still holds a file of it lets go of it some time.
            let _ = run(Command::new("umount").arg("-l").arg(&self.at));
        }
    }
}
