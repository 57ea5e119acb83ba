//! `hb submit`: give a job to a host.
//!
//! Owns: what is uploaded, what the job is called, and that a broken connection makes no second job.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Seek, Write},
    path::Path,
};

use anyhow::Context;
use clap::Parser;
use hb_api::{
    job::Accepted,
    manifest::{DEFAULT_MAX_CRASHES, Manifest},
};
use hb_client::{Client, Source};
use hb_sandbox::{Sandbox, SandboxOptions};
use hb_types::{Digest, exit, job::BlobRef, limits::Limits};
use serde_json::json;

use super::{args::SubmitArgs, follow, manifest};
use crate::{
    Invocation,
    args::{Cli, Verb},
    failure::Failure,
    format,
    job_flags::{Intake, read_module},
    run::stem,
};

/// How often what the host lost between upload and submission is sent again.
const ROUNDS: u32 = 3;

/// Submits a job, and follows it where that is wanted.
pub fn submit(invocation: &Invocation<'_>, args: &SubmitArgs) -> anyhow::Result<u8> {
    if args.print_manifest {
        let (manifest, _) = build(args, &mut OnlyCount)?;
        format::print_json(&serde_json::to_value(&manifest)?)?;
        return Ok(exit::OK);
    }
    let client = super::patient_client(invocation)?;
    let accepted = give(invocation, &client, args)?;
    if !args.wait {
        return tell_new_job(invocation, &accepted);
    }
    tell_accepted(invocation, &accepted);
    let patience = super::following(&args.patience);
    follow::to_end(invocation, &client, &accepted.job_id, args.raw, patience)
}

fn tell_accepted(invocation: &Invocation<'_>, accepted: &Accepted) {
    if invocation.cli.quiet || invocation.cli.json {
        return;
    }
    let (job_id, hash) = (&accepted.job_id, accepted.job_hash.get(..8).unwrap_or_default());
    let what = match (accepted.created, accepted.state.as_str()) {
        (true, _) => format!("job {job_id} received (hash {hash}…)"),
        (false, "SEALED" | "FAILED" | "CANCELLED" | "COMPLETED") => {
            format!("job {job_id} is the same and over (hash {hash}…); --rerun runs it again")
        }
        (false, _) => format!("job {job_id} goes on (hash {hash}…)"),
    };
    format::tell(&format!("hb: {what}"));
}

/// Uploads and submits; where the host let go of an upload meanwhile, again.
fn give(
    invocation: &Invocation<'_>,
    client: &Client,
    args: &SubmitArgs,
) -> anyhow::Result<Accepted> {
    let mut round = 0;
    loop {
        round += 1;
        let mut uploads = Uploads { client, shown: is_shown(invocation) };
        let (manifest, name) = build(args, &mut uploads)?;
        let given = match name {
            Some(name) => give_named(client, manifest, &name),
            None => client.submit(&manifest).map_err(anyhow::Error::from),
        };
        match given {
            Err(error) if round < ROUNDS && is_missing(&error) && !reads_stdin(args) => {}
            other => return other,
        }
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<hb_client::ClientError>().is_some_and(|error| error.is("blob-missing"))
}

/// Whether something comes from standard input, which cannot be read twice.
fn reads_stdin(args: &SubmitArgs) -> bool {
    let paths = args.job.stdin.iter().chain(&args.manifest);
    paths.into_iter().any(|path| path.as_os_str() == "-")
}

/// Submits a job under the name that its hash gives it, as `hb run` would: the same job is the same
/// name, so however often the submission is sent, there is one. A result that a repetition need
/// not reproduce is no answer; then the job gets a name of its own.
fn give_named(client: &Client, mut manifest: Manifest, name: &str) -> anyhow::Result<Accepted> {
    let rerun = std::mem::take(&mut manifest.rerun);
    if !rerun {
        manifest.job_id = Some(name.to_owned());
        let accepted = client.submit(&manifest)?;
        if accepted.created {
            return Ok(accepted);
        }
        let job = client.job(&accepted.job_id)?;
        if job.conclusion.is_none_or(|conclusion| conclusion.reproducible) {
            return Ok(accepted);
        }
    }
    manifest.job_id = Some(format!("{name}-{}", fresh()?));
    Ok(client.submit(&manifest)?)
}

/// Some digits that nobody else has.
fn fresh() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(Digest::of(&bytes).short())
}

/// The manifest, and the name that its hash gives it where neither the user nor a manifest file
/// gave one.
fn build(args: &SubmitArgs, intake: &mut dyn Intake) -> anyhow::Result<(Manifest, Option<String>)> {
    let file = args.manifest.as_deref();
    let file = file.or_else(|| args.module.as_deref().filter(|path| manifest::is_manifest(path)));
    let (mut manifest, mut name) = match (file, &args.module) {
        (Some(file), _) => {
            refuse_flags(args, file)?;
            let manifest = manifest::read(file, intake)?;
            let name = manifest.job_id.is_none().then(|| manifest_name(&manifest));
            (manifest, name)
        }
        (None, Some(module)) => of_flags(args, module, intake)?,
        (None, None) => of_image(args, intake)?,
    };
    args.terms.apply(&mut manifest);
    manifest.labels.extend(args.job.label.iter().cloned());
    manifest.rerun |= args.rerun;
    if let Some(job_id) = &args.job.job_id {
        manifest.job_id = Some(job_id.clone());
        name = None;
    }
    Ok((manifest, name))
}

fn of_flags(
    args: &SubmitArgs,
    module: &Path,
    intake: &mut dyn Intake,
) -> anyhow::Result<(Manifest, Option<String>)> {
    let limits = args.job.limits().map_err(Failure::Usage)?;
    let component = take_component(module, &limits, intake)?;
    let job = &args.job;
    let mut spec = job.specification(module, component, limits, DEFAULT_MAX_CRASHES, intake)?;
    // A manifest has its variables in the order of their names.
    spec.environment.sort();
    let name = format!("{}-{}", name_stem(module), spec.hash().short());
    Ok((manifest::of_spec(&spec), Some(name)))
}

/// A job for a container. What its image is, the host finds out.
fn of_image(
    args: &SubmitArgs,
    intake: &mut dyn Intake,
) -> anyhow::Result<(Manifest, Option<String>)> {
    let job = &args.job;
    let limits = job.limits().map_err(Failure::Usage)?;
    let Some(container) = args.container.container(job, |_| Ok(String::new()))? else {
        return Err(Failure::Usage("name a component, an image or a manifest".into()).into());
    };
    let program = Path::new(job.arguments.first().map_or("job", String::as_str));
    let blob = container.blob();
    let mut spec = job.specification(program, blob, limits, DEFAULT_MAX_CRASHES, intake)?;
    spec.arguments.clone_from(&job.arguments);
    spec.environment.sort();
    spec.container = Some(container);
    let mut manifest = manifest::of_spec(&spec);
    manifest.image_id = None;
    let name = format!("{}-{}", name_stem(program), spec.hash().short());
    Ok((manifest, Some(name)))
}

/// The name of a manifest's job: the lengths of blobs that are on the host are not known here, and
/// with them the job's hash, so the manifest's own digest stands for it.
fn manifest_name(manifest: &Manifest) -> String {
    let stem = name_stem(Path::new(manifest.program.as_deref().unwrap_or("job")));
    format!("{stem}-{}", manifest::digest(manifest).short())
}

/// The beginning of a job's name.
fn name_stem(module: &Path) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let stem: String = stem(module).chars().map(kept).take(64).collect();
    let stem = stem.trim_matches('-');
    if stem.is_empty() { "job".to_owned() } else { stem.to_owned() }
}

/// Takes a component; text is translated first, since a host takes only binaries.
pub fn take_component(
    path: &Path,
    limits: &Limits,
    intake: &mut dyn Intake,
) -> anyhow::Result<BlobRef> {
    let mut bytes = read_module(path, limits)?;
    if !bytes.starts_with(b"\0asm") {
        let cache = tempfile::tempdir().context("cannot make a temporary directory")?;
        let options =
            SandboxOptions { cache_dir: cache.path().to_owned(), compiler: crate::compiler()? };
        bytes = Sandbox::open(options)?
            .to_binary(bytes, limits)
            .with_context(|| format!("{} cannot be run", path.display()))?;
    }
    intake.stream("the component", &mut &*bytes)
}

/// What describes a job has no place beside a manifest, which does that.
fn refuse_flags(args: &SubmitArgs, file: &Path) -> anyhow::Result<()> {
    let bare = Cli::try_parse_from(["hb", "submit", "m.wasm"]).map(|cli| cli.command);
    let Ok(Verb::Submit(bare)) = bare else { return Ok(()) };
    let (given, none) = (&args.job, &bare.job);
    let same = args.container == bare.container
        && given.arguments == none.arguments
        && given.input == none.input
        && given.stdin == none.stdin
        && given.env == none.env
        && given.argv0 == none.argv0
        && given.seed == none.seed
        && given.start_time == none.start_time
        && given.checkpoint_every == none.checkpoint_every
        && given.checkpoint_steps == none.checkpoint_steps
        && given.no_checkpoints == none.no_checkpoints
        && given.max_crashes == none.max_crashes
        && given.wasm == none.wasm
        && given.limits.0 == none.limits.0;
    if same {
        return Ok(());
    }
    let why = format!(
        "arguments, inputs, limits and the like are said in the manifest {}: only --job-id, --label, \
         --rerun and the terms may stand beside it",
        file.display()
    );
    Err(Failure::Usage(why).into())
}

/// Finds out what files are and keeps nothing.
struct OnlyCount;

impl Intake for OnlyCount {
    fn file(&mut self, name: &str, mut file: File) -> anyhow::Result<BlobRef> {
        self.stream(name, &mut file)
    }

    fn stream(&mut self, _: &str, stream: &mut dyn Read) -> anyhow::Result<BlobRef> {
        let mut hasher = blake3::Hasher::new();
        io::copy(stream, &mut hasher)?;
        Ok(BlobRef { digest: hasher.finalize().into(), len_bytes: hasher.count() })
    }
}

/// Brings files to the host.
struct Uploads<'a> {
    client: &'a Client,
    shown: bool,
}

impl Uploads<'_> {
    fn bring(&self, name: &str, source: &mut dyn Source) -> anyhow::Result<BlobRef> {
        let mut last = None;
        let uploaded = self.client.upload(source, &mut |done, of| {
            let percent = u128::from(done) * 100 / u128::from(of.max(1));
            if self.shown && done < of && last.replace(percent) != Some(percent) {
                let name = hb_types::text::printable(name, 100);
                let of = format::bytes(of);
                let _ = write!(io::stderr(), "\r\u{1b}[Khb: sending {name}: {percent}% of {of}");
            }
        })?;
        if last.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
        Ok(BlobRef { digest: uploaded.digest, len_bytes: uploaded.len_bytes })
    }
}

impl Intake for Uploads<'_> {
    fn file(&mut self, name: &str, mut file: File) -> anyhow::Result<BlobRef> {
        if file.stream_position().is_err() {
            // A pipe has no positions to go back to.
            return self.stream(name, &mut file);
        }
        self.bring(name, &mut file)
    }

    fn stream(&mut self, name: &str, stream: &mut dyn Read) -> anyhow::Result<BlobRef> {
        let mut spool = tempfile::spooled_tempfile(SPOOL_BYTES);
        io::copy(stream, &mut spool).with_context(|| format!("cannot read {name}"))?;
        self.bring(name, &mut spool)
    }
}

/// What has no length is held in memory up to this many bytes, and in a temporary file beyond.
const SPOOL_BYTES: usize = 4 * 1024 * 1024;

/// Whether progress is shown.
fn is_shown(invocation: &Invocation<'_>) -> bool {
    !invocation.cli.quiet && !invocation.cli.json && io::stderr().is_terminal()
}

/// Brings a component to the host.
pub fn upload_component(
    invocation: &Invocation<'_>,
    client: &Client,
    path: &Path,
    limits: &Limits,
) -> anyhow::Result<BlobRef> {
    take_component(path, limits, &mut Uploads { client, shown: is_shown(invocation) })
}

/// Reads a manifest and brings its files to the host.
pub fn upload_manifest(
    invocation: &Invocation<'_>,
    client: &Client,
    path: &Path,
) -> anyhow::Result<Manifest> {
    manifest::read(path, &mut Uploads { client, shown: is_shown(invocation) })
}

/// What an answer to a request that made a job says.
pub fn tell_new_job(invocation: &Invocation<'_>, accepted: &Accepted) -> anyhow::Result<u8> {
    if invocation.cli.json {
        format::print_json(&json!(accepted))?;
    } else {
        format::print(&accepted.job_id)?;
        tell_accepted(invocation, accepted);
    }
    Ok(exit::OK)
}
