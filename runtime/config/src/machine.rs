//! What a machine has to give to jobs: processors and memory.
//!
//! Owns: reading `/proc` and the control groups of both generations. Where they are missing the
//! answers are the standard library's and a cautious guess.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

/// What is assumed where the machine does not say how much memory it has.
const GUESS_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// What a machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processors that this process may use: those that it is bound to, within its quota.
    pub cpus: u64,
    /// All memory.
    pub memory_bytes: Option<u64>,
    /// Memory that new programs could take without swapping.
    pub available_bytes: Option<u64>,
    /// The limits of the control groups that this process is in.
    pub group: GroupLimits,
}

/// The narrowest limits of the control groups around a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupLimits {
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_thousandths: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

impl Machine {
    /// Looks at this machine, as this process may use it.
    pub fn read() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cpus: cpus as u64,
            memory_bytes: meminfo_bytes(&meminfo, "MemTotal:"),
            available_bytes: meminfo_bytes(&meminfo, "MemAvailable:"),
            group: GroupLimits::read(Path::new("/")),
        }
    }

    /// The memory that this process and its children may use.
    pub fn usable_memory_bytes(&self) -> u64 {
        let all = self.memory_bytes.unwrap_or(GUESS_BYTES);
        self.group.memory_bytes.map_or(all, |group| group.min(all))
    }
}

/// A line of `/proc/meminfo`: `MemTotal:  24679588 kB`.
fn meminfo_bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

impl GroupLimits {
    /// Below `root`, which is `/` except in tests.
    fn read(root: &Path) -> Self {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mut limits = Self::default();
        for line in groups.lines() {
            // `0::/path` or `4:memory:/path` (cgroups(7)).
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.is_empty() {
                limits.narrow(&root.join("sys/fs/cgroup"), path, Self::second_generation);
            }
            for controller in controllers.split(',').filter(|name| !name.is_empty()) {
                let mount = root.join("sys/fs/cgroup").join(controller);
                limits.narrow(&mount, path, Self::first_generation);
            }
        }
        limits
    }

    /// Every group from `path` up to the root of `mount` may set a limit.
    fn narrow(&mut self, mount: &Path, path: &str, read: impl Fn(&Path) -> Self) {
        // In a container the path is often one of the machine's, of which only the root is seen.
        let path = Path::new(path.trim_start_matches('/'));
        let groups: Vec<PathBuf> = path.ancestors().map(|group| mount.join(group)).collect();
        for found in groups.iter().map(|group| read(group)) {
            let narrower = |one: Option<u64>, other: Option<u64>| match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            self.memory_bytes = narrower(self.memory_bytes, found.memory_bytes);
            self.cpu_thousandths = narrower(self.cpu_thousandths, found.cpu_thousandths);
            self.processes = narrower(self.processes, found.processes);
        }
    }

    fn second_generation(group: &Path) -> Self {
        let quota = text(&group.join("cpu.max"));
        let mut quota = quota.split_whitespace();
        let (most, period) = (quota.next(), quota.next());
        Self {
            memory_bytes: number(&group.join("memory.max")),
            cpu_thousandths: thousandths(
                most.and_then(|text| text.parse().ok()),
                period.and_then(|text| text.parse().ok()),
            ),
            processes: number(&group.join("pids.max")),
        }
    }

    fn first_generation(group: &Path) -> Self {
        // What has no limit says the largest multiple of a page.
        const UNLIMITED_BYTES: u64 = 1 << 62;
        let memory = number(&group.join("memory.limit_in_bytes"));
        Self {
            memory_bytes: memory.filter(|bytes| *bytes < UNLIMITED_BYTES),
            cpu_thousandths: thousandths(
                number(&group.join("cpu.cfs_quota_us")),
                number(&group.join("cpu.cfs_period_us")),
            ),
            processes: number(&group.join("pids.max")),
        }
    }
}

fn thousandths(most_us: Option<u64>, period_us: Option<u64>) -> Option<u64> {
    let (most, period) = (most_us?, period_us?);
    most.checked_mul(1000)?.checked_div(period)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `None` for `max`, `-1` and what is not there.
fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn the_narrowest_group_around_the_process_counts() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/self/cgroup", "0::/system.slice/hb.service\n"),
                ("sys/fs/cgroup/system.slice/memory.max", "2147483648\n"),
                ("sys/fs/cgroup/system.slice/hb.service/memory.max", "max\n"),
                ("sys/fs/cgroup/system.slice/hb.service/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/system.slice/hb.service/pids.max", "512\n"),
                ("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n"),
            ],
        );
        let expected = GroupLimits {
            memory_bytes: Some(2 << 30),
            cpu_thousandths: Some(1500),
            processes: Some(512),
        };
        assert_eq!(GroupLimits::read(root.path()), expected);
    }

    #[test]
    fn groups_of_the_first_generation_are_read_too() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ],
        );
        let limits = GroupLimits::read(root.path());
        assert_eq!((limits.memory_bytes, limits.cpu_thousandths), (Some(1 << 30), Some(500)));
        let unlimited = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")];
        write(root.path(), &unlimited);
        assert_eq!(GroupLimits::read(root.path()).memory_bytes, None);
    }

    #[test]
    fn a_machine_that_says_nothing_has_no_limits_and_little_memory() {
        let root = tempfile::tempdir().unwrap();
        let group = GroupLimits::read(root.path());
        assert_eq!(group, GroupLimits::default());
        let machine = Machine { cpus: 1, memory_bytes: None, available_bytes: None, group };
        assert_eq!(machine.usable_memory_bytes(), GUESS_BYTES);
    }

    #[test]
    fn lines_of_meminfo_are_kibibytes() {
        let meminfo = "MemTotal:       24679588 kB\nMemFree: 1 kB\n";
        assert_eq!(meminfo_bytes(meminfo, "MemTotal:"), Some(24_679_588 * 1024));
        assert_eq!(meminfo_bytes(meminfo, "MemAvailable:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::read();
        assert!(machine.cpus >= 1);
        assert!(machine.memory_bytes.unwrap() >= machine.available_bytes.unwrap());
    }
}
