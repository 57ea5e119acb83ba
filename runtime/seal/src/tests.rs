//! Seals are what they are said to be, and nothing else is believed.
#![allow(clippy::unwrap_used)]

mod hostile;
mod vectors;

use std::collections::BTreeMap;

use hb_types::{
    Digest,
    outcome::{Explanation, Outcome},
};
use serde_json::{Value, json};

use crate::{
    CheckpointMark, Checkpoints, Circumstances, Envelope, HostKey, LedgerPosition, MAX_LISTED,
    PublicKey, SealedJob, Statement, seal_digest,
};

fn marks(count: u64) -> impl Iterator<Item = CheckpointMark> {
    (1..=count).map(|sequence| CheckpointMark {
        sequence,
        step: sequence * 10,
        digest: Digest::of(&sequence.to_le_bytes()),
    })
}

pub(super) fn job() -> SealedJob {
    let digest = |text: &str| Digest::of(text.as_bytes());
    SealedJob {
        job_hash: digest("job"),
        outcome: Outcome::Success,
        stdout: digest("out\n"),
        stderr: digest(""),
        artifacts: BTreeMap::from([
            ("histogram.txt".to_owned(), digest("1 2\n")),
            ("spectrum.txt".to_owned(), digest("ACG 1\n")),
            ("a/\u{e9}".to_owned(), digest("")),
        ]),
        semantics_version: 1,
        manifest: json!({ "arguments": ["kmer", "-k", "21"], "limits": { "fuel": u64::MAX } }),
        component: digest("component"),
        inputs: BTreeMap::from([("genome".to_owned(), digest("ACGT"))]),
        checkpoints: Checkpoints::of(marks(3)),
        circumstances: Circumstances {
            job_id: "kmer-1".to_owned(),
            started_ns: 1_795_248_000_000_000_001,
            finished_ns: 1_795_248_012_345_678_900,
            explanation: Explanation::default(),
            attempts: 2,
            crashes: 1,
            fuel_used: 123_456_789,
            ledger: LedgerPosition { lsn: 42, chain: digest("chain") },
            host: "node-1".to_owned(),
            hb_version: "0.1.0".to_owned(),
            engine_version: "wasmtime 48.0.8".to_owned(),
            hermetic: true,
            determinism_not_enforced: false,
            history_dependent: false,
            grants: Vec::new(),
        },
    }
}

pub(super) fn key() -> HostKey {
    HostKey::from_seed(&[7; 32])
}

pub(super) fn sealed() -> (Envelope, [PublicKey; 1]) {
    let statement = Statement::of(&job()).unwrap();
    (Envelope::sign(&statement, &key()).unwrap(), [key().public()])
}

#[test]
fn a_signed_job_comes_back_as_it_was() {
    let (envelope, trusted) = sealed();
    let read = Envelope::from_json(&envelope.to_json()).unwrap();
    let statement = read.verify(&trusted).unwrap();
    assert_eq!(statement.read().unwrap(), job());
    assert_eq!(statement.seal().unwrap(), job().seal());
    // Signing is deterministic (RFC 8032), so the same job has the same envelope.
    assert_eq!(envelope.to_json(), sealed().0.to_json());
}

#[test]
fn the_statement_has_the_shape_of_the_standards() {
    let statement: Value =
        serde_json::from_slice(&Statement::of(&job()).unwrap().to_json()).unwrap();
    let at =
        |pointer: &str| statement.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    assert_eq!(at("/_type"), "https://in-toto.io/Statement/v1");
    assert_eq!(at("/predicateType"), "https://slsa.dev/provenance/v1");
    assert_eq!(at("/subject/0/name"), "seal");
    assert_eq!(at("/subject/0/digest/blake3"), job().seal().to_string());
    assert_eq!(at("/subject/3/name"), "out/a/\u{e9}");
    let definition = "/predicate/buildDefinition";
    assert_eq!(at(&format!("{definition}/buildType")), "https://hackbrain.dev/job/v1");
    assert_eq!(at(&format!("{definition}/externalParameters/manifest/arguments/2")), "21");
    assert_eq!(at(&format!("{definition}/internalParameters/semanticsVersion")), 1);
    assert_eq!(at(&format!("{definition}/resolvedDependencies/1/name")), "in/genome");
    let run = "/predicate/runDetails";
    assert_eq!(at(&format!("{run}/builder/id")), "https://hackbrain.dev/host/v1");
    assert_eq!(at(&format!("{run}/metadata/invocationId")), "kmer-1");
    assert_eq!(at(&format!("{run}/metadata/startedOn")), "2026-11-21T08:00:00.000000001Z");
    assert_eq!(at(&format!("{run}/metadata/finishedOn")), "2026-11-21T08:00:12.345678900Z");
    assert_eq!(at(&format!("{run}/metadata/hackbrain_seal/reproducible")), true);
    assert_eq!(at(&format!("{run}/byproducts/2/annotations/step")), 30);
}

#[test]
fn every_part_of_a_job_that_a_repetition_must_reproduce_is_in_the_seal_and_nothing_else() {
    let base = job();
    let changes: [fn(&mut SealedJob); 7] = [
        |job| job.job_hash.0[0] ^= 1,
        |job| job.outcome = Outcome::Exit { code: 1 },
        |job| job.stdout.0[31] ^= 1,
        |job| std::mem::swap(&mut job.stdout, &mut job.stderr),
        |job| job.semantics_version += 1,
        |job| _ = job.artifacts.remove("spectrum.txt"),
        |job| job.artifacts.values_mut().for_each(|digest| digest.0[5] ^= 1),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut job = base.clone();
        change(&mut job);
        assert_ne!(job.seal(), base.seal(), "change {at}");
    }
    let mut job = base.clone();
    job.circumstances.attempts = 99;
    job.circumstances.finished_ns += 1;
    job.circumstances.host = "elsewhere".to_owned();
    job.checkpoints = Checkpoints::of(marks(50));
    assert_eq!(job.seal(), base.seal());
}

#[test]
fn only_hermetic_jobs_with_an_outcome_of_their_own_claim_to_be_reproducible() {
    let mut job = job();
    assert!(job.is_reproducible());
    job.outcome = Outcome::Cancelled;
    assert!(!job.is_reproducible());
    job.outcome = Outcome::Success;
    job.circumstances.grants = vec!["network".to_owned()];
    assert!(Statement::of(&job).unwrap_err().to_string().contains("network"));
    job.circumstances.hermetic = false;
    let statement = Statement::of(&job).unwrap();
    assert!(!statement.read().unwrap().is_reproducible());
}

#[test]
fn a_million_checkpoints_stay_few_names_evenly_spread_and_one_digest() {
    for total in [0, 1, 2, 1022, 1023, 1024, 1025, 2046, 2047, 100_000] {
        let checkpoints = Checkpoints::of(marks(total));
        let listed = &checkpoints.listed;
        assert_eq!(checkpoints.total, total);
        assert!(listed.len() <= MAX_LISTED, "{total}: {}", listed.len());
        assert_eq!(listed.first(), marks(total).next().as_ref(), "{total}");
        assert_eq!(listed.last(), marks(total).last().as_ref(), "{total}");
        let gaps: Vec<_> =
            listed.windows(2).map(|pair| pair[1].sequence - pair[0].sequence).collect();
        if let [regular @ .., last] = &gaps[..] {
            assert!(regular.iter().all(|gap| gap == &regular[0]), "{total}: {gaps:?}");
            assert!(regular.is_empty() || (1..=regular[0]).contains(last), "{total}: {gaps:?}");
        }
        if total <= 1023 {
            assert_eq!(listed.len() as u64, total);
        } else {
            assert!(listed.len() > MAX_LISTED / 3, "{total}: {}", listed.len());
        }
    }
    let mut changed: Vec<_> = marks(5000).collect();
    changed[1234].step += 1;
    assert_ne!(Checkpoints::of(changed).digest, Checkpoints::of(marks(5000)).digest);
}

proptest::proptest! {
    #[test]
    fn moving_bytes_between_neighbouring_parts_changes_the_seal(
        names in proptest::collection::btree_set("[a-c]{0,4}", 0..4),
        other_names in proptest::collection::btree_set("[a-c]{0,4}", 0..4),
        outcome in "[a-c]{0,4}",
        other_outcome in "[a-c]{0,4}",
    ) {
        let zero = Digest::default();
        let seal = |outcome: &str, names: &std::collections::BTreeSet<String>| {
            let artifacts = names.iter().map(|name| (name.clone(), zero)).collect();
            seal_digest(zero, outcome, zero, zero, &artifacts, 1)
        };
        let same_input = outcome == other_outcome && names == other_names;
        let same_seal = seal(&outcome, &names) == seal(&other_outcome, &other_names);
        proptest::prop_assert_eq!(same_input, same_seal);
    }
}
