//! What a person at a terminal sees of a job that runs, here or on a host.
//!
//! Owns: the job's output as it is on standard output and standard error, and the lines of hb around
//! it. Knows nothing of where the job runs.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use hb_host::{Notice, Observer};
use hb_sandbox::Stream;
use hb_types::capture::Progress;

use crate::{args::Cli, format, inspect};

/// Shows a job to the person at the terminal: its output as it is, everything else on standard
/// error.
// Each is a flag of the command line, and they are independent.
#[allow(clippy::struct_excessive_bools)]
pub struct Console {
    quiet: bool,
    json: bool,
    verbose: bool,
    /// Whether control characters reach a terminal.
    raw: bool,
    job_id: String,
    last_told: Option<Instant>,
    untold: u64,
    live_line: bool,
    /// Whether the job's standard error stopped in the middle of a line.
    inside_line: bool,
    /// Whether nobody reads standard output any more.
    stdout_gone: bool,
    /// Why standard output could not be written to, if it could not.
    pub stdout_failed: Option<io::Error>,
}

/// How a job ended, as it is told.
pub struct Ending<'a> {
    pub job_id: &'a str,
    pub state: &'a str,
    pub outcome: &'a str,
    /// What went wrong, if anything did.
    pub message: Option<&'a str>,
    /// The guest's stack, innermost frame first.
    pub backtrace: &'a [String],
    pub seal: Option<String>,
}

/// Frames of a backtrace that are told at once.
const FRAMES_SHOWN: usize = 12;

/// A stranger's control characters do not reach a terminal unless they are asked for.
fn write_shown(out: &mut dyn Write, bytes: &[u8], filter: bool) -> io::Result<()> {
    if filter { inspect::Filtered(out).write_all(bytes) } else { out.write_all(bytes) }
}

/// Time between two lines about checkpoints or progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl Console {
    /// For one job; `raw` lets its control characters through to a terminal.
    pub fn new(cli: &Cli, job_id: &str, raw: bool) -> Self {
        Self {
            quiet: cli.quiet,
            json: cli.json,
            verbose: cli.verbose,
            raw,
            job_id: job_id.to_owned(),
            last_told: None,
            untold: 0,
            live_line: false,
            inside_line: false,
            stdout_gone: false,
            stdout_failed: None,
        }
    }

    /// Tells what hb does, where that is wanted.
    pub fn say(&self, text: &str) {
        if !self.quiet && !self.json {
            format::tell(&format!("hb: {text}"));
        }
    }

    /// Tells what went wrong with the job.
    pub fn complain(&self, text: &str) {
        if !self.json {
            format::tell(&format!("hb: {text}"));
        }
    }

    fn may_tell(&mut self) -> bool {
        let now = Instant::now();
        let due = self.last_told.is_none_or(|last| now.duration_since(last) >= TELL_EVERY);
        if due || self.verbose {
            self.last_told = Some(now);
            return true;
        }
        false
    }

    /// Ends a line of progress that is still being rewritten.
    fn finish(&mut self) {
        if std::mem::take(&mut self.live_line) {
            let _ = writeln!(io::stderr());
        }
    }

    /// Begins a line of hb's own: what the job left unfinished does not run into it.
    pub fn end_line(&mut self) {
        self.finish();
        if std::mem::take(&mut self.inside_line) {
            let _ = writeln!(io::stderr());
        }
    }

    /// A checkpoint is durable.
    pub fn checkpoint(&mut self, sequence: u64, step: u64, written_bytes: Option<u64>) {
        if !self.may_tell() {
            self.untold += 1;
            return;
        }
        let skipped = match std::mem::take(&mut self.untold) {
            0 => None,
            count => Some(format!("{count} more before it")),
        };
        let written = written_bytes.map(|bytes| format!("{} written", format::bytes(bytes)));
        let more: Vec<String> = written.into_iter().chain(skipped).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        self.say(&format!("checkpoint {sequence} at step {step} is durable{more}"));
    }

    /// How far the job says that it is.
    pub fn tell_progress(&mut self, done: u64, total: Option<u64>) {
        let shown = !self.quiet && !self.json && io::stderr().is_terminal();
        if !shown || !self.may_tell() {
            return;
        }
        let done = match total {
            Some(total) if total > 0 => {
                let percent = u128::from(done) * 100 / u128::from(total);
                format!("{done} of {total} ({percent}%)")
            }
            _ => done.to_string(),
        };
        let _ = write!(io::stderr(), "\r\u{1b}[Khb: {}: {done}", self.job_id);
        self.live_line = true;
    }

    /// Tells how the job ended.
    pub fn conclude(&self, ending: &Ending<'_>) {
        if let Some(message) = ending.message {
            self.complain(message);
            for frame in ending.backtrace.iter().take(FRAMES_SHOWN) {
                self.complain(&format!("  at {frame}"));
            }
            if ending.backtrace.len() > FRAMES_SHOWN {
                let more = ending.backtrace.len() - FRAMES_SHOWN;
                self.complain(&format!("  and {more} more: `hb show {}`", ending.job_id));
            }
        }
        let seal = ending.seal.as_deref().unwrap_or("none");
        self.say(&format!("{} {}, seal {seal}", ending.state, ending.outcome));
    }

    /// The job went through; what it printed may not have arrived.
    pub fn finish_output(&mut self, state: &str) -> anyhow::Result<()> {
        match self.stdout_failed.take() {
            None => Ok(()),
            Some(error) => Err(incomplete(&self.job_id, state, error)),
        }
    }
}

/// The job went through, but what it printed did not arrive.
pub fn incomplete(job_id: &str, state: &str, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "the job ended as {state}, but its output could not be written: make room and read it with `hb logs {job_id}`"
    ))
}

impl Observer for Console {
    fn notice(&mut self, notice: Notice) {
        self.end_line();
        match notice {
            Notice::Preparing | Notice::Ended { .. } | Notice::Started { attempt: 1 } => {}
            Notice::Started { attempt } => self.say(&format!("attempt {attempt}")),
            Notice::Materialising { job_hash, step, reached } => {
                if self.may_tell() {
                    let job = job_hash.short();
                    self.say(&format!(
                        "running the job with hash {job}… again: {reached} of {step}"
                    ));
                }
            }
            Notice::Resumed { sequence, step, .. } => {
                self.say(&format!("resumed from checkpoint {sequence} at step {step}"));
            }
            Notice::Checkpoint { sequence, step, written_bytes } => {
                self.checkpoint(sequence, step, Some(written_bytes));
            }
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.finish();
        match stream {
            Stream::Stdout if self.stdout_gone => {}
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                let filter = out.is_terminal() && !self.raw;
                let written = write_shown(&mut out, bytes, filter).and_then(|()| out.flush());
                // What the job prints is kept in the ledger: a reader that has gone away, or a
                // file that is full, is no reason to end a job.
                if let Err(error) = written {
                    self.stdout_gone = true;
                    if error.kind() != io::ErrorKind::BrokenPipe {
                        self.stdout_failed = Some(error);
                    }
                }
            }
            Stream::Stderr => {
                let mut out = io::stderr().lock();
                let filter = out.is_terminal() && !self.raw;
                // Nobody may be listening; the ledger keeps it.
                let _ = write_shown(&mut out, bytes, filter);
                self.inside_line = bytes.last().is_some_and(|last| *last != b'\n');
            }
        }
    }

    fn progress(&mut self, progress: &Progress) {
        self.tell_progress(progress.done, progress.total);
    }
}
