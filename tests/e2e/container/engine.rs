//! A container engine of a test's own: a real `dockerd` on its own socket, with its own images,
//! containers and processes.
//!
//! Owns: starting, killing and removing it, and the image that jobs run in.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::IMAGE;
use crate::support::wait_until;

/// A running engine; it is gone with everything that belongs to it when it is let go of.
pub struct Engine {
    dir: TempDir,
    /// Runs containers; a machine's own is a service beside the daemon, and outlives it.
    containerd: Option<Child>,
    daemon: Option<Child>,
    live_restore: bool,
}

/// Leaves a test out by name where the machine lacks something, unless nothing may be left out.
fn skip(test: &str, why: &str) {
    assert!(std::env::var_os("HB_REQUIRE_ALL").is_none(), "{test}: no engine: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: no engine ({why})");
}

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.is_ok_and(|out| out.status.success())
}

/// Makes something that tests of containers need, and says where it is.
pub fn made(what: &str) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/container-image");
    let out = Command::new(script).arg(what).output().map_err(|error| error.to_string())?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).trim().to_owned());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()))
}

impl Engine {
    /// An engine with the image; none, said by name, where there cannot be one.
    pub fn start(test: &str) -> Option<Self> {
        for program in ["dockerd", "containerd", "docker", "debootstrap"] {
            if !has(program) {
                skip(test, &format!("{program} is missing"));
                return None;
            }
        }
        let image = match made("python") {
            Ok(image) => image,
            Err(why) => {
                skip(test, &format!("an image cannot be made: {why}"));
                return None;
            }
        };
        let dir = tempfile::Builder::new().prefix("hb-engine").tempdir().unwrap();
        let mut engine = Self { dir, containerd: None, daemon: None, live_restore: false };
        engine.spawn_containerd();
        engine.spawn();
        if let Err(why) = engine.come_up() {
            skip(test, &why);
            return None;
        }
        let image = image.to_str().unwrap();
        engine.docker(&["import", image, IMAGE]);
        Some(engine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> fs::File {
        fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap()
    }

    fn spawn_containerd(&mut self) {
        let config = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(self.path("containerd.toml"), config).unwrap();
        let mut command = Command::new("containerd");
        command
            .args([OsStr::new("--config"), self.path("containerd.toml").as_ref()])
            .args([OsStr::new("--root"), self.path("containerd").as_ref()])
            .args([OsStr::new("--state"), self.path("containerd-state").as_ref()])
            .args([OsStr::new("--address"), self.path("containerd.sock").as_ref()])
            .stdin(Stdio::null())
            .stdout(self.log())
            .stderr(self.log())
            .process_group(0);
        self.containerd = Some(command.spawn().unwrap());
        wait_until("containerd listens", || self.path("containerd.sock").exists());
    }

    fn spawn(&mut self) {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).display());
        let mut command = Command::new("dockerd");
        command
            .arg(format!("--host=unix://{}", self.path("socket").display()))
            .arg(flag("containerd", "containerd.sock"))
            .args([flag("data-root", "data"), flag("exec-root", "exec"), flag("pidfile", "pid")])
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg(format!("--live-restore={}", self.live_restore))
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(self.log())
            .stderr(self.log())
            // A signal to the tests' own group is none to the engine.
            .process_group(0);
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Waits until it answers.
    fn come_up(&mut self) -> Result<(), String> {
        let mut ended = false;
        wait_until("the engine answers", || {
            let daemon = self.daemon.as_mut().unwrap();
            ended = daemon.try_wait().unwrap().is_some();
            ended || self.ask(&["version"]).is_some()
        });
        if ended {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            return Err(format!("dockerd ended: {}", log.lines().last().unwrap_or_default()));
        }
        Ok(())
    }

    /// Lets containers outlive the engine from the next start on.
    pub fn let_containers_outlive_it(&mut self) {
        self.live_restore = true;
    }

    /// `kill -9` of the engine, and a new start.
    pub fn kill_and_start(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // As the unit of a service manager does.
        let _ = fs::remove_file(self.path("pid"));
        self.spawn();
        self.come_up().unwrap();
    }

    /// Tells a command where it is.
    pub fn name_to(&self, command: &mut Command) {
        command.env("DOCKER_HOST", format!("unix://{}", self.path("socket").display()));
    }

    /// What `docker` with these arguments prints, if it goes well.
    pub fn ask(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("docker");
        self.name_to(&mut command);
        let out = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.ask(arguments).unwrap_or_else(|| panic!("docker {arguments:?} fails"))
    }

    /// The containers that there are, running or not.
    pub fn containers(&self) -> Vec<String> {
        let all = self.docker(&["ps", "-a", "--no-trunc", "--format", "{{.ID}}"]);
        all.lines().map(str::to_owned).collect()
    }

    /// Demands that nothing is left of any job: no container, no volume, no network.
    #[track_caller]
    pub fn is_clean(&self) {
        assert_eq!(self.docker(&["ps", "-aq"]), "", "a container is left");
        assert_eq!(self.docker(&["volume", "ls", "-q"]), "", "a volume is left");
        let networks = self.docker(&["network", "ls", "--format", "{{.Name}}"]);
        let mut networks: Vec<&str> = networks.lines().collect();
        networks.sort_unstable();
        assert_eq!(networks, ["host", "none"], "a network is left");
    }
}

impl Engine {
    /// Ends the processes between a container and an engine that died before it could end them.
    fn end_what_outlived_it(&self) {
        let below = self.dir.path().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let is_its = String::from_utf8_lossy(&line).contains(&below);
            let pid = entry.file_name().to_string_lossy().into_owned();
            if is_its && pid != std::process::id().to_string() {
                let _ = Command::new("kill").args(["-9", &pid]).status();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(left) = self.ask(&["ps", "-aq"]) {
            for id in left.lines() {
                let _ = self.ask(&["rm", "-f", id]);
            }
        }
        for mut process in [self.daemon.take(), self.containerd.take()].into_iter().flatten() {
            let _ = Command::new("kill").arg(process.id().to_string()).status();
            let _ = process.wait();
        }
        self.end_what_outlived_it();
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let below = self.dir.path().to_string_lossy().into_owned();
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in mounted.filter(|mount| mount.starts_with(&below)) {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
    }
}
