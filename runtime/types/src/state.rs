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
    /// All of them, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Received,
        Self::Scheduled,
        Self::Running,
        Self::Completed,
        Self::Sealed,
        Self::Failed,
        Self::Cancelled,
    ];

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
    /// Of these, the ones since the job last came further than before.
    pub crashes_since_checkpoint: u32,
    /// The number of the newest checkpoint; zero where there is none.
    pub sequence: u64,
    /// Its step.
    pub step: u64,
    /// The furthest step that any checkpoint of the job reached.
    pub furthest_step: u64,
    /// Failures after which it was tried again.
    pub retries: u32,
    /// Whether it is on hold: not to be started until it is released.
    pub held: bool,
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
    /// The job was put on hold.
    Held,
}

impl Interruption {
    /// Name as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostCrashed => "host-crashed",
            Self::HostFault => "host-fault",
            Self::Shutdown => "shutdown",
            Self::Held => "held",
        }
    }
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
    /// A piece of a record that is too large for one.
    Part {
        /// The claim, if an attempt holds the job.
        token: Option<Lsn>,
    },
    /// The attempt failed and the job is tried again, from its newest checkpoint.
    Retry {
        /// The claim.
        token: Lsn,
    },
    /// The job is not to be started until it is released.
    Hold,
    /// It may be started again.
    Release,
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
    let Some(state) = state else {
        return match transition {
            Transition::Receive => Ok(RECEIVED),
            Transition::Schedule
            | Transition::Start { .. }
            | Transition::Checkpoint { .. }
            | Transition::Interrupt { .. }
            | Transition::End { .. }
            | Transition::Part { .. }
            | Transition::Retry { .. }
            | Transition::Hold
            | Transition::Release
            | Transition::Seal => {
                Err(IllegalTransition::Phase { phase: None, what: "change before it is received" })
            }
        };
    };
    match transition {
        Transition::Receive => state.refuse("be received again"),
        Transition::Schedule => state.schedule(),
        Transition::Start { token } => state.start(token),
        Transition::Checkpoint { token, sequence, step, fresh } => {
            state.checkpoint(token, sequence, step, fresh)
        }
        Transition::Interrupt { token, why } => state.interrupt(token, why),
        Transition::End { token, verdict } => state.end(token, verdict),
        Transition::Part { token } => may_end(&state, token, Verdict::Failure).map(|()| state),
        Transition::Retry { token } => state.retry(token),
        Transition::Hold => state.set_held(true),
        Transition::Release => state.set_held(false),
        Transition::Seal => state.seal(),
    }
}

/// A job that was just accepted.
const RECEIVED: State = State {
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

impl State {
    fn refuse(self, what: &'static str) -> Result<Self, IllegalTransition> {
        Err(IllegalTransition::Phase { phase: Some(self.phase), what })
    }

    fn schedule(self) -> Result<Self, IllegalTransition> {
        match self.phase {
            Phase::Received => Ok(Self { phase: Phase::Scheduled, ..self }),
            Phase::Scheduled
            | Phase::Running
            | Phase::Completed
            | Phase::Sealed
            | Phase::Failed
            | Phase::Cancelled => self.refuse("be scheduled"),
        }
    }

    fn start(self, token: Lsn) -> Result<Self, IllegalTransition> {
        match self.phase {
            Phase::Scheduled if self.held => self.refuse("be started while it is on hold"),
            Phase::Scheduled => Ok(Self {
                phase: Phase::Running,
                token: Some(token),
                attempts: self.attempts + 1,
                ..self
            }),
            Phase::Received
            | Phase::Running
            | Phase::Completed
            | Phase::Sealed
            | Phase::Failed
            | Phase::Cancelled => self.refuse("be started"),
        }
    }

    fn checkpoint(
        self,
        token: Lsn,
        sequence: u64,
        step: u64,
        fresh: bool,
    ) -> Result<Self, IllegalTransition> {
        held(&self, token, "save a checkpoint")?;
        follows(&self, sequence, step, fresh)?;
        // A job that starts over and comes no further than before has not shown that it can.
        let came_further = !fresh || self.sequence == 0 || step > self.furthest_step;
        let crashes_since_checkpoint = if came_further { 0 } else { self.crashes_since_checkpoint };
        let furthest_step = self.furthest_step.max(step);
        Ok(Self { crashes_since_checkpoint, sequence, step, furthest_step, ..self })
    }

    fn interrupt(self, token: Lsn, why: Interruption) -> Result<Self, IllegalTransition> {
        held(&self, token, "be interrupted")?;
        let crashed = u32::from(why == Interruption::HostCrashed);
        Ok(Self {
            phase: Phase::Scheduled,
            token: None,
            crashes: self.crashes + crashed,
            crashes_since_checkpoint: self.crashes_since_checkpoint + crashed,
            ..self
        })
    }

    fn end(self, token: Option<Lsn>, verdict: Verdict) -> Result<Self, IllegalTransition> {
        may_end(&self, token, verdict)?;
        let phase = match verdict {
            Verdict::Success => Phase::Completed,
            Verdict::Failure => Phase::Failed,
            Verdict::Cancelled => Phase::Cancelled,
        };
        Ok(Self { phase, token: None, ..self })
    }

    fn retry(self, token: Lsn) -> Result<Self, IllegalTransition> {
        held(&self, token, "be tried again")?;
        let retries = self.retries.saturating_add(1);
        Ok(Self { phase: Phase::Scheduled, token: None, retries, ..self })
    }

    fn set_held(self, held: bool) -> Result<Self, IllegalTransition> {
        let what = if held { "be put on hold" } else { "be released" };
        match self.phase {
            Phase::Received | Phase::Scheduled | Phase::Running if self.held != held => {
                Ok(Self { held, ..self })
            }
            Phase::Received
            | Phase::Scheduled
            | Phase::Running
            | Phase::Completed
            | Phase::Sealed
            | Phase::Failed
            | Phase::Cancelled => self.refuse(what),
        }
    }

    fn seal(self) -> Result<Self, IllegalTransition> {
        match self.phase {
            Phase::Completed => Ok(Self { phase: Phase::Sealed, sealed: true, ..self }),
            Phase::Failed | Phase::Cancelled if !self.sealed => Ok(Self { sealed: true, ..self }),
            Phase::Failed
            | Phase::Cancelled
            | Phase::Received
            | Phase::Scheduled
            | Phase::Running
            | Phase::Sealed => self.refuse("be sealed"),
        }
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

/// Checks that whoever presents `token` may end the job.
fn may_end(state: &State, token: Option<Lsn>, verdict: Verdict) -> Result<(), IllegalTransition> {
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
