//! The order of the checks.
//!
//! Owns: what all checks are given, and which comes first: what keeps everything from working,
//! then what could lose something, then what makes it slow, then what is good to know.

use std::path::{Path, PathBuf};

use hb_config::{Config, ConfigError, ConfigFile, FileState, Flag, Surroundings};
use hb_sandbox::Compiler;

use crate::{
    check::{Check, Topic},
    clock, container, directory, filesystem, flush, ledger, limits, listen, machine, sandbox, tls,
};

const CONFIGURATION: Topic = Topic {
    id: "config",
    title: "configuration",
    why: "a configuration with a mistake in it is not used at all, so no command works",
};

/// What is examined.
#[derive(Debug)]
pub struct Examination {
    /// The surroundings of this process.
    pub around: Surroundings,
    /// The only configuration file to read, where somebody named one.
    pub file: Option<PathBuf>,
    /// What was set on the command line.
    pub flags: Vec<Flag>,
    /// How the compiling child is started.
    pub compiler: Compiler,
}

/// Makes every check, the most important first.
pub fn examine(examination: &Examination) -> Vec<Check> {
    let (check, config) = configuration(examination);
    let mut checks = vec![check];
    let Some(config) = config else { return checks };
    let data = config.data.as_path();
    let place = directory::Place::of(data);
    let mount = filesystem::Mount::of(&place.existing);
    checks.push(directory::check(&place));
    checks.push(filesystem::check(mount.as_ref()));
    checks.extend(filesystem::room(&place.existing));
    checks.push(directory::check_flush(&place));
    checks.push(flush::check(&place, mount.as_ref()));
    checks.extend(ledger::check(data));
    checks.push(sandbox::check(&examination.compiler, &place));
    checks.extend(listen::check(&config));
    checks.extend(tls::check(&config));
    let machine = &examination.around.machine;
    checks.push(machine::memory(machine, config.run.memory_bytes));
    checks.push(machine::processors(machine, config.run.cpus));
    checks.extend(limits::check(&config, machine));
    checks.extend(machine::kernel_settings());
    checks.push(limits::priority());
    checks.extend(clock::check());
    checks.push(machine::kernel());
    checks.push(machine::systemd());
    checks.push(container::check(&examination.around, config.container.engine.as_deref()));
    checks
}

/// The configuration; where it has a mistake, the defaults are looked at instead.
fn configuration(examination: &Examination) -> (Check, Option<Config>) {
    let Examination { around, file, flags, .. } = examination;
    match hb_config::load(around, file.as_deref(), flags) {
        Ok(loaded) => (CONFIGURATION.ok(describe(&loaded.files)), Some(loaded.config)),
        Err(error) => {
            let mut plain = around.clone();
            plain.environment.retain(|name, _| !name.starts_with("HB_") || name == "HB_DATA");
            let nothing = Path::new("/dev/null");
            let defaults = hb_config::load(&plain, Some(nothing), flags);
            let found = format!("{error}; the rest was looked at with defaults");
            (CONFIGURATION.fail(found, fix(&error)), defaults.ok().map(|loaded| loaded.config))
        }
    }
}

fn describe(files: &[ConfigFile]) -> String {
    let read: Vec<String> = files
        .iter()
        .filter(|file| file.state == FileState::Read)
        .map(|file| file.path.display().to_string())
        .collect();
    if read.is_empty() { "no file; defaults".to_owned() } else { read.join(", ") }
}

fn fix(error: &ConfigError) -> String {
    use hb_config::Place::{Default, Environment, File, Flag};
    match error.problems.first().map(|problem| &problem.place) {
        Some(File { path, .. }) => {
            format!("hb config check {}", crate::check::shell_word(&path.to_string_lossy()))
        }
        Some(Environment { variable }) => format!("unset {}", crate::check::shell_word(variable)),
        Some(Flag { flag }) => format!("leave out {flag}, or give it another value"),
        Some(Default) | None => "export HB_DATA=/a/directory/of/yours".to_owned(),
    }
}

#[cfg(test)]
mod tests;
