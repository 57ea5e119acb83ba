//! Every state of the model: what must hold, holds; the product's transition function agrees with
//! the model about every record in every state; and rules that are wrong are found out.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use hb_model::{
    explore::{Explored, explore},
    job::{alphabet, next},
    world::{Bounds, Rules, StateKey, World},
};
use hb_types::state::{IllegalTransition, Phase, State, Transition, Verdict, apply};

const ONE_JOB: Bounds =
    Bounds { jobs: 1, attempts: 3, checkpoints: 3, crashes: 2, staged: 2, retries: 2 };
const TWO_JOBS: Bounds =
    Bounds { jobs: 2, attempts: 2, checkpoints: 1, crashes: 1, staged: 2, retries: 0 };
const SMALL: Bounds =
    Bounds { jobs: 1, attempts: 3, checkpoints: 2, crashes: 2, staged: 2, retries: 1 };

/// Compares the product with the model about every record in every state of a job.
struct Comparison {
    alphabet: Vec<Transition>,
    seen: HashSet<Option<StateKey>>,
    compared: usize,
}

impl Comparison {
    fn new(bounds: &Bounds) -> Self {
        let tokens = u64::from(bounds.attempts) + 1;
        let alphabet = alphabet(tokens, bounds.checkpoints + 1);
        Self { alphabet, seen: HashSet::new(), compared: 0 }
    }

    fn see(&mut self, world: &World, jobs: usize) -> Option<String> {
        for job in &world.live[..jobs] {
            if !self.seen.insert(*job) {
                continue;
            }
            let state = job.map(|key| key.0);
            for record in &self.alphabet {
                self.compared += 1;
                let (model, product) = (next(state, *record), apply(state, *record));
                if model != product.ok() {
                    return Some(format!("{record:?} in {state:?}: {model:?}, {product:?}"));
                }
            }
        }
        None
    }
}

fn explore_and_compare(bounds: &Bounds) -> Explored {
    let mut comparison = Comparison::new(bounds);
    let explored = explore(bounds, &Rules::PRODUCT, |world| comparison.see(world, bounds.jobs));
    let explored = explored.unwrap_or_else(|found| panic!("{found}"));
    println!(
        "{bounds:?}: {} states, {} steps, {} refused, depth {}; {} states of a job, {} records compared",
        explored.states,
        explored.steps,
        explored.refused,
        explored.depth,
        comparison.seen.len(),
        comparison.compared,
    );
    explored
}

#[test]
fn every_promise_holds_in_every_state_of_one_job() {
    assert!(explore_and_compare(&ONE_JOB).states > 10_000);
}

#[test]
fn every_promise_holds_in_every_state_of_two_jobs() {
    assert!(explore_and_compare(&TWO_JOBS).states > 10_000);
}

fn any_token(state: Option<State>, record: Transition) -> Result<State, IllegalTransition> {
    let holder = state.and_then(|state| state.token);
    let record = match (record, holder) {
        (Transition::Checkpoint { sequence, step, fresh, .. }, Some(token)) => {
            Transition::Checkpoint { token, sequence, step, fresh }
        }
        (Transition::End { token: Some(_), verdict }, Some(token)) => {
            Transition::End { token: Some(token), verdict }
        }
        (Transition::Interrupt { why, .. }, Some(token)) => Transition::Interrupt { token, why },
        (Transition::Retry { .. }, Some(token)) => Transition::Retry { token },
        (record, _) => record,
    };
    apply(state, record)
}

fn end_after_the_end(state: Option<State>, record: Transition) -> Result<State, IllegalTransition> {
    match (state, record) {
        (Some(state), Transition::End { token: None, verdict: Verdict::Cancelled })
            if state.phase == Phase::Failed =>
        {
            Ok(State { phase: Phase::Cancelled, sealed: false, ..state })
        }
        _ => apply(state, record),
    }
}

fn crash_spends_a_retry(
    state: Option<State>,
    record: Transition,
) -> Result<State, IllegalTransition> {
    let after = apply(state, record)?;
    let crashed = state.is_some_and(|state| state.crashes < after.crashes);
    Ok(State { retries: after.retries + u32::from(crashed), ..after })
}

fn starts_what_is_held(
    state: Option<State>,
    record: Transition,
) -> Result<State, IllegalTransition> {
    match (state, record) {
        (Some(state), Transition::Start { .. }) if state.held => {
            let after = apply(Some(State { held: false, ..state }), record)?;
            Ok(State { held: true, ..after })
        }
        _ => apply(state, record),
    }
}

fn starts_what_runs(state: Option<State>, record: Transition) -> Result<State, IllegalTransition> {
    match (state, record) {
        (Some(state), Transition::Start { .. }) if state.phase == Phase::Running => {
            apply(Some(State { phase: Phase::Scheduled, token: None, ..state }), record)
        }
        _ => apply(state, record),
    }
}

fn resumes_from_the_last_but_one(
    state: Option<State>,
    record: Transition,
) -> Result<State, IllegalTransition> {
    let after = apply(state, record)?;
    Ok(match record {
        Transition::Start { .. } if after.sequence > 1 => {
            State { sequence: after.sequence - 1, step: after.step - 1, ..after }
        }
        _ => after,
    })
}

fn keeps_the_claim_at_the_end(
    state: Option<State>,
    record: Transition,
) -> Result<State, IllegalTransition> {
    let after = apply(state, record)?;
    Ok(match record {
        Transition::End { token, .. } => State { token, ..after },
        _ => after,
    })
}

#[test]
fn rules_that_are_wrong_are_found_out() {
    let product = Rules::PRODUCT;
    let wrong = [
        ("any token is as good as the holder's", Rules { apply: any_token, ..product }),
        ("a final state can end again", Rules { apply: end_after_the_end, ..product }),
        ("a crash spends a retry", Rules { apply: crash_spends_a_retry, ..product }),
        ("what is on hold is started", Rules { apply: starts_what_is_held, ..product }),
        ("what runs is started again", Rules { apply: starts_what_runs, ..product }),
        ("the last checkpoint but one", Rules { apply: resumes_from_the_last_but_one, ..product }),
        ("the claim outlives the end", Rules { apply: keeps_the_claim_at_the_end, ..product }),
        ("clients are told before the flush", Rules { tells_early: true, ..product }),
        ("crashes are not marked", Rules { marks_crashes: false, ..product }),
        ("the seal comes after the outcome", Rules { seals_with_outcome: false, ..product }),
        (
            "a claim is given away before it is durable",
            Rules { claims_stay_inside: false, ..product },
        ),
        ("the log keeps no order", Rules { keeps_order: false, ..product }),
    ];
    let mut missed = Vec::new();
    for (what, rules) in wrong {
        match explore(&SMALL, &rules, |_| None) {
            Ok(explored) => missed.push(format!("{what}: {} states", explored.states)),
            Err(found) => println!("{what}: {found}"),
        }
    }
    assert!(missed.is_empty(), "went unnoticed: {missed:#?}");
}
