//! `hb verify`: run a sealed job again and say same or different, and where they part.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use anyhow::Context;
use hb_host::{Containers, Expected, LedgerView, Programs, Verdict, Verifier};
use hb_sandbox::{Control, Sandbox, SandboxOptions};
use hb_seal::{Envelope, PublicKey, SealedJob, Statement};
use hb_types::{Digest, exit, job::JobSpec, ledger::Job};
use serde_json::json;

use crate::{Invocation, args::VerifyArgs, failure::Failure, format, inspect};

/// What is to be proven, and who says so.
struct Claim {
    name: String,
    job_hash: Digest,
    spec: JobSpec,
    expected: Expected,
    signed_by: String,
}

/// Verifies and returns the exit code: 0 same, 1 different, 2 could not be checked.
pub fn verify(invocation: &Invocation<'_>, args: &VerifyArgs) -> anyhow::Result<u8> {
    let checked = check(invocation, args);
    // Whatever keeps a comparison from being made, the answer is "could not be checked".
    let (claim, verdict) = checked.map_err(Failure::Unchecked)?;
    tell(invocation, &claim, &verdict)?;
    Ok(if verdict.is_same() { exit::OK } else { exit::FAILED })
}

fn check(invocation: &Invocation<'_>, args: &VerifyArgs) -> anyhow::Result<(Claim, Verdict)> {
    let view = invocation.view()?;
    let path = Path::new(&args.what);
    let claim = if view.ledger.by_id(&args.what).is_none() && path.is_file() {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        claim_of_envelope(args, &view, &bytes)?
    } else {
        let job = inspect::find(&view, &args.what)?;
        claim_of_job(args, &view, &job)?
    };
    let sandbox = Sandbox::open(SandboxOptions {
        cache_dir: view.layout().cache(),
        compiler: crate::compiler()?,
    })?;
    let control = Control { cancel: crate::run::cancel_on_interrupt()?, ..Control::default() };
    let containers = Containers::new(invocation.containers());
    let programs = Programs { store: view.store(), executor: &sandbox, containers: &containers };
    let verifier = Verifier(programs);
    let verdict = verifier.verify(
        &claim.spec,
        claim.job_hash,
        &claim.expected,
        args.checkpoints,
        &control,
    )?;
    Ok((claim, verdict))
}

/// The claim of a job in this ledger, whose checkpoints are all recorded here.
fn claim_of_job(args: &VerifyArgs, view: &LedgerView, job: &Job) -> anyhow::Result<Claim> {
    let kept = job.seal.as_ref().with_context(|| {
        format!("job {} is {} and has no seal yet", job.job_id, job.state.phase.name())
    })?;
    let bytes = view.envelope(kept).context("the envelope of the seal cannot be read")?;
    let mut claim = claim_of_envelope(args, view, &bytes)?;
    if claim.expected.seal != kept.seal {
        anyhow::bail!(
            "the ledger's seal {} is not the one that its envelope states, {}",
            kept.seal,
            claim.expected.seal
        );
    }
    claim.expected.checkpoints = job
        .checkpoint_chain()
        .iter()
        .map(|mark| hb_seal::CheckpointMark {
            sequence: mark.sequence,
            step: mark.step,
            digest: mark.digest,
        })
        .collect();
    claim.expected.checkpoints_complete = true;
    Ok(claim)
}

fn claim_of_envelope(args: &VerifyArgs, view: &LedgerView, bytes: &[u8]) -> anyhow::Result<Claim> {
    let envelope = Envelope::from_json(bytes).context("this is no envelope of a seal")?;
    let trusted = trusted_keys(args, view)?;
    let statement: Statement = envelope.verify(&trusted).context(
        "the envelope is not accepted (a signer of elsewhere is trusted with --key FILE)",
    )?;
    let sealed: SealedJob = statement.read().context("the statement does not hold together")?;
    let spec: JobSpec = serde_json::from_value(sealed.manifest.clone())
        .context("the statement's manifest is not one that this version of hb reads")?;
    let listed = sealed.checkpoints.listed.clone();
    let checkpoints_complete = sealed.checkpoints.total == listed.len() as u64;
    let signer = envelope.signatures().first().map(|signature| signature.keyid.clone());
    Ok(Claim {
        name: sealed.circumstances.job_id.clone(),
        job_hash: sealed.job_hash,
        spec,
        expected: Expected {
            seal: sealed.seal(),
            outcome: sealed.outcome,
            stdout: sealed.stdout,
            stderr: sealed.stderr,
            artifacts: BTreeMap::clone(&sealed.artifacts),
            checkpoints: listed,
            checkpoints_complete,
            reproducible: sealed.is_reproducible(),
        },
        signed_by: signer.unwrap_or_default(),
    })
}

/// The key of this data directory, and those that the user names.
fn trusted_keys(args: &VerifyArgs, view: &LedgerView) -> anyhow::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    keys.extend(hb_host::public_key(view.layout())?);
    for path in &args.key {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the key {}", path.display()))?;
        keys.push(PublicKey::from_pem(&path.display().to_string(), &pem)?);
    }
    Ok(keys)
}

fn tell(invocation: &Invocation<'_>, claim: &Claim, verdict: &Verdict) -> anyhow::Result<()> {
    let same = verdict.is_same();
    if invocation.cli.json {
        format::print_json(&json!({
            "job_id": claim.name,
            "result": if same { "same" } else { "different" },
            "seal": claim.expected.seal,
            "seal_of_repetition": verdict.seal,
            "outcome": format::outcome(&verdict.outcome),
            "checkpoints_compared": verdict.checkpoints_compared,
            "restarts": verdict.restarts,
            "differences": verdict.differences,
            "signed_by": claim.signed_by,
        }))?;
        return Ok(());
    }
    let seal = claim.expected.seal;
    let compared = verdict.checkpoints_compared;
    let restarts = match verdict.restarts {
        0 => String::new(),
        count => format!(", restarted {count} times"),
    };
    let mut text = if same {
        format!("same: job {}, seal {seal}, {compared} checkpoints compared{restarts}", claim.name)
    } else {
        format!(
            "different: job {}, {} places, {compared} checkpoints compared{restarts}",
            claim.name,
            verdict.differences.len()
        )
    };
    for (index, difference) in verdict.differences.iter().take(20).enumerate() {
        let first = if index == 0 { "they part at" } else { "then" };
        write!(
            text,
            "\n  {first} {}: {} recorded, {} now",
            difference.what, difference.expected, difference.found
        )?;
    }
    Ok(format::print(&text)?)
}
