//! A host as a process: started, waited for, stopped for a while, killed.
//!
//! Owns the child and what it says; knows nothing of why things are done to it.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use hb_client::{Client, ClientOptions, OptionsError, Patience};
use hb_config::host_file::HostFile;
use rustix::process::{Pid, Signal, kill_process};

use crate::{ambush::Ambush, judge};

const TICK: Duration = Duration::from_millis(3);
/// Nobody listens there: a client that was given it looks for the host's own address.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Where hosts live, and how they are started.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub hb: PathBuf,
    pub data: PathBuf,
    /// Where what they say goes.
    pub log: PathBuf,
}

/// How a start went.
pub(crate) enum Start {
    Ready,
    /// It ended before.
    Ended(ExitStatus),
    /// What was to be done to it was done before.
    Struck,
    /// It did nothing of that for too long.
    Hung,
}

impl Home {
    /// Starts a host and does not wait for it.
    pub fn start(&self, ambush: &Ambush) -> io::Result<HostProcess> {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let plan = serde_json::to_string(ambush).map_err(io::Error::other)?;
        let child = judge::command(&self.hb, &self.data)
            .args(["serve", "--listen", "127.0.0.1:0", "--ambush", &plan])
            .stdout(Stdio::null())
            .stderr(log)
            // What is typed at a terminal is meant for the experiment.
            .process_group(0)
            .spawn()?;
        Ok(HostProcess { child, data: self.data.clone() })
    }

    /// A client of whatever host is there.
    pub fn client(&self, patience: Duration) -> Result<Client, OptionsError> {
        let data = self.data.clone();
        Client::new(&ClientOptions {
            server: NOWHERE.to_owned(),
            locate: Some(Arc::new(move || address(&data))),
            patience: Patience {
                total: patience,
                first_pause: Duration::from_millis(10),
                longest_pause: Duration::from_millis(100),
            },
            ..ClientOptions::default()
        })
    }

    /// The last of what hosts said.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // What went well is not what is asked for.
        let lines = text.lines().rev().filter(|line| !line.contains(" INFO "));
        let lines: Vec<&str> = lines.take(6).collect();
        let lines: Vec<&str> = lines.into_iter().rev().collect();
        hb_types::text::printable(&lines.join(" | "), 1500)
    }
}

fn address(data: &Path) -> Option<String> {
    let host = HostFile::read(data).ok().flatten()?;
    host.urls.into_iter().find(|url| url.starts_with("http"))
}

/// A running host, killed when it is let go of.
pub(crate) struct HostProcess {
    child: Child,
    data: PathBuf,
}

impl HostProcess {
    /// Waits until it can take jobs.
    pub fn wait_ready(&mut self, client: &Client, patience: Duration) -> io::Result<Start> {
        self.wait_ready_or(client, patience, &|| false)
    }

    /// The same, unless something else happens before.
    pub fn wait_ready_or(
        &mut self,
        client: &Client,
        patience: Duration,
        is_struck: &dyn Fn() -> bool,
    ) -> io::Result<Start> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Start::Ended(status));
            }
            if is_struck() {
                return Ok(Start::Struck);
            }
            let here = HostFile::read(&self.data).ok().flatten();
            if here.is_some_and(|host| host.pid == self.child.id())
                && client.is_ready().unwrap_or(false)
            {
                return Ok(Start::Ready);
            }
            if begun.elapsed() > patience {
                return Ok(Start::Hung);
            }
            thread::sleep(TICK);
        }
    }

    /// Waits for its end.
    pub fn wait_end(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || begun.elapsed() > patience {
                return Ok(status);
            }
            thread::sleep(TICK);
        }
    }

    /// `kill -9`, on a process that it started too if there is one: the one that compiles.
    pub fn kill(&mut self, child_first: bool) -> io::Result<()> {
        if child_first {
            for pid in children(self.child.id()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it for a while.
    pub fn pause(&self, pause: Duration) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::STOP);
            thread::sleep(pause);
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Asks it to stop, and waits.
    pub fn stop(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        self.wait_end(patience)
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).ok();
    let listed: Vec<String> = tasks.filter_map(|task| of_task(task.ok()?)).collect();
    let words = listed.iter().flat_map(|text| text.split_whitespace());
    words.filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}
