//! `hb`: the only part of the system that prints.
//!
//! Owns: what was typed, what it means, and how answers look to people and to scripts. Decides
//! nothing about jobs.

mod args;
mod chaos;
mod console;
mod container_flags;
mod doctor;
mod failure;
mod format;
mod inspect;
mod job_flags;
mod ledger;
mod remote;
mod run;
mod serve;
mod settings;
mod shell;
mod token;
mod verify;

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};
use hb_config::Config;
use hb_host::{ContainerOptions, Host, HostOptions, LedgerView};

use args::{Cli, Verb};

/// The verb under which hb starts itself to compile a component. It is no part of the grammar: no
/// help, completion or manual page names it.
const COMPILER_VERB: &str = "compile-component";

fn main() -> ExitCode {
    // The compiling child is started often and knows no options.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == COMPILER_VERB) {
        return hb_sandbox::compiler_main();
    }
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match start(&cli, matches.subcommand_name().unwrap_or_default()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            failure::tell(&error, cli.json);
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

/// Some commands are there to help where the configuration is wrong, and do without it.
fn start(cli: &Cli, verb: &str) -> anyhow::Result<u8> {
    match &cli.command {
        Verb::Config(verb) => settings::config(cli, verb),
        Verb::Doctor => doctor::doctor(cli),
        Verb::Completions(args) => shell::completions(args),
        Verb::Man(args) => shell::man(args),
        _ => {
            let config = settings::load(cli)?.config;
            let log = settings::start_log(cli, &config)?;
            log.trace(verb, || dispatch(&Invocation { config, cli }))
        }
    }
}

fn dispatch(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    match &invocation.cli.command {
        Verb::Run(args) => run::run(invocation, args),
        Verb::Serve(args) => serve::serve(invocation, args),
        Verb::Token(verb) => token::token(invocation, verb),
        Verb::Chaos(args) => chaos::chaos(invocation, args),
        Verb::Verify(args) => verify::verify(invocation, args),
        Verb::Ledger(verb) => ledger::ledger(invocation, verb),
        Verb::Jobs(_)
        | Verb::Show(_)
        | Verb::Logs(_)
        | Verb::Trace(_)
        | Verb::Artifacts(_)
        | Verb::Seal(_) => read(invocation),
        _ => ask(invocation),
    }
}

/// What can be read from the ledger here, and from a host where one is named. What goes on while it is
/// read needs a host in any case.
fn read(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    let remote = remote::is_named(invocation);
    match &invocation.cli.command {
        Verb::Jobs(args) if remote => remote::jobs(invocation, args),
        Verb::Jobs(args) => inspect::jobs(invocation, args),
        Verb::Show(args) if remote => remote::show(invocation, &args.job),
        Verb::Show(args) => inspect::show(invocation, &args.job),
        Verb::Logs(args) if remote || args.follow => remote::logs(invocation, args),
        Verb::Logs(args) => inspect::logs(invocation, args),
        Verb::Trace(args) if remote || args.follow => remote::trace(invocation, args),
        Verb::Trace(args) => inspect::trace(invocation, &args.job),
        Verb::Artifacts(args) if remote => remote::artifacts(invocation, args),
        Verb::Artifacts(args) => inspect::artifacts(invocation, args),
        Verb::Seal(args) if remote => remote::seal(invocation, &args.job),
        Verb::Seal(args) => inspect::seal(invocation, &args.job),
        _ => unreachable!("only reading verbs come here"),
    }
}

/// What only a host can do.
fn ask(invocation: &Invocation<'_>) -> anyhow::Result<u8> {
    match &invocation.cli.command {
        Verb::Submit(args) => remote::submit(invocation, args),
        Verb::Wait(args) => remote::wait(invocation, args),
        Verb::Cancel(args) => remote::cancel(invocation, args),
        Verb::Hold(args) => remote::hold(invocation, args),
        Verb::Release(args) => remote::release(invocation, args),
        Verb::Retry(args) => remote::retry(invocation, args),
        Verb::Fork(args) => remote::fork(invocation, args),
        Verb::Why(args) => remote::why(invocation, &args.job),
        Verb::Events(args) => remote::events(invocation, args),
        Verb::Status => remote::status(invocation),
        Verb::Pause => remote::pause(invocation),
        Verb::Resume => remote::resume(invocation),
        Verb::Schedule(verb) => remote::schedule(invocation, verb),
        Verb::Prune(args) => remote::prune(invocation, args),
        _ => unreachable!("the others are answered before"),
    }
}

/// What every command needs to know.
struct Invocation<'a> {
    config: Config,
    cli: &'a Cli,
}

impl Invocation<'_> {
    fn root(&self) -> &Path {
        &self.config.data
    }

    /// The ledger, for this process alone.
    fn host(&self) -> anyhow::Result<Host> {
        Ok(Host::open(self.root(), self.host_options()?)?)
    }

    fn host_options(&self) -> anyhow::Result<HostOptions> {
        Ok(HostOptions {
            compiler: compiler()?,
            containers: self.containers(),
            ceilings: self.config.ceilings.clone(),
            log: log_options(),
            snapshot_every_bytes: hb_host::SNAPSHOT_EVERY_BYTES,
            archive: hb_host::ArchiveOptions::default(),
            wrap_disk: None,
        })
    }

    /// How containers are run.
    fn containers(&self) -> ContainerOptions {
        let container = &self.config.container;
        let allowed = container.mounts.iter();
        ContainerOptions {
            engine: container.engine.clone(),
            directory: self.root().join("containers"),
            mounts: allowed
                .map(|text| text.parse().expect("directories were checked when read"))
                .collect(),
            grants: container.grants.clone(),
        }
    }

    /// The ledger as it stands, also while another process owns it.
    fn view(&self) -> anyhow::Result<LedgerView> {
        Ok(LedgerView::open(self.root())?)
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
