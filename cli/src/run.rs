//! `hb run`: the host in one process.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    os::unix::fs::FileTypeExt,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::Context;
use hb_host::{ExportError, Host, Notice, Observer, Submission, Submitted};
use hb_sandbox::{Control, Stream};
use hb_types::{
    capture::{ContentId, Progress},
    exit,
    job::{BlobRef, CheckpointPolicy, JobSpec},
    ledger::Job,
    limits::{Limit, LimitReached, Limits},
};

use crate::{Invocation, args, args::RunArgs, failure::Failure, format, inspect};

/// Runs a job to its outcome and returns the exit code.
pub fn run(invocation: &Invocation<'_>, args: &RunArgs) -> anyhow::Result<u8> {
    refuse_what_makes_no_sense(args)?;
    let limits = args::limits(args).map_err(Failure::Usage)?;
    let ceilings = &invocation.config.ceilings;
    limits.check(ceilings).map_err(|error| Failure::Usage(error.to_string()))?;
    let module = read_module(&args.module, &limits)?;
    let host = invocation.host()?;
    let component = host
        .add_component(module, &limits)
        .with_context(|| format!("{} cannot be run", args.module.display()))?;
    let submission = Submission {
        job_id: args.job_id.clone(),
        name_hint: stem(&args.module),
        spec: specification(&host, args, component, limits)?,
        terms: hb_types::terms::Terms::default(),
        rerun: args.rerun,
    };
    let submitted = host.submit(&submission)?;
    let job = host.load(submitted.number())?.context("the accepted job is not in the ledger")?;
    let mut console = Console::new(invocation, &job.job_id, args);
    if let Submitted::Existing(_) = submitted
        && !job.is_unfinished()
    {
        return answer(invocation, &host, &job, args.job_id.is_some(), &console);
    }
    console.say(&accepted(&job, submitted));
    if job.spec != submission.spec {
        // The same hash, so only what is not part of it can differ.
        console.say(
            "this job keeps the checkpoint interval, deadline and labels that it was received with",
        );
    }
    let control = Control { cancel: cancel_on_interrupt()?, ..Control::default() };
    let job = host.run(job.number, &control, &mut console)?;
    console.end_line();
    let code = conclude(invocation, &job, &console)?;
    match console.stdout_failed.take() {
        Some(error) => Err(incomplete(&job, error)),
        None => Ok(code),
    }
}

/// The job went through, but what it printed did not arrive.
fn incomplete(job: &Job, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "the job ended as {}, but its output could not be written: make room and read it with `hb logs {}`",
        job.state.phase.name(),
        job.job_id
    ))
}

fn refuse_what_makes_no_sense(args: &RunArgs) -> Result<(), Failure> {
    if args.dir.is_some() {
        return Err(Failure::Usage(
            "--dir is not available, because a job with a live directory could not be repeated: \
             give it files with --input NAME=FILE, it sees them as /in/NAME"
                .to_owned(),
        ));
    }
    if args.invoke.is_some() {
        return Err(Failure::Usage(
            "--invoke is not available: a job is started at its main function (wasi:cli/run)"
                .to_owned(),
        ));
    }
    Ok(())
}

fn read_module(path: &Path, limits: &Limits) -> anyhow::Result<Vec<u8>> {
    let file = open(path, "the module")?;
    let len_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let most = limits.get(Limit::ComponentBytes);
    if len_bytes > most {
        let reached = LimitReached { limit: Limit::ComponentBytes, value: most, wanted: len_bytes };
        return Err(Failure::NotRunnable(format!(
            "the module {} is too large: {reached}",
            path.display()
        ))
        .into());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed is read, so that a file that grows is noticed too.
    io::Read::take(file, most.saturating_add(1))
        .read_to_end_into(&mut bytes)
        .with_context(|| format!("cannot read the module {}", path.display()))?;
    Ok(bytes)
}

/// `read_to_end` by value, so that it can stand at the end of a chain.
trait ReadAll: io::Read + Sized {
    fn read_to_end_into(mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        self.read_to_end(bytes)
    }
}

impl<R: io::Read> ReadAll for R {}

fn open(path: &Path, what: &str) -> Result<File, Failure> {
    let refuse = |error: io::Error| {
        let name = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::NotFound(format!("{what} {name} does not exist: check the path"))
            }
            io::ErrorKind::PermissionDenied => Failure::NotFound(format!(
                "{what} {name} cannot be read: you have no permission, see `ls -l {name}`"
            )),
            _ => Failure::NotFound(format!("{what} {name} cannot be opened: {error}")),
        }
    };
    let file = File::open(path).map_err(refuse)?;
    let kind = file.metadata().map(|metadata| metadata.file_type());
    if kind.as_ref().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device()) {
        return Err(Failure::Usage(format!(
            "{what} {} is a device, which may have no end: copy what you need into a file",
            path.display()
        )));
    }
    if kind.is_ok_and(|kind| kind.is_dir()) {
        return Err(Failure::NotFound(format!(
            "{what} {} is a directory: name a file in it",
            path.display()
        )));
    }
    Ok(file)
}

fn specification(
    host: &Host,
    args: &RunArgs,
    component: BlobRef,
    limits: Limits,
) -> anyhow::Result<JobSpec> {
    let mut spec = JobSpec {
        component,
        arguments: vec![args.argv0.clone().unwrap_or_else(|| file_name(&args.module))],
        environment: args.env.clone(),
        stdin: None,
        inputs: std::collections::BTreeMap::new(),
        limits,
        seed: args.seed,
        start_ns: start_ns(args)?,
        origin: None,
        checkpoints: policy(args),
        max_crashes: args.max_crashes,
        labels: args.label.iter().cloned().collect(),
    };
    spec.arguments.extend(args.arguments.iter().cloned());
    // Names are checked before files are read: a genome may take a while.
    for (name, path) in &args.input {
        hb_types::job::check_name("input", name).map_err(|e| Failure::Usage(e.to_string()))?;
        let mut file = open(Path::new(path), &format!("input {name:?}:"))?;
        let blob = host.add_blob(&mut file).with_context(|| format!("cannot take in {path}"))?;
        if spec.inputs.insert(name.clone(), blob).is_some() {
            return Err(Failure::Usage(format!("input {name:?} is given twice")).into());
        }
    }
    if let Some(path) = &args.stdin {
        let blob = if path.as_os_str() == "-" {
            host.add_blob(&mut io::stdin().lock()).context("cannot read standard input")?
        } else {
            host.add_blob(&mut open(path, "standard input")?)
                .with_context(|| format!("cannot take in {}", path.display()))?
        };
        spec.stdin = Some(blob);
    }
    Ok(spec)
}

fn start_ns(args: &RunArgs) -> Result<u64, Failure> {
    let since = std::time::SystemTime::from(args.start_time).duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .ok_or_else(|| Failure::Usage("--start-time must lie between 1970 and 2554".to_owned()))
}

fn policy(args: &RunArgs) -> CheckpointPolicy {
    if args.no_checkpoints {
        return CheckpointPolicy::Never;
    }
    if let Some(steps) = args.checkpoint_steps {
        return CheckpointPolicy::EverySteps(steps);
    }
    CheckpointPolicy::EveryMs(args.checkpoint_every)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "job".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "job".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn accepted(job: &Job, submitted: Submitted) -> String {
    let hash = job.job_hash.short();
    match submitted {
        Submitted::New(_) => format!("job {} received (hash {hash}…)", job.job_id),
        Submitted::Existing(_) => format!(
            "job {} goes on (hash {hash}…, {} checkpoints, {} crashes so far)",
            job.job_id,
            job.checkpoints.len(),
            job.state.crashes
        ),
    }
}

/// Ctrl-C cancels the job, a second one ends hb at once. A plain SIGTERM is not caught: it is a
/// crash like any other, and the job resumes.
pub fn cancel_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            process::exit(i32::from(exit::CANCELLED));
        }
        format::tell(
            "hb: cancelling for good (SIGTERM instead stops a job that resumes); once more ends hb at once",
        );
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(cancel)
}

/// Gives the answer that is in the ledger.
fn answer(
    invocation: &Invocation<'_>,
    host: &Host,
    job: &Job,
    named: bool,
    console: &Console<'_>,
) -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    match host.copy_output(job, ContentId::STDOUT, &mut Tolerant(&mut out)) {
        Err(ExportError::Sink { source, .. }) => return Err(incomplete(job, source)),
        other => _ = other?,
    }
    host.copy_output(job, ContentId::STDERR, &mut Tolerant(&mut io::stderr().lock()))?;
    let again = if named { "another --job-id" } else { "--rerun" };
    console.say(&format!("answered from the ledger by job {}; {again} runs it again", job.job_id));
    conclude(invocation, job, console)
}

/// Frames of a backtrace that are told at once.
const FRAMES_SHOWN: usize = 12;

fn conclude(invocation: &Invocation<'_>, job: &Job, console: &Console<'_>) -> anyhow::Result<u8> {
    let conclusion = job.conclusion.as_ref().context("the job has no outcome")?;
    let outcome = format::outcome(&conclusion.outcome);
    if !conclusion.outcome.is_success() {
        console.complain(&conclusion.explanation.message);
        let backtrace = &conclusion.explanation.backtrace;
        for frame in backtrace.iter().take(FRAMES_SHOWN) {
            console.complain(&format!("  at {frame}"));
        }
        if backtrace.len() > FRAMES_SHOWN {
            let more = backtrace.len() - FRAMES_SHOWN;
            console.complain(&format!("  and {more} more: `hb show {}`", job.job_id));
        }
    }
    let seal = job.seal.as_ref().map_or_else(|| "none".to_owned(), |kept| kept.seal.to_string());
    console.say(&format!("{} {outcome}, seal {seal}", job.state.phase.name()));
    if invocation.cli.json {
        format::tell(&inspect::job_json(job).to_string());
    }
    Ok(conclusion.outcome.exit_code())
}

/// Standard output whose reader may go away while the job goes on.
struct Tolerant<'a>(&'a mut dyn Write);

impl Write for Tolerant<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        format::ignore_gone_reader(self.0.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        format::ignore_gone_reader(self.0.flush())
    }
}

/// Shows a job to the person at the terminal: its output as it is, everything else on standard
/// error.
struct Console<'a> {
    invocation: &'a Invocation<'a>,
    args: &'a RunArgs,
    job_id: String,
    last_told: Option<Instant>,
    untold: u64,
    live_line: bool,
    /// Whether the job's standard error stopped in the middle of a line.
    inside_line: bool,
    /// Whether nobody reads standard output any more.
    stdout_gone: bool,
    /// Why standard output could not be written to, if it could not.
    stdout_failed: Option<io::Error>,
}

/// A stranger's control characters do not reach a terminal unless they are asked for.
fn write_shown(out: &mut dyn Write, bytes: &[u8], filter: bool) -> io::Result<()> {
    if filter { inspect::Filtered(out).write_all(bytes) } else { out.write_all(bytes) }
}

/// Time between two lines about checkpoints or progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

impl<'a> Console<'a> {
    fn new(invocation: &'a Invocation<'a>, job_id: &str, args: &'a RunArgs) -> Self {
        Self {
            invocation,
            args,
            job_id: job_id.to_owned(),
            last_told: None,
            untold: 0,
            live_line: false,
            inside_line: false,
            stdout_gone: false,
            stdout_failed: None,
        }
    }

    fn say(&self, text: &str) {
        if !self.invocation.cli.quiet && !self.invocation.cli.json {
            format::tell(&format!("hb: {text}"));
        }
    }

    fn complain(&self, text: &str) {
        if !self.invocation.cli.json {
            format::tell(&format!("hb: {text}"));
        }
    }

    fn may_tell(&mut self) -> bool {
        let now = Instant::now();
        let due = self.last_told.is_none_or(|last| now.duration_since(last) >= TELL_EVERY);
        if due || self.invocation.cli.verbose {
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
    fn end_line(&mut self) {
        self.finish();
        if std::mem::take(&mut self.inside_line) {
            let _ = writeln!(io::stderr());
        }
    }
}

impl Observer for Console<'_> {
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
                if self.may_tell() {
                    let skipped = match std::mem::take(&mut self.untold) {
                        0 => String::new(),
                        count => format!(", {count} more before it"),
                    };
                    self.say(&format!(
                        "checkpoint {sequence} at step {step} is durable ({} written{skipped})",
                        format::bytes(written_bytes)
                    ));
                } else {
                    self.untold += 1;
                }
            }
        }
    }

    fn output(&mut self, stream: Stream, bytes: &[u8]) {
        self.finish();
        match stream {
            Stream::Stdout if self.stdout_gone => {}
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                let filter = out.is_terminal() && !self.args.raw;
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
                let filter = out.is_terminal() && !self.args.raw;
                // Nobody may be listening; the ledger keeps it.
                let _ = write_shown(&mut out, bytes, filter);
                self.inside_line = bytes.last().is_some_and(|last| *last != b'\n');
            }
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let shown =
            !self.invocation.cli.quiet && !self.invocation.cli.json && io::stderr().is_terminal();
        if !shown || !self.may_tell() {
            return;
        }
        let done = match progress.total {
            Some(total) if total > 0 => {
                let percent = u128::from(progress.done) * 100 / u128::from(total);
                format!("{} of {total} ({percent}%)", progress.done)
            }
            _ => progress.done.to_string(),
        };
        let _ = write!(io::stderr(), "\r\u{1b}[Khb: {}: {done}", self.job_id);
        self.live_line = true;
    }
}
