//! `hb config show | check | path`, and how every other command comes by its configuration and
//! its log.
//!
//! Owns: what flags mean as settings, and how settings are shown. Where values may stand and which
//! one wins is decided in `hb_config`.

use std::{
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use anstream::{AutoStream, ColorChoice};
use clap::{Args, Subcommand};
use hb_config::{
    Config, ConfigError, FileState, Flag, Loaded, LogFormat, Origin, Problem, Setting,
    Surroundings, Wrong, key,
};
use hb_telemetry::{Format, Options, Telemetry, TraceContext};
use hb_types::{exit, text::printable};
use serde_json::{Map, json};

use crate::{
    args::{Cli, Verb},
    format,
};

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print the configuration as hb would use it, as a file of its own.
    Show(ShowArgs),
    /// Say what is wrong with a configuration: exit 0 nothing, 1 something.
    Check(CheckArgs),
    /// List the files that are looked at, the strongest first.
    Path,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Say where each value comes from: a flag, a variable, a file, or the default.
    #[arg(long)]
    pub origin: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Only this file [default: all that would be used, with variables and flags].
    pub file: Option<PathBuf>,
}

/// Bytes of a value in a table.
const SHOWN_BYTES: usize = 300;

/// Answers `hb config …`.
pub fn config(cli: &Cli, verb: &ConfigVerb) -> anyhow::Result<u8> {
    match verb {
        ConfigVerb::Show(args) => show(cli, args),
        ConfigVerb::Check(args) => check(cli, args.file.as_deref()),
        ConfigVerb::Path => path(cli),
    }
}

/// The configuration of this command.
pub fn load(cli: &Cli) -> Result<Loaded, ConfigError> {
    let loaded = hb_config::load(&Surroundings::of_process(), cli.config.as_deref(), &flags(cli))?;
    check_filter(loaded)
}

/// What flags say that could stand in a file too.
pub fn flags(cli: &Cli) -> Vec<Flag> {
    let flag = |key, flag: &str, value| Flag { key, flag: flag.to_owned(), value };
    let data = cli.data.as_ref().map(|path| flag("data", "--data", path.into()));
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => Some(flag("log.filter", "--quiet", "error".into())),
        (false, true) => Some(flag("log.filter", "--verbose", "info".into())),
        (false, false) => None,
    };
    let serve = match &cli.command {
        Verb::Serve(args) => args.flags(),
        _ => Vec::new(),
    };
    data.into_iter().chain(level).chain(serve).collect()
}

/// What a filter of the log may say is known by the log alone.
fn check_filter(loaded: Loaded) -> Result<Loaded, ConfigError> {
    const FILTER: &str = "log.filter";
    let filter = loaded.config.log.filter.as_deref();
    let Some(Err(_)) = filter.map(hb_telemetry::check_filter) else { return Ok(loaded) };
    let setting = loaded.settings.iter().find(|setting| setting.key.name == FILTER);
    let place = setting.map_or(Origin::Default, |setting| setting.origin.clone());
    let wrong = Wrong::Value {
        key: FILTER,
        expected: "LEVEL or TARGET=LEVEL,… with error, warn, info, debug or trace".to_owned(),
        found: format!("\"{}\"", printable(filter.unwrap_or_default(), SHOWN_BYTES)),
    };
    Err(ConfigError { problems: vec![Problem { place, wrong }] })
}

/// A running log, and the trace that this command is a part of.
pub struct Log {
    _telemetry: Telemetry,
    is_traced: bool,
}

/// Starts the log as it is configured.
pub fn start_log(cli: &Cli, config: &Config) -> anyhow::Result<Log> {
    let is_host = matches!(cli.command, Verb::Serve(_));
    // A person sees what a command does; of a host only the log says it.
    let default = if is_host { "info" } else { "warn" };
    let has_color = AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let telemetry = hb_telemetry::start(&Options {
        format: match config.log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        filter: config.log.filter.clone().unwrap_or_else(|| default.to_owned()),
        color: has_color,
        otlp_endpoint: config.telemetry.otlp_endpoint.clone(),
        service_name: config.telemetry.service_name.clone(),
        service_version: env!("CARGO_PKG_VERSION"),
    })?;
    // A host's work is one trace for each request, below those who ask; a span of its whole life
    // would gather all of them.
    let is_traced = config.telemetry.otlp_endpoint.is_some() && !is_host;
    Ok(Log { _telemetry: telemetry, is_traced })
}

impl Log {
    /// Does something as one span, below the trace that this process was started with.
    ///
    /// Its arguments are not told: they may hold what a collector should not know.
    pub fn trace(
        &self,
        verb: &str,
        act: impl FnOnce() -> anyhow::Result<u8>,
    ) -> anyhow::Result<u8> {
        if !self.is_traced {
            return act();
        }
        let span = tracing::info_span!("hb", verb, exit_code = tracing::field::Empty);
        if let Some(context) = TraceContext::of_process() {
            context.adopt(&span);
        }
        let result = span.in_scope(act);
        let code = result.as_ref().map_or_else(crate::failure::exit_code, |code| *code);
        span.record("exit_code", i64::from(code));
        result
    }
}

fn show(cli: &Cli, args: &ShowArgs) -> anyhow::Result<u8> {
    let loaded = load(cli)?;
    match (args.origin, cli.json) {
        (false, false) => format::print(&as_file(&loaded.settings))?,
        (false, true) => format::print_json(&as_json(&loaded.settings))?,
        (true, false) => {
            let mut table = format::table(&["KEY", "VALUE", "FROM"]);
            for Setting { key, value, origin } in &loaded.settings {
                let value = printable(&value.to_string(), SHOWN_BYTES);
                table.add_row([key.name.to_owned(), value, origin.to_string()]);
            }
            format::print(&table.to_string())?;
        }
        (true, true) => {
            let settings = loaded.settings.iter().map(|Setting { key, value, origin }| {
                json!({
                    "key": key.name,
                    "value": value.to_json(),
                    "text": value.to_string(),
                    "from": origin_json(origin),
                })
            });
            format::print_json(&settings.collect())?;
        }
    }
    Ok(exit::OK)
}

/// As a file that gives the same configuration.
fn as_file(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut section = None;
    for Setting { key, value, .. } in settings {
        if key.section() != section {
            section = key.section();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n[{}]", section.unwrap_or_default());
        }
        let _ = writeln!(text, "{} = {}", key.short(), value.to_toml());
    }
    text
}

fn as_json(settings: &[Setting]) -> serde_json::Value {
    let mut whole = Map::new();
    for Setting { key, value, .. } in settings {
        match key.section() {
            None => whole.insert(key.name.to_owned(), value.to_json()),
            Some(section) => {
                let section = whole.entry(section).or_insert_with(|| json!({}));
                let section = section.as_object_mut().expect("sections hold keys");
                section.insert(key.short().to_owned(), value.to_json())
            }
        };
    }
    whole.into()
}

fn origin_json(origin: &Origin) -> serde_json::Value {
    match origin {
        Origin::File { path, line, column } => {
            json!({ "kind": "file", "path": path, "line": line, "column": column })
        }
        Origin::Environment { variable } => json!({ "kind": "environment", "variable": variable }),
        Origin::Flag { flag } => json!({ "kind": "flag", "flag": flag }),
        Origin::Default => json!({ "kind": "default" }),
    }
}

fn check(cli: &Cli, file: Option<&Path>) -> anyhow::Result<u8> {
    let checked = match file {
        Some(file) => {
            hb_config::load_alone(&Surroundings::of_process(), file).and_then(check_filter)
        }
        None => load(cli),
    };
    let problems = checked.as_ref().err().map_or(&[][..], |error| &error.problems);
    if cli.json {
        let shown = problems.iter().map(|problem| {
            json!({ "at": origin_json(&problem.place), "problem": problem.wrong.to_string() })
        });
        let shown: Vec<_> = shown.collect();
        format::print_json(&json!({ "valid": shown.is_empty(), "problems": shown }))?;
    } else if let Ok(loaded) = &checked {
        let set = loaded.settings.iter().filter(|one| one.origin != Origin::Default).count();
        format::print(&format!("nothing is wrong: {set} of {} keys set", key::all().len()))?;
    } else {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format::print(&lines.join("\n"))?;
    }
    Ok(if problems.is_empty() { exit::OK } else { exit::FAILED })
}

fn path(cli: &Cli) -> anyhow::Result<u8> {
    let files = hb_config::locate(&Surroundings::of_process(), cli.config.as_deref());
    let state = |state| match state {
        FileState::Read => "read",
        FileState::Absent => "absent",
    };
    if cli.json {
        let files =
            files.iter().map(|file| json!({ "path": file.path, "state": state(file.state) }));
        format::print_json(&files.collect())?;
        return Ok(exit::OK);
    }
    let lines = files.iter().map(|file| {
        let path = printable(&file.path.to_string_lossy(), SHOWN_BYTES);
        format!("{:<8}{path}", state(file.state))
    });
    format::print(&lines.collect::<Vec<_>>().join("\n"))?;
    Ok(exit::OK)
}
