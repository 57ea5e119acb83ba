//! The file system below the data directory: of what kind it is, and how much room it has.
//!
//! Owns: which kinds keep what was flushed. Sources: mount(8) and proc(5).

use std::path::{Path, PathBuf};

use crate::check::{Check, Topic};

const FILESYSTEM: Topic = Topic {
    id: "data-filesystem",
    title: "file system",
    why: "on some file systems a flush promises nothing, and what was acknowledged can be lost",
};

const SPACE: Topic = Topic {
    id: "data-space",
    title: "free space",
    why: "on a full disk no new job is taken in, and running ones cannot save",
};

const INODES: Topic = Topic {
    id: "data-inodes",
    title: "free inodes",
    why: "without them no file can be made, however much space is free",
};

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// `major:minor` of its device.
    pub device: String,
    /// What kind it is.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
}

/// What a kind of file system is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It keeps what was flushed, as far as its disk does.
    Disk,
    /// It is in memory.
    Memory,
    /// The writable layer of a container.
    Container,
    /// Somewhere else, behind a network or another machine.
    Remote,
    /// It has no journal, or not one of ours is known to rely on it.
    Doubtful,
    /// Not known.
    Unknown,
}

impl Mount {
    /// The one that holds `path`.
    pub fn of(path: &Path) -> Option<Self> {
        let path = path.canonicalize().ok()?;
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::find(&table, &path)
    }

    /// The deepest mount around `path`; of several on one point the last, which hides the others.
    fn find(table: &str, path: &Path) -> Option<Self> {
        let mounts = table.lines().filter_map(Self::parse);
        mounts
            .filter(|mount| path.starts_with(&mount.point))
            .max_by_key(|mount| mount.point.components().count())
    }

    /// `36 35 98:0 /root /mnt rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(2);
        let (device, _root, point, options) =
            (before.next()?, before.next()?, before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, source, more) = (after.next()?, after.next()?, after.next().unwrap_or(""));
        Some(Self {
            point: PathBuf::from(unescaped(point)),
            device: device.to_owned(),
            kind: kind.to_owned(),
            source: unescaped(source),
            options: options.split(',').chain(more.split(',')).map(str::to_owned).collect(),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    pub fn durability(&self) -> Durability {
        match self.kind.as_str() {
            "ext3" | "ext4" | "xfs" | "btrfs" | "zfs" | "f2fs" | "bcachefs" | "jfs"
            | "reiserfs" => Durability::Disk,
            "tmpfs" | "ramfs" | "devtmpfs" => Durability::Memory,
            "overlay" | "aufs" | "unionfs" => Durability::Container,
            "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "glusterfs" | "afs" | "lustre"
            | "virtiofs" | "vboxsf" | "prl_fs" => Durability::Remote,
            kind if kind.starts_with("fuse") => Durability::Remote,
            "ext2" | "vfat" | "exfat" | "msdos" | "ntfs3" | "hfsplus" => Durability::Doubtful,
            _ => Durability::Unknown,
        }
    }
}

/// Spaces, tabs, newlines and backslashes stand as three octal digits.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        if let Some(byte) = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            bytes.extend_from_slice(&part.as_bytes()[3..]);
        } else {
            bytes.push(b'\\');
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn check(mount: Option<&Mount>) -> Check {
    match mount {
        Some(mount) => judge(mount),
        None => FILESYSTEM.skip("/proc/self/mountinfo does not say which file system it is"),
    }
}

fn judge(mount: &Mount) -> Check {
    const ELSEWHERE: &str = "export HB_DATA=…, a directory on a local disk with ext4, XFS, Btrfs \
                             or ZFS";
    let (kind, point) = (&mount.kind, mount.point.display());
    if mount.has("ro") {
        let point = crate::check::shell_word(&mount.point.to_string_lossy());
        let fix = format!("sudo mount -o remount,rw {point}");
        return FILESYSTEM.fail(format!("{kind} on {point} is mounted for reading only"), fix);
    }
    if let Some(barrier) = ["nobarrier", "barrier=0"].into_iter().find(|one| mount.has(one)) {
        let word = crate::check::shell_word(&mount.point.to_string_lossy());
        let found = format!("{kind} on {point} is mounted with {barrier}: flushes are left out");
        return FILESYSTEM.warn(found, format!("sudo mount -o remount,barrier {word}"));
    }
    let because = match mount.durability() {
        Durability::Disk => return FILESYSTEM.ok(format!("{kind} on {point}")),
        Durability::Memory => "is in memory: a restart of the machine loses every job",
        Durability::Container => {
            "is the layer of a container and goes with it: mount a volume for the data directory"
        }
        Durability::Remote => {
            "is somewhere else: whether a flush and a lock hold there is up to its server"
        }
        Durability::Doubtful => "has no journal: a power cut can damage its directories",
        Durability::Unknown => "is not known to hb: whether a flush holds there is not known",
    };
    FILESYSTEM.warn(format!("{kind} on {point} {because}"), ELSEWHERE)
}

/// How much room there is.
struct Room {
    free_bytes: u64,
    /// `None` where inodes are made as they are needed.
    free_inodes: Option<u64>,
}

pub(crate) fn room(existing: &Path) -> Vec<Check> {
    match rustix::fs::statvfs(existing) {
        Ok(stat) => judge_room(&Room {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
        }),
        Err(error) => vec![SPACE.skip(format!("{}: {error}", existing.display()))],
    }
}

fn judge_room(room: &Room) -> Vec<Check> {
    const MIB: u64 = 1 << 20;
    // The log keeps some segments ahead and a reserve for terminal states; below this a host
    // takes nothing in.
    const NEEDED_BYTES: u64 = 256 * MIB;
    const WANTED_BYTES: u64 = 4096 * MIB;
    const NEEDED_INODES: u64 = 1_000;
    const WANTED_INODES: u64 = 50_000;
    const MORE: &str = "df -h \"${HB_DATA:-$HOME}\"   # and remove what is not needed, or choose \
                        another disk with HB_DATA";
    let free = format!("{} MiB free", room.free_bytes / MIB);
    let space = match room.free_bytes {
        ..NEEDED_BYTES => SPACE.fail(format!("{free}, at least 256 MiB are needed"), MORE),
        NEEDED_BYTES..WANTED_BYTES => SPACE.warn(format!("{free}, less than 4 GiB"), MORE),
        _ => SPACE.ok(free),
    };
    let Some(inodes) = room.free_inodes else { return vec![space] };
    let free = format!("{inodes} free");
    let inodes = match inodes {
        ..NEEDED_INODES => INODES.fail(free, MORE.replace("df -h", "df -i")),
        NEEDED_INODES..WANTED_INODES => INODES.warn(free, MORE.replace("df -h", "df -i")),
        _ => INODES.ok(free),
    };
    vec![space, inodes]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::Status;

    const TABLE: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
25 24 0:23 / /dev/shm rw shared:4 - tmpfs tmpfs rw,size=24684084k
40 27 0:50 / /var/lib/my\\040data rw,relatime master:1 - nfs4 server:/x rw,vers=4.2
41 27 8:1 / /data rw - xfs /dev/sda1 rw,nobarrier
42 41 8:2 / /data rw - btrfs /dev/sda2 rw
43 27 8:3 / /ro ro - ext4 /dev/sda3 ro
44 27 0:60 / /merged rw - overlay overlay rw,lowerdir=/l,upperdir=/u
";

    fn at(path: &str) -> Mount {
        Mount::find(TABLE, Path::new(path)).unwrap()
    }

    #[test]
    fn the_deepest_and_last_mount_around_a_path_counts() {
        assert_eq!(at("/home/me").kind, "ext4");
        assert_eq!(at("/dev/shm/x").kind, "tmpfs");
        assert_eq!(at("/dev/shmx").kind, "ext4");
        assert_eq!(at("/var/lib/my data/hb").source, "server:/x");
        assert_eq!((at("/data/x").kind.as_str(), at("/data").device.as_str()), ("btrfs", "8:2"));
    }

    #[test]
    fn file_systems_that_may_forget_are_warned_of() {
        let status = |path| judge(&at(path)).status;
        assert_eq!(status("/home"), Status::Ok);
        assert_eq!(status("/dev/shm"), Status::Warn);
        assert_eq!(status("/var/lib/my data"), Status::Warn);
        assert_eq!(status("/merged"), Status::Warn);
        assert_eq!(status("/ro"), Status::Fail);
        let without_barriers = Mount { kind: "xfs".to_owned(), ..at("/data") };
        let options = vec!["rw".to_owned(), "nobarrier".to_owned()];
        let check = judge(&Mount { options, ..without_barriers });
        assert!(check.status == Status::Warn && check.found.contains("flushes are left out"));
    }

    #[test]
    fn octal_digits_are_read_and_others_left() {
        assert_eq!(unescaped("a\\040b\\134c\\x"), "a b\\c\\x");
    }

    #[test]
    fn room_is_judged_by_what_a_host_needs() {
        let statuses = |free_bytes, free_inodes| -> Vec<Status> {
            let checks = judge_room(&Room { free_bytes, free_inodes });
            checks.iter().map(|check| check.status).collect()
        };
        assert_eq!(statuses(1 << 40, None), [Status::Ok]);
        assert_eq!(statuses(1 << 30, Some(10)), [Status::Warn, Status::Fail]);
        assert_eq!(statuses(0, Some(10_000)), [Status::Fail, Status::Warn]);
        assert_eq!(statuses(1 << 40, Some(1 << 30)), [Status::Ok, Status::Ok]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_a_file_system_with_room_figures() {
        let here = std::env::temp_dir();
        assert!(Mount::of(&here).is_some());
        assert!(!room(&here).is_empty());
    }
}
