//! The whole transition function as a table, and what holds on every path through it.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use hb_types::state::{Interruption, Phase, State, Transition, Verdict, apply};
use proptest::prelude::*;

/// A state in the given phase, as a real job reaches it; token 3 where it runs.
fn in_phase(phase: Phase) -> State {
    let mut state = apply(None, Transition::Receive).unwrap();
    let path: &[Transition] = match phase {
        Phase::Received => &[],
        Phase::Scheduled => &[Transition::Schedule],
        Phase::Running => &[Transition::Schedule, Transition::Start { token: 3 }],
        Phase::Completed => &[
            Transition::Schedule,
            Transition::Start { token: 3 },
            Transition::End { token: Some(3), verdict: Verdict::Success },
        ],
        Phase::Sealed => &[
            Transition::Schedule,
            Transition::Start { token: 3 },
            Transition::End { token: Some(3), verdict: Verdict::Success },
            Transition::Seal,
        ],
        Phase::Failed => &[
            Transition::Schedule,
            Transition::Start { token: 3 },
            Transition::End { token: Some(3), verdict: Verdict::Failure },
        ],
        Phase::Cancelled => &[Transition::End { token: None, verdict: Verdict::Cancelled }],
    };
    for transition in path {
        state = apply(Some(state), *transition).unwrap();
    }
    state
}

fn transitions() -> Vec<(&'static str, Transition)> {
    let end = |token, verdict| Transition::End { token, verdict };
    let checkpoint =
        |token, sequence, fresh| Transition::Checkpoint { token, sequence, step: 5, fresh };
    let why = Interruption::HostCrashed;
    vec![
        ("receive", Transition::Receive),
        ("schedule", Transition::Schedule),
        ("start", Transition::Start { token: 9 }),
        ("checkpoint", checkpoint(3, 1, false)),
        ("checkpoint, from the beginning", checkpoint(3, 1, true)),
        ("checkpoint, old token", checkpoint(2, 1, false)),
        ("checkpoint, gap", checkpoint(3, 2, false)),
        ("interrupt", Transition::Interrupt { token: 3, why }),
        ("interrupt, old token", Transition::Interrupt { token: 2, why }),
        ("end success", end(Some(3), Verdict::Success)),
        ("end failure", end(Some(3), Verdict::Failure)),
        ("end cancelled", end(Some(3), Verdict::Cancelled)),
        ("end success, old token", end(Some(2), Verdict::Success)),
        ("end success, no token", end(None, Verdict::Success)),
        ("end failure, no token", end(None, Verdict::Failure)),
        ("end cancelled, no token", end(None, Verdict::Cancelled)),
        ("part", Transition::Part { token: Some(3) }),
        ("part, old token", Transition::Part { token: Some(2) }),
        ("part, no token", Transition::Part { token: None }),
        ("retry", Transition::Retry { token: 3 }),
        ("retry, old token", Transition::Retry { token: 2 }),
        ("hold", Transition::Hold),
        ("release", Transition::Release),
        ("seal", Transition::Seal),
    ]
}

#[test]
fn every_state_answers_every_event_as_the_table_says() {
    let mut table = String::new();
    for (name, transition) in transitions() {
        writeln!(table, "{name}").unwrap();
        let states = std::iter::once(None).chain(Phase::ALL.into_iter().map(|p| Some(in_phase(p))));
        for state in states {
            let from = state.map_or("-", |s| s.phase.name());
            let to = match apply(state, transition) {
                Ok(next) if next.sealed && next.phase != Phase::Sealed => {
                    format!("{} with seal", next.phase.name())
                }
                Ok(next) => next.phase.name().to_owned(),
                Err(error) => format!("refused: {error}"),
            };
            writeln!(table, "    {from:<10} {to}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

fn any_transition() -> impl Strategy<Value = Transition> {
    let verdict =
        prop_oneof![Just(Verdict::Success), Just(Verdict::Failure), Just(Verdict::Cancelled)];
    let why = prop_oneof![
        Just(Interruption::HostCrashed),
        Just(Interruption::HostFault),
        Just(Interruption::Shutdown),
        Just(Interruption::Held)
    ];
    prop_oneof![
        Just(Transition::Receive),
        Just(Transition::Schedule),
        (1..6u64).prop_map(|token| Transition::Start { token }),
        (1..6u64, 1..5u64, 0..9u64, any::<bool>()).prop_map(|(token, sequence, step, fresh)| {
            Transition::Checkpoint { token, sequence, step, fresh }
        }),
        (1..6u64, why).prop_map(|(token, why)| Transition::Interrupt { token, why }),
        (proptest::option::of(1..6u64), verdict)
            .prop_map(|(token, verdict)| Transition::End { token, verdict }),
        proptest::option::of(1..6u64).prop_map(|token| Transition::Part { token }),
        (1..6u64).prop_map(|token| Transition::Retry { token }),
        Just(Transition::Hold),
        Just(Transition::Release),
        Just(Transition::Seal),
    ]
}

proptest! {
    /// Whatever is thrown at it: checkpoints are numbered without gaps, what is final stays
    /// final, a token holds exactly while the job runs, and counters never fall.
    #[test]
    fn no_sequence_of_events_leaves_the_state_space(
        events in proptest::collection::vec(any_transition(), 0..200)
    ) {
        let mut state: Option<State> = None;
        for event in events {
            let Ok(next) = apply(state, event) else { continue };
            prop_assert_eq!(next.token.is_some(), next.phase == Phase::Running);
            if let Some(before) = state {
                let steps_on = [before.sequence, before.sequence + 1, 1];
                prop_assert!(steps_on.contains(&next.sequence));
                prop_assert!(next.attempts >= before.attempts && next.crashes >= before.crashes);
                prop_assert!(next.crashes_since_checkpoint <= next.crashes);
                prop_assert!(!before.sealed || next.sealed);
                prop_assert!(next.retries >= before.retries);
                prop_assert!(!(before.held && before.phase != next.phase
                    && next.phase == Phase::Running), "a held job was started");
                if before.phase.is_final() {
                    prop_assert_eq!(next.phase, before.phase);
                }
            }
            state = Some(next);
        }
    }
}
