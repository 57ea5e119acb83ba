//! What can be typed to use a host.
//!
//! Owns the grammar of these verbs and nothing of their meaning.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hb_types::units::{parse_count, parse_duration_ms, parse_size, parse_time_ns};

use crate::{
    args::PatienceArgs,
    container_flags::ContainerFlags,
    job_flags::{JobFlags, LimitArgs, parse_pair},
};

// Flags of a command line are independent of each other.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes without --wait: 0 accepted. With --wait: the job's own, as `hb run` gives it; 130 \
    after Ctrl-C, which leaves the job running.\n\n\
    In a manifest file, a component, input or stdin that begins with ./, ../ or / is a file, relative \
    to the manifest; it is uploaded. Anything else is the BLAKE3 digest of what the host has."
)]
pub struct SubmitArgs {
    /// A component, a preview-1 core module, either as text (.wat), or a manifest (.json).
    #[arg(required_unless_present_any = ["manifest", "image"], conflicts_with = "manifest")]
    pub module: Option<PathBuf>,
    #[command(flatten)]
    pub container: ContainerFlags,
    /// Submit this manifest; - reads it from standard input.
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    /// Follow the job to its end: print what it prints, and exit as it does.
    #[arg(long)]
    pub wait: bool,
    /// Print the manifest instead of submitting it; nothing is sent.
    #[arg(long, conflicts_with = "wait")]
    pub print_manifest: bool,
    /// Run even if the answer is in the ledger.
    #[arg(long)]
    pub rerun: bool,
    /// Print the job's control characters as they are, also on a terminal.
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub patience: PatienceArgs,
    #[command(flatten)]
    pub job: JobFlags,
    #[command(flatten)]
    pub terms: TermArgs,
}

/// When, in which order, and with how much of the machine.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Terms")]
pub struct TermArgs {
    /// Jobs of higher priority start first, from -1000 to 1000 [default: 0].
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// Jobs of equal priority share the machine fairly between queues [default: default].
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// At most this many jobs with this key run at once.
    #[arg(long, value_name = "KEY=COUNT", value_parser = parse_bound)]
    pub concurrency: Option<(String, u32)>,
    /// How often a failed job is tried again [default: 0].
    #[arg(long, value_name = "COUNT")]
    pub retries: Option<u32>,
    /// The pause before the first retry, which doubles each time [default: 1s].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub retry_backoff: Option<u64>,
    /// Processors that the job needs, also a part of one [default: 1].
    #[arg(long, value_name = "COUNT")]
    pub cpu: Option<f64>,
    /// Memory of the machine that is set aside for it [default: its memory limit].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// It does not start before this time.
    #[arg(long, value_name = "RFC3339", value_parser = parse_time_ns)]
    pub not_before: Option<u64>,
    /// It is ended at its time limit if it has not ended by this time.
    #[arg(long, value_name = "RFC3339", value_parser = parse_time_ns)]
    pub finish_by: Option<u64>,
}

/// `KEY=COUNT`.
fn parse_bound(text: &str) -> Result<(String, u32), String> {
    let (key, count) = parse_pair(text).map_err(|_| "expected KEY=COUNT".to_owned())?;
    let count = count.parse().map_err(|_| "expected KEY=COUNT, such as licence=2".to_owned())?;
    Ok((key, count))
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    #[command(flatten)]
    pub patience: PatienceArgs,
}

#[derive(Debug, Args)]
pub struct CancelArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
}

#[derive(Debug, Args)]
pub struct HoldArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// Stop at once instead of at the next checkpoint.
    #[arg(long)]
    pub now: bool,
}

#[derive(Debug, Args)]
pub struct RetryArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// Go on from the newest checkpoint instead of starting again.
    #[arg(long)]
    pub from_checkpoint: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
}

#[derive(Debug, Args)]
pub struct ForkArgs {
    /// A job id, or the beginning of a job hash or seal.
    pub job: String,
    /// The checkpoint to go on from [default: the newest].
    #[arg(long, value_name = "SEQUENCE")]
    pub at: Option<u64>,
    /// Name the new job.
    #[arg(long, value_name = "NAME")]
    pub job_id: Option<String>,
    /// Another component, which is uploaded.
    #[arg(long, value_name = "FILE")]
    pub component: Option<PathBuf>,
    /// Its environment, all of it, instead of the old one.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub env: Vec<(String, String)>,
    /// Its remarks, all of them, instead of the old ones.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub label: Vec<(String, String)>,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Its arguments, all of them, instead of the old ones.
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    pub patience: PatienceArgs,
}

#[derive(Debug, Subcommand)]
pub enum ScheduleVerb {
    /// Make a schedule, or replace it.
    Set(ScheduleSetArgs),
    /// List schedules.
    List,
    /// Remove a schedule; jobs that it made stay.
    Remove(ScheduleNameArgs),
}

#[derive(Debug, Args)]
pub struct ScheduleSetArgs {
    /// What to call it.
    pub name: String,
    /// When, in UTC: minute hour day month weekday, with seconds before them where wanted.
    #[arg(long, value_name = "EXPRESSION")]
    pub cron: String,
    /// What becomes of moments at which no host was there: the latest is made up for, or all are
    /// skipped.
    #[arg(long, value_parser = ["latest", "skip"], default_value = "latest")]
    pub missed: String,
    /// What is submitted: a manifest, as for `hb submit`.
    #[arg(value_name = "MANIFEST")]
    pub manifest: PathBuf,
}

#[derive(Debug, Args)]
pub struct ScheduleNameArgs {
    /// Its name.
    pub name: String,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Remove nothing, only say what would be.
    #[arg(long)]
    pub dry_run: bool,
    /// Jobs that ended longer ago than this go.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_ms)]
    pub max_age: Option<u64>,
    /// At most this many jobs that are over stay.
    #[arg(long, value_name = "COUNT", value_parser = parse_count)]
    pub max_jobs: Option<u64>,
    /// At most this much of what they printed and left stays.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_bytes: Option<u64>,
}
