//! The manifest of a job: what is asked for, as JSON.
//!
//! Owns: the shape, its defaults, and the way to a specification and its terms. Every file is
//! named by the digest of its bytes, which the host must have. Knows nothing of where the bytes come
//! from.
//!
//! Invariant: a manifest that means the same gives the same specification, and so the same job hash.

use std::collections::BTreeMap;

use hb_types::{
    Digest,
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, InvalidSpec, JobSpec},
    limits::{Limit, Limits, Unit},
    terms::{Concurrency, Resources, Retry, RetryOn, Terms},
    text::printable,
    units::{parse_count, parse_duration_ms, parse_size, parse_time_ns},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::MANIFEST_VERSION;

/// Crashes without a new checkpoint after which a host that restarts jobs by itself sets one aside.
pub const DEFAULT_MAX_CRASHES: u32 = 20;

/// A number, or the same with a unit as people write it: `1073741824`, `"1GiB"`, `"90s"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Amount {
    /// In the unit of its field: bytes, milliseconds, or a count.
    Number(u64),
    /// With a unit.
    Text(String),
}

/// When checkpoints fall due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Checkpoints {
    /// After this much real time since the last one: milliseconds, or a duration such as `"10s"`.
    Every(Amount),
    /// After this many steps since the last one.
    EverySteps(u64),
    /// Never, unless the job saves without asking.
    Never,
}

/// A bound on jobs with a common key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyBound {
    /// What the bound is about.
    pub key: String,
    /// How many jobs with this key may run at once.
    pub limit: u32,
}

/// What kind of ending is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryKind {
    /// An exit code other than 0.
    Exit,
    /// A trap.
    Trap,
    /// A limit other than time.
    Limit,
    /// The time limit.
    Deadline,
}

impl From<RetryKind> for RetryOn {
    fn from(kind: RetryKind) -> Self {
        match kind {
            RetryKind::Exit => Self::Exit,
            RetryKind::Trap => Self::Trap,
            RetryKind::Limit => Self::Limit,
            RetryKind::Deadline => Self::Deadline,
        }
    }
}

/// How often a failed job is tried again. Crashes of the host are not counted here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// How often at most, after the first try.
    pub max_retries: u32,
    /// The pause before the first retry, which doubles each time: milliseconds or a duration
    /// [default: 1 s].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Amount>,
    /// The longest pause: milliseconds or a duration [default: 5 min].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<Amount>,
    /// Whether pauses are shortened by a random part of up to one half [default: true].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
    /// What is tried again [default: everything].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<RetryKind>>,
}

/// What the job needs of the machine while it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceRequest {
    /// Processors, also a part of one [default: 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Memory: bytes or a size [default: the job's memory limit].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Amount>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// Version of the manifest [default: 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The job's name and idempotency key: the same name with the same job answers the job that is
    /// there, with another job it is refused. Without one the host makes a name of the program's and
    /// answers jobs whose result it knows. A name of digits only is refused: it would hide the job
    /// with that number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The component: the BLAKE3 digest of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// A container image, for native programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The program's own name, as it sees it [default: `job`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Its environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What it reads from standard input: the BLAKE3 digest of the bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Read-only files below `/in`: BLAKE3 digests by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// Limits by name, see `GET /v1/limits`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Amount>,
    /// Where its random streams start [default: 0].
    #[serde(skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// Where its clocks start, as RFC 3339 [default: 2000-01-01T00:00:00Z].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// When checkpoints fall due [default: every 10 s].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<Checkpoints>,
    /// Crashes of the host without a new checkpoint after which the job is set aside [default: 20].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_crashes: Option<u32>,
    /// Free remarks, by which jobs can be found: at most 64, with 16 KiB.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Jobs of higher priority start first, from -1000 to 1000 [default: 0].
    #[serde(skip_serializing_if = "is_zero_i32")]
    pub priority: i32,
    /// Jobs of equal priority share the machine fairly between queues [default: `default`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// A bound on jobs with a common key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyBound>,
    /// What happens after a failure [default: nothing].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// What the job needs of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequest>,
    /// It does not start before this time, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// It is ended at its time limit if it has not ended by this time, as RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_by: Option<String>,
    /// Run although the result is known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rerun: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_i32(number: &i32) -> bool {
    *number == 0
}

/// The older form of a manifest, for `POST /api/submit_job`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegacyManifest {
    /// The job's name.
    pub job_id: String,
    /// The container image.
    pub image_hash: String,
    /// What runs in it.
    pub command: Vec<String>,
    /// `host:guest`, what of the host is seen in the container.
    #[serde(default)]
    pub mount_spec: Option<String>,
}

/// A manifest that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A field.
    #[error("{field}: {why}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names what is not here.
    #[error("{} blobs are not on this host, the first is {}", missing.len(), missing[0])]
    Missing {
        /// Their digests.
        missing: Vec<Digest>,
    },
    /// It needs what runs containers.
    #[error("it names a container image, and this host has no container executor")]
    NeedsContainer,
    /// The specification.
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
}

/// What a manifest comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The job's name, if one was given.
    pub job_id: Option<String>,
    /// What a name is made of otherwise.
    pub name_hint: String,
    /// What is asked for.
    pub spec: JobSpec,
    /// Under which terms.
    pub terms: Terms,
    /// Whether it is run although the result is known.
    pub rerun: bool,
}

fn wrong(field: impl Into<String>, why: impl Into<String>) -> ManifestError {
    ManifestError::Field { field: field.into(), why: why.into() }
}

impl Manifest {
    /// The specification; `len_bytes` tells the length of a blob that is here.
    pub fn resolve<E: From<ManifestError>>(
        &self,
        mut len_bytes: impl FnMut(Digest) -> Result<Option<u64>, E>,
    ) -> Result<Resolved, E> {
        self.check_version()?;
        let mut missing = Vec::new();
        let mut blob = |field: &str, text: &str| -> Result<BlobRef, E> {
            let digest: Digest = text.parse().map_err(|error| wrong(field, format!("{error}")))?;
            let len_bytes = len_bytes(digest)?;
            if len_bytes.is_none() && !missing.contains(&digest) {
                missing.push(digest);
            }
            Ok(BlobRef { digest, len_bytes: len_bytes.unwrap_or(0) })
        };
        let Some(component) = &self.component else {
            let why = "it is missing: give the BLAKE3 digest of the component's bytes";
            return Err(wrong("component", why).into());
        };
        let component = blob("component", component)?;
        let stdin = self.stdin.as_ref().map(|text| blob("stdin", text)).transpose()?;
        let mut inputs = BTreeMap::new();
        for (name, text) in &self.inputs {
            let shown = printable(name, 80);
            inputs.insert(name.clone(), blob(&format!("inputs.{shown}"), text)?);
        }
        if !missing.is_empty() {
            return Err(ManifestError::Missing { missing }.into());
        }
        let program = self.program.clone().unwrap_or_else(|| "job".to_owned());
        let arguments = [program.clone()].into_iter().chain(self.arguments.iter().cloned());
        let spec = JobSpec {
            component,
            container: None,
            arguments: arguments.collect(),
            environment: self.environment.clone().into_iter().collect(),
            stdin,
            inputs,
            limits: read_limits(&Limits::default(), &self.limits)?,
            seed: self.seed,
            start_ns: time("start_time", self.start_time.as_ref())?.unwrap_or(DEFAULT_START_NS),
            origin: None,
            checkpoints: self.checkpoint_policy()?,
            max_crashes: self.max_crashes.unwrap_or(DEFAULT_MAX_CRASHES),
            labels: self.labels.clone(),
        };
        let name_hint = program.rsplit('/').next().unwrap_or_default();
        let name_hint = name_hint.strip_suffix(".wasm").unwrap_or(name_hint).to_owned();
        let terms = self.terms()?;
        terms.check().map_err(ManifestError::from)?;
        Ok(Resolved { job_id: self.job_id.clone(), name_hint, spec, terms, rerun: self.rerun })
    }

    fn check_version(&self) -> Result<(), ManifestError> {
        if self.image.is_some() {
            return Err(ManifestError::NeedsContainer);
        }
        match self.version {
            None | Some(MANIFEST_VERSION) => Ok(()),
            Some(other) => {
                Err(wrong("version", format!("{MANIFEST_VERSION} expected, {other} found")))
            }
        }
    }

    fn checkpoint_policy(&self) -> Result<CheckpointPolicy, ManifestError> {
        Ok(match &self.checkpoints {
            None => CheckpointPolicy::default(),
            Some(Checkpoints::Every(amount)) => {
                CheckpointPolicy::EveryMs(amount.milliseconds("checkpoints.every")?)
            }
            Some(Checkpoints::EverySteps(steps)) => CheckpointPolicy::EverySteps(*steps),
            Some(Checkpoints::Never) => CheckpointPolicy::Never,
        })
    }

    fn terms(&self) -> Result<Terms, ManifestError> {
        let mut terms = Terms { priority: self.priority, ..Terms::default() };
        if let Some(queue) = &self.queue {
            terms.queue.clone_from(queue);
        }
        terms.concurrency = self
            .concurrency
            .as_ref()
            .map(|bound| Concurrency { key: bound.key.clone(), limit: bound.limit });
        if let Some(retry) = &self.retry {
            terms.retry = retry.terms()?;
        }
        if let Some(resources) = &self.resources {
            terms.resources = resources.terms()?;
        }
        terms.not_before_ns = time("not_before", self.not_before.as_ref())?.unwrap_or(0);
        terms.finish_by_ns = time("finish_by", self.finish_by.as_ref())?.unwrap_or(0);
        Ok(terms)
    }
}

/// Limits by name, and those of `base` where none is given.
pub fn read_limits(
    base: &Limits,
    asked: &BTreeMap<String, Amount>,
) -> Result<Limits, ManifestError> {
    let mut limits = base.clone();
    for (name, amount) in asked {
        let field = format!("limits.{}", printable(name, 80));
        let limit = Limit::ALL.iter().find(|limit| limit.spec().name == name);
        let limit = limit.ok_or_else(|| {
            let names: Vec<&str> = Limit::ALL.iter().map(|limit| limit.spec().name).collect();
            wrong(field.clone(), format!("there is no such limit: {}", names.join(", ")))
        })?;
        let value = match limit.spec().unit {
            Unit::Bytes => amount.bytes(&field)?,
            Unit::Milliseconds => amount.milliseconds(&field)?,
            Unit::Fuel | Unit::Count => amount.count(&field)?,
        };
        limits.set(*limit, value);
    }
    Ok(limits)
}

impl RetryPolicy {
    fn terms(&self) -> Result<Retry, ManifestError> {
        let mut retry = Retry { max_retries: self.max_retries, ..Retry::default() };
        if let Some(backoff) = &self.backoff {
            retry.backoff_ms = backoff.milliseconds("retry.backoff")?;
        }
        if let Some(max_backoff) = &self.max_backoff {
            retry.max_backoff_ms = max_backoff.milliseconds("retry.max_backoff")?;
        }
        if let Some(jitter) = self.jitter {
            retry.jitter = jitter;
        }
        if let Some(on) = &self.on {
            retry.on = on.iter().copied().map(RetryOn::from).collect();
        }
        Ok(retry)
    }
}

impl ResourceRequest {
    fn terms(&self) -> Result<Resources, ManifestError> {
        let mut resources = Resources::default();
        if let Some(cpu) = self.cpu {
            let milli = (cpu * 1000.0).round();
            if !(1.0..=1_000_000.0).contains(&milli) {
                return Err(wrong("resources.cpu", "expected processors from 0.001 to 1000"));
            }
            // In range, as was just checked.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let milli = milli as u32;
            resources.cpu_milli = milli;
        }
        if let Some(memory) = &self.memory {
            resources.memory_bytes = memory.bytes("resources.memory")?;
        }
        Ok(resources)
    }
}

impl Amount {
    fn read(
        &self,
        field: &str,
        parse: impl Fn(&str) -> Result<u64, String>,
    ) -> Result<u64, ManifestError> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => parse(text)
                .map_err(|why| wrong(field, format!("{why}, found {:?}", printable(text, 80)))),
        }
    }

    /// As bytes.
    pub fn bytes(&self, field: &str) -> Result<u64, ManifestError> {
        self.read(field, parse_size)
    }

    /// As milliseconds.
    pub fn milliseconds(&self, field: &str) -> Result<u64, ManifestError> {
        self.read(field, parse_duration_ms)
    }

    /// As a count.
    pub fn count(&self, field: &str) -> Result<u64, ManifestError> {
        self.read(field, parse_count)
    }
}

fn time(field: &str, text: Option<&String>) -> Result<Option<u64>, ManifestError> {
    text.map(|text| {
        parse_time_ns(text)
            .map_err(|why| wrong(field, format!("{why}, found {:?}", printable(text, 80))))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(json: &str) -> Result<Resolved, ManifestError> {
        let manifest: Manifest =
            serde_json::from_str(json).map_err(|error| wrong("manifest", error.to_string()))?;
        manifest.resolve(|digest| Ok((digest != Digest::of(b"absent")).then_some(7)))
    }

    fn with(extra: &str) -> String {
        format!(r#"{{"component": "{}"{extra}}}"#, Digest::of(b"component"))
    }

    #[test]
    fn a_manifest_with_nothing_but_a_component_has_the_defaults_of_everything() {
        let resolved = resolve(&with("")).unwrap();
        assert_eq!(resolved.spec.arguments, ["job"]);
        assert_eq!(resolved.spec.limits, Limits::default());
        assert_eq!(resolved.terms, Terms::default());
        assert_eq!(resolved.name_hint, "job");
    }

    #[test]
    fn amounts_are_numbers_or_text_with_units_and_mean_the_same() {
        let text = r#", "limits": {"memory_bytes": "64MiB", "deadline_ms": "90s"},
            "retry": {"max_retries": 3, "backoff": "2s", "on": ["deadline"]},
            "resources": {"cpu": 0.5, "memory": "1GiB"}, "checkpoints": {"every": "1m"}"#;
        let numbers = r#", "limits": {"memory_bytes": 67108864, "deadline_ms": 90000},
            "retry": {"max_retries": 3, "backoff": 2000, "on": ["deadline"]},
            "resources": {"cpu": 0.5, "memory": 1073741824}, "checkpoints": {"every": 60000}"#;
        let (text, numbers) = (resolve(&with(text)).unwrap(), resolve(&with(numbers)).unwrap());
        assert_eq!(text, numbers);
        assert_eq!(text.terms.resources, Resources { cpu_milli: 500, memory_bytes: 1 << 30 });
        assert_eq!(text.spec.checkpoints, CheckpointPolicy::EveryMs(60_000));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
        let cases = [
            (r#"{"component": "abc"}"#.to_owned(), "component"),
            ("{}".to_owned(), "component"),
            (with(r#", "surprise": 1"#), "surprise"),
            (with(r#", "limits": {"memory": 1}"#), "limits.memory"),
            (with(r#", "limits": {"memory_bytes": "a lot"}"#), "limits.memory_bytes"),
            (with(r#", "start_time": "yesterday""#), "start_time"),
            (with(r#", "resources": {"cpu": 0}"#), "resources.cpu"),
            (with(r#", "resources": {"cpu": 1e300}"#), "resources.cpu"),
            (with(r#", "priority": 5000"#), "priority"),
            (with(r#", "version": 2"#), "version"),
            (with(r#", "image": "python:3""#), "container"),
            (with(r#", "queue": "../x""#), "queue"),
        ];
        for (json, named) in cases {
            let error = resolve(&json).unwrap_err().to_string();
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn everything_that_is_not_here_is_named_at_once() {
        let absent = Digest::of(b"absent");
        let json = format!(r#"{{"component": "{absent}", "inputs": {{"a": "{absent}"}}}}"#);
        match resolve(&json).unwrap_err() {
            ManifestError::Missing { missing } => assert_eq!(missing, [absent]),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_manifest_survives_its_json() {
        let manifest = Manifest {
            component: Some(Digest::of(b"x").to_string()),
            checkpoints: Some(Checkpoints::Never),
            priority: -3,
            ..Manifest::default()
        };
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
        assert!(json.len() < 140, "what is as by default is left out: {json}");
    }
}
