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
    container::Container,
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
    /// A container image, for native programs: a name that the host's engine has or can pull, or
    /// `sha256:` and the digits of its id. `program` and `arguments` run in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image's id, `sha256:…` [default: what the image's name means when the job is accepted].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// What of the machine the container sees: `SOURCE:TARGET` or `SOURCE:TARGET:rw`, below directories
    /// that the operator allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<String>,
    /// What the container may do more than others, as far as the operator allowed it: `network`,
    /// `writable-root`, `root-user`, `capability=NAME`, `new-privileges`, `any-system-call`,
    /// `pids=COUNT`, `tmp=SIZE`, `shm=SIZE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// A shell script that runs in the container before the program, and ends the job where it
    /// fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<String>,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Processors that it needs.
    #[serde(default)]
    pub required_cpu: Option<f64>,
}

impl LegacyManifest {
    /// The same in the present form.
    pub fn manifest(self) -> Result<Manifest, ManifestError> {
        let mut command = self.command.into_iter();
        let Some(program) = command.next() else {
            return Err(wrong("command", "it is empty: name a program of the image"));
        };
        let mounts = self.mount_spec.unwrap_or_default();
        let mounts = mounts.split(',').map(str::trim).filter(|text| !text.is_empty());
        Ok(Manifest {
            job_id: Some(self.job_id),
            image: Some(self.image_hash),
            mounts: mounts.map(str::to_owned).collect(),
            program: Some(program),
            arguments: command.collect(),
            resources: self
                .required_cpu
                .map(|cpu| ResourceRequest { cpu: Some(cpu), memory: None }),
            ..Manifest::default()
        })
    }
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
    /// It names an image, and nobody said yet what that is.
    #[error(
        "image: what {image:?} is was not found out: give its id as image_id, or ask a host, which finds out"
    )]
    Unpinned {
        /// The name, printable.
        image: String,
    },
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
        let container = self.container()?;
        let component = match (&self.component, &container) {
            (None, Some(container)) => container.blob(),
            (Some(component), None) => blob("component", component)?,
            (Some(_), Some(_)) => {
                return Err(wrong("image", "it stands beside a component: give one of them").into());
            }
            (None, None) => {
                let why = "it is missing: give the BLAKE3 digest of the component's bytes, or an \
                           image";
                return Err(wrong("component", why).into());
            }
        };
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
            container,
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

    /// Reads a manifest in the present form, or in the older one.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if value.get("image_hash").is_some() {
            let legacy: LegacyManifest =
                serde_json::from_value(value).map_err(|e| e.to_string())?;
            return legacy.manifest().map_err(|error| error.to_string());
        }
        // Once more from the bytes: errors then say where they are.
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// The image whose content has to be found out before this can be resolved.
    pub fn unpinned(&self) -> Option<&str> {
        self.image.as_deref().filter(|_| self.image_id.is_none())
    }

    /// The container that it asks for, if it does.
    fn container(&self) -> Result<Option<Container>, ManifestError> {
        let Some(image) = &self.image else {
            let needless = [
                ("image_id", self.image_id.is_some()),
                ("mounts", !self.mounts.is_empty()),
                ("grants", !self.grants.is_empty()),
                ("preflight", self.preflight.is_some()),
            ];
            return match needless.into_iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(wrong(field, "it needs an image: a component has none")),
                None => Ok(None),
            };
        };
        let Some(id) = &self.image_id else {
            return Err(ManifestError::Unpinned { image: printable(image, 200) });
        };
        if self.program.is_none() {
            return Err(wrong("program", "it is missing: name a program of the image"));
        }
        let mut container = Container::of_image(id.clone(), image.clone());
        container.preflight.clone_from(&self.preflight);
        for text in &self.mounts {
            container.mounts.push(text.parse().map_err(|why: String| wrong("mounts", why))?);
        }
        for text in &self.grants {
            container.grants.push(text.parse().map_err(|why: String| wrong("grants", why))?);
        }
        container.normalise();
        container.check().map_err(|error| wrong("image", error.to_string()))?;
        Ok(Some(container))
    }

    fn check_version(&self) -> Result<(), ManifestError> {
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
    /// As terms.
    pub fn terms(&self) -> Result<Resources, ManifestError> {
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
mod tests;
