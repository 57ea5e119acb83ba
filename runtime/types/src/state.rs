//! The state space of a job: one pure function.
//!
//! [`apply`] is the only way from one state to the next; live execution and replay of the log both
//! go through it. `docs/state-space.md` says the same formally.

use crate::Lsn;

/// Where a job is in its life.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// Accepted; durable before anyone is told.
    Received,
    /// May be claimed by an attempt.
    Scheduled,
    /// Claimed by an attempt.
    Running,
    /// Ended with success; what it left is durable.
    Completed,
    /// Ended with success and sealed. Final.
    Sealed,
    /// Ended by an error of its own or at a limit. Final.
    Failed,
    /// Ended by its user. Final.
    Cancelled,
}

impl Phase {
    /// Name as everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "RECEIVED",
            Self::Scheduled => "SCHEDULED",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Sealed => "SEALED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Whether nothing but a seal can follow.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Sealed | Self::Failed | Self::Cancelled)
    }
}

/// The part of a job that decides what may happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct State {
    /// Where it is.
    pub phase: Phase,
    /// The claim that holds it: the LSN of the record that started the running attempt.
    pub token: Option<Lsn>,
    /// Attempts that were started.
    pub attempts: u32,
    /// Attempts that died with their host.
    pub crashes: u32,
    /// Of these, the ones since the last checkpoint.
    pub crashes_since_checkpoint: u32,
    /// The number of the newest checkpoint; zero where there is none.
    pub sequence: u64,
    /// Its step.
    pub step: u64,
    /// Whether the outcome has its seal.
    pub sealed: bool,
}

/// Why an attempt ended without an outcome.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Interruption {
    /// The host died: `kill -9`, a power cut, a bug. Found at the next start.
    HostCrashed,
    /// The host could not go on: its disk failed or was full.
    HostFault,
    /// The host was asked to stop.
    Shutdown,
}

/// How an outcome moves a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guest ended with success.
    Success,
    /// It failed, reached a limit, or was set aside.
    Failure,
    /// Its user cancelled it.
    Cancelled,
}

/// What can happen to a job, as far as its state is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It was accepted.
    Receive,
    /// It may run.
    Schedule,
    /// An attempt claims it; the LSN is the claim's own.
    Start {
        /// LSN of the claiming record.
        token: Lsn,
    },
    /// A checkpoint of the attempt that holds `token`.
    Checkpoint {
        /// The claim.
        token: Lsn,
        /// Its number.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Whether the attempt started from the beginning and this is its first one.
        fresh: bool,
    },
    /// The attempt ended without an outcome.
    Interrupt {
        /// The claim.
        token: Lsn,
        /// Why.
        why: Interruption,
    },
    /// The job ended. Without a token only a job that nothing runs can end.
    End {
        /// The claim, if an attempt held it.
        token: Option<Lsn>,
        /// How.
        verdict: Verdict,
    },
    /// The outcome was sealed.
    Seal,
}

/// Something that cannot happen in that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IllegalTransition {
    /// The job is in a phase that does not allow it.
    #[error("a job that is {} cannot {what}", phase.map_or("unknown", Phase::name))]
    Phase {
        /// Where the job is; `None` where there is no such job.
        phase: Option<Phase>,
        /// What was tried.
        what: &'static str,
    },
    /// Another attempt holds the job.
    #[error("the attempt with token {token} no longer holds the job: {} does", holder.map_or_else(|| "nobody".to_owned(), |t| format!("token {t}")))]
    Superseded {
        /// The claim that was presented.
        token: Lsn,
        /// The claim that holds.
        holder: Option<Lsn>,
    },
    /// A checkpoint that does not follow the newest one.
    #[error(
        "checkpoint {sequence} at step {step} cannot follow checkpoint {last_sequence} at step {last_step}"
    )]
    Backwards {
        /// Its number.
        sequence: u64,
        /// Its step.
        step: u64,
        /// Number of the newest.
        last_sequence: u64,
        /// Step of the newest.
        last_step: u64,
    },
}

/// The state after a transition. Total and pure: the same arguments give the same answer, live
/// or in replay.
pub fn apply(state: Option<State>, transition: Transition) -> Result<State, IllegalTransition> {
    let phase = state.map(|state| state.phase);
    let refuse = |what| Err(IllegalTransition::Phase { phase, what });
    match (state, transition) {
        (None, Transition::Receive) => Ok(State {
            phase: Phase::Received,
            token: None,
            attempts: 0,
            crashes: 0,
            crashes_since_checkpoint: 0,
            sequence: 0,
            step: 0,
            sealed: false,
        }),
        (Some(_), Transition::Receive) => refuse("be received again"),
        (Some(state), Transition::Schedule) => match state.phase {
            Phase::Received => Ok(State { phase: Phase::Scheduled, ..state }),
            Phase::Scheduled
            | Phase::Running
            | Phase::Completed
            | Phase::Sealed
            | Phase::Failed
            | Phase::Cancelled => refuse("be scheduled"),
        },
        (Some(state), Transition::Start { token }) => match state.phase {
            Phase::Scheduled => Ok(State {
                phase: Phase::Running,
                token: Some(token),
                attempts: state.attempts + 1,
                ..state
            }),
            Phase::Received
            | Phase::Running
            | Phase::Completed
            | Phase::Sealed
            | Phase::Failed
            | Phase::Cancelled => refuse("be started"),
        },
        (Some(state), Transition::Checkpoint { token, sequence, step, fresh }) => {
            held(&state, token, "save a checkpoint")?;
            follows(&state, sequence, step, fresh)?;
            Ok(State { sequence, step, crashes_since_checkpoint: 0, ..state })
        }
        (Some(state), Transition::Interrupt { token, why }) => {
            held(&state, token, "be interrupted")?;
            let crashed = u32::from(why == Interruption::HostCrashed);
            Ok(State {
                phase: Phase::Scheduled,
                token: None,
                crashes: state.crashes + crashed,
                crashes_since_checkpoint: state.crashes_since_checkpoint + crashed,
                ..state
            })
        }
        (Some(state), Transition::End { token, verdict }) => {
            end(&state, token, verdict)?;
            let phase = match verdict {
                Verdict::Success => Phase::Completed,
                Verdict::Failure => Phase::Failed,
                Verdict::Cancelled => Phase::Cancelled,
            };
            Ok(State { phase, token: None, ..state })
        }
        (Some(state), Transition::Seal) => match state.phase {
            Phase::Completed => Ok(State { phase: Phase::Sealed, sealed: true, ..state }),
            Phase::Failed | Phase::Cancelled if !state.sealed => {
                Ok(State { sealed: true, ..state })
            }
            Phase::Failed
            | Phase::Cancelled
            | Phase::Received
            | Phase::Scheduled
            | Phase::Running
            | Phase::Sealed => refuse("be sealed"),
        },
        (
            None,
            Transition::Schedule
            | Transition::Start { .. }
            | Transition::Checkpoint { .. }
            | Transition::Interrupt { .. }
            | Transition::End { .. }
            | Transition::Seal,
        ) => refuse("change before it is received"),
    }
}

/// Checks that the claim `token` holds a running job.
fn held(state: &State, token: Lsn, what: &'static str) -> Result<(), IllegalTransition> {
    if state.phase != Phase::Running {
        return Err(IllegalTransition::Phase { phase: Some(state.phase), what });
    }
    if state.token != Some(token) {
        return Err(IllegalTransition::Superseded { token, holder: state.token });
    }
    Ok(())
}

/// Checks that a checkpoint is the next one and that its step does not fall.
///
/// A job that did not ask for its checkpoint starts from the beginning, and so do its numbers and
/// steps: it must not be able to tell that there was an attempt before.
fn follows(state: &State, sequence: u64, step: u64, fresh: bool) -> Result<(), IllegalTransition> {
    let (last_sequence, last_step) = if fresh { (0, 0) } else { (state.sequence, state.step) };
    if sequence == last_sequence + 1 && step >= last_step {
        return Ok(());
    }
    Err(IllegalTransition::Backwards { sequence, step, last_sequence, last_step })
}

fn end(state: &State, token: Option<Lsn>, verdict: Verdict) -> Result<(), IllegalTransition> {
    match token {
        Some(token) => held(state, token, "end"),
        None => match (state.phase, verdict) {
            (Phase::Received | Phase::Scheduled, Verdict::Failure | Verdict::Cancelled) => Ok(()),
            (Phase::Received | Phase::Scheduled, Verdict::Success)
            | (
                Phase::Running
                | Phase::Completed
                | Phase::Sealed
                | Phase::Failed
                | Phase::Cancelled,
                Verdict::Success | Verdict::Failure | Verdict::Cancelled,
            ) => Err(IllegalTransition::Phase { phase: Some(state.phase), what: "end" }),
        },
    }
}
