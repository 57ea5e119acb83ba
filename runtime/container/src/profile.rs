//! What a container may do: as little as a program can live with, and one thing more for each grant.
//!
//! Owns: the whole body of the request that makes a container. Pure: the same job gives the same
//! body, and a test shows it.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};
use hb_types::{
    container::{Container, Grant},
    limits::Limits,
};

use crate::place::{Place, STREAMS, User};

/// Processes and threads, where no grant says otherwise. Numerical libraries start one for each
/// processor, several times over.
const PROCESSES: u64 = 256;
/// Bytes below `/tmp`.
const TEMPORARY_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes below `/dev/shm`.
const SHARED_MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// Open files beyond the job's limit: what an interpreter and its libraries hold themselves.
const OWN_FILES: u64 = 128;
/// The least share of a processor that engines take.
const CPU_MILLI_MIN: u32 = 10;
const NANO_CPUS_PER_MILLI: i64 = 1_000_000;

/// Connects the program with its streams, lets it wait where it has to, and becomes it.
const START: &str = "\
exec </hackbrain/stdin >>/hackbrain/stdout 2>>/hackbrain/stderr || exit 126
if [ -p /hackbrain/gate ]; then read -r _ </hackbrain/gate; fi
if [ -e /hackbrain/preflight ]; then
    /bin/sh -eu /hackbrain/preflight </dev/null >&2 || {
        code=$?
        echo \"hackbrain: the pre-flight script failed with exit code $code\" >&2
        exit $code
    }
fi
exec \"$@\"
";

/// What the request is made of.
pub(crate) struct Profile<'a> {
    pub container: &'a Container,
    pub arguments: &'a [String],
    pub environment: &'a [(String, String)],
    pub limits: &'a Limits,
    pub cpu_milli: u32,
    pub labels: HashMap<String, String>,
    pub place: &'a Place,
    /// Where the mounts of the container really are, in their order.
    pub sources: &'a [String],
}

impl Profile<'_> {
    fn grants(&self, wanted: impl Fn(&Grant) -> Option<u64>) -> Option<u64> {
        self.container.grants.iter().find_map(wanted)
    }

    fn has(&self, grant: &Grant) -> bool {
        self.container.grants.contains(grant)
    }

    pub(crate) fn body(&self) -> ContainerCreateBody {
        let User { uid, gid, .. } = self.place.user;
        let mut entrypoint = vec!["/bin/sh".to_owned(), "-c".to_owned()];
        entrypoint.extend([START.to_owned(), "hackbrain".to_owned()]);
        ContainerCreateBody {
            hostname: Some("job".to_owned()),
            user: Some(format!("{uid}:{gid}")),
            attach_stdin: Some(false),
            attach_stdout: Some(false),
            attach_stderr: Some(false),
            tty: Some(false),
            open_stdin: Some(false),
            env: Some(self.environment()),
            entrypoint: Some(entrypoint),
            cmd: Some(self.arguments.to_vec()),
            image: Some(self.container.image.clone()),
            working_dir: Some("/job".to_owned()),
            network_disabled: Some(!self.has(&Grant::Network)),
            labels: Some(self.labels.clone()),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn environment(&self) -> Vec<String> {
        let mut environment = vec![
            ("HOME", "/tmp"),
            ("HACKBRAIN_SOCKET", "/hackbrain/socket"),
            ("PYTHONPATH", "/hackbrain"),
            // Hashes of texts decide the order of sets, and so what a program prints.
            ("PYTHONHASHSEED", "0"),
        ];
        environment.retain(|(name, _)| !self.environment.iter().any(|(given, _)| given == name));
        let own = environment.into_iter().map(|(name, value)| format!("{name}={value}"));
        let given = self.environment.iter().map(|(name, value)| match name.as_str() {
            "PYTHONPATH" => format!("{name}=/hackbrain:{value}"),
            _ => format!("{name}={value}"),
        });
        own.chain(given).collect()
    }

    fn host_config(&self) -> HostConfig {
        let mut security = Vec::new();
        if !self.has(&Grant::NewPrivileges) {
            security.push("no-new-privileges".to_owned());
        }
        if self.has(&Grant::AnySystemCall) {
            security.push("seccomp=unconfined".to_owned());
        }
        let capabilities = self.container.grants.iter().filter_map(|grant| match grant {
            Grant::Capability(name) => Some(name.clone()),
            _ => None,
        });
        let tmp = self.grants(|grant| match grant {
            Grant::Temporary(bytes) => Some(*bytes),
            _ => None,
        });
        let shm = self.grants(|grant| match grant {
            Grant::SharedMemory(bytes) => Some(*bytes),
            _ => None,
        });
        let pids = self.grants(|grant| match grant {
            Grant::Processes(count) => Some(*count),
            _ => None,
        });
        let tmp = format!("rw,nosuid,nodev,mode=1777,size={}", tmp.unwrap_or(TEMPORARY_BYTES));
        let memory = number(self.limits.memory_bytes);
        let network = if self.has(&Grant::Network) { "default" } else { "none" };
        HostConfig {
            memory: Some(memory),
            // Memory and swap together: no swap.
            memory_swap: Some(memory),
            nano_cpus: Some(i64::from(self.cpu_milli.max(CPU_MILLI_MIN)) * NANO_CPUS_PER_MILLI),
            pids_limit: Some(number(pids.unwrap_or(PROCESSES))),
            ulimits: Some(self.ulimits()),
            // What is printed goes into files of the host.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            network_mode: Some(network.to_owned()),
            mounts: Some(self.mounts()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(capabilities.collect()),
            ipc_mode: Some("private".to_owned()),
            privileged: Some(false),
            readonly_rootfs: Some(!self.has(&Grant::WritableRoot)),
            security_opt: Some(security),
            tmpfs: Some(HashMap::from([("/tmp".to_owned(), tmp)])),
            shm_size: Some(number(shm.unwrap_or(SHARED_MEMORY_BYTES))),
            oom_score_adj: Some(500),
            ..HostConfig::default()
        }
    }

    fn ulimits(&self) -> Vec<ResourcesUlimits> {
        let limits = self.limits;
        let largest = limits.files_bytes.max(limits.stdout_bytes).max(limits.stderr_bytes);
        let one = |name: &str, value: u64| ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(number(value)),
            hard: Some(number(value)),
        };
        vec![
            one("core", 0),
            // A stream may go a little beyond its limit before it is noticed, and must not end the
            // program by another one.
            one("fsize", largest.saturating_add(1024 * 1024)),
            one("nofile", limits.open_files.saturating_add(OWN_FILES)),
        ]
    }

    fn mounts(&self) -> Vec<Mount> {
        let place = |name: &str| self.place.path(name).to_string_lossy().into_owned();
        let mut mounts = vec![
            bind(place("job"), "/job", true),
            bind(place("out"), "/out", true),
            bind(place("in"), "/in", false),
            bind(place("io"), "/hackbrain", false),
        ];
        for name in STREAMS {
            mounts.push(bind(place(&format!("io/{name}")), &format!("/hackbrain/{name}"), true));
        }
        for (mount, source) in self.container.mounts.iter().zip(self.sources) {
            mounts.push(bind(source.clone(), &mount.target, mount.writable));
        }
        mounts
    }
}

/// Nothing that is mounted on either side later reaches the other one.
fn bind(source: String, target: &str, writable: bool) -> Mount {
    Mount {
        target: Some(target.to_owned()),
        source: Some(source),
        typ: Some(MountType::BIND),
        read_only: Some(!writable),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            // What else is mounted below an allowed directory was not allowed, and would stay
            // writable where this is read-only.
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn host_config(grants: &[&str]) -> serde_json::Value {
        let mut container = Container::of_image("sha256:0".to_owned(), String::new());
        container.grants = grants.iter().map(|text| text.parse().unwrap()).collect();
        let place = Place::new("/p".into(), User { uid: 65534, gid: 65534, give: true });
        let profile = Profile {
            container: &container,
            arguments: &[],
            environment: &[],
            limits: &Limits::default(),
            cpu_milli: 500,
            labels: HashMap::new(),
            place: &place,
            sources: &[],
        };
        serde_json::to_value(profile.body()).unwrap()
    }

    #[test]
    fn without_grants_a_container_may_do_nothing_but_compute() {
        let body = host_config(&[]);
        let host = &body["HostConfig"];
        assert_eq!(body["User"], "65534:65534");
        assert_eq!(body["NetworkDisabled"], true);
        assert_eq!(host["NetworkMode"], "none");
        assert_eq!(host["ReadonlyRootfs"], true);
        assert_eq!(host["CapDrop"][0], "ALL");
        assert_eq!(host["CapAdd"].as_array().unwrap().len(), 0);
        assert_eq!(host["SecurityOpt"][0], "no-new-privileges");
        assert_eq!(host["SecurityOpt"].as_array().unwrap().len(), 1);
        assert_eq!(host["Privileged"], false);
        assert_eq!(host["Memory"], host["MemorySwap"]);
        assert_eq!(host["PidsLimit"], 256);
        assert_eq!(host["NanoCpus"], 500_000_000);
    }

    #[test]
    fn a_grant_widens_one_thing_and_leaves_the_others() {
        let cases = [
            ("network", &["NetworkMode"][..]),
            ("writable-root", &["ReadonlyRootfs"]),
            ("capability=SYS_PTRACE", &["CapAdd"]),
            ("new-privileges", &["SecurityOpt"]),
            ("any-system-call", &["SecurityOpt"]),
            ("pids=9", &["PidsLimit"]),
            ("tmp=4096", &["Tmpfs"]),
            ("shm=4096", &["ShmSize"]),
        ];
        let plain = host_config(&[]);
        for (grant, changed) in cases {
            let granted = host_config(&[grant]);
            let (plain, granted) = (&plain["HostConfig"], &granted["HostConfig"]);
            for (field, value) in plain.as_object().unwrap() {
                let same = granted[field] == *value;
                assert_eq!(same, !changed.contains(&field.as_str()), "{grant}: {field}");
            }
        }
        assert_eq!(host_config(&["network"])["NetworkDisabled"], false);
    }
}
