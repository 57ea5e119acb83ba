//! One job: which records may follow, and what they make of it.
//!
//! Owns: the table of `docs/state-space.md` as guards and updates. It shares the types of the
//! product, so that both can be asked the same, and none of its code.

use hb_types::state::{Interruption, Phase, State, Transition, Verdict};

/// What a record makes of a job; `None` where it is refused.
pub fn next(job: Option<State>, record: Transition) -> Option<State> {
    let Some(before) = job else {
        let nothing = State {
            phase: Phase::Received,
            token: None,
            attempts: 0,
            crashes: 0,
            crashes_since_checkpoint: 0,
            sequence: 0,
            step: 0,
            furthest_step: 0,
            retries: 0,
            held: false,
            sealed: false,
        };
        return (record == Transition::Receive).then_some(nothing);
    };
    let waits = matches!(before.phase, Phase::Received | Phase::Scheduled);
    let runs = before.phase == Phase::Running;
    // Who presents the token of the attempt that holds the job, may write about it.
    let holds = |token| runs && before.token == Some(token);
    let mut after = before;
    let allowed = match record {
        Transition::Receive => false,
        Transition::Schedule => {
            after.phase = Phase::Scheduled;
            before.phase == Phase::Received
        }
        Transition::Start { token } => {
            (after.phase, after.token) = (Phase::Running, Some(token));
            after.attempts += 1;
            before.phase == Phase::Scheduled && !before.held
        }
        Transition::Checkpoint { token, sequence, step, fresh } => {
            let (last, reached) = if fresh { (0, 0) } else { (before.sequence, before.step) };
            (after.sequence, after.step) = (sequence, step);
            after.furthest_step = before.furthest_step.max(step);
            let no_news = fresh && before.sequence > 0 && step <= before.furthest_step;
            if !no_news {
                after.crashes_since_checkpoint = 0;
            }
            holds(token) && sequence == last + 1 && step >= reached
        }
        Transition::Interrupt { token, why } => {
            (after.phase, after.token) = (Phase::Scheduled, None);
            if why == Interruption::HostCrashed {
                after.crashes += 1;
                after.crashes_since_checkpoint += 1;
            }
            holds(token)
        }
        Transition::Retry { token } => {
            (after.phase, after.token) = (Phase::Scheduled, None);
            after.retries += 1;
            holds(token)
        }
        Transition::End { token, verdict } => {
            after.phase = match verdict {
                Verdict::Success => Phase::Completed,
                Verdict::Failure => Phase::Failed,
                Verdict::Cancelled => Phase::Cancelled,
            };
            after.token = None;
            match token {
                Some(token) => holds(token),
                None => waits && verdict != Verdict::Success,
            }
        }
        Transition::Part { token } => token.map_or(waits, holds),
        Transition::Hold => {
            after.held = true;
            (waits || runs) && !before.held
        }
        Transition::Release => {
            after.held = false;
            (waits || runs) && before.held
        }
        Transition::Seal => {
            if before.phase == Phase::Completed {
                after.phase = Phase::Sealed;
            }
            after.sealed = true;
            let ended = matches!(before.phase, Phase::Completed | Phase::Failed | Phase::Cancelled);
            ended && !before.sealed
        }
    };
    allowed.then_some(after)
}

/// Every record that could be tried about a job whose tokens, numbers and steps stay below bounds.
pub fn alphabet(tokens: u64, numbers: u64) -> Vec<Transition> {
    let mut records = vec![
        Transition::Receive,
        Transition::Schedule,
        Transition::Hold,
        Transition::Release,
        Transition::Seal,
        Transition::Part { token: None },
    ];
    let verdicts = [Verdict::Success, Verdict::Failure, Verdict::Cancelled];
    let whys = [
        Interruption::HostCrashed,
        Interruption::HostFault,
        Interruption::Shutdown,
        Interruption::Held,
    ];
    records.extend(verdicts.map(|verdict| Transition::End { token: None, verdict }));
    for token in 1..=tokens {
        records.extend([
            Transition::Start { token },
            Transition::Retry { token },
            Transition::Part { token: Some(token) },
        ]);
        records.extend(verdicts.map(|verdict| Transition::End { token: Some(token), verdict }));
        records.extend(whys.map(|why| Transition::Interrupt { token, why }));
        for (sequence, step) in (0..=numbers).flat_map(|n| (0..=numbers).map(move |k| (n, k))) {
            let checkpoint = |fresh| Transition::Checkpoint { token, sequence, step, fresh };
            records.extend([false, true].map(checkpoint));
        }
    }
    records
}
