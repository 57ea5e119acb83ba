//! The jobs behind a job that goes on from another one's checkpoint.
//!
//! Owns: what an origin must look like to be believed, and how long a row of jobs may be of which
//! each goes on from the one before it. Knows nothing of how a checkpoint is made again.
//!
//! Invariant: what passes here can be run with the blobs that it names, under the ceilings of this
//! host.

use std::collections::BTreeSet;

use hb_store::{Store, StoreError};
use hb_types::{
    Digest,
    job::{BlobRef, InvalidSpec, JobSpec, Origin},
    limits::Limits,
};

/// The longest row of jobs of which each goes on from a checkpoint of the one before it.
pub const ORIGINS_MAX: usize = 32;

/// The longest specification that is read as an origin.
const SPEC_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// An origin that no job can begin at.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Its specification is none.
    #[error("blob {digest} is not the specification of a job to go on from: {message}")]
    NotASpecification {
        /// The blob.
        digest: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// Its specification is longer than any that is accepted.
    #[error(
        "the specification of the job to go on from has {len_bytes} bytes, at most {SPEC_MAX_BYTES} are read: give it fewer arguments and labels"
    )]
    TooLong {
        /// Its length.
        len_bytes: u64,
    },
    /// Its specification has another hash.
    #[error(
        "the job to go on from is said to have the hash {stated}, its specification has {computed}: the origin was changed, or the job ran by the rules of another version of hb"
    )]
    Hash {
        /// What the origin says.
        stated: Digest,
        /// What this version computes.
        computed: Digest,
    },
    /// It cannot be run here.
    #[error("the job to go on from cannot be run here")]
    Invalid(#[from] InvalidSpec),
    /// It leaves something out.
    #[error(
        "the origin does not list blob {digest}, which the job to go on from needs: list every blob of its specification"
    )]
    Incomplete {
        /// What is left out.
        digest: Digest,
    },
    /// The row of jobs is too long.
    #[error(
        "more than {ORIGINS_MAX} jobs stand behind each other, each going on from the one before: start one from its beginning"
    )]
    TooDeep,
    /// The store.
    #[error("the specification of the job to go on from cannot be read")]
    Store(#[from] StoreError),
}

/// A job that has to be run as far as one of its checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// What it is.
    pub spec: JobSpec,
    /// Its hash.
    pub job_hash: Digest,
    /// The step of the checkpoint.
    pub step: u64,
    /// The checkpoint's digest.
    pub checkpoint: Digest,
}

/// The jobs behind a job, the one that starts from its beginning first; none where the job itself
/// does.
pub(crate) fn sources(
    store: &Store,
    spec: &JobSpec,
    ceilings: &Limits,
) -> Result<Vec<Source>, OriginError> {
    let mut sources = Vec::new();
    let mut origin = spec.origin.clone();
    while let Some(next) = origin.take() {
        if sources.len() == ORIGINS_MAX {
            return Err(OriginError::TooDeep);
        }
        let spec = read(store, &next)?;
        spec.check(ceilings)?;
        let listed: BTreeSet<Digest> = next.needs.iter().map(|blob| blob.digest).collect();
        if let Some(blob) = spec.blobs().find(|blob| !listed.contains(&blob.digest)) {
            return Err(OriginError::Incomplete { digest: blob.digest });
        }
        origin.clone_from(&spec.origin);
        let Origin { job_hash, step, checkpoint, .. } = next;
        sources.push(Source { spec, job_hash, step, checkpoint });
    }
    sources.reverse();
    Ok(sources)
}

fn read(store: &Store, origin: &Origin) -> Result<JobSpec, OriginError> {
    let BlobRef { digest, len_bytes } = origin.spec;
    // The length is what the store has, not what the origin says.
    let len_bytes = store.len(digest)?.unwrap_or(len_bytes);
    if len_bytes > SPEC_MAX_BYTES {
        return Err(OriginError::TooLong { len_bytes });
    }
    let spec: JobSpec = serde_json::from_slice(&store.get(digest)?).map_err(|error| {
        let message = hb_types::text::printable(&error.to_string(), 300);
        OriginError::NotASpecification { digest, message }
    })?;
    let computed = spec.hash();
    if computed != origin.job_hash {
        return Err(OriginError::Hash { stated: origin.job_hash, computed });
    }
    Ok(spec)
}

/// Keeps a specification as a blob, and names it, with all that it needs, as an origin.
pub(crate) fn of(
    store: &Store,
    spec: &JobSpec,
    step: u64,
    checkpoint: Digest,
) -> Result<Origin, OriginError> {
    let json = serde_json::to_vec(spec).expect("a specification is plain data");
    let len_bytes = json.len() as u64;
    if len_bytes > SPEC_MAX_BYTES {
        return Err(OriginError::TooLong { len_bytes });
    }
    let mut needs: Vec<BlobRef> = spec.blobs().collect();
    needs.sort_unstable_by_key(|blob| blob.digest);
    needs.dedup();
    let spec_blob = BlobRef { digest: store.put(&json)?, len_bytes };
    Ok(Origin { spec: spec_blob, job_hash: spec.hash(), step, checkpoint, needs })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{collections::BTreeMap, sync::Arc};

    use hb_disk::SimulatedDisk;
    use hb_types::job::{CheckpointPolicy, DEFAULT_START_NS};

    use super::*;

    fn spec(origin: Option<Origin>) -> JobSpec {
        JobSpec {
            component: BlobRef { digest: Digest::of(b"component"), len_bytes: 9 },
            container: None,
            arguments: vec!["job".to_owned()],
            environment: Vec::new(),
            stdin: None,
            inputs: BTreeMap::new(),
            limits: Limits::default(),
            seed: 0,
            start_ns: DEFAULT_START_NS,
            origin,
            checkpoints: CheckpointPolicy::Never,
            max_crashes: 1,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn a_row_of_jobs_is_read_oldest_first_and_is_bounded() {
        let store = Store::open(Arc::new(SimulatedDisk::new())).unwrap();
        let ceilings = Limits::ceilings();
        let mut last = spec(None);
        for step in 1..=ORIGINS_MAX as u64 {
            last = spec(Some(of(&store, &last, step, Digest::of(b"held")).unwrap()));
            let found = sources(&store, &last, &ceilings).unwrap();
            assert_eq!(found.len() as u64, step);
            assert!(found.iter().map(|source| source.step).eq(1..=step));
            assert!(found[0].spec.origin.is_none());
            // Each blob stands there once, however long the row.
            assert_eq!(last.origin.as_ref().unwrap().needs.len() as u64, step);
        }
        let one_more = spec(Some(of(&store, &last, 99, Digest::of(b"held")).unwrap()));
        let error = sources(&store, &one_more, &ceilings).unwrap_err();
        assert!(matches!(error, OriginError::TooDeep), "{error}");
    }

    #[test]
    fn a_source_that_asks_for_more_than_is_allowed_here_is_refused() {
        let store = Store::open(Arc::new(SimulatedDisk::new())).unwrap();
        let mut greedy = spec(None);
        greedy.limits.memory_bytes = 1 << 40;
        let fork = spec(Some(of(&store, &greedy, 1, Digest::of(b"held")).unwrap()));
        let error = sources(&store, &fork, &Limits::ceilings()).unwrap_err();
        assert!(matches!(error, OriginError::Invalid(_)), "{error}");
    }
}
