//! What can be typed.
//!
//! Owns the command line's grammar and nothing of its meaning. What describes a job is in
//! `job_flags.rs`, what needs a host in `remote/args.rs`.

use std::path::PathBuf;

use crate::{
    chaos::ChaosArgs,
    container_flags::ContainerFlags,
    job_flags::{JobFlags, parse_pair},
    remote::args::{
        CancelArgs, EventsArgs, ForkArgs, HoldArgs, PruneArgs, RetryArgs, ScheduleVerb, SubmitArgs,
        WaitArgs,
    },
    serve::ServeArgs,
    settings::ConfigVerb,
    shell::{CompletionsArgs, ManArgs},
    token::TokenVerb,
};
use clap::{Args, Parser, Subcommand};
use hb_types::units::{parse_duration_ms, parse_time_ns};

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
    /// Use the host at this address [default: the one that serves the data directory].
    #[arg(long, global = true, env = "HB_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// What the host knows you by; @FILE reads it from a file.
    #[arg(
        id = "host_token",
        long = "token",
        global = true,
        env = "HB_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN|@FILE"
    )]
    pub token: Option<String>,
    /// Trust the host by the certificates in this PEM file and no others.
    #[arg(long, global = true, env = "HB_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
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
    /// Put a job and a host through kills, torn writes, full disks and power cuts, and see what holds.
    Chaos(Box<ChaosArgs>),
    /// Make, list and revoke the tokens by which a host knows who asks.
    #[command(subcommand)]
    Token(TokenVerb),
    /// Run a sealed job again and compare: exit 0 same, 1 different, 2 could not be checked.
    Verify(VerifyArgs),
    /// Give a job to a host; the host runs it, whatever becomes of this command.
    Submit(Box<SubmitArgs>),
    /// Wait for a job to end, and exit as it did.
    Wait(WaitArgs),
    /// Cancel a job for good.
    Cancel(CancelArgs),
    /// Put a job on hold: it stops at its next checkpoint and goes on when it is released.
    Hold(HoldArgs),
    /// Let a job that is on hold go on.
    Release(CancelArgs),
    /// Run a job that failed or was cancelled again, as a new job.
    Retry(Box<RetryArgs>),
    /// Go on from a checkpoint of a job with something changed, as a new job.
    Fork(Box<ForkArgs>),
    /// Say why a job is not running.
    Why(JobArg),
    /// Tell what happens to all jobs, as it happens.
    Events(EventsArgs),
    /// Show how the host is: what runs, what waits, what of the machine is in use.
    Status,
    /// Start no more jobs; those that run go on.
    Pause,
    /// Start jobs again.
    Resume,
    /// Submit jobs again and again.
    #[command(subcommand)]
    Schedule(ScheduleVerb),
    /// Remove jobs that are over, by age, number or size.
    Prune(PruneArgs),
    /// List jobs.
    #[command(alias = "ls")]
    Jobs(JobsArgs),
    /// Show everything that is known of a job.
    Show(JobArg),
    /// Print what a job has durably printed.
    Logs(LogsArgs),
    /// Tell a job's life: attempts, checkpoints, crashes, outcome.
    Trace(TraceArgs),
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
    own directory. Time is virtual, random numbers come from --seed. A native program in a container \
    (--image) has a real clock and real random numbers."
)]
pub struct RunArgs {
    /// A component, a preview-1 core module, or either as text (.wat).
    #[arg(required_unless_present = "image")]
    pub module: Option<PathBuf>,
    #[command(flatten)]
    pub container: ContainerFlags,
    #[command(flatten)]
    pub job: JobFlags,
    /// Processors that a native program may use, also a part of one [default: 1].
    #[arg(long, value_name = "COUNT", requires = "image")]
    pub cpu: Option<f64>,
    /// Run even if the answer is in the ledger.
    #[arg(long)]
    pub rerun: bool,
    /// Print the job's control characters as they are, also on a terminal.
    #[arg(long)]
    pub raw: bool,
    /// Not available: a job sees only its inputs.
    #[arg(long, hide = true, value_name = "DIR")]
    pub dir: Option<String>,
    /// Not available: a job is run from its beginning.
    #[arg(long, hide = true, value_name = "FUNCTION")]
    pub invoke: Option<String>,
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
    /// Only jobs with this label; more than one must all be there.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub label: Vec<(String, String)>,
    /// Only jobs of this queue.
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only jobs whose program has this name.
    #[arg(long, value_name = "NAME")]
    pub program: Option<String>,
    /// Only jobs whose names begin like this.
    #[arg(long, value_name = "PREFIX")]
    pub id: Option<String>,
    /// Only jobs that were received at this time or later.
    #[arg(long, value_name = "RFC3339", value_parser = parse_time_ns)]
    pub since: Option<u64>,
    /// Only jobs that were received before this time.
    #[arg(long, value_name = "RFC3339", value_parser = parse_time_ns)]
    pub until: Option<u64>,
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
pub struct TraceArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// Go on telling until the job is over; needs a host.
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// How long a host that is away is waited for.
#[derive(Debug, Args)]
pub struct PatienceArgs {
    /// While following: how long to wait for a host that is away.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration_ms)]
    pub patience: u64,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// Go on printing until the job is over; needs a host.
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;
    use hb_types::limits::{Limit, Unit};

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
            assert_eq!(args.job.limits().unwrap().get(*limit), value, "{flag}");
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
        let limits = args.job.limits().unwrap();
        assert_eq!((limits.fuel, limits.deadline_ms), (10, 2000));
        assert_eq!(args.job.arguments, ["-k", "21"]);
    }
}
