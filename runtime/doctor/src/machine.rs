//! The machine: memory, processors, settings of its kernel, its supervisor.

use std::{fs, path::Path};

use hb_config::machine::Machine;

use crate::check::{Check, Topic};

const MEMORY: Topic = Topic {
    id: "memory",
    title: "memory",
    why: "jobs share run.memory; a host that promises more than there is gets killed by the kernel",
};

const PROCESSORS: Topic = Topic {
    id: "processors",
    title: "processors",
    why: "run.cpus jobs compute at once; more than there are makes each of them slower",
};

const OVERCOMMIT: Topic = Topic {
    id: "overcommit",
    title: "memory overcommit",
    why: "jobs reserve addresses that they mostly never touch; strict accounting may refuse that",
};

const MAPS: Topic = Topic {
    id: "memory-maps",
    title: "memory maps",
    why: "each job needs some tens of them, each component that is kept ready a few",
};

const KERNEL: Topic = Topic {
    id: "kernel",
    title: "kernel",
    why: "from 5.6 on the kernel itself keeps a path below the data directory (openat2); before, \
          hb follows it step by step",
};

const SYSTEMD: Topic = Topic {
    id: "systemd",
    title: "systemd",
    why: "it can start a host with the machine, watch it and restart it",
};

const GIB: u64 = 1 << 30;

pub(crate) fn memory(machine: &Machine, promised_bytes: u64) -> Check {
    // What a compilation may take, and as much again for a job and the host.
    const WANTED: u64 = 4 * GIB;
    const NEEDED: u64 = GIB;
    let Some(all) = machine.memory_bytes else {
        return MEMORY.skip("/proc/meminfo does not say how much there is");
    };
    let usable = machine.usable_memory_bytes();
    let group = match machine.group.memory_bytes {
        Some(group) if group < all => format!(", limited to {} by a control group", mib(group)),
        _ => String::new(),
    };
    let available =
        machine.available_bytes.map_or_else(String::new, |free| format!(", {} free", mib(free)));
    let found = format!("{}{group}{available}; jobs share {}", mib(all), mib(promised_bytes));
    if promised_bytes > usable {
        let most = usable / 10 * 8 / (1 << 20);
        let fix = format!("export HB_RUN_MEMORY={most}MiB   # or run.memory in a file");
        return MEMORY.warn(format!("{found}, which is more than there is"), fix);
    }
    match usable {
        ..NEEDED => MEMORY.fail(
            format!("{found}; at least 1 GiB is needed"),
            "give the machine, container or service more memory (MemoryMax=, --memory)",
        ),
        NEEDED..WANTED => MEMORY.warn(
            format!("{found}; compiling a large component may take 2 GiB"),
            "give the machine, container or service 4 GiB (MemoryMax=, --memory)",
        ),
        _ => MEMORY.ok(found),
    }
}

fn mib(bytes: u64) -> String {
    match bytes {
        0..GIB => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1024 * 10 / 1024),
    }
}

pub(crate) fn processors(machine: &Machine, promised: u32) -> Check {
    let cpus = machine.cpus;
    let quota = machine.group.cpu_thousandths.map_or_else(String::new, |quota| {
        format!(", limited to {}.{} by a control group", quota / 1000, quota % 1000 / 100)
    });
    let found = format!("{cpus}{quota}; {promised} jobs compute at once");
    if u64::from(promised) > cpus {
        let fix = format!("export HB_RUN_CPUS={cpus}   # or run.cpus in a file");
        return PROCESSORS.warn(found, fix);
    }
    PROCESSORS.ok(found)
}

/// Settings of the kernel, where it shows them.
pub(crate) fn kernel_settings() -> Vec<Check> {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    vec![
        judge_maps(read("/proc/sys/vm/max_map_count")),
        judge_overcommit(read("/proc/sys/vm/overcommit_memory")),
    ]
}

fn judge_maps(most: Option<u64>) -> Check {
    // The kernel's default.
    const WANTED: u64 = 65_530;
    match most {
        None => MAPS.skip("/proc/sys/vm/max_map_count is not there"),
        Some(most) if most < WANTED => MAPS.warn(
            format!("{most}, {WANTED} are wanted"),
            format!("sudo sysctl -w vm.max_map_count={WANTED}"),
        ),
        Some(most) => MAPS.ok(most.to_string()),
    }
}

fn judge_overcommit(mode: Option<u64>) -> Check {
    match mode {
        None => OVERCOMMIT.skip("/proc/sys/vm/overcommit_memory is not there"),
        Some(2) => OVERCOMMIT.warn(
            "strict accounting (2): large components or many jobs may be refused memory",
            "sudo sysctl -w vm.overcommit_memory=0",
        ),
        Some(0) => OVERCOMMIT.ok("by estimate (0)"),
        Some(mode) => OVERCOMMIT.ok(format!("always ({mode})")),
    }
}

pub(crate) fn kernel() -> Check {
    let name = rustix::system::uname();
    judge_kernel(&name.sysname().to_string_lossy(), &name.release().to_string_lossy())
}

fn judge_kernel(system: &str, release: &str) -> Check {
    const WANTED: (u32, u32) = (5, 6);
    let found = format!("{system} {release}");
    if system != "Linux" {
        return KERNEL.warn(
            format!(
                "{found}: hb is made for Linux, and much of what it promises is not tried here"
            ),
            "run hb on Linux, in a virtual machine if need be",
        );
    }
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < WANTED => {
            KERNEL.warn(found, "update the system: a kernel from 5.6 on")
        }
        (Some(Ok(_)), Some(Ok(_))) => KERNEL.ok(found),
        _ => KERNEL.skip(format!("{found}: a version that says nothing")),
    }
}

pub(crate) fn systemd() -> Check {
    // What sd_booted(3) looks at.
    if Path::new("/run/systemd/system").is_dir() {
        SYSTEMD.ok("it runs this machine: docs/systemd has units for a host")
    } else {
        SYSTEMD.skip("it does not run this machine: start and watch a host by other means")
    }
}

#[cfg(test)]
mod tests {
    use hb_config::machine::GroupLimits;

    use super::*;
    use crate::check::Status;

    fn machine(memory_bytes: u64, group: Option<u64>) -> Machine {
        Machine {
            cpus: 4,
            memory_bytes: Some(memory_bytes),
            available_bytes: Some(memory_bytes / 2),
            group: GroupLimits { memory_bytes: group, ..GroupLimits::default() },
        }
    }

    #[test]
    fn more_memory_than_there_is_must_not_be_promised() {
        assert_eq!(memory(&machine(16 * GIB, None), 12 * GIB).status, Status::Ok);
        assert_eq!(memory(&machine(2 * GIB, None), GIB).status, Status::Warn);
        assert_eq!(memory(&machine(16 * GIB, Some(GIB / 2)), GIB / 4).status, Status::Fail);
        let check = memory(&machine(16 * GIB, Some(5 * GIB)), 8 * GIB);
        assert_eq!(check.status, Status::Warn);
        assert!(check.found.contains("limited to 5.0 GiB by a control group"), "{}", check.found);
        assert!(check.fix.is_some_and(|fix| fix.starts_with("export HB_RUN_MEMORY=4096MiB")));
        let unknown = Machine { memory_bytes: None, ..machine(0, None) };
        assert_eq!(memory(&unknown, GIB).status, Status::Skip);
    }

    #[test]
    fn more_processors_than_there_are_must_not_be_promised() {
        assert_eq!(processors(&machine(GIB, None), 4).status, Status::Ok);
        let check = processors(&machine(GIB, None), 8);
        assert!(check.status == Status::Warn && check.fix.is_some_and(|fix| fix.contains("=4 ")));
    }

    #[test]
    fn settings_of_the_kernel_are_judged() {
        assert_eq!(judge_maps(Some(1000)).status, Status::Warn);
        assert_eq!(judge_maps(Some(65_530)).status, Status::Ok);
        assert_eq!(judge_maps(None).status, Status::Skip);
        assert_eq!(judge_overcommit(Some(2)).status, Status::Warn);
        assert_eq!(judge_overcommit(Some(1)).status, Status::Ok);
    }

    #[test]
    fn versions_of_kernels_are_compared_by_number() {
        let status = |release| judge_kernel("Linux", release).status;
        assert_eq!(status("6.18.44-fc-v669"), Status::Ok);
        assert_eq!(status("5.10.0-28-amd64"), Status::Ok);
        assert_eq!(status("5.4.0"), Status::Warn);
        assert_eq!(status("rolling"), Status::Skip);
        assert_eq!(judge_kernel("Darwin", "24.1.0").status, Status::Warn);
    }
}
