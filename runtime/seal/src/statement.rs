//! The in-toto statement (<https://in-toto.io/Statement/v1>) with a SLSA provenance predicate
//! (<https://slsa.dev/provenance/v1>): the seal, and the circumstances in which it came about.
//!
//! [`SealedJob`] is what a host knows; [`Statement`] is the same in the words of the standard.
//! What the standard has no place for stands in extension fields named `hackbrain_…`, as it asks.

mod schema;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use hb_types::{
    Digest,
    outcome::{Explanation, Outcome},
    text::printable,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CheckpointMark, Checkpoints, SealError, envelope, json, seal_digest};

/// `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of every statement.
pub const PREDICATE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// `buildType`: how the parameters are to be read.
pub const BUILD_TYPE: &str = "https://hackbrain.dev/job/v1";
/// `builder.id`: what ran the job.
pub const BUILDER_ID: &str = "https://hackbrain.dev/host/v1";

/// A job that ended, with all that its statement says.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedJob {
    /// Hash of everything in the manifest that may change the result.
    pub job_hash: Digest,
    /// How it ended.
    pub outcome: Outcome,
    /// Digest of the whole standard output.
    pub stdout: Digest,
    /// Digest of the whole standard error.
    pub stderr: Digest,
    /// Files below `/out` by their path there, without a leading slash.
    pub artifacts: BTreeMap<String, Digest>,
    /// Number of the execution semantics.
    pub semantics_version: u32,
    /// The manifest as it was accepted.
    pub manifest: Value,
    /// The component.
    pub component: Digest,
    /// The inputs by name.
    pub inputs: BTreeMap<String, Digest>,
    /// The checkpoints.
    pub checkpoints: Checkpoints,
    /// Everything that a repetition need not reproduce.
    pub circumstances: Circumstances,
}

/// How one run came about. None of it is part of the seal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Circumstances {
    /// The user's name for the job.
    pub job_id: String,
    /// When the first attempt began, in nanoseconds of real time since the Unix epoch.
    #[serde(skip)]
    pub started_ns: u64,
    /// When the outcome was known, likewise.
    #[serde(skip)]
    pub finished_ns: u64,
    /// What a person may want to know of the outcome.
    pub explanation: Explanation,
    /// Attempts, the last one included.
    pub attempts: u64,
    /// Attempts that died with their host.
    pub crashes: u64,
    /// Fuel used by the job.
    pub fuel_used: u64,
    /// Where the outcome stands in the ledger.
    pub ledger: LedgerPosition,
    /// Name of the machine.
    pub host: String,
    /// Version of `hb`.
    pub hb_version: String,
    /// Name and version of the engine: `wasmtime 48.0.8`.
    pub engine_version: String,
    /// Whether nothing outside of the manifest could reach the job.
    pub hermetic: bool,
    /// Whether the sandbox left it to the program to be deterministic: a native program in a
    /// container. A repetition says whether it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub determinism_not_enforced: bool,
    /// Whether a limit was reached in a way that depends on when checkpoints fell due and where the
    /// job was resumed, so that a repetition may pass it or reach it elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub history_dependent: bool,
    /// What else could reach it: `network`, `clock`, a live directory; empty for hermetic jobs.
    pub grants: Vec<String>,
}

/// A position in a ledger's log, and the link of its chain there: an anchor against rewriting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPosition {
    /// Log sequence number.
    pub lsn: u64,
    /// The chained BLAKE3 checksum of the log up to there.
    pub chain: Digest,
}

impl SealedJob {
    /// The seal.
    pub fn seal(&self) -> Digest {
        seal_digest(
            self.job_hash,
            &self.outcome.canonical(),
            self.stdout,
            self.stderr,
            &self.artifacts,
            self.semantics_version,
        )
    }

    /// Whether a repetition anywhere must end in the same seal.
    pub fn is_reproducible(&self) -> bool {
        let circumstances = &self.circumstances;
        circumstances.hermetic && !circumstances.history_dependent && self.outcome.is_reproducible()
    }
}

/// An in-toto statement about one job. Made by [`Statement::of`] or got from
/// [`Envelope::verify`](crate::Envelope::verify); [`Statement::read`] says what it means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Statement(schema::Statement);

const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
const SEAL: &str = "seal";
/// Stands before the path of an artifact, so that none can pose as one of the above.
const ARTIFACT: &str = "out/";
const COMPONENT: &str = "component";
const INPUT: &str = "in/";
const CHECKPOINT: &str = "checkpoint/";
const STEP: &str = "step";

impl Statement {
    /// Writes a job down.
    ///
    /// `Err` when the job claims to be hermetic and has grants all the same.
    pub fn of(job: &SealedJob) -> Result<Self, SealError> {
        let circumstances = &job.circumstances;
        if circumstances.hermetic && !circumstances.grants.is_empty() {
            return Err(SealError::Inconsistent {
                what: "the list of grants",
                expected: "none, as the job is hermetic,".to_owned(),
                found: printable(&circumstances.grants.join(", "), 200),
            });
        }
        let descriptor = schema::Descriptor::new;
        let mut subject = vec![descriptor(SEAL.to_owned(), job.seal())];
        subject.push(descriptor(STDOUT.to_owned(), job.stdout));
        subject.push(descriptor(STDERR.to_owned(), job.stderr));
        subject.extend(prefixed(ARTIFACT, &job.artifacts));
        let mut resolved_dependencies = vec![descriptor(COMPONENT.to_owned(), job.component)];
        resolved_dependencies.extend(prefixed(INPUT, &job.inputs));
        let byproducts = job.checkpoints.listed.iter().map(checkpoint_descriptor).collect();
        let version =
            [("hb", &circumstances.hb_version), ("engine", &circumstances.engine_version)]
                .map(|(what, version)| (what.to_owned(), version.clone()))
                .into();
        Ok(Self(schema::Statement {
            type_: STATEMENT_TYPE.to_owned(),
            subject,
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: schema::Provenance {
                build_definition: schema::BuildDefinition {
                    build_type: BUILD_TYPE.to_owned(),
                    external_parameters: schema::ExternalParameters {
                        manifest: job.manifest.clone(),
                    },
                    internal_parameters: schema::InternalParameters {
                        job_hash: job.job_hash,
                        semantics_version: job.semantics_version,
                    },
                    resolved_dependencies,
                },
                run_details: schema::RunDetails {
                    builder: schema::Builder { id: BUILDER_ID.to_owned(), version },
                    metadata: schema::Metadata {
                        invocation_id: circumstances.job_id.clone(),
                        started_on: rfc3339(circumstances.started_ns),
                        finished_on: rfc3339(circumstances.finished_ns),
                        hackbrain_seal: schema::Seal {
                            outcome: job.outcome,
                            outcome_canonical: job.outcome.canonical(),
                            reproducible: job.is_reproducible(),
                        },
                        // The times stand above, in the standard's own fields.
                        hackbrain_circumstances: Circumstances {
                            started_ns: 0,
                            finished_ns: 0,
                            ..circumstances.clone()
                        },
                        hackbrain_checkpoints: schema::CheckpointTotals {
                            total: job.checkpoints.total,
                            digest: job.checkpoints.digest,
                        },
                    },
                    byproducts,
                },
            },
        }))
    }

    /// As compact JSON: the payload of an envelope.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("the schema has only string keys and finite numbers")
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, SealError> {
        json::from_slice("statement", bytes, envelope::MAX_ENVELOPE_BYTES)
    }

    /// The seal that it states.
    pub fn seal(&self) -> Result<Digest, SealError> {
        self.read().map(|job| job.seal())
    }

    /// What it says, checked: the fixed texts are the ones known here, nothing is named twice, and
    /// the seal and the flags are the ones that follow from the rest.
    pub fn read(&self) -> Result<SealedJob, SealError> {
        let predicate = &self.0.predicate;
        let (definition, run) = (&predicate.build_definition, &predicate.run_details);
        let metadata = &run.metadata;
        expect_text("statement type", &self.0.type_, STATEMENT_TYPE)?;
        expect_text("predicate type", &self.0.predicate_type, PREDICATE_TYPE)?;
        expect_text("build type", &definition.build_type, BUILD_TYPE)?;
        expect_text("builder id", &run.builder.id, BUILDER_ID)?;

        let mut subjects = schema::digests("subject", &self.0.subject)?;
        let mut dependencies =
            schema::digests("resolved dependency", &definition.resolved_dependencies)?;
        let stated_seal = take(&mut subjects, "subject `seal`", SEAL)?;
        let job = SealedJob {
            job_hash: definition.internal_parameters.job_hash,
            outcome: metadata.hackbrain_seal.outcome,
            stdout: take(&mut subjects, "subject `stdout`", STDOUT)?,
            stderr: take(&mut subjects, "subject `stderr`", STDERR)?,
            artifacts: unprefixed("subject", ARTIFACT, subjects)?,
            semantics_version: definition.internal_parameters.semantics_version,
            manifest: definition.external_parameters.manifest.clone(),
            component: take(&mut dependencies, "dependency `component`", COMPONENT)?,
            inputs: unprefixed("resolved dependency", INPUT, dependencies)?,
            checkpoints: Checkpoints {
                total: metadata.hackbrain_checkpoints.total,
                digest: metadata.hackbrain_checkpoints.digest,
                listed: run.byproducts.iter().map(checkpoint_mark).collect::<Result<_, _>>()?,
            },
            circumstances: Circumstances {
                started_ns: nanoseconds("startedOn", &metadata.started_on)?,
                finished_ns: nanoseconds("finishedOn", &metadata.finished_on)?,
                ..metadata.hackbrain_circumstances.clone()
            },
        };
        expect_same("the seal", &job.seal(), &stated_seal)?;
        let canonical = job.outcome.canonical();
        expect_same("the outcome", &canonical, &metadata.hackbrain_seal.outcome_canonical)?;
        let reproducible = metadata.hackbrain_seal.reproducible;
        expect_same("the claim of reproducibility", &job.is_reproducible(), &reproducible)?;
        // Whatever else is said twice (ids, versions) must agree: writing the job down again gives
        // the same statement.
        let again = Self::of(&job)?;
        if again != *self {
            return Err(again.first_difference(self));
        }
        Ok(job)
    }

    /// Names the first field in which `found` differs from this statement, which follows from it.
    fn first_difference(&self, found: &Self) -> SealError {
        let value = |statement: &Self| serde_json::to_value(&statement.0).unwrap_or_default();
        let (mut expected, mut found) = (value(self), value(found));
        let mut path = String::new();
        while let Some(key) = differing_key(&expected, &found) {
            path = format!("{path}/{key}");
            expected = child(&mut expected, &key);
            found = child(&mut found, &key);
        }
        SealError::Inconsistent {
            what: "a field that follows from others",
            expected: printable(&format!("{expected} at {path}"), 400),
            found: printable(&found.to_string(), 200),
        }
    }
}

/// The first key (or index) below which two values differ, if both are objects or both arrays.
fn differing_key(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.keys().chain(other.keys()).find(|key| one.get(*key) != other.get(*key)).cloned()
        }
        (Value::Array(one), Value::Array(other)) => (0..one.len().max(other.len()))
            .find(|at| one.get(*at) != other.get(*at))
            .map(|at| at.to_string()),
        _ => None,
    }
}

fn child(value: &mut Value, key: &str) -> Value {
    let child = match value {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => key.parse().ok().and_then(|at: usize| items.get_mut(at)),
        _ => None,
    };
    child.map(Value::take).unwrap_or_default()
}

fn prefixed<'a>(
    prefix: &'a str,
    digests: &'a BTreeMap<String, Digest>,
) -> impl Iterator<Item = schema::Descriptor> + 'a {
    digests
        .iter()
        .map(move |(name, digest)| schema::Descriptor::new(format!("{prefix}{name}"), *digest))
}

fn unprefixed(
    what: &'static str,
    prefix: &'static str,
    digests: BTreeMap<String, Digest>,
) -> Result<BTreeMap<String, Digest>, SealError> {
    digests
        .into_iter()
        .map(|(name, digest)| match name.strip_prefix(prefix) {
            Some(rest) => Ok((rest.to_owned(), digest)),
            None => Err(SealError::Unexpected {
                what,
                found: printable(&name, 80),
                expected: format!("{prefix}…"),
            }),
        })
        .collect()
}

fn take(
    digests: &mut BTreeMap<String, Digest>,
    what: &'static str,
    name: &str,
) -> Result<Digest, SealError> {
    digests.remove(name).ok_or_else(|| SealError::Unexpected {
        what,
        found: "nothing".to_owned(),
        expected: "a BLAKE3 digest".to_owned(),
    })
}

fn checkpoint_descriptor(mark: &CheckpointMark) -> schema::Descriptor {
    let mut descriptor =
        schema::Descriptor::new(format!("{CHECKPOINT}{}", mark.sequence), mark.digest);
    descriptor.annotations.insert(STEP.to_owned(), mark.step.into());
    descriptor
}

fn checkpoint_mark(descriptor: &schema::Descriptor) -> Result<CheckpointMark, SealError> {
    let sequence = descriptor.name.strip_prefix(CHECKPOINT).and_then(|text| text.parse().ok());
    let step = descriptor.annotations.get(STEP).and_then(Value::as_u64);
    match (sequence, step) {
        (Some(sequence), Some(step)) => {
            Ok(CheckpointMark { sequence, step, digest: descriptor.blake3()? })
        }
        _ => Err(SealError::Unexpected {
            what: "byproduct",
            found: printable(&descriptor.name, 80),
            expected: format!("{CHECKPOINT}NUMBER with an annotation `{STEP}`"),
        }),
    }
}

fn expect_text(what: &'static str, found: &str, expected: &'static str) -> Result<(), SealError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (printable(found, 80), expected.to_owned());
    Err(SealError::Unexpected { what, found, expected })
}

fn expect_same<T: PartialEq + ToString>(
    what: &'static str,
    expected: &T,
    found: &T,
) -> Result<(), SealError> {
    if expected == found {
        return Ok(());
    }
    let (found, expected) = (printable(&found.to_string(), 80), expected.to_string());
    Err(SealError::Inconsistent { what, expected, found })
}

/// RFC 3339 in UTC with nine digits of a second: `2026-11-21T08:00:00.000000001Z`.
fn rfc3339(unix_ns: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_ns);
    humantime::format_rfc3339_nanos(time).to_string()
}

fn nanoseconds(what: &'static str, text: &str) -> Result<u64, SealError> {
    humantime::parse_rfc3339(text)
        .ok()
        .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|time| u64::try_from(time.as_nanos()).ok())
        .ok_or_else(|| SealError::Unexpected {
            what,
            found: printable(text, 80),
            expected: "a time of RFC 3339 in UTC since 1970".to_owned(),
        })
}
