//! Starts `hb` in a data directory of its own and reads what it says.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const HB: &str = env!("CARGO_BIN_EXE_hb");

/// The longest that anything may take before a test gives up on it. No test asserts a time: this
/// only keeps a hanging program from hanging the tests.
pub const PATIENCE: Duration = Duration::from_mins(4);

/// A data directory and a place for files, removed at the end.
pub struct World {
    dir: TempDir,
    data: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Self { dir, data }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// Puts the ledger elsewhere.
    pub fn set_data(&mut self, data: PathBuf) {
        self.data = data;
    }

    /// `hb` with these arguments on this world's ledger.
    pub fn hb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        self.hb_under(&[], arguments)
    }

    /// The same as an argument of another program.
    pub fn hb_under<S: AsRef<OsStr>>(
        &self,
        under: &[&str],
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut words = under.iter().copied().chain([HB]);
        let mut command = Command::new(words.next().unwrap_or(HB));
        command
            .args(words)
            .args(arguments)
            .env("HB_DATA", self.data())
            .env_remove("HB_LOG")
            // The settings of this machine and of whoever tests are theirs.
            .env("HB_CONFIG", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `hb` to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ran {
        Ran::of(self.hb(arguments).output().unwrap())
    }

    /// `hb show JOB --json`.
    pub fn show(&self, job: &str) -> Value {
        self.run(["show", job, "--json"]).ok().json()
    }

    /// The same while the job, or the ledger, may not be there yet.
    pub fn show_if_there(&self, job: &str) -> Option<Value> {
        let ran = self.run(["show", job, "--json"]);
        (ran.code == Some(0)).then(|| ran.json())
    }

    /// The artifacts of a job by name, from a fresh directory.
    pub fn artifacts(&self, job: &str) -> Vec<(String, Vec<u8>)> {
        let out = tempfile::tempdir_in(self.dir.path()).unwrap();
        self.run([OsStr::new("artifacts"), job.as_ref(), "--out".as_ref(), out.path().as_ref()])
            .ok();
        let mut files = Vec::new();
        collect(out.path(), out.path(), &mut files);
        files.sort();
        files
    }

    /// Everything of a job that a crash must not change.
    pub fn result(&self, job: &str) -> JobResult {
        let shown = self.show(job);
        JobResult {
            state: shown["state"].as_str().unwrap().to_owned(),
            outcome: shown["outcome"].as_str().unwrap().to_owned(),
            seal: shown["seal"].as_str().unwrap().to_owned(),
            stdout: self.run(["logs", job]).ok().stdout,
            stderr: self.run(["logs", job, "--stderr"]).ok().stdout,
            artifacts: self.artifacts(job),
        }
    }
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.push((name, fs::read(&path).unwrap()));
        }
    }
}

/// What a crash must not change.
#[derive(PartialEq, Eq)]
pub struct JobResult {
    pub state: String,
    pub outcome: String,
    pub seal: String,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub artifacts: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for JobResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest =
            |bytes: &[u8]| format!("{} bytes {}", bytes.len(), blake3::hash(bytes).to_hex());
        writeln!(f, "{} {} seal {}", self.state, self.outcome, self.seal)?;
        writeln!(f, "stdout {}", digest(&self.stdout))?;
        writeln!(f, "stderr {}", digest(&self.stderr))?;
        for (name, bytes) in &self.artifacts {
            writeln!(f, "{name} {}", digest(bytes))?;
        }
        Ok(())
    }
}

/// What a finished `hb` left.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Demands exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Demands an exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stderr: {}\nstdout: {}", self.stderr, self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    /// Demands that the error is one line that holds all of these.
    #[track_caller]
    pub fn complains(&self, words: &[&str]) {
        let errors: Vec<&str> =
            self.stderr.lines().filter(|line| line.starts_with("hb: error: ")).collect();
        assert_eq!(errors.len(), 1, "one line of error expected: {}", self.stderr);
        for word in words {
            assert!(errors[0].contains(word), "{word:?} expected in: {}", errors[0]);
        }
    }
}

/// A running `hb` that is killed when it is let go of.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has not ended.
    pub fn is_there(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// `kill -9`; true when it was still running.
    pub fn kill(&mut self) -> bool {
        if self.0.try_wait().unwrap().is_some() {
            return false;
        }
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        true
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Ran {
        let stdout = drain(self.0.stdout.take());
        let stderr = drain(self.0.stderr.take());
        let status = self.0.wait().unwrap();
        Ran {
            code: status.code(),
            stdout: stdout.join().unwrap(),
            stderr: String::from_utf8_lossy(&stderr.join().unwrap()).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).unwrap();
        }
        bytes
    })
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells threads that it is over when it is let go of, in a panic too: who waits for them would wait for
/// ever.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file of the repository's test data.
pub fn data_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)
}

/// A small generator for the moments of kills; the seed is printed with every failure.
pub struct Moments(u64);

impl Moments {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration below `most`.
    pub fn next(&mut self, most: Duration) -> Duration {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let fraction = u32::try_from((z ^ (z >> 31)) >> 40).unwrap();
        most * fraction / (1 << 24)
    }
}
