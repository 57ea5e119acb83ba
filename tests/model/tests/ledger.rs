//! The product's ledger follows every way of the model, record for record, and refuses every record
//! that the model forbids, in every state of a job.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet, VecDeque};

use hb_model::{
    job::{alphabet, next},
    world::StateKey,
};
use hb_types::{
    Digest, Lsn,
    capture::{Counters, Progress},
    content::{Delta, Kept},
    event::{
        Checkpointed, Ended, Event, Held, Interrupted, Part, Received, Released, Retried,
        Scheduled, Sealed, Started,
    },
    job::{BlobRef, CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    ledger::Ledger,
    limits::Limits,
    outcome::{Explanation, Outcome},
    state::{State, Transition, Verdict},
    terms::Terms,
};

const ATTEMPTS: u32 = 3;
const NUMBERS: u64 = 3;
const RETRIES: u32 = 2;

/// The number of the one job.
const JOB: Lsn = 1;
/// A claim that no record ever made.
const NO_CLAIM: Lsn = 1_000_000;

fn spec() -> JobSpec {
    JobSpec {
        component: BlobRef { digest: Digest::of(b"component"), len_bytes: 9 },
        arguments: Vec::new(),
        environment: Vec::new(),
        stdin: None,
        inputs: BTreeMap::new(),
        limits: Limits::default(),
        seed: 0,
        start_ns: DEFAULT_START_NS,
        origin: None,
        container: None,
        checkpoints: CheckpointPolicy::Never,
        max_crashes: 9,
        labels: BTreeMap::new(),
    }
}

/// A ledger that went along with the model, and the positions of the claims.
#[derive(Clone, Default)]
struct Followed {
    ledger: Ledger,
    claims: Vec<Lsn>,
}

impl Followed {
    /// The position of the claim that the model counts as this one.
    fn claim(&self, token: Lsn) -> Lsn {
        let index = usize::try_from(token - 1).unwrap();
        self.claims.get(index).copied().unwrap_or(NO_CLAIM)
    }

    /// The record of a transition.
    fn record(&self, transition: Transition) -> Event {
        let (job, at_ns) = (JOB, 5);
        match transition {
            Transition::Receive => {
                let (job_hash, spec) = (spec().hash(), spec());
                Received { job_id: "a".into(), job_hash, spec, terms: Terms::default(), at_ns }
                    .into()
            }
            Transition::Schedule => Scheduled { job, at_ns }.into(),
            Transition::Start { .. } => Started { job, process: 1, at_ns }.into(),
            Transition::Checkpoint { token, sequence, step, fresh } => Checkpointed {
                job,
                token: self.claim(token),
                sequence,
                step,
                digest: Digest::of(b"held"),
                counters: Counters::default(),
                progress: Progress::default(),
                delta: Delta { fresh, ..Delta::default() },
                at_ns,
            }
            .into(),
            Transition::Interrupt { token, why } => {
                Interrupted { job, token: self.claim(token), why, detail: String::new(), at_ns }
                    .into()
            }
            Transition::Retry { token } => Retried {
                job,
                token: self.claim(token),
                outcome: Outcome::Exit { code: 1 },
                message: String::new(),
                not_before_ns: 0,
                at_ns,
            }
            .into(),
            Transition::End { token, verdict } => self.ending(token, verdict),
            Transition::Part { token } => {
                let token = token.map(|token| self.claim(token));
                Part { job, token, first: true, bytes: vec![1] }.into()
            }
            Transition::Hold => Held { job, at_ns }.into(),
            Transition::Release => Released { job, at_ns }.into(),
            Transition::Seal => {
                let (seal, envelope) = (Digest::of(b"seal"), Kept::Inline(Vec::new()));
                Sealed { job, seal, envelope, at_ns }.into()
            }
        }
    }

    fn ending(&self, token: Option<Lsn>, verdict: Verdict) -> Event {
        let empty = BlobRef { digest: Digest::of(b""), len_bytes: 0 };
        Ended {
            job: JOB,
            token: token.map(|token| self.claim(token)),
            outcome: match verdict {
                Verdict::Success => Outcome::Success,
                Verdict::Failure => Outcome::Exit { code: 1 },
                Verdict::Cancelled => Outcome::Cancelled,
            },
            explanation: Explanation { message: String::new(), backtrace: Vec::new() },
            counters: Counters::default(),
            progress: Progress::default(),
            delta: Delta::default(),
            stdout: empty,
            stderr: empty,
            artifacts: BTreeMap::new(),
            peak_memory_bytes: 0,
            reproducible: true,
            at_ns: 5,
        }
        .into()
    }

    /// The ledger after a record, if it takes it.
    fn after(&self, transition: Transition) -> Option<Self> {
        let event = self.record(transition);
        let lsn = self.ledger.applied + 1;
        let mut after = self.clone();
        let applied = after.ledger.apply(lsn, &event);
        assert_eq!(
            applied.is_ok(),
            self.ledger.check(std::slice::from_ref(&event)).is_ok(),
            "whether {transition:?} may follow is answered in two ways"
        );
        applied.ok()?;
        if let Transition::Start { .. } = transition {
            after.claims.push(lsn);
        }
        Some(after)
    }

    /// The job's state with claims as the model counts them.
    fn state(&self) -> Option<State> {
        let state = self.ledger.jobs.get(&JOB)?.state;
        let count = |lsn| self.claims.iter().position(|claim| *claim == lsn).unwrap() as u64 + 1;
        Some(State { token: state.token.map(count), ..state })
    }
}

fn within_bounds(state: Option<State>) -> bool {
    state.is_none_or(|state| {
        state.attempts <= ATTEMPTS && state.sequence <= NUMBERS && state.retries <= RETRIES
    })
}

#[test]
fn the_ledger_takes_what_the_model_allows_and_nothing_else() {
    let alphabet = alphabet(u64::from(ATTEMPTS) + 1, NUMBERS + 1);
    let mut seen: HashSet<Option<StateKey>> = [None].into();
    let mut waiting = VecDeque::from([(None, Followed::default())]);
    let (mut taken, mut refused) = (0, 0);
    while let Some((state, followed)) = waiting.pop_front() {
        for transition in &alphabet {
            // A claim has the position of its own record: no other can be presented.
            let own_claim = state.map_or(1, |state: State| u64::from(state.attempts) + 1);
            if matches!(transition, Transition::Start { token } if *token != own_claim) {
                continue;
            }
            let wanted = next(state, *transition);
            let after = followed.after(*transition);
            let found = after.as_ref().map(|after| after.state().unwrap());
            assert_eq!(found, wanted, "{transition:?} in {state:?}");
            match after {
                Some(after) => {
                    taken += 1;
                    if within_bounds(wanted) && seen.insert(wanted.map(StateKey)) {
                        waiting.push_back((wanted, after));
                    }
                }
                None => refused += 1,
            }
        }
    }
    println!("{} states of a job, {taken} records taken, {refused} refused", seen.len());
    assert!(seen.len() > 500 && refused > taken);
}
