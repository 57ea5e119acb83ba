//! The statement field by field, as its JSON has it. Names are the standard's, except those that
//! begin with `hackbrain_`.

use std::collections::BTreeMap;

use hb_types::{Digest, outcome::Outcome, text::printable};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Circumstances;
use crate::SealError;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    pub(super) type_: String,
    pub(super) subject: Vec<Descriptor>,
    pub(super) predicate_type: String,
    pub(super) predicate: Provenance,
}

/// A thing and its digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Descriptor {
    pub(super) name: String,
    pub(super) digest: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Provenance {
    pub(super) build_definition: BuildDefinition,
    pub(super) run_details: RunDetails,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BuildDefinition {
    pub(super) build_type: String,
    pub(super) external_parameters: ExternalParameters,
    pub(super) internal_parameters: InternalParameters,
    pub(super) resolved_dependencies: Vec<Descriptor>,
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ExternalParameters {
    pub(super) manifest: Value,
}

/// What the host decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InternalParameters {
    pub(super) job_hash: Digest,
    pub(super) semantics_version: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RunDetails {
    pub(super) builder: Builder,
    pub(super) metadata: Metadata,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) byproducts: Vec<Descriptor>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Builder {
    pub(super) id: String,
    pub(super) version: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Metadata {
    #[serde(rename = "invocationId")]
    pub(super) invocation_id: String,
    #[serde(rename = "startedOn")]
    pub(super) started_on: String,
    #[serde(rename = "finishedOn")]
    pub(super) finished_on: String,
    pub(super) hackbrain_seal: Seal,
    pub(super) hackbrain_circumstances: Circumstances,
    pub(super) hackbrain_checkpoints: CheckpointTotals,
}

/// What of the seal is neither a subject nor a parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) outcome: Outcome,
    /// The very text that the seal is computed over.
    pub(super) outcome_canonical: String,
    pub(super) reproducible: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CheckpointTotals {
    pub(super) total: u64,
    pub(super) digest: Digest,
}

const BLAKE3: &str = "blake3";

impl Descriptor {
    pub(super) fn new(name: String, digest: Digest) -> Self {
        let digest = BTreeMap::from([(BLAKE3.to_owned(), digest.to_string())]);
        Self { name, digest, annotations: BTreeMap::new() }
    }

    pub(super) fn blake3(&self) -> Result<Digest, SealError> {
        let text = self.digest.get(BLAKE3).map_or("", String::as_str);
        text.parse().map_err(|_| SealError::Unexpected {
            what: "digest of a subject, dependency or byproduct",
            found: printable(text, 80),
            expected: "`blake3` with 64 hexadecimal digits".to_owned(),
        })
    }
}

/// Name to digest; a name that stands there twice could mean either, and is refused.
pub(super) fn digests(
    what: &'static str,
    descriptors: &[Descriptor],
) -> Result<BTreeMap<String, Digest>, SealError> {
    let mut digests = BTreeMap::new();
    for descriptor in descriptors {
        if digests.insert(descriptor.name.clone(), descriptor.blake3()?).is_some() {
            return Err(SealError::Unexpected {
                what,
                found: printable(&descriptor.name, 80),
                expected: "each name once".to_owned(),
            });
        }
    }
    Ok(digests)
}
