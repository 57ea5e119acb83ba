//! `hb`: the only part of the system that prints.
//!
//! Owns: what was typed, what it means, and how answers look to people and to scripts. Decides
//! nothing about jobs.

mod args;
mod failure;
mod format;
mod inspect;
mod ledger;
mod run;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use hb_host::{Host, HostOptions, LedgerView};
use hb_types::limits::Limits;

use args::{Cli, Verb};

/// The hidden verb under which hb starts itself to compile a component.
const COMPILER_VERB: &str = "compile-component";

fn main() -> ExitCode {
    // The compiling child is started often and knows no options.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == COMPILER_VERB) {
        return hb_sandbox::compiler_main();
    }
    let cli = Cli::parse();
    start_log(&cli);
    match dispatch(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::tell(&error, cli.json);
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

fn dispatch(cli: &Cli) -> anyhow::Result<u8> {
    let invocation = Invocation { root: data_directory(cli)?, cli };
    match &cli.command {
        Verb::Run(args) => run::run(&invocation, args),
        Verb::Verify(args) => verify::verify(&invocation, args),
        Verb::Jobs(args) => inspect::jobs(&invocation, args),
        Verb::Show(args) => inspect::show(&invocation, &args.job),
        Verb::Logs(args) => inspect::logs(&invocation, args),
        Verb::Trace(args) => inspect::trace(&invocation, &args.job),
        Verb::Artifacts(args) => inspect::artifacts(&invocation, args),
        Verb::Seal(args) => inspect::seal(&invocation, &args.job),
        Verb::Ledger(verb) => ledger::ledger(&invocation, verb),
        Verb::Compile => unreachable!("the compiler is started before options are read"),
    }
}

/// What every command needs to know.
struct Invocation<'a> {
    root: PathBuf,
    cli: &'a Cli,
}

impl Invocation<'_> {
    fn root(&self) -> &Path {
        &self.root
    }

    /// The ledger, for this process alone.
    fn host(&self) -> anyhow::Result<Host> {
        let options = HostOptions {
            compiler: compiler()?,
            ceilings: Limits::ceilings(),
            log: log_options(),
            snapshot_every_bytes: hb_host::SNAPSHOT_EVERY_BYTES,
        };
        Ok(Host::open(&self.root, options)?)
    }

    /// The ledger as it stands, also while another process owns it.
    fn view(&self) -> anyhow::Result<LedgerView> {
        Ok(LedgerView::open(&self.root)?)
    }
}

/// A ledger of one process at a time writes little: small segments make a new one cheap to found.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

fn log_options() -> hb_wal::Options {
    hb_wal::Options { segment_bytes: SEGMENT_BYTES, ..hb_wal::Options::default() }
}

/// This program, as its own compiling child.
fn compiler() -> anyhow::Result<hb_sandbox::Compiler> {
    let program = std::env::current_exe().context("cannot find the hb program itself")?;
    Ok(hb_sandbox::Compiler { program, arguments: vec![COMPILER_VERB.into()] })
}

fn data_directory(cli: &Cli) -> anyhow::Result<PathBuf> {
    if let Some(data) = &cli.data {
        return Ok(data.clone());
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(data) = set("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("hackbrain"));
    }
    let home = set("HOME").context("no data directory: set HB_DATA or give --data DIR")?;
    Ok(PathBuf::from(home).join(".local/share/hackbrain"))
}

/// Warnings of the libraries go to standard error; `HB_LOG` asks for more.
fn start_log(cli: &Cli) {
    let default = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        (false, true) => "info",
        (false, false) => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HB_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
