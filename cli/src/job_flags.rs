//! What describes a job on the command line, whether it runs here or on a host.
//!
//! Owns: the flags, and the way from them to a specification. Limits come from the one table of
//! limits, so that a new limit has its flag at once. Where the bytes of files go is for the caller
//! to say. Knows nothing of ledgers and of hosts.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::Context;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use hb_types::{
    job::{BlobRef, CheckpointPolicy, JobSpec},
    limits::{Amount, Limit, LimitReached, Limits, Unit},
    units::{parse_count, parse_duration_ms, parse_size},
};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub struct JobFlags {
    /// Arguments for the job.
    #[arg(last = true)]
    pub arguments: Vec<String>,
    /// Give the job a file, as /in/NAME.
    #[arg(long, short, value_name = "NAME=FILE", value_parser = parse_pair)]
    pub input: Vec<(String, String)>,
    /// Give the job this on standard input; - takes hb's own, to its end.
    #[arg(long, value_name = "FILE")]
    pub stdin: Option<PathBuf>,
    /// Set an environment variable.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub env: Vec<(String, String)>,
    /// The program's own name, as it sees it [default: the file's name].
    #[arg(long, value_name = "NAME")]
    pub argv0: Option<String>,
    /// Name the job; a job with a name is a job of its own.
    #[arg(long, value_name = "NAME")]
    pub job_id: Option<String>,
    /// Attach a remark.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub label: Vec<(String, String)>,
    /// Where the random streams start.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub seed: u64,
    /// Where the job's clocks start.
    #[arg(long, default_value = "2000-01-01T00:00:00Z", value_name = "RFC3339")]
    pub start_time: humantime::Timestamp,
    /// Time between checkpoints, for jobs that ask whether one is due.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = parse_duration_ms)]
    pub checkpoint_every: u64,
    /// Steps between checkpoints, instead of a time.
    #[arg(long, value_name = "STEPS", conflicts_with = "checkpoint_every")]
    pub checkpoint_steps: Option<u64>,
    /// Never tell the job that a checkpoint is due.
    #[arg(long, conflicts_with_all = ["checkpoint_every", "checkpoint_steps"])]
    pub no_checkpoints: bool,
    /// Crashes without a new checkpoint after which the job is set aside as poisoned [default:
    /// 1000, on a host 20].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_crashes: Option<u32>,
    /// Options as `wasmtime run` knows them: fuel=N, timeout=T, max-memory-size=N, max-wasm-stack=N.
    #[arg(short = 'W', long = "wasm", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub wasm: Vec<(String, String)>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// One flag for each limit.
#[derive(Debug, Default, Clone)]
pub struct LimitArgs(pub Vec<(Limit, u64)>);

impl FromArgMatches for LimitArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut limits = Self::default();
        limits.update_from_arg_matches(matches)?;
        Ok(limits)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for limit in Limit::ALL {
            if let Some(value) = matches.get_one::<u64>(limit.spec().name) {
                self.0.push((*limit, *value));
            }
        }
        Ok(())
    }
}

impl Args for LimitArgs {
    fn augment_args(command: Command) -> Command {
        Limit::ALL.iter().fold(command, |command, limit| command.arg(limit_arg(*limit)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn limit_arg(limit: Limit) -> Arg {
    let spec = limit.spec();
    let default = if spec.default == u64::MAX {
        "none".to_owned()
    } else {
        Amount(spec.default, spec.unit).to_string()
    };
    let long = spec.flag.trim_start_matches('-');
    let arg = Arg::new(spec.name)
        .long(long)
        .help(format!("Most {} [default: {default}]", spec.what))
        .help_heading("Limits");
    match spec.unit {
        Unit::Bytes => arg.value_name("SIZE").value_parser(parse_size),
        Unit::Milliseconds => arg.value_name("DURATION").value_parser(parse_duration_ms),
        Unit::Fuel | Unit::Count => arg.value_name("COUNT").value_parser(parse_count),
    }
}

/// `NAME=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// What takes the bytes of the files that a job is given.
pub trait Intake {
    /// Takes a file.
    fn file(&mut self, name: &str, file: File) -> anyhow::Result<BlobRef>;

    /// Takes what has no length and cannot be read twice.
    fn stream(&mut self, name: &str, stream: &mut dyn Read) -> anyhow::Result<BlobRef>;
}

impl JobFlags {
    /// The limits that the flags and the `-W` options ask for.
    pub fn limits(&self) -> Result<Limits, String> {
        let mut limits = Limits::default();
        for (key, value) in &self.wasm {
            let (limit, value) = match key.as_str() {
                "fuel" => (Limit::Fuel, parse_count(value)),
                "timeout" => (Limit::Deadline, parse_duration_ms(value)),
                "max-memory-size" => (Limit::Memory, parse_size(value)),
                "max-wasm-stack" => (Limit::Stack, parse_size(value)),
                "max-table-elements" => (Limit::TableElements, parse_count(value)),
                "max-instances" => (Limit::Instances, parse_count(value)),
                _ => {
                    return Err(format!(
                        "-W {key} is not known: hb fixes how a component is compiled and knows fuel, timeout, \
                         max-memory-size, max-wasm-stack, max-table-elements and max-instances"
                    ));
                }
            };
            limits.set(limit, value.map_err(|error| format!("-W {key}: {error}"))?);
        }
        for (limit, value) in &self.limits.0 {
            limits.set(*limit, *value);
        }
        Ok(limits)
    }

    /// The specification of a job that runs `component`, which was read from `module`. Its files
    /// go to `intake`.
    pub fn specification(
        &self,
        module: &Path,
        component: BlobRef,
        limits: Limits,
        max_crashes: u32,
        intake: &mut dyn Intake,
    ) -> anyhow::Result<JobSpec> {
        let mut spec = JobSpec {
            component,
            container: None,
            arguments: vec![self.argv0.clone().unwrap_or_else(|| file_name(module))],
            environment: self.env.clone(),
            stdin: None,
            inputs: BTreeMap::new(),
            limits,
            seed: self.seed,
            start_ns: self.start_ns()?,
            origin: None,
            checkpoints: self.policy(),
            max_crashes: self.max_crashes.unwrap_or(max_crashes),
            labels: self.label.iter().cloned().collect(),
        };
        spec.arguments.extend(self.arguments.iter().cloned());
        // Names are checked before files are read: a genome may take a while.
        for (name, _) in &self.input {
            hb_types::job::check_name("input", name).map_err(|e| Failure::Usage(e.to_string()))?;
        }
        for (name, path) in &self.input {
            let file = open(Path::new(path), &format!("input {name:?}:"))?;
            let blob = intake.file(name, file).with_context(|| format!("cannot take in {path}"))?;
            if spec.inputs.insert(name.clone(), blob).is_some() {
                return Err(Failure::Usage(format!("input {name:?} is given twice")).into());
            }
        }
        if let Some(path) = &self.stdin {
            spec.stdin = Some(if path.as_os_str() == "-" {
                let taken = intake.stream("standard input", &mut io::stdin().lock());
                taken.context("cannot read standard input")?
            } else {
                let file = open(path, "standard input")?;
                let taken = intake.file("standard input", file);
                taken.with_context(|| format!("cannot take in {}", path.display()))?
            });
        }
        Ok(spec)
    }

    fn start_ns(&self) -> Result<u64, Failure> {
        let since = std::time::SystemTime::from(self.start_time).duration_since(UNIX_EPOCH);
        since
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .ok_or_else(|| Failure::Usage("--start-time must lie between 1970 and 2554".to_owned()))
    }

    fn policy(&self) -> CheckpointPolicy {
        if self.no_checkpoints {
            return CheckpointPolicy::Never;
        }
        if let Some(steps) = self.checkpoint_steps {
            return CheckpointPolicy::EverySteps(steps);
        }
        CheckpointPolicy::EveryMs(self.checkpoint_every)
    }
}

/// Reads a component, which must not be larger than the limits allow.
pub fn read_module(path: &Path, limits: &Limits) -> anyhow::Result<Vec<u8>> {
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
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read the module {}", path.display()))?;
    Ok(bytes)
}

/// Opens a file that has an end.
pub fn open(path: &Path, what: &str) -> Result<File, Failure> {
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

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "job".to_owned(), |name| name.to_string_lossy().into_owned())
}
