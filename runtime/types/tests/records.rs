//! Records survive their encoding, and bytes that are no record are refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use hb_types::{
    Digest,
    capture::{ContentId, Counters, Node, NodeKind, Progress},
    content::{Chunk, ChunkChange, ContentChange, Delta, Kept},
    event::{Artifact, Checkpointed, Ended, Event, Received, SCHEMA, Scheduled, Sealed, Started},
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    ledger::Ledger,
    limits::Limits,
    outcome::{Explanation, Outcome},
    state::Phase,
    terms::Terms,
};
use proptest::prelude::*;

fn blob(text: &str) -> BlobRef {
    BlobRef { digest: Digest::of(text.as_bytes()), len_bytes: text.len() as u64 }
}

fn spec() -> JobSpec {
    JobSpec {
        component: blob("component"),
        container: None,
        arguments: vec!["job".into()],
        environment: vec![],
        stdin: None,
        inputs: [("genome".to_owned(), blob("genome"))].into(),
        limits: Limits::default(),
        seed: 0,
        start_ns: DEFAULT_START_NS,
        origin: None,
        checkpoints: CheckpointPolicy::default(),
        max_crashes: 200,
        labels: BTreeMap::new(),
    }
}

fn pack(text: &str) -> Chunk {
    let len = u32::try_from(text.len()).unwrap();
    Chunk::Packed { digest: Digest::of(text.as_bytes()), pack: Digest::of(b"pack"), offset: 0, len }
}

fn checkpoint(job: u64, token: u64, sequence: u64, chunk: Chunk) -> Event {
    let len_bytes = chunk.len() as u64;
    let change = ContentChange {
        id: ContentId::STDOUT,
        len_bytes,
        chunks: vec![ChunkChange::Set { index: 0, chunk }],
    };
    let node = Node { kind: NodeKind::Directory, modified_ns: 1, accessed_ns: 1 };
    Checkpointed {
        job,
        token,
        sequence,
        step: sequence * 10,
        digest: Digest::of(b"held"),
        counters: Counters { fuel_used: 5, ..Counters::default() },
        progress: Progress { metrics: [("e".to_owned(), 0.5)].into(), ..Progress::default() },
        delta: Delta {
            fresh: sequence == 1,
            changed: vec![change],
            names_set: vec![("out/a".to_owned(), node)],
            ..Delta::default()
        },
        at_ns: 7,
    }
    .into()
}

fn life() -> Vec<Event> {
    vec![
        Received {
            job_id: "a".into(),
            job_hash: spec().hash(),
            spec: spec(),
            terms: Terms::default(),
            at_ns: 1,
        }
        .into(),
        Scheduled { job: 1, at_ns: 2 }.into(),
        Started { job: 1, process: 42, at_ns: 3 }.into(),
        checkpoint(1, 3, 1, pack("packed")),
        checkpoint(1, 3, 2, Chunk::Inline(b"inline".to_vec())),
        Ended {
            job: 1,
            token: Some(3),
            outcome: Outcome::Success,
            explanation: Explanation::default(),
            counters: Counters::default(),
            progress: Progress::default(),
            delta: Delta::default(),
            stdout: blob("inline"),
            stderr: blob(""),
            artifacts: BTreeMap::new(),
            peak_memory_bytes: 0,
            reproducible: true,
            at_ns: 9,
        }
        .into(),
        Sealed {
            job: 1,
            seal: Digest::of(b"seal"),
            envelope: Kept::Inline(b"{}".to_vec()),
            at_ns: 10,
        }
        .into(),
    ]
}

#[test]
fn every_record_survives_its_encoding() {
    for event in life() {
        let (kind, bytes) = event.encode();
        assert_eq!(Event::decode(kind, SCHEMA, &bytes).unwrap(), event);
        // The log may hand bytes out at any address.
        let mut shifted = vec![0; bytes.len() + 1];
        shifted[1..].copy_from_slice(&bytes);
        assert_eq!(Event::decode(kind, SCHEMA, &shifted[1..]).unwrap(), event);
    }
}

#[test]
fn a_record_of_a_later_version_is_named_not_guessed() {
    let (kind, bytes) = life()[0].encode();
    assert!(Event::decode(kind, SCHEMA + 1, &bytes).unwrap_err().to_string().contains("schema 4"));
    assert!(Event::decode(999, SCHEMA, &bytes).unwrap_err().to_string().contains("kind 999"));
}

#[test]
fn a_life_ends_sealed_and_replay_of_a_snapshot_equals_live() {
    let mut ledger = Ledger::default();
    let mut unused = Vec::new();
    for (index, event) in life().iter().enumerate() {
        unused.extend(ledger.apply(index as u64 + 1, event).unwrap());
    }
    assert_eq!(ledger.jobs[&1].state.phase, Phase::Sealed);
    assert_eq!(
        unused,
        [Digest::of(b"pack")],
        "the pack went out of use with the second checkpoint"
    );
    assert!(ledger.refers_to(blob("genome").digest));

    for cut in 0..life().len() {
        let mut first = Ledger::default();
        for (index, event) in life().iter().enumerate() {
            if index == cut {
                first = Ledger::from_bytes(&first.to_bytes()).unwrap();
            }
            first.apply(index as u64 + 1, event).unwrap();
        }
        assert_eq!(first, ledger);
        assert_eq!(first.to_bytes(), ledger.to_bytes());
    }
}

#[test]
fn a_paused_attempt_that_wakes_up_late_is_refused() {
    let mut ledger = Ledger::default();
    for (index, event) in life().iter().take(3).enumerate() {
        ledger.apply(index as u64 + 1, event).unwrap();
    }
    let before = ledger.clone();
    let late = checkpoint(1, 2, 1, Chunk::Inline(b"late".to_vec()));
    let error = ledger.apply(4, &late).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("token 2 no longer holds"), "{source}");
    assert_eq!(ledger, before);
}

/// A job with a name for every one of a hundred thousand files.
#[test]
fn a_record_that_is_too_large_for_one_is_appended_in_parts_and_happens_once() {
    let node = Node { kind: NodeKind::Directory, modified_ns: 1, accessed_ns: 1 };
    let name = |index: usize| (format!("out/{index:050}"), node);
    let large = match checkpoint(1, 3, 1, Chunk::Inline(b"x".to_vec())) {
        Event::Checkpointed(record) => Event::from(Checkpointed {
            delta: Delta { names_set: (0..100_000).map(name).collect(), ..record.delta },
            ..record
        }),
        _ => unreachable!(),
    };
    let mut whole = Ledger::default();
    let mut ledger = Ledger::default();
    for (index, event) in life().iter().take(3).enumerate() {
        whole.apply(index as u64 + 1, event).unwrap();
        ledger.apply(index as u64 + 1, event).unwrap();
    }
    let (parts, assembled) = large.split().unwrap();
    assert!(parts.len() > 3);
    let mut lsn = 3;
    // A part of a record that never came to be: the attempt was interrupted in the middle.
    for event in parts.iter().take(2).chain([&checkpoint(1, 3, 1, pack("small"))]) {
        lsn += 1;
        ledger.apply(lsn, event).unwrap();
    }
    let error = ledger.apply(lsn + 1, &assembled).unwrap_err();
    assert!(error.to_string().contains("parts"), "{error}");
    let large = match large {
        Event::Checkpointed(record) => {
            let delta = Delta { fresh: false, ..record.delta };
            Event::from(Checkpointed { sequence: 2, step: 20, delta, ..record })
        }
        _ => unreachable!(),
    };
    let (parts, assembled) = large.split().unwrap();
    for event in parts.iter().chain([&assembled]) {
        lsn += 1;
        ledger.apply(lsn, event).unwrap();
        // Replay from a snapshot between two parts goes on as if nothing had been.
        ledger = Ledger::from_bytes(&ledger.to_bytes()).unwrap();
    }
    whole.apply(6, &checkpoint(1, 3, 1, pack("small"))).unwrap();
    whole.apply(lsn, &large).unwrap();
    assert_eq!(ledger, whole);
}

/// A host set a job aside, had no room for all parts of the record or died among them, and the next
/// one tried again: no attempt held the job, so nothing had told the first parts off, the record
/// was assembled from both tries, and the ledger could not be read any more.
#[test]
fn parts_of_a_try_that_was_given_up_are_not_part_of_the_next() {
    let artifact = |index: usize| {
        let name = format!("{index:050}");
        (name, Artifact { content: ContentId(9), blob: blob("artifact") })
    };
    let idle = Event::from(Ended {
        job: 1,
        token: None,
        outcome: Outcome::Poisoned,
        explanation: Explanation { message: "set aside".into(), backtrace: vec![] },
        counters: Counters::default(),
        progress: Progress::default(),
        delta: Delta::default(),
        stdout: blob(""),
        stderr: blob(""),
        artifacts: (0..20_000).map(artifact).collect(),
        peak_memory_bytes: 0,
        reproducible: false,
        at_ns: 9,
    });
    let (parts, assembled) = idle.split().unwrap();
    assert!(parts.len() > 1);
    let mut ledger = Ledger::default();
    let begun = life();
    let events = begun.iter().take(2).chain(&parts[..1]).chain(&parts).chain([&assembled]);
    for (lsn, event) in (1..).zip(events) {
        ledger.apply(lsn, event).unwrap();
    }
    assert_eq!(ledger.jobs[&1].state.phase, Phase::Failed);
}

proptest! {
    /// Random bytes and damaged archives are errors, never panics.
    #[test]
    fn bytes_that_are_no_record_are_refused(
        kind in 0u16..12, mut bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), bit in 0u8..8
    ) {
        let _ = Event::decode(kind, SCHEMA, &bytes);
        let (kind, archive) = checkpoint(1, 3, 1, pack("packed")).encode();
        bytes = archive.to_vec();
        let index = at.index(bytes.len());
        bytes[index] ^= 1 << bit;
        let _ = Event::decode(kind, SCHEMA, &bytes);
        let _ = Event::decode(kind, SCHEMA, &archive[..index]);
    }
}
