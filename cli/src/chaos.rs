//! `hb chaos`: put a job and a host through faults, and see what holds.
//!
//! Owns: what is typed, what becomes of files, and where everything lies meanwhile. What is done, and
//! what must hold, is `hb_chaos`.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use clap::Args;
use hb_api::manifest::DEFAULT_MAX_CRASHES;
use hb_chaos::{
    Ambush, ChaosDisk, ChaosError, Experiment, Fault, Report, Restart, Subject, parse_faults,
};
use hb_disk::Storage;
use hb_host::HostOptions;
use hb_types::{
    Digest, exit,
    job::{BlobRef, DEFAULT_START_NS},
    units::parse_duration_ms,
};

use crate::{
    Invocation,
    args::Cli,
    failure::Failure,
    format,
    job_flags::{Intake, JobFlags, LimitArgs, parse_pair},
    remote::{of_spec, take_component},
    run::stem,
};

#[derive(Debug, Args)]
#[command(
    after_help = "A host of its own is started in a fresh directory, kept busy by clients, killed and \
    started again as often as --kills says. Then everything that the clients were told is compared with \
    what there is, and every job's seal with that of a run that nothing was done to. Exit 0: all of it \
    holds; 1: something does not, and the directory stays for whoever wants to look.\n\n\
    Faults: kill (at random moments and at chosen points), torn (a write of which only some sectors arrive), \
    full (no space), bitrot (a bit of the ledger flips while no host runs), power (what was not flushed is \
    lost), pause (SIGSTOP), flush (a flush fails); and lie (flushes keep nothing), which no host survives: \
    it shows that losses are found."
)]
pub struct ChaosArgs {
    /// A component, a preview-1 core module, or either as text [default: three built-in jobs].
    pub module: Option<PathBuf>,
    /// How often the host is killed.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    pub kills: u32,
    /// What everything that is done follows from [default: a fresh one, which is told].
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// What is done, of kill, torn, full, bitrot, power, pause, flush and lie [default: all but lie].
    #[arg(long, value_name = "LIST", value_parser = parse_list)]
    pub faults: Option<FaultList>,
    /// Jobs that are unfinished at any time.
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    pub jobs: usize,
    /// Clients that submit and watch them.
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    pub clients: usize,
    /// Do it in this directory, which must be empty, and leave everything there.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Time between the job's checkpoints.
    #[arg(long, default_value = "50ms", value_name = "DURATION", value_parser = parse_duration_ms)]
    pub checkpoint_every: u64,
    /// Steps between the job's checkpoints, instead of a time.
    #[arg(long, value_name = "STEPS", conflicts_with = "checkpoint_every")]
    pub checkpoint_steps: Option<u64>,
    /// Give the job a file, as /in/NAME.
    #[arg(long, short, value_name = "NAME=FILE", value_parser = parse_pair)]
    pub input: Vec<(String, String)>,
    /// Set an environment variable.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub env: Vec<(String, String)>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Arguments for the job.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// What was typed as a list.
#[derive(Clone, Debug)]
pub struct FaultList(Vec<Fault>);

fn parse_list(text: &str) -> Result<FaultList, String> {
    parse_faults(text).map(FaultList).map_err(|error| error.to_string())
}

/// Reads what a host is to do to itself.
pub fn parse_ambush(text: &str) -> Result<Ambush, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// The largest frame of a log that has small segments: the largest record fits.
const FRAME_BYTES: usize = 1280 * 1024;
const RESERVE_BYTES: u64 = 256 * 1024;

/// Lays an ambush: the host that is opened with these options does to itself what it says.
pub fn lay(ambush: &Ambush, data: &Path, options: &mut HostOptions) {
    options.log.segment_bytes = ambush.segment_bytes;
    options.log.first_segment_bytes = ambush.segment_bytes;
    options.log.max_frame_bytes = FRAME_BYTES;
    options.log.reserve_bytes = RESERVE_BYTES;
    options.snapshot_every_bytes = ambush.snapshot_every_bytes;
    // Nobody else would end a host whose experiment is gone.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let (ambush, data) = (ambush.clone(), data.to_owned());
    options.wrap_disk = Some(Box::new(move |disk| {
        let disk: Arc<dyn Storage> = Arc::new(ChaosDisk::new(disk, &data, &ambush)?);
        Ok(disk)
    }));
}

/// Does it, and says what held.
pub fn chaos(invocation: &Invocation<'_>, args: &ChaosArgs) -> anyhow::Result<u8> {
    if args.kills == 0 || args.jobs == 0 || args.clients == 0 {
        let why = "--kills, --jobs and --clients are at least 1".to_owned();
        return Err(Failure::Usage(why).into());
    }
    let seed = match args.seed {
        Some(seed) => seed,
        // Short enough to be typed.
        None => getrandom::u64().context("the system gives no random numbers")? % 1_000_000,
    };
    let place = Place::make(args.keep.as_deref())?;
    let blobs = place.path().join("blobs");
    fs::create_dir(&blobs).context("cannot make a directory for the experiment")?;
    let subjects = subjects(args, &blobs)?;
    let faults = args.faults.clone().map_or_else(|| Fault::ALL.to_vec(), |list| list.0);
    let experiment = Experiment {
        hb: std::env::current_exe().context("cannot find the hb program itself")?,
        dir: place.path().to_owned(),
        subjects,
        kills: args.kills,
        seed,
        faults,
        jobs: args.jobs,
        clients: args.clients,
        cancel: cancel_on_interrupt()?,
    };
    let quiet = invocation.cli.quiet;
    if !quiet {
        let kills = args.kills;
        format::tell(&format!(
            "hb: seed {seed}; an undisturbed run first, then {kills} lives of a host"
        ));
    }
    let shown = !quiet && io::stderr().is_terminal();
    let ran = hb_chaos::run(&experiment, &mut |restart| tell(shown, args.kills, restart));
    if shown {
        let _ = write!(io::stderr(), "\r\u{1b}[K");
    }
    let report = match ran {
        Err(ChaosError::Cancelled) => return Ok(exit::CANCELLED),
        other => other?,
    };
    show(invocation.cli, &report, &again(args, seed))?;
    if report.held {
        return Ok(exit::OK);
    }
    let dir = place.leave();
    format::tell(&format!("hb: everything is left in {}", dir.display()));
    Ok(exit::FAILED)
}

/// Ctrl-C ends the experiment, and nothing of it stays.
fn cancel_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancel);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .context("cannot listen for Ctrl-C")?;
    Ok(cancel)
}

fn tell(shown: bool, kills: u32, restart: &Restart) {
    if shown {
        let Restart { round, fault, place, .. } = restart;
        let _ = write!(io::stderr(), "\r\u{1b}[Khb: {round} of {kills}: {}, {place}", fault.done());
    }
}

fn show(cli: &Cli, report: &Report, again: &str) -> anyhow::Result<()> {
    if !cli.json {
        return Ok(format::print(&report.text(again))?);
    }
    let mut value = serde_json::to_value(report)?;
    value["again"] = again.into();
    format::print_json(&value)
}

/// The command that does the same again.
fn again(args: &ChaosArgs, seed: u64) -> String {
    let mut words: Vec<String> = std::env::args().collect();
    if args.seed.is_none() {
        // Before what belongs to the job.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.splice(end..end, ["--seed".to_owned(), seed.to_string()]);
    }
    if let Some(first) = words.first_mut() {
        "hb".clone_into(first);
    }
    words.iter().map(|word| hb_doctor::shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// Where everything lies meanwhile.
enum Place {
    Kept(PathBuf),
    Passing(tempfile::TempDir),
}

impl Place {
    fn make(keep: Option<&Path>) -> anyhow::Result<Self> {
        let Some(dir) = keep else {
            let dir = tempfile::Builder::new().prefix("hb-chaos-").tempdir();
            return Ok(Self::Passing(dir.context("cannot make a directory for the experiment")?));
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut entries =
            fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        if entries.next().is_some() {
            let why = format!("{} is not empty: name a directory that is, or none", dir.display());
            return Err(Failure::Usage(why).into());
        }
        Ok(Self::Kept(dir.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Passing(dir) => dir.path(),
        }
    }

    /// Leaves everything where it is.
    fn leave(self) -> PathBuf {
        match self {
            Self::Kept(path) => path,
            Self::Passing(dir) => dir.keep(),
        }
    }
}

/// Jobs that come with the program: one with checkpoints, one without, one that fails.
const BUILT_IN: [(&str, &str); 3] = [
    ("steps", include_str!("chaos/steps.wat")),
    ("once", include_str!("chaos/once.wat")),
    ("fails", include_str!("chaos/fails.wat")),
];

fn subjects(args: &ChaosArgs, blobs: &Path) -> anyhow::Result<Vec<Subject>> {
    if let Some(module) = &args.module {
        return Ok(vec![subject(args, module, blobs)?]);
    }
    let of_built_in = |(name, text): (&str, &str)| {
        let path = blobs.join(format!("{name}.wat"));
        fs::write(&path, text).context("cannot write the built-in jobs")?;
        subject(args, &path, blobs)
    };
    BUILT_IN.into_iter().map(of_built_in).collect()
}

fn subject(args: &ChaosArgs, module: &Path, blobs: &Path) -> anyhow::Result<Subject> {
    let flags = JobFlags {
        arguments: args.arguments.clone(),
        input: args.input.clone(),
        stdin: None,
        env: args.env.clone(),
        argv0: None,
        job_id: None,
        label: Vec::new(),
        seed: 0,
        start_time: (UNIX_EPOCH + Duration::from_nanos(DEFAULT_START_NS)).into(),
        checkpoint_every: args.checkpoint_every,
        checkpoint_steps: args.checkpoint_steps,
        no_checkpoints: false,
        max_crashes: None,
        wasm: Vec::new(),
        limits: args.limits.clone(),
    };
    let mut intake = Copies { dir: blobs, taken: Vec::new() };
    let limits = flags.limits().map_err(Failure::Usage)?;
    let component = take_component(module, &limits, &mut intake)?;
    let mut spec =
        flags.specification(module, component, limits, DEFAULT_MAX_CRASHES, &mut intake)?;
    spec.environment.sort();
    Ok(Subject { name: stem(module), manifest: of_spec(&spec), blobs: intake.taken })
}

/// Keeps copies of files, under their digests: what they are must not change meanwhile.
struct Copies<'a> {
    dir: &'a Path,
    taken: Vec<PathBuf>,
}

impl Intake for Copies<'_> {
    fn file(&mut self, name: &str, mut file: File) -> anyhow::Result<BlobRef> {
        self.stream(name, &mut file)
    }

    fn stream(&mut self, name: &str, stream: &mut dyn Read) -> anyhow::Result<BlobRef> {
        let path = self.dir.join(format!("taken-{}", self.taken.len()));
        let mut copy = || -> io::Result<(Digest, u64)> {
            let mut file = File::create(&path)?;
            let len_bytes = io::copy(stream, &mut file)?;
            drop(file);
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut File::open(&path)?, &mut hasher)?;
            Ok((hasher.finalize().into(), len_bytes))
        };
        let (digest, len_bytes) = copy().with_context(|| format!("cannot take in {name}"))?;
        let kept = self.dir.join(digest.to_string());
        fs::rename(&path, &kept).with_context(|| format!("cannot take in {name}"))?;
        self.taken.push(kept);
        Ok(BlobRef { digest, len_bytes })
    }
}
