//! What the operating system lets this process have: files, address space, processes, priority.

use hb_config::{Config, machine::Machine};
use rustix::process::{Resource, getrlimit};

use crate::check::{Check, Topic, causes};

const OPEN_FILES: Topic = Topic {
    id: "open-files",
    title: "open files",
    why: "every connection, every running job and every blob that is read holds some",
};

const ADDRESS_SPACE: Topic = Topic {
    id: "address-space",
    title: "address space",
    why: "a running job takes 4 GiB of addresses, guarded, so that its memory accesses cost no \
          check; only what it touches is memory",
};

const PROCESSES: Topic = Topic {
    id: "processes",
    title: "processes and threads",
    why: "each job has a thread, each compilation a child process",
};

const PRIORITY: Topic = Topic {
    id: "priority",
    title: "priority of the log",
    why: "checkpoints wait for the log's writer; with a higher priority it does not wait behind \
          jobs that compute",
};

const GIB: u64 = 1 << 30;

pub(crate) fn check(config: &Config, machine: &Machine) -> Vec<Check> {
    let files = getrlimit(Resource::Nofile);
    let space = getrlimit(Resource::As);
    let processes = getrlimit(Resource::Nproc);
    vec![
        judge_open_files(files.current, files.maximum),
        judge_address_space(space.current, config.run.cpus),
        judge_processes(processes.current, machine.group.processes),
    ]
}

/// `None` is "no limit".
fn judge_open_files(soft: Option<u64>, hard: Option<u64>) -> Check {
    const NEEDED: u64 = 256;
    const WANTED: u64 = 4096;
    let Some(soft) = soft else { return OPEN_FILES.ok("no limit") };
    let can_be_raised = hard.is_none_or(|hard| hard >= WANTED);
    let fix = if can_be_raised {
        format!("ulimit -n {WANTED}")
    } else {
        "echo \"$USER - nofile 65536\" | sudo tee /etc/security/limits.d/hackbrain.conf   # then \
         log in again; for a service: LimitNOFILE=65536"
            .to_owned()
    };
    match soft {
        ..NEEDED => OPEN_FILES.fail(format!("{soft}, at least {NEEDED} are needed"), fix),
        NEEDED..WANTED => OPEN_FILES.warn(format!("{soft}, {WANTED} are wanted"), fix),
        _ => OPEN_FILES.ok(soft.to_string()),
    }
}

fn judge_address_space(limit: Option<u64>, cpus: u32) -> Check {
    // 4 GiB, guards on both sides and a stack; and the program with its files in memory.
    const ONE_JOB: u64 = 5 * GIB;
    const PROGRAM: u64 = 2 * GIB;
    const FIX: &str = "ulimit -v unlimited";
    let Some(limit) = limit else { return ADDRESS_SPACE.ok("no limit") };
    let shown = format!("limited to {} MiB", limit >> 20);
    let jobs = limit.saturating_sub(PROGRAM) / ONE_JOB;
    match jobs {
        0 => ADDRESS_SPACE.fail(format!("{shown}: no job fits"), FIX),
        jobs if jobs < u64::from(cpus) => {
            let found = format!("{shown}: {jobs} jobs fit at once, for {cpus} processors");
            ADDRESS_SPACE.warn(found, FIX)
        }
        jobs => ADDRESS_SPACE.ok(format!("{shown}: {jobs} jobs fit at once")),
    }
}

fn judge_processes(limit: Option<u64>, group: Option<u64>) -> Check {
    const NEEDED: u64 = 32;
    const WANTED: u64 = 512;
    let (most, fix) = match (limit, group) {
        (None, None) => return PROCESSES.ok("no limit"),
        (Some(limit), group) if group.is_none_or(|group| limit <= group) => {
            (limit, format!("ulimit -u {WANTED}"))
        }
        (limit, group) => {
            let most = group.or(limit).unwrap_or_default();
            (most, "give the container or service more: TasksMax=, or --pids-limit".to_owned())
        }
    };
    match most {
        ..NEEDED => PROCESSES.fail(format!("{most}, at least {NEEDED} are needed"), fix),
        NEEDED..WANTED => PROCESSES.warn(format!("{most}, {WANTED} are wanted"), fix),
        _ => PROCESSES.ok(most.to_string()),
    }
}

/// Tries it on a thread that ends with the try.
#[cfg(target_os = "linux")]
pub(crate) fn priority() -> Check {
    const WANTED: i32 = -10;
    let tried = std::thread::spawn(|| {
        let thread = rustix::thread::gettid();
        rustix::process::setpriority_process(Some(thread), WANTED)
    });
    match tried.join() {
        Ok(Ok(())) => PRIORITY.ok(format!("it may be raised (nice {WANTED})")),
        Ok(Err(error)) => PRIORITY.warn(
            format!("it may not be raised (nice {WANTED}): {}", causes(&error)),
            "echo \"$USER - nice -10\" | sudo tee /etc/security/limits.d/hackbrain-nice.conf   # \
             then log in again; for a service: LimitNICE=-10",
        ),
        Err(_) => PRIORITY.skip("it could not be tried"),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn priority() -> Check {
    PRIORITY.skip("threads have no priority of their own on this system")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    #[test]
    fn open_files_can_be_raised_up_to_the_hard_limit() {
        assert_eq!(judge_open_files(None, None).status, Status::Ok);
        assert_eq!(judge_open_files(Some(4096), Some(4096)).status, Status::Ok);
        let check = judge_open_files(Some(1024), Some(1 << 20));
        assert_eq!((check.status, check.fix.as_deref()), (Status::Warn, Some("ulimit -n 4096")));
        let check = judge_open_files(Some(100), Some(1024));
        assert_eq!(check.status, Status::Fail);
        assert!(check.fix.is_some_and(|fix| fix.contains("LimitNOFILE")));
    }

    #[test]
    fn address_space_is_counted_in_jobs() {
        assert_eq!(judge_address_space(None, 64).status, Status::Ok);
        assert_eq!(judge_address_space(Some(4 * GIB), 1).status, Status::Fail);
        assert_eq!(judge_address_space(Some(8 * GIB), 4).status, Status::Warn);
        assert_eq!(judge_address_space(Some(64 * GIB), 4).status, Status::Ok);
    }

    #[test]
    fn the_narrower_limit_of_processes_counts() {
        assert_eq!(judge_processes(None, None).status, Status::Ok);
        assert_eq!(judge_processes(Some(96_000), None).status, Status::Ok);
        let check = judge_processes(Some(96_000), Some(100));
        assert!(
            check.status == Status::Warn && check.fix.is_some_and(|fix| fix.contains("TasksMax"))
        );
        assert_eq!(judge_processes(Some(10), Some(100)).fix.as_deref(), Some("ulimit -u 512"));
    }

    #[test]
    fn trying_a_priority_changes_nothing_for_others() {
        let before = rustix::process::getpriority_process(None).ok();
        let _ = priority();
        assert_eq!(rustix::process::getpriority_process(None).ok(), before);
    }
}
