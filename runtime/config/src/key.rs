//! Every key that an operator can set, in one table.
//!
//! Owns: name, kind, default, variable and meaning of each key. The keys of `[ceilings]` follow
//! from the one table of limits, so that a new limit has its ceiling at once.

use std::{ffi::OsStr, sync::LazyLock};

use hb_types::{
    container::Grant,
    limits::{Limit, Unit},
};

pub use crate::value::{Kind, Mismatch};
use crate::value::{NONE, Value};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, with its section.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it may be `"none"`, and what that means.
    pub none: Option<&'static str>,
    /// Its default.
    pub default: Default,
    /// What it does.
    pub what: &'static str,
}

/// Where a key's default comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Always the same.
    Text(&'static str),
    /// The ceiling of a limit.
    Ceiling(Limit),
    /// It depends on the machine or on other keys, and the words say how.
    Derived(&'static str),
}

const MAX: u64 = u64::MAX;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// More than any machine has, so that sums of it do not overflow.
const CPUS_MAX: u64 = 4096;
const ANY_TIME: Kind = Kind::Duration { min: 0 };
/// What is done again and again must leave time for something else.
const PERIOD: Kind = Kind::Duration { min: 1000 };
const ANY_SIZE: Kind = Kind::Size { min: 0, max: MAX };

const fn key(name: &'static str, kind: Kind, default: &'static str, what: &'static str) -> Key {
    Key { name, kind, none: None, default: Default::Text(default), what }
}

const fn derived(name: &'static str, kind: Kind, how: &'static str, what: &'static str) -> Key {
    Key { name, kind, none: None, default: Default::Derived(how), what }
}

const fn optional(name: &'static str, kind: Kind, none: &'static str, what: &'static str) -> Key {
    Key { name, kind, none: Some(none), default: Default::Text(NONE), what }
}

const PLAIN: &[Key] = &[
    derived(
        "data",
        Kind::Path,
        "$XDG_DATA_HOME/hackbrain, or ~/.local/share/hackbrain",
        "directory of the ledger",
    ),
    key(
        "serve.listen",
        Kind::Addresses,
        "127.0.0.1:4005",
        "addresses on which the host answers; others than loopback need TLS and tokens",
    ),
    optional(
        "serve.tls_cert",
        Kind::Path,
        "no TLS",
        "PEM file with the certificate of the host and those between it and its root",
    ),
    optional("serve.tls_key", Kind::Path, "no TLS", "PEM file with the key of the certificate"),
    key(
        "serve.allow_plain_text",
        Kind::Switch,
        "false",
        "answer without TLS on addresses other than loopback, for a proxy in front that has TLS",
    ),
    key(
        "serve.allowed_hosts",
        Kind::Names,
        "",
        "names under which the host may be asked, besides its addresses and localhost",
    ),
    key(
        "serve.auth",
        Kind::Word(&["auto", "required"]),
        "auto",
        "\"auto\" demands tokens on addresses other than loopback, \"required\" everywhere",
    ),
    key(
        "serve.max_connections",
        Kind::Count { min: 1, max: 1_000_000 },
        "1024",
        "connections at once",
    ),
    key(
        "serve.max_body",
        Kind::Size { min: KIB, max: MAX },
        "64MiB",
        "largest component that is taken in; inputs are blobs and have no such bound",
    ),
    optional(
        "serve.public_url",
        Kind::Url,
        "the address that was asked",
        "address under which others reach the host, for links in answers",
    ),
    derived(
        "run.cpus",
        Kind::Count { min: 1, max: CPUS_MAX },
        "all that this process may use",
        "processors that jobs share",
    ),
    derived(
        "run.memory",
        Kind::Size { min: 64 * MIB, max: MAX },
        "80 % of the machine's, or of the control group's where that has less",
        "memory that jobs share",
    ),
    key(
        "run.max_queued",
        Kind::Count { min: 1, max: 10_000_000 },
        "100000",
        "jobs that may wait; more are answered 429",
    ),
    key(
        "run.drain",
        ANY_TIME,
        "30s",
        "how long a host that stops waits for running jobs to reach a checkpoint",
    ),
    key(
        "run.poison_after",
        Kind::Count { min: 1, max: u32::MAX as u64 },
        "3",
        "crashes of the host without a new checkpoint after which a job is set aside",
    ),
    optional(
        "retention.max_age",
        ANY_TIME,
        "any age",
        "age at which a job that has ended is removed",
    ),
    optional(
        "retention.max_jobs",
        Kind::Count { min: 0, max: MAX },
        "any number",
        "jobs that have ended and are kept, the newest",
    ),
    optional(
        "retention.max_bytes",
        ANY_SIZE,
        "any number",
        "bytes that jobs that have ended may hold; the oldest are removed",
    ),
    key("retention.every", PERIOD, "1h", "time between two looks at what may be removed"),
    key("queue.enabled", Kind::Switch, "true", "whether manifests in `queue.dir` are taken in"),
    derived(
        "queue.dir",
        Kind::Path,
        "the data directory",
        "directory with the folders `queue`, where manifests are dropped, `telemetry`, `archive` and `rejected`",
    ),
    optional(
        "container.engine",
        Kind::Text,
        "`DOCKER_HOST`, or the usual sockets of Docker and Podman",
        "address of the engine that runs native programs, `unix:///run/docker.sock` or `tcp://…`",
    ),
    key(
        "container.mounts",
        Kind::Directories,
        "",
        "directories below which containers may see something; with `:rw` they may change it",
    ),
    key(
        "container.grants",
        Kind::Words(&Grant::NAMES),
        "",
        "what a job may ask for that containers cannot do otherwise",
    ),
    key(
        "log.format",
        Kind::Word(&["text", "json"]),
        "text",
        "lines on standard error, for people or one JSON object each",
    ),
    optional(
        "log.filter",
        Kind::Text,
        "warnings; what happens, too, with -v and for a host; errors only with -q",
        "what is logged, as `LEVEL` or `TARGET=LEVEL,…`",
    ),
    optional(
        "telemetry.otlp_endpoint",
        Kind::Url,
        "no traces are sent",
        "collector to which traces go by OTLP over HTTP; `/v1/traces` is appended to it",
    ),
    key("telemetry.service_name", Kind::Text, "hackbrain", "name of this host in traces"),
];

/// What a ceiling of `"none"` means.
const NO_CEILING: &str = "any value may be asked for";

fn ceiling(limit: Limit) -> Key {
    let spec = limit.spec();
    let (kind, none) = match (limit, spec.unit) {
        // A setting of the engine: nothing above it can be given.
        (Limit::Stack, _) => (Kind::Size { min: 0, max: spec.ceiling }, None),
        (_, Unit::Bytes) => (ANY_SIZE, Some(NO_CEILING)),
        (_, Unit::Milliseconds) => (ANY_TIME, Some(NO_CEILING)),
        (_, Unit::Fuel | Unit::Count) => (Kind::Count { min: 0, max: MAX }, Some(NO_CEILING)),
    };
    Key {
        // Made once for each limit, for as long as the process lives.
        name: Box::leak(format!("ceilings.{}", spec.name).into_boxed_str()),
        kind,
        none,
        default: Default::Ceiling(limit),
        what: Box::leak(format!("most {} that a job may ask for", spec.what).into_boxed_str()),
    }
}

static TABLE: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let after_run = PLAIN.iter().position(|key| key.name.starts_with("retention.")).unwrap_or(0);
    let (before, after) = PLAIN.split_at(after_run);
    let ceilings = Limit::ALL.iter().map(|limit| ceiling(*limit));
    before.iter().copied().chain(ceilings).chain(after.iter().copied()).collect()
});

/// All of them, in the order in which they are shown.
pub fn all() -> &'static [Key] {
    &TABLE
}

/// The key with this name.
pub fn find(name: &str) -> Option<&'static Key> {
    all().iter().find(|key| key.name == name)
}

/// The sections, in order.
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = all().iter().filter_map(Key::section).collect();
    sections.dedup();
    sections
}

/// The key or section that an unknown name was probably meant to be: by its like in its section,
/// else one of the same name, else its like anywhere.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let keys = || all().iter().map(|key| (key.short(), key.name));
    let Some((section, short)) = name.split_once('.') else {
        let outside = all().iter().filter(|key| key.section().is_none()).map(|key| key.name);
        let here = outside.chain(sections()).map(|name| (name, name));
        return most_alike(name, here).or_else(|| most_alike(name, keys()));
    };
    let here = all().iter().filter(|key| key.section() == Some(section));
    most_alike(short, here.map(|key| (key.short(), key.name)))
        .or_else(|| keys().find(|(known, _)| *known == short).map(|(_, name)| name))
        .or_else(|| most_alike(short, keys()))
}

/// What belongs to the known word that is most like `word`, if any is.
fn most_alike(
    word: &str,
    known: impl Iterator<Item = (&'static str, &'static str)>,
) -> Option<&'static str> {
    // Below this a suggestion misleads more often than it helps.
    const ALIKE: f64 = 0.85;
    // What a file holds may be long, and the comparison takes the product of the lengths.
    const COMPARED_BYTES: usize = 100;
    if word.len() > COMPARED_BYTES {
        return None;
    }
    known
        .map(|(known, name)| (name, strsim::jaro_winkler(word, known)))
        .filter(|(_, alike)| *alike >= ALIKE)
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(name, _)| name)
}

impl Key {
    /// Its section, if it is in one.
    pub fn section(&self) -> Option<&'static str> {
        self.name.split_once('.').map(|(section, _)| section)
    }

    /// Its name within its section.
    pub fn short(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        match self.name {
            // Older than the table.
            "log.filter" => "HB_LOG".to_owned(),
            name => format!("HB_{}", name.replace('.', "_").to_ascii_uppercase()),
        }
    }

    /// What is expected of it, in words.
    pub fn expectation(&self) -> String {
        match self.none {
            Some(_) => format!("{}, or \"{NONE}\"", self.kind.expectation()),
            None => self.kind.expectation(),
        }
    }

    /// Reads it from a variable or a flag. A path may be any that the system has; all else is text.
    pub fn read(&self, value: &OsStr) -> Result<Value, Mismatch> {
        match value.to_str() {
            Some(text) => self.read_text(text),
            None if self.kind == Kind::Path => Ok(Value::Path(value.into())),
            None => self.read_text(&value.to_string_lossy()),
        }
    }

    /// The same for text.
    pub fn read_text(&self, text: &str) -> Result<Value, Mismatch> {
        if self.none.is_some() && text == NONE {
            return Ok(Value::None);
        }
        self.kind.read_text(text).map_err(|mismatch| self.widen(mismatch))
    }

    /// The same words for what is expected, whoever noticed.
    pub(crate) fn widen(&self, mismatch: Mismatch) -> Mismatch {
        Mismatch { expected: self.expectation(), ..mismatch }
    }

    /// Its default, where that depends on nothing.
    pub(crate) fn fixed_default(&self) -> Option<Value> {
        match self.default {
            Default::Derived(_) => None,
            Default::Ceiling(limit) => Some(self.of_limit(limit.spec().ceiling)),
            Default::Text(text) => {
                Some(self.read_text(text).expect("a test reads the default of every key"))
            }
        }
    }

    /// A ceiling as a value; the largest number means that there is none.
    fn of_limit(&self, ceiling: u64) -> Value {
        match self.kind {
            _ if ceiling == MAX && self.none.is_some() => Value::None,
            Kind::Size { .. } => Value::Size(ceiling),
            Kind::Duration { .. } => Value::Duration(ceiling),
            _ => Value::Count(ceiling),
        }
    }

    /// Its default as the reference shows it.
    pub fn default_text(&self) -> String {
        match self.default {
            Default::Derived(how) => how.to_owned(),
            _ => self.fixed_default().map_or_else(String::new, |value| value.to_toml()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_has_a_name_a_variable_and_a_default_of_its_own() {
        let names: BTreeSet<_> = all().iter().map(|key| key.name).collect();
        let variables: BTreeSet<_> = all().iter().map(Key::variable).collect();
        assert_eq!((names.len(), variables.len()), (all().len(), all().len()));
        for key in all() {
            let derived = matches!(key.default, Default::Derived(_));
            assert_eq!(key.fixed_default().is_none(), derived, "{}", key.name);
            assert!(key.name.matches('.').count() <= 1, "{}: one level of sections", key.name);
            assert!(!sections().contains(&key.name), "{} is a section too", key.name);
        }
    }

    #[test]
    fn keys_of_a_section_stand_together() {
        let sections = sections();
        let distinct: BTreeSet<_> = sections.iter().collect();
        assert_eq!(distinct.len(), sections.len(), "{sections:?}");
    }

    #[test]
    fn every_limit_has_its_ceiling() {
        for limit in Limit::ALL {
            let key = find(&format!("ceilings.{}", limit.spec().name)).unwrap();
            assert_eq!(key.default, Default::Ceiling(*limit));
        }
        assert_eq!(find("ceilings.deadline_ms").unwrap().fixed_default(), Some(Value::None));
    }

    #[test]
    fn what_was_probably_meant_is_found() {
        assert_eq!(nearest("serve.listne"), Some("serve.listen"));
        assert_eq!(nearest("ceilings.memory"), Some("ceilings.memory_bytes"));
        assert_eq!(nearest("run.max_connections"), Some("serve.max_connections"));
        assert_eq!(nearest("sevre"), Some("serve"));
        assert_eq!(nearest("listen"), Some("serve.listen"));
        assert_eq!(nearest("serve.ö"), None);
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"x".repeat(1 << 20)), None);
    }
}
