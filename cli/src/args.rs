//! What can be typed.
//!
//! Owns the command line's grammar and nothing of its meaning. Limits come from the one table of
//! limits, so that a new limit has its flag at once.

use std::path::PathBuf;

use crate::{
    serve::ServeArgs,
    settings::ConfigVerb,
    shell::{CompletionsArgs, ManArgs},
    token::TokenVerb,
};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use hb_types::{
    limits::{Amount, Limit, Limits, Unit},
    units::{parse_count, parse_duration_ms, parse_size},
};

/// Run a computation so that it cannot be lost and can be proven.
#[derive(Debug, Parser)]
#[command(name = "hb", version, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    /// Directory of the ledger [env: `HB_DATA`] [default: `$XDG_DATA_HOME/hackbrain`].
    // Variables are read with the rest of the configuration, which says where a value is from.
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Read this configuration file and no other [env: `HB_CONFIG`] [default: see `hb config path`].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what went well and what went wrong as JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more.
    #[arg(long, short, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a component as a job; killed and repeated, the same command resumes it.
    Run(Box<RunArgs>),
    /// Own a ledger and run jobs that are posted over HTTP.
    Serve(ServeArgs),
    /// Make, list and revoke the tokens by which a host knows who asks.
    #[command(subcommand)]
    Token(TokenVerb),
    /// Run a sealed job again and compare: exit 0 same, 1 different, 2 could not be checked.
    Verify(VerifyArgs),
    /// List jobs.
    #[command(alias = "ls")]
    Jobs(JobsArgs),
    /// Show everything that is known of a job.
    #[command(alias = "status")]
    Show(JobArg),
    /// Print what a job has durably printed.
    Logs(LogsArgs),
    /// Tell a job's life: attempts, checkpoints, crashes, outcome.
    Trace(JobArg),
    /// List what a job left below /out, or write it to a directory.
    Artifacts(ArtifactsArgs),
    /// Print a job's signed seal: a DSSE envelope around an in-toto statement.
    Seal(JobArg),
    /// Look after the ledger itself.
    #[command(subcommand)]
    Ledger(LedgerVerb),
    /// Show, check and find the configuration.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Look at this machine: what it has, what is missing, and what mends it.
    Doctor,
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page of hb, or write those of all commands to a directory.
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: the job's own; 124 time limit, 125 hb failed, 126 not runnable, \
    127 not found, 130 cancelled, 134 trap, 137 memory or space limit, 152 out of fuel.\n\n\
    Inputs are files below /in, what the job writes below /out becomes its artifacts, /job is its \
    own directory. Time is virtual, random numbers come from --seed."
)]
pub struct RunArgs {
    /// A component, a preview-1 core module, or either as text (.wat).
    pub module: PathBuf,
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
    /// Run even if the answer is in the ledger.
    #[arg(long)]
    pub rerun: bool,
    /// Print the job's control characters as they are, also on a terminal.
    #[arg(long)]
    pub raw: bool,
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
    /// Crashes without a new checkpoint after which the job is set aside as poisoned.
    #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_crashes: u32,
    /// Options as `wasmtime run` knows them: fuel=N, timeout=T, max-memory-size=N, max-wasm-stack=N.
    #[arg(short = 'W', long = "wasm", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub wasm: Vec<(String, String)>,
    /// Not available: a job sees only its inputs.
    #[arg(long, hide = true, value_name = "DIR")]
    pub dir: Option<String>,
    /// Not available: a job is run from its beginning.
    #[arg(long, hide = true, value_name = "FUNCTION")]
    pub invoke: Option<String>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A job id, a job hash, a seal, or a file with a seal's envelope.
    #[arg(value_name = "SEAL-or-JOB")]
    pub what: String,
    /// Start again from every checkpoint and compare the next one.
    #[arg(long)]
    pub checkpoints: bool,
    /// Trust envelopes signed by this key too (PEM file with a public key).
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Only jobs in this state.
    #[arg(long, value_name = "STATE", ignore_case = true, value_parser = [
        "RECEIVED", "SCHEDULED", "RUNNING", "COMPLETED", "SEALED", "FAILED", "CANCELLED",
    ])]
    pub state: Option<String>,
    /// At most this many, the newest.
    #[arg(long, short = 'n', default_value_t = 100, value_name = "COUNT")]
    pub limit: usize,
}

#[derive(Debug, Args)]
pub struct JobArg {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// Standard error instead of standard output.
    #[arg(long)]
    pub stderr: bool,
    /// Print control characters as they are, also on a terminal.
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct ArtifactsArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// Write them below this directory.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum LedgerVerb {
    /// Read and verify everything; changes nothing.
    Check,
    /// Give up what follows a record, so that a damaged ledger can be opened again.
    Repair(RepairArgs),
    /// Figures.
    Stats,
}

#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The last record to keep, as `hb ledger check` names it.
    #[arg(long, value_name = "LSN")]
    pub to: u64,
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
fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// The limits that the flags and the `-W` options ask for.
pub fn limits(args: &RunArgs) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for (key, value) in &args.wasm {
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
    for (limit, value) in &args.limits.0 {
        limits.set(*limit, *value);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_limit_has_its_flag_and_units_are_understood() {
        for limit in Limit::ALL {
            let flag = limit.spec().flag;
            let (text, value) = match limit.spec().unit {
                Unit::Bytes => ("2MiB", 2 << 20),
                Unit::Milliseconds => ("1m30s", 90_000),
                Unit::Fuel | Unit::Count => ("1_000", 1000),
            };
            let cli = Cli::try_parse_from(["hb", "run", flag, text, "m.wasm"]).unwrap();
            let Verb::Run(args) = cli.command else { panic!("run expected") };
            assert_eq!(limits(&args).unwrap().get(*limit), value, "{flag}");
        }
    }

    #[test]
    fn options_of_wasmtime_keep_their_meaning() {
        let cli = Cli::try_parse_from([
            "hb",
            "run",
            "-W",
            "fuel=10",
            "-W",
            "timeout=2s",
            "m.wasm",
            "--",
            "-k",
            "21",
        ])
        .unwrap();
        let Verb::Run(args) = cli.command else { panic!("run expected") };
        let limits = limits(&args).unwrap();
        assert_eq!((limits.fuel, limits.deadline_ms), (10, 2000));
        assert_eq!(args.arguments, ["-k", "21"]);
    }
}
