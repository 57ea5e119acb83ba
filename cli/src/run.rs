//! `hb run`: the host in one process.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use hb_api::manifest::ResourceRequest;
use hb_host::{ExportError, Host, Submission, Submitted};
use hb_sandbox::Control;
use hb_types::{capture::ContentId, exit, job::BlobRef, ledger::Job, limits::Limits, terms::Terms};

use crate::{
    Invocation,
    args::RunArgs,
    console::{Console, Ending, incomplete},
    failure::Failure,
    format, inspect,
    job_flags::{Intake, read_module},
};

/// Crashes without a new checkpoint after which a job that a person starts again is set aside.
const DEFAULT_MAX_CRASHES: u32 = 1000;

/// Runs a job to its outcome and returns the exit code.
pub fn run(invocation: &Invocation<'_>, args: &RunArgs) -> anyhow::Result<u8> {
    refuse_what_makes_no_sense(args)?;
    let limits = args.job.limits().map_err(Failure::Usage)?;
    let ceilings = &invocation.config.ceilings;
    limits.check(ceilings).map_err(|error| Failure::Usage(error.to_string()))?;
    let (host, submission) = match &args.module {
        Some(module) => of_module(invocation, args, module, limits)?,
        None => of_image(invocation, args, limits)?,
    };
    let submitted = host.submit(&submission)?;
    let job = host.load(submitted.number())?.context("the accepted job is not in the ledger")?;
    let mut console = Console::new(invocation.cli, &job.job_id, args.raw);
    if let Submitted::Existing(_) = submitted
        && !job.is_unfinished()
    {
        return answer(invocation, &host, &job, args.job.job_id.is_some(), &console);
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
    console.finish_output(job.state.phase.name())?;
    Ok(code)
}

/// A job that runs a component.
fn of_module(
    invocation: &Invocation<'_>,
    args: &RunArgs,
    module: &Path,
    limits: Limits,
) -> anyhow::Result<(Host, Submission)> {
    let bytes = read_module(module, &limits)?;
    let host = invocation.host()?;
    let component = host
        .add_component(bytes, &limits)
        .with_context(|| format!("{} cannot be run", module.display()))?;
    let intake = &mut IntoStore(&host);
    let spec = args.job.specification(module, component, limits, DEFAULT_MAX_CRASHES, intake)?;
    let submission = Submission {
        job_id: args.job.job_id.clone(),
        name_hint: stem(module),
        spec,
        terms: Terms::default(),
        rerun: args.rerun,
    };
    Ok((host, submission))
}

/// A job that runs a native program.
fn of_image(
    invocation: &Invocation<'_>,
    args: &RunArgs,
    limits: Limits,
) -> anyhow::Result<(Host, Submission)> {
    let host = invocation.host()?;
    let pin = |name: &str| Ok(host.containers().pin(name)?);
    let container = args.container.container(&args.job, pin)?;
    let container = container.context("neither a component nor an image is named")?;
    let intake = &mut IntoStore(&host);
    let component = container.blob();
    let program = Path::new(args.job.arguments.first().map_or("job", String::as_str));
    let mut spec =
        args.job.specification(program, component, limits, DEFAULT_MAX_CRASHES, intake)?;
    spec.arguments.clone_from(&args.job.arguments);
    spec.container = Some(container);
    let resources = ResourceRequest { cpu: args.cpu, memory: None };
    let resources = resources.terms().map_err(|error| Failure::Usage(error.to_string()))?;
    let submission = Submission {
        job_id: args.job.job_id.clone(),
        name_hint: stem(program),
        spec,
        terms: Terms { resources, ..Terms::default() },
        rerun: args.rerun,
    };
    Ok((host, submission))
}

/// Puts files into the ledger's own store.
struct IntoStore<'a>(&'a Host);

impl Intake for IntoStore<'_> {
    fn file(&mut self, _: &str, mut file: File) -> anyhow::Result<BlobRef> {
        Ok(self.0.add_blob(&mut file)?)
    }

    fn stream(&mut self, _: &str, stream: &mut dyn Read) -> anyhow::Result<BlobRef> {
        Ok(self.0.add_blob(&mut { stream })?)
    }
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

/// What a job is named after.
pub fn stem(path: &Path) -> String {
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
    console: &Console,
) -> anyhow::Result<u8> {
    let mut out = io::stdout().lock();
    match host.copy_output(job, ContentId::STDOUT, &mut Tolerant(&mut out)) {
        Err(ExportError::Sink { source, .. }) => {
            return Err(incomplete(&job.job_id, job.state.phase.name(), source));
        }
        other => _ = other?,
    }
    host.copy_output(job, ContentId::STDERR, &mut Tolerant(&mut io::stderr().lock()))?;
    let again = if named { "another --job-id" } else { "--rerun" };
    console.say(&format!("answered from the ledger by job {}; {again} runs it again", job.job_id));
    conclude(invocation, job, console)
}

fn conclude(invocation: &Invocation<'_>, job: &Job, console: &Console) -> anyhow::Result<u8> {
    let conclusion = job.conclusion.as_ref().context("the job has no outcome")?;
    let outcome = &conclusion.outcome;
    console.conclude(&Ending {
        job_id: &job.job_id,
        state: job.state.phase.name(),
        outcome: &format::outcome(outcome),
        message: (!outcome.is_success()).then_some(&*conclusion.explanation.message),
        backtrace: &conclusion.explanation.backtrace,
        seal: job.seal.as_ref().map(|kept| kept.seal.to_string()),
    });
    if invocation.cli.json {
        format::tell(&inspect::job_json(job).to_string());
    }
    Ok(outcome.exit_code())
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
