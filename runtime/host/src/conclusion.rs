//! From an ending to a sealed outcome.
//!
//! Owns: the digests of what a job left, the seal over them, and the two records that say so,
//! which are appended together: an outcome is never durable without its seal.

use std::collections::BTreeMap;

use hb_sandbox::{Ending, HostFault};
use hb_seal::{
    CheckpointMark, Checkpoints, Circumstances, Envelope, LedgerPosition, SealedJob, Statement,
};
use hb_types::{
    Digest, Lsn,
    capture::{Capture, ChunkSource, ContentId, NameTree, NodeKind},
    container::Container,
    content::{Delta, Holdings, Kept},
    event::{Artifact, Ended, JobNumber, Sealed},
    job::{BlobRef, EXECUTION_SEMANTICS},
    ledger::Job,
    outcome::{Explanation, Outcome},
};

use crate::{
    Host, attempt::with_bounded_notes, contents, contents::HeldContents, decide::Decided, delta,
    error::RunError, journal::Urgency,
};

/// An envelope of more bytes than this is kept as a blob.
const ENVELOPE_INLINE_MAX_BYTES: usize = 16 * 1024;

/// What a job left, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leavings {
    pub stdout: BlobRef,
    pub stderr: BlobRef,
    pub artifacts: BTreeMap<String, Artifact>,
}

impl Leavings {
    /// Of a job that did not even begin.
    pub(crate) fn nothing() -> Self {
        let empty = BlobRef { digest: Digest::of(b""), len_bytes: 0 };
        Self { stdout: empty, stderr: empty, artifacts: BTreeMap::new() }
    }

    /// Reads everything once.
    pub(crate) fn of(
        source: &dyn ChunkSource,
        len_bytes: &dyn Fn(ContentId) -> u64,
        names: &NameTree,
    ) -> std::io::Result<Self> {
        let blob = |id| digest_of(source, id, len_bytes(id));
        let mut artifacts = BTreeMap::new();
        for (path, node) in names {
            if let (Some(name), NodeKind::File(content)) = (path.strip_prefix("out/"), node.kind) {
                artifacts.insert(name.to_owned(), Artifact { content, blob: blob(content)? });
            }
        }
        Ok(Self { stdout: blob(ContentId::STDOUT)?, stderr: blob(ContentId::STDERR)?, artifacts })
    }

    pub(crate) fn of_capture(capture: &Capture<'_>) -> std::io::Result<Self> {
        let lengths: BTreeMap<ContentId, u64> =
            capture.contents.iter().map(|content| (content.id, content.len_bytes)).collect();
        let len_bytes = |id| lengths.get(&id).copied().unwrap_or(0);
        Self::of(capture.source, &len_bytes, &capture.names)
    }

    /// The seal of an outcome that left this.
    pub(crate) fn seal(&self, job_hash: Digest, outcome: &Outcome) -> Digest {
        let artifacts = self.artifact_digests();
        let canonical = outcome.canonical();
        let (stdout, stderr) = (self.stdout.digest, self.stderr.digest);
        hb_seal::seal_digest(job_hash, &canonical, stdout, stderr, &artifacts, EXECUTION_SEMANTICS)
    }

    pub(crate) fn artifact_digests(&self) -> BTreeMap<String, Digest> {
        let digest = |(name, artifact): (&String, &Artifact)| (name.clone(), artifact.blob.digest);
        self.artifacts.iter().map(digest).collect()
    }
}

fn digest_of(source: &dyn ChunkSource, id: ContentId, len_bytes: u64) -> std::io::Result<BlobRef> {
    let mut hasher = blake3::Hasher::new();
    contents::copy(source, id, len_bytes, &mut hasher)?;
    Ok(BlobRef { digest: hasher.finalize().into(), len_bytes })
}

/// How an attempt ended.
pub(crate) struct End<'a> {
    /// The outcome.
    pub ending: &'a Ending,
    /// What it left.
    pub capture: &'a Capture<'a>,
    /// Whether a limit may have been reached, or not, by when checkpoints fell due and where the
    /// job was resumed: serialising and rebuilding cost fuel and memory.
    pub depends_on_history: bool,
}

impl Host {
    /// Decides the outcome of an attempt: digests, seal, both records.
    pub(crate) fn conclude(
        &self,
        job: JobNumber,
        token: Lsn,
        held: &Holdings,
        fresh: bool,
        end: &End<'_>,
    ) -> Result<Decided, HostFault> {
        let (ending, capture) = (end.ending, end.capture);
        let fault = |what| move |source| HostFault::new(what, source);
        let leavings =
            Leavings::of_capture(capture).map_err(fault("cannot read what the job left"))?;
        let built = delta::build(self.store(), held, fresh, capture, delta::Kind::Ending)?;
        let known = self.job(job).expect("an attempt holds a job of this ledger");
        let ended = Ended {
            job,
            token: Some(token),
            outcome: ending.outcome,
            explanation: ending.explanation.clone(),
            counters: ending.counters,
            progress: with_bounded_notes(&capture.progress),
            delta: built.delta,
            stdout: leavings.stdout,
            stderr: leavings.stderr,
            artifacts: leavings.artifacts.clone(),
            peak_memory_bytes: ending.peak_memory_bytes,
            // Nothing makes a native program end alike.
            reproducible: known.spec.container.is_none()
                && ending.outcome.is_reproducible()
                && !(end.depends_on_history && matches!(ending.outcome, Outcome::Limit { .. })),
            at_ns: self.now_ns(),
        };
        self.seal_and_decide(&known, ended, &leavings)
            .map_err(|source| HostFault::new("the outcome cannot be written down", source))
    }

    /// Ends a job that nothing runs: set aside, or cancelled before it began. What its newest
    /// checkpoint holds is kept as it is: it is the evidence.
    pub(crate) fn conclude_idle(
        &self,
        job: &Job,
        outcome: Outcome,
        message: String,
    ) -> Result<Decided, RunError> {
        if job.spec.container.is_some() {
            // An earlier host may have left one that nobody has taken over yet.
            self.containers().discard(self.ledger_id(), job.number);
        }
        self.conclude_as_held(job, None, outcome, message)
    }

    /// Ends a job from outside whose attempt had not yet asked for the checkpoint that is there.
    pub(crate) fn conclude_unresumed(
        &self,
        job: &Job,
        token: Lsn,
        outcome: Outcome,
        message: String,
    ) -> Result<Decided, RunError> {
        self.conclude_as_held(job, Some(token), outcome, message)
    }

    fn conclude_as_held(
        &self,
        job: &Job,
        token: Option<Lsn>,
        outcome: Outcome,
        message: String,
    ) -> Result<Decided, RunError> {
        let source = HeldContents { store: self.store(), holdings: &job.holdings };
        let len_bytes = |id| job.holdings.content(id).map_or(0, |content| content.len_bytes);
        let leavings = Leavings::of(&source, &len_bytes, &job.holdings.names)
            .map_err(|error| HostFault::new("cannot read what the job left", error))?;
        let ended = Ended {
            job: job.number,
            token,
            outcome,
            explanation: Explanation { message, backtrace: Vec::new() },
            counters: job.counters,
            progress: job.progress.clone(),
            delta: Delta::default(),
            stdout: leavings.stdout,
            stderr: leavings.stderr,
            artifacts: leavings.artifacts.clone(),
            peak_memory_bytes: 0,
            reproducible: false,
            at_ns: self.now_ns(),
        };
        self.seal_and_decide(job, ended, &leavings)
    }

    fn seal_and_decide(
        &self,
        job: &Job,
        ended: Ended,
        leavings: &Leavings,
    ) -> Result<Decided, RunError> {
        let sealed_job = self.sealed_job(job, &ended, leavings);
        let envelope = Envelope::sign(&Statement::of(&sealed_job)?, self.key())?.to_json();
        let envelope = if envelope.len() <= ENVELOPE_INLINE_MAX_BYTES {
            Kept::Inline(envelope)
        } else {
            let len_bytes = envelope.len() as u64;
            Kept::Blob(BlobRef { digest: self.store().put(&envelope)?, len_bytes })
        };
        let seal = sealed_job.seal();
        let at_ns = ended.at_ns;
        let sealed = Sealed { job: job.number, seal, envelope, at_ns };
        Ok(self.decide(job.number, vec![ended.into(), sealed.into()], Urgency::Closing)?)
    }

    fn sealed_job(&self, job: &Job, ended: &Ended, leavings: &Leavings) -> SealedJob {
        let (lsn, chain) = self.head();
        let chain_of_marks = if ended.delta.fresh { &[] } else { job.checkpoint_chain() };
        let mark = |mark: &hb_types::ledger::CheckpointMark| CheckpointMark {
            sequence: mark.sequence,
            step: mark.step,
            digest: mark.digest,
        };
        let native = job.spec.container.as_ref();
        let inputs = job.spec.inputs.iter().map(|(name, blob)| (name.clone(), blob.digest));
        SealedJob {
            job_hash: job.job_hash,
            outcome: ended.outcome,
            stdout: leavings.stdout.digest,
            stderr: leavings.stderr.digest,
            artifacts: leavings.artifact_digests(),
            semantics_version: EXECUTION_SEMANTICS,
            manifest: serde_json::to_value(&job.spec).expect("a specification is plain data"),
            component: job.spec.component.digest,
            inputs: inputs.collect(),
            checkpoints: Checkpoints::of(chain_of_marks.iter().map(mark)),
            circumstances: Circumstances {
                job_id: job.job_id.clone(),
                started_ns: job.attempts.first().map_or(ended.at_ns, |first| first.started_ns),
                finished_ns: ended.at_ns,
                explanation: ended.explanation.clone(),
                attempts: u64::from(job.state.attempts),
                crashes: u64::from(job.state.crashes),
                fuel_used: ended.counters.fuel_used,
                ledger: LedgerPosition { lsn, chain },
                host: self.name().to_owned(),
                hb_version: env!("CARGO_PKG_VERSION").to_owned(),
                engine_version: match native {
                    Some(_) => self.containers().engine_name(),
                    None => hb_sandbox::ENGINE_VERSION.to_owned(),
                },
                hermetic: native.is_none(),
                determinism_not_enforced: native.is_some(),
                history_dependent: native.is_none()
                    && ended.outcome.is_reproducible()
                    && !ended.reproducible,
                grants: native.map(grants).unwrap_or_default(),
            },
        }
    }
}

/// What of the machine can reach a native program: what reaches every one, what it was granted, and
/// what it was shown.
fn grants(container: &Container) -> Vec<String> {
    let always = ["clock", "random", "processor"].map(str::to_owned).into_iter();
    let granted = container.grants.iter().map(ToString::to_string);
    let shown = container.mounts.iter().map(|mount| format!("mount={mount}"));
    always.chain(granted).chain(shown).collect()
}
