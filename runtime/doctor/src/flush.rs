//! How long a flush takes, and whether that can be true.
//!
//! Owns: the probe, 64 writes of 4 KiB with a flush each as the log makes them, and what is known
//! of the device below. Sources: the kernel's documentation of `queue/rotational` and
//! `queue/write_cache` (sysfs-block).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    check::{Check, Topic, causes},
    directory::Place,
    filesystem::{Durability, Mount},
};

const FLUSH: Topic = Topic {
    id: "flush",
    title: "flush of a file",
    why: "every acknowledgement and every checkpoint waits for one; a flush that is too fast to \
          be true loses what it promised with the next power cut",
};

const WRITES: usize = 64;
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// Below this nothing outside of memory has answered.
const IMPOSSIBLE: Duration = Duration::from_micros(5);
/// A turning disk waits for its platter: 7200 turns a minute are 8 ms each.
const IMPOSSIBLE_TURNING: Duration = Duration::from_millis(1);
/// Above this jobs that save often will mostly wait.
const SLOW: Duration = Duration::from_millis(50);

/// What the kernel says of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Device {
    name: String,
    model: Option<String>,
    turning: Option<bool>,
    /// Whether it says that it keeps writes in a cache that a power cut empties.
    volatile_cache: Option<bool>,
}

/// What the probe measured.
struct Measured {
    median: Duration,
    slowest: Duration,
}

pub(crate) fn check(place: &Place, mount: Option<&Mount>) -> Check {
    let measured = match probe(&place.existing) {
        Ok(measured) => measured,
        Err(error) => {
            let found = format!("{}: {}", place.existing.display(), causes(&error));
            return FLUSH.fail(found, "mend the data directory first (see above)");
        }
    };
    let in_memory = mount.is_some_and(|mount| mount.durability() == Durability::Memory);
    let device = mount.and_then(|mount| Device::of(Path::new("/sys"), mount));
    judge(&measured, device.as_ref(), in_memory, is_virtual())
}

/// The file is full and durable before it is measured, as segments of the log are: what is left
/// is the flush of data alone.
fn probe(directory: &Path) -> io::Result<Measured> {
    let file: File = tempfile::tempfile_in(directory)?;
    for offset in offsets() {
        file.write_all_at(&[0; BLOCK.len()], offset)?;
    }
    file.sync_all()?;
    let mut times = Vec::with_capacity(WRITES);
    for offset in offsets() {
        let begun = Instant::now();
        file.write_all_at(&BLOCK, offset)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(Measured { median: times[WRITES / 2], slowest: times[WRITES - 1] })
}

fn offsets() -> impl Iterator<Item = u64> {
    (0..WRITES as u64).map(|index| index * BLOCK.len() as u64)
}

fn judge(measured: &Measured, device: Option<&Device>, in_memory: bool, is_virtual: bool) -> Check {
    let Measured { median, slowest } = *measured;
    let name = device.map_or_else(|| "device unknown".to_owned(), Device::describe);
    let times = format!("median {}, slowest {}", micros(median), micros(slowest));
    if in_memory {
        return FLUSH.skip(format!("{times}: there is nothing to flush in memory"));
    }
    let virtual_too = if is_virtual {
        "; a virtual machine: whether the one below keeps flushes cannot be seen from inside"
    } else {
        ""
    };
    let found = format!("{times}; {name}{virtual_too}");
    let disk = device.map_or("sdX", |device| device.name.as_str());
    let turning = device.and_then(|device| device.turning) == Some(true);
    let volatile = device.and_then(|device| device.volatile_cache) == Some(true);
    // A virtual disk calls itself turning whatever it lies on.
    let implausible =
        median < IMPOSSIBLE || (turning && volatile && !is_virtual && median < IMPOSSIBLE_TURNING);
    if implausible {
        let found = format!("{found}: faster than such a device can answer");
        return FLUSH.warn(found, format!("sudo hdparm -W 0 /dev/{disk}   # no cache that lies"));
    }
    if median > SLOW {
        let found = format!("{found}: jobs that save often will mostly wait");
        return FLUSH.warn(found, "export HB_DATA=…, a directory on a faster disk");
    }
    FLUSH.ok(found)
}

fn micros(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0..1000 => format!("{micros} µs"),
        _ => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
    }
}

impl Device {
    /// The device of a mount, by what `sys` says of it.
    fn of(sys: &Path, mount: &Mount) -> Option<Self> {
        let link = sys.join("dev/block").join(&mount.device);
        let path = link.canonicalize().or_else(|_| Self::by_source(sys, &mount.source)).ok()?;
        // A partition has its queue with the disk that it is a part of.
        let disk = if path.join("queue").is_dir() { path.clone() } else { path.parent()?.into() };
        let read = |name: &str| -> Option<String> {
            let text = fs::read_to_string(disk.join(name)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Some(Self {
            name: disk.file_name()?.to_string_lossy().into_owned(),
            model: read("device/model"),
            turning: read("queue/rotational").map(|text| text == "1"),
            volatile_cache: read("queue/write_cache").map(|text| text == "write back"),
        })
    }

    /// Btrfs and others give a mount a number of its own; the source names the device.
    fn by_source(sys: &Path, source: &str) -> io::Result<PathBuf> {
        let number = fs::metadata(source)?.rdev();
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        sys.join("dev/block").join(format!("{major}:{minor}")).canonicalize()
    }

    fn describe(&self) -> String {
        let mut words = vec![self.name.clone()];
        words.extend(self.model.clone());
        words.extend(self.turning.map(|turning| {
            if turning { "turning".to_owned() } else { "without moving parts".to_owned() }
        }));
        words.extend(self.volatile_cache.map(|volatile| {
            if volatile { "volatile cache".to_owned() } else { "no volatile cache".to_owned() }
        }));
        words.join(", ")
    }
}

fn is_virtual() -> bool {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu.lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::Status;

    fn disk(turning: bool, volatile_cache: bool) -> Device {
        Device {
            name: "sda".to_owned(),
            model: Some("TESTDISK 2000".to_owned()),
            turning: Some(turning),
            volatile_cache: Some(volatile_cache),
        }
    }

    fn status(micros: u64, device: Option<&Device>, in_memory: bool, is_virtual: bool) -> Status {
        let median = Duration::from_micros(micros);
        judge(&Measured { median, slowest: median * 2 }, device, in_memory, is_virtual).status
    }

    #[test]
    fn a_flush_that_is_faster_than_its_device_can_be_is_doubted() {
        assert_eq!(status(200, Some(&disk(true, true)), false, false), Status::Warn);
        assert_eq!(status(8_000, Some(&disk(true, true)), false, false), Status::Ok);
        // A controller with a battery answers for its disks.
        assert_eq!(status(200, Some(&disk(true, false)), false, false), Status::Ok);
        assert_eq!(status(200, Some(&disk(true, true)), false, true), Status::Ok);
        assert_eq!(status(30, Some(&disk(false, true)), false, false), Status::Ok);
        assert_eq!(status(2, Some(&disk(false, true)), false, true), Status::Warn);
        assert_eq!(status(2, None, false, false), Status::Warn);
    }

    #[test]
    fn a_slow_flush_is_warned_of_and_memory_has_none() {
        assert_eq!(status(80_000, None, false, false), Status::Warn);
        assert_eq!(status(2, None, true, false), Status::Skip);
    }

    #[test]
    fn what_is_known_of_the_device_is_said() {
        let time = Duration::from_micros(1_234);
        let measured = Measured { median: time, slowest: time };
        let check = judge(&measured, Some(&disk(false, true)), false, true);
        for word in ["1.2 ms", "sda", "TESTDISK 2000", "volatile cache", "virtual machine"] {
            assert!(check.found.contains(word), "{}", check.found);
        }
    }

    #[test]
    fn a_partition_is_described_by_its_disk() {
        let sys = tempfile::tempdir().unwrap();
        let disk = sys.path().join("devices/sdb");
        for (name, text) in [
            ("queue/rotational", "0\n"),
            ("queue/write_cache", "write through\n"),
            ("device/model", "TINY   \n"),
            ("sdb1/partition", "1\n"),
        ] {
            let path = disk.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        std::os::unix::fs::symlink(disk.join("sdb1"), sys.path().join("dev/block/8:17")).unwrap();
        let mount = Mount {
            point: "/".into(),
            device: "8:17".to_owned(),
            kind: "ext4".to_owned(),
            source: "/dev/sdb1".to_owned(),
            options: Vec::new(),
        };
        let device = Device::of(sys.path(), &mount).unwrap();
        assert_eq!(device.describe(), "sdb, TINY, without moving parts, no volatile cache");
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let measured = probe(directory.path()).unwrap();
        assert!(measured.median <= measured.slowest);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
