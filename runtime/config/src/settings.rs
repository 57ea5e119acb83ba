//! From files, variables and flags to one value for each key, with where it came from.
//!
//! Owns: the precedence: a flag, then the environment, then `./hb.toml`, the user's file, the
//! machine's file, and last the default.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{
    config::Config,
    document::{self, Entries},
    error::{ConfigError, PROBLEMS_MAX, Place, Problem, Wrong},
    files::{self, Candidate, ConfigFile, FileState},
    key::{self, Key, Mismatch},
    machine::Machine,
    value::Value,
};

/// Where a value came from.
pub type Origin = Place;

/// What a configuration depends on besides its files.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The environment variables whose names are text.
    pub environment: BTreeMap<String, OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// What the machine has.
    pub machine: Machine,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let environment = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        // Where it is gone, relative paths mean nothing and lead nowhere.
        let directory = env::current_dir().unwrap_or_default();
        Self { environment, directory, machine: Machine::read() }
    }

    /// A variable that names a directory, and does so from the root (as the XDG base directory
    /// specification wants it).
    pub(crate) fn directory_variable(&self, name: &str) -> Option<PathBuf> {
        self.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

/// A key that was set on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The key's name.
    pub key: &'static str,
    /// The flag as it is typed.
    pub flag: String,
    /// Its value.
    pub value: OsString,
}

/// One key with its value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Which.
    pub key: &'static Key,
    /// Its value.
    pub value: Value,
    /// Where that came from.
    pub origin: Origin,
}

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values, by section.
    pub config: Config,
    /// The same with their origins, in the order of the table.
    pub settings: Vec<Setting>,
    /// The files that were looked at, the strongest first.
    pub files: Vec<ConfigFile>,
}

/// The variable that names the only file to read.
const CONFIG_VARIABLE: &str = "HB_CONFIG";

/// Reads the configuration; `file` is the only file to read, where somebody named one.
pub fn load(
    around: &Surroundings,
    file: Option<&Path>,
    flags: &[Flag],
) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let named = file.or_else(|| named_by(around));
    let mut layers = vec![
        flag_layer(flags, &mut problems),
        environment_layer(&around.environment, &mut problems),
    ];
    let mut looked_at = Vec::new();
    for candidate in files::candidates(around, named) {
        let (state, entries) = file_layer(&candidate, &mut problems);
        looked_at.push(ConfigFile { path: candidate.path, state });
        layers.extend(entries);
    }
    finish(layers, around, problems).map(|(config, settings)| Loaded {
        config,
        settings,
        files: looked_at,
    })
}

/// The configuration that one file alone would give.
pub fn load_alone(around: &Surroundings, path: &Path) -> Result<Loaded, ConfigError> {
    let mut problems = Vec::new();
    let candidate = Candidate { path: around.directory.join(path), named: true, stray: false };
    let (state, entries) = file_layer(&candidate, &mut problems);
    let files = vec![ConfigFile { path: candidate.path, state }];
    finish(entries.into_iter().collect(), around, problems).map(|(config, settings)| Loaded {
        config,
        settings,
        files,
    })
}

/// The files that are looked at, the strongest first, without reading them.
pub fn locate(around: &Surroundings, file: Option<&Path>) -> Vec<ConfigFile> {
    let candidates = files::candidates(around, file.or_else(|| named_by(around)));
    let look = |Candidate { path, .. }: Candidate| {
        let state = if path.exists() { FileState::Read } else { FileState::Absent };
        ConfigFile { path, state }
    };
    candidates.into_iter().map(look).collect()
}

fn named_by(around: &Surroundings) -> Option<&Path> {
    let named = around.environment.get(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    named.map(Path::new)
}

fn finish(
    layers: Vec<Entries>,
    around: &Surroundings,
    mut problems: Vec<Problem>,
) -> Result<(Config, Vec<Setting>), ConfigError> {
    if problems.is_empty() {
        let settings = merge(layers, around, &mut problems);
        check_pairs(&settings, &mut problems);
        if problems.is_empty() {
            return Ok((Config::of(&settings), settings));
        }
    }
    problems.sort_by_key(|problem| match &problem.place {
        Place::File { path, line, column } => (Some(path.clone()), *line, *column),
        _ => (None, 0, 0),
    });
    problems.truncate(PROBLEMS_MAX);
    Err(ConfigError { problems })
}

fn file_layer(candidate: &Candidate, problems: &mut Vec<Problem>) -> (FileState, Option<Entries>) {
    match files::read(candidate) {
        Ok(None) => (FileState::Absent, None),
        Ok(Some(text)) => (FileState::Read, Some(document::read(&candidate.path, &text, problems))),
        Err(problem) => {
            problems.push(problem);
            (FileState::Read, None)
        }
    }
}

fn flag_layer(flags: &[Flag], problems: &mut Vec<Problem>) -> Entries {
    let mut entries = Entries::new();
    for Flag { key, flag, value } in flags {
        let key = key::find(key).expect("flags are made for keys of the table");
        let place = Place::Flag { flag: flag.clone() };
        entries.extend(read(key, value, place, problems));
    }
    entries
}

fn environment_layer(
    environment: &BTreeMap<String, OsString>,
    problems: &mut Vec<Problem>,
) -> Entries {
    let mut entries = Entries::new();
    let known: BTreeMap<String, &'static Key> =
        key::all().iter().map(|key| (key.variable(), key)).collect();
    for (variable, value) in environment {
        let place = Place::Environment { variable: variable.clone() };
        if let Some(key) = known.get(variable) {
            // Empty is how a shell says that it is not set.
            if !value.is_empty() {
                entries.extend(read(key, value, place, problems));
            }
        } else if let Some(name) = meant_as_key(variable) {
            let nearest = key::nearest(&name).and_then(key::find).map(Key::variable);
            problems.push(Problem { place, wrong: Wrong::UnknownVariable { nearest } });
        }
    }
    entries
}

/// The name of the key that a variable looks as if it was meant to set. Others that begin with
/// `HB_` are somebody else's.
fn meant_as_key(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("HB_")?.to_ascii_lowercase();
    let (section, short) = name.split_once('_')?;
    key::sections().contains(&section).then(|| format!("{section}.{short}"))
}

fn read(
    key: &'static Key,
    value: &OsStr,
    place: Place,
    problems: &mut Vec<Problem>,
) -> Option<(&'static str, (Value, Place))> {
    match key.read(value) {
        Ok(value) => Some((key.name, (value, place))),
        Err(Mismatch { expected, found }) => {
            let wrong = Wrong::Value { key: key.name, expected, found };
            problems.push(Problem { place, wrong });
            None
        }
    }
}

/// The strongest layer that sets a key decides; what no layer sets has its default.
fn merge(layers: Vec<Entries>, around: &Surroundings, problems: &mut Vec<Problem>) -> Vec<Setting> {
    let mut merged = Entries::new();
    for layer in layers {
        for (name, entry) in layer {
            merged.entry(name).or_insert(entry);
        }
    }
    let mut settings: Vec<Setting> = Vec::new();
    for key in key::all() {
        let default = || {
            let value = key.fixed_default().or_else(|| derive(key, &settings, around))?;
            Some((value, Place::Default))
        };
        let Some((value, origin)) = merged.remove(key.name).or_else(default) else {
            problems.push(Problem { place: Place::Default, wrong: Wrong::NoData });
            continue;
        };
        settings.push(Setting { key, value, origin });
    }
    settings
}

/// A default that depends on the machine or on settings before it in the table.
fn derive(key: &Key, before: &[Setting], around: &Surroundings) -> Option<Value> {
    const PERCENT_OF_MEMORY: u64 = 80;
    // In whole MiB, which people can read.
    const MIB_SHIFT: u32 = 20;
    match key.name {
        "data" => {
            let own = around.directory_variable("XDG_DATA_HOME").or_else(|| {
                around.directory_variable("HOME").map(|home| home.join(".local/share"))
            });
            own.map(|own| Value::Path(own.join("hackbrain")))
        }
        "run.cpus" => Some(Value::Count(around.machine.cpus)),
        "run.memory" => {
            let mebibytes = around.machine.usable_memory_bytes() >> MIB_SHIFT;
            Some(Value::Size((mebibytes * PERCENT_OF_MEMORY / 100) << MIB_SHIFT))
        }
        "queue.dir" => before.iter().find_map(|setting| match &setting.value {
            Value::Path(data) if setting.key.name == "data" => Some(Value::Path(data.clone())),
            _ => None,
        }),
        other => unreachable!("{other} says that its default is derived"),
    }
}

/// Keys that are of no use without each other.
fn check_pairs(settings: &[Setting], problems: &mut Vec<Problem>) {
    const PAIR: [&str; 2] = ["serve.tls_cert", "serve.tls_key"];
    let find = |name| settings.iter().find(|setting| setting.key.name == name);
    let [Some(cert), Some(key)] = PAIR.map(find) else { return };
    let (set, missing) = match (&cert.value, &key.value) {
        (Value::None, Value::None) => return,
        (_, Value::None) => (cert, key),
        (Value::None, _) => (key, cert),
        _ => return,
    };
    let wrong = Wrong::Alone { key: set.key.name, other: missing.key.name };
    problems.push(Problem { place: set.origin.clone(), wrong });
}

#[cfg(test)]
mod tests;
