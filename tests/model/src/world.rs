//! A few jobs, one log, attempts that may be paused, and clients who are told things.
//!
//! Owns: every step that such a world can take, and what must hold after each. A claim is numbered by
//! the attempt, not by the log, so that the number of states is finite.

use hb_types::{
    Lsn,
    state::{IllegalTransition, Interruption, Phase, State, Transition, Verdict},
};

/// Jobs of a world.
pub const JOBS: usize = 2;

/// The transition function of a world.
pub type Apply = fn(Option<State>, Transition) -> Result<State, IllegalTransition>;

/// How far a world may go.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Jobs.
    pub jobs: usize,
    /// Attempts at a job.
    pub attempts: u32,
    /// Checkpoints of a job.
    pub checkpoints: u64,
    /// Crashes of the host.
    pub crashes: u8,
    /// Batches that are on their way to the disk at once.
    pub staged: usize,
    /// Retries of a job.
    pub retries: u32,
}

/// The rules of a host: those of the product, or wrong ones.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule of its own that can be broken")]
pub struct Rules {
    /// What a record makes of a job.
    pub apply: Apply,
    /// Whether clients are told before the flush.
    pub tells_early: bool,
    /// Whether recovery marks attempts that died with the host.
    pub marks_crashes: bool,
    /// Whether an outcome and its seal are one batch.
    pub seals_with_outcome: bool,
    /// Whether a crash keeps no batch without the ones before it.
    pub keeps_order: bool,
    /// Whether whoever knows a claim that is not durable dies with the host.
    pub claims_stay_inside: bool,
}

impl Rules {
    /// Those of the product.
    pub const PRODUCT: Self = Self {
        apply: hb_types::state::apply,
        tells_early: false,
        marks_crashes: true,
        seals_with_outcome: true,
        keeps_order: true,
        claims_stay_inside: true,
    };
}

/// A record about a job.
pub type Entry = (usize, Transition);

/// A batch: all of it is in the log after a crash, or nothing.
pub type Batch = Vec<Entry>;

/// An attempt that believes that it holds a job. It may be paused for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Believer {
    /// Which job.
    pub job: u8,
    /// Its claim.
    pub token: Lsn,
    /// The number of its newest checkpoint, or of the one that it was given.
    pub sequence: u64,
    /// Whether it was given none and has saved none.
    pub fresh: bool,
    /// Whether it was given one and has saved none since: it may not have asked for it.
    pub untouched: bool,
}

/// What clients know of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Told {
    /// It was accepted.
    pub received: bool,
    /// The furthest step of a checkpoint that a guest was told to be durable.
    pub step: u64,
    /// How it ended.
    pub ended: Option<u8>,
    /// That it is sealed.
    pub sealed: bool,
}

/// A state of a world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The jobs as the host sees them.
    pub live: [Option<StateKey>; JOBS],
    /// The jobs as the disk certainly has them.
    pub durable: [Option<StateKey>; JOBS],
    /// Batches that are on their way, in order.
    pub staged: Vec<Vec<EntryKey>>,
    /// Attempts, sorted.
    pub believers: Vec<Believer>,
    /// What clients know.
    pub told: [Told; JOBS],
    /// Crashes so far.
    pub crashes: u8,
    /// Whether a record on the disk does not follow those before it.
    pub unreadable: bool,
}

/// A job's state, as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateKey(pub State);

impl std::hash::Hash for StateKey {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        let State { phase, token, attempts, crashes, .. } = self.0;
        let State { sequence, step, furthest_step, retries, held, sealed, .. } = self.0;
        (phase as u8, token, attempts, crashes, sequence, step).hash(hasher);
        (self.0.crashes_since_checkpoint, furthest_step, retries, held, sealed).hash(hasher);
    }
}

/// A record, as a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryKey(pub usize, pub Transition);

impl std::hash::Hash for EntryKey {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        // Records that differ elsewhere only are few, and equality tells them apart.
        (self.0, std::mem::discriminant(&self.1)).hash(hasher);
    }
}

/// A step of a world.
#[derive(Clone, Debug)]
pub enum Step {
    /// Records are decided: applied, and on their way to the disk.
    Decide(Batch),
    /// The oldest batch is flushed, and clients are told what is durable.
    Flush,
    /// The host dies; of the batches on their way, this many are on the disk.
    Crash {
        /// How many, from the oldest on.
        kept: usize,
        /// A batch that is lost although a later one is kept.
        lost: Option<usize>,
    },
    /// An attempt that was superseded gives up.
    GiveUp(Believer),
}

/// What a paused attempt may do that nobody else may.
pub fn writes_of(believer: &Believer, bounds: &Bounds, rules: &Rules) -> Vec<Batch> {
    let Believer { token, sequence, fresh, untouched, .. } = *believer;
    let job = usize::from(believer.job);
    let mut batches = Vec::new();
    if untouched {
        // A guest that does not ask starts from the beginning, and so do its numbers.
        let from_the_beginning =
            Transition::Checkpoint { token, sequence: 1, step: 1, fresh: true };
        batches.push(vec![(job, from_the_beginning)]);
    }
    if sequence < bounds.checkpoints {
        let sequence = sequence + 1;
        let step = sequence;
        batches.push(vec![(job, Transition::Checkpoint { token, sequence, step, fresh })]);
    }
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::Cancelled] {
        batches.push(ending(job, Some(token), verdict, rules));
    }
    let why = Interruption::HostFault;
    batches.push(vec![(job, Transition::Interrupt { token, why })]);
    batches.push(vec![(job, Transition::Retry { token })]);
    batches
}

fn ending(job: usize, token: Option<Lsn>, verdict: Verdict, rules: &Rules) -> Batch {
    let end = (job, Transition::End { token, verdict });
    if rules.seals_with_outcome { vec![end, (job, Transition::Seal)] } else { vec![end] }
}

impl World {
    /// Nothing was asked for.
    pub fn new() -> Self {
        Self {
            live: [None; JOBS],
            durable: [None; JOBS],
            staged: Vec::new(),
            believers: Vec::new(),
            told: [Told::default(); JOBS],
            crashes: 0,
            unreadable: false,
        }
    }

    /// A job as the host sees it.
    pub fn job(&self, job: usize) -> Option<State> {
        self.live[job].map(|key| key.0)
    }

    /// Everything that somebody could try now, allowed or not.
    pub fn attempts(&self, bounds: &Bounds, rules: &Rules) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.staged.len() < bounds.staged {
            let decide = |batch: Batch| Step::Decide(batch);
            for job in 0..bounds.jobs {
                steps.extend(self.requests(job, bounds, rules).into_iter().map(decide));
            }
            for believer in &self.believers {
                let job = self.job(usize::from(believer.job));
                let may_retry = job.is_some_and(|job| job.retries < bounds.retries);
                let writes = writes_of(believer, bounds, rules)
                    .into_iter()
                    .filter(|batch| may_retry || !matches!(batch[0].1, Transition::Retry { .. }));
                steps.extend(writes.map(decide));
            }
        }
        if !self.staged.is_empty() {
            steps.push(Step::Flush);
        }
        if self.crashes < bounds.crashes {
            steps.extend((0..=self.staged.len()).map(|kept| Step::Crash { kept, lost: None }));
            if !rules.keeps_order && self.staged.len() > 1 {
                steps.push(Step::Crash { kept: self.staged.len(), lost: Some(0) });
            }
        }
        let gone = self.believers.iter().filter(|believer| {
            self.job(usize::from(believer.job)).is_none_or(|job| job.token != Some(believer.token))
        });
        steps.extend(gone.copied().map(Step::GiveUp));
        steps
    }

    /// What clients and the dispatcher may ask about a job.
    fn requests(&self, job: usize, bounds: &Bounds, rules: &Rules) -> Vec<Batch> {
        let mut batches = vec![
            vec![(job, Transition::Receive)],
            vec![(job, Transition::Hold)],
            vec![(job, Transition::Release)],
            ending(job, None, Verdict::Cancelled, rules),
            ending(job, None, Verdict::Failure, rules),
            vec![(job, Transition::Seal)],
        ];
        if let Some(state) = self.job(job)
            && state.attempts < bounds.attempts
        {
            let start = (job, Transition::Start { token: Lsn::from(state.attempts) + 1 });
            batches.push(vec![start]);
            batches.push(vec![(job, Transition::Schedule), start]);
        }
        batches
    }

    /// The world after a step; `None` where it is refused and nothing changes.
    pub fn after(&self, step: &Step, rules: &Rules) -> Option<Self> {
        let mut world = self.clone();
        match step {
            Step::Decide(batch) => {
                for (job, record) in batch {
                    let state = (rules.apply)(world.job(*job), *record).ok()?;
                    world.live[*job] = Some(StateKey(state));
                }
                let keys = batch.iter().map(|(job, record)| EntryKey(*job, *record));
                world.staged.push(keys.collect());
                world.follow(batch);
                if rules.tells_early {
                    world.tell(world.live);
                }
            }
            Step::Flush => {
                let batch = world.staged.remove(0);
                world.make_durable(&batch, rules);
                world.tell(world.durable);
            }
            Step::Crash { kept, lost } => {
                let staged = std::mem::take(&mut world.staged);
                let kept = staged.iter().take(*kept).enumerate();
                for (_, batch) in kept.filter(|(index, _)| Some(*index) != *lost) {
                    world.make_durable(batch, rules);
                }
                world.live = world.durable;
                world.crashes += 1;
                if rules.claims_stay_inside {
                    // The number of a claim that was lost is given out once more.
                    let durable = world.durable;
                    let attempts = |job: u8| durable[usize::from(job)].map_or(0, |k| k.0.attempts);
                    world.believers.retain(|one| one.token <= Lsn::from(attempts(one.job)));
                }
                world.recover(rules);
            }
            Step::GiveUp(believer) => world.believers.retain(|other| other != believer),
        }
        Some(world)
    }

    /// What a batch means for the attempts.
    fn follow(&mut self, batch: &Batch) {
        for (job, record) in batch {
            let number = u8::try_from(*job).expect("few jobs");
            let state = self.job(*job).expect("it was just changed");
            match *record {
                Transition::Start { token } => {
                    let sequence = state.sequence;
                    let (fresh, untouched) = (sequence == 0, sequence > 0);
                    let attempt = Believer { job: number, token, sequence, fresh, untouched };
                    self.believers.push(attempt);
                }
                Transition::Checkpoint { token, sequence, .. } => {
                    let own = |one: &&mut Believer| (one.job, one.token) == (number, token);
                    if let Some(believer) = self.believers.iter_mut().find(own) {
                        (believer.sequence, believer.fresh) = (sequence, false);
                        believer.untouched = false;
                    }
                }
                // Whoever ends or interrupts knows that it is over.
                Transition::End { token: Some(token), .. }
                | Transition::Interrupt { token, .. }
                | Transition::Retry { token } => {
                    self.believers.retain(|one| (one.job, one.token) != (number, token));
                }
                _ => {}
            }
        }
        self.believers.sort_unstable();
    }

    fn make_durable(&mut self, batch: &[EntryKey], rules: &Rules) {
        for EntryKey(job, record) in batch {
            let before = self.durable[*job].map(|key| key.0);
            match (rules.apply)(before, *record) {
                Ok(state) => self.durable[*job] = Some(StateKey(state)),
                Err(_) => self.unreadable = true,
            }
        }
    }

    fn tell(&mut self, of: [Option<StateKey>; JOBS]) {
        for (told, state) in self.told.iter_mut().zip(of) {
            let Some(StateKey(state)) = state else { continue };
            told.received = true;
            told.step = told.step.max(state.furthest_step);
            told.sealed |= state.sealed;
            if let Some(ended) = ended_as(&state) {
                told.ended = Some(ended);
            }
        }
    }

    /// The next start: attempts that still hold a job are marked; those that were merely paused go
    /// on believing.
    fn recover(&mut self, rules: &Rules) {
        if !rules.marks_crashes {
            return;
        }
        for job in 0..JOBS {
            let Some(state) = self.job(job) else { continue };
            let Some(token) = state.token else { continue };
            let why = Interruption::HostCrashed;
            let marked = (rules.apply)(Some(state), Transition::Interrupt { token, why });
            if let Ok(state) = marked {
                self.live[job] = Some(StateKey(state));
                self.durable[job] = self.live[job];
            }
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// How a job ended, if it did.
fn ended_as(state: &State) -> Option<u8> {
    match state.phase {
        Phase::Completed | Phase::Sealed => Some(0),
        Phase::Failed => Some(1),
        Phase::Cancelled => Some(2),
        Phase::Received | Phase::Scheduled | Phase::Running => None,
    }
}

/// What must hold of every state, in words where it does not.
pub fn violated(world: &World, bounds: &Bounds, rules: &Rules) -> Option<String> {
    if world.unreadable {
        return Some("a record on the disk does not follow those before it".to_owned());
    }
    for job in 0..bounds.jobs {
        let Told { received, step, ended, sealed } = world.told[job];
        let durable = world.durable[job].map(|key| key.0);
        let live = world.job(job);
        if received && durable.is_none() {
            return Some(format!("job {job} was accepted and is not durable"));
        }
        let Some(durable) = durable else { continue };
        if durable.furthest_step < step {
            return Some(format!("job {job}: step {step} was durable, now {durable:?}"));
        }
        if ended.is_some() && ended_as(&durable) != ended || sealed && !durable.sealed {
            return Some(format!("job {job}: its outcome was shown and changed: {durable:?}"));
        }
        for state in live.into_iter().chain([durable]) {
            if (state.token.is_some()) != (state.phase == Phase::Running) {
                return Some(format!("job {job}: a claim without a run: {state:?}"));
            }
            if ended_as(&state).is_some() && !state.sealed {
                return Some(format!("job {job}: an outcome without a seal: {state:?}"));
            }
        }
        let accepted = |believer: &&Believer| {
            let writes = writes_of(believer, bounds, rules);
            usize::from(believer.job) == job
                && writes.iter().any(|batch| (rules.apply)(live, batch[0].1).is_ok())
        };
        if world.believers.iter().filter(accepted).count() > 1 {
            return Some(format!("job {job}: two attempts may write: {:?}", world.believers));
        }
    }
    None
}

/// What must hold of every step of a job, in words where it does not.
pub fn step_violated(before: &World, step: &Step, after: &World) -> Option<String> {
    for (job, (old, new)) in before.live.iter().zip(&after.live).enumerate() {
        let (Some(StateKey(old)), Some(StateKey(new))) = (old, new) else { continue };
        if let Step::Crash { .. } = step {
            if new.retries > old.retries || new.phase == Phase::Failed && old.phase != new.phase {
                return Some(format!("job {job}: a crash counts as a failure: {new:?}"));
            }
            if new.phase == Phase::Running {
                return Some(format!("job {job}: a dead attempt still holds it: {new:?}"));
            }
            continue;
        }
        if ended_as(old).is_some() && ended_as(old) != ended_as(new) {
            return Some(format!("job {job}: what was final changed: {old:?}, {new:?}"));
        }
        let counts = |state: &State| [state.attempts, state.crashes, state.retries];
        if counts(old).iter().zip(counts(new)).any(|(old, new)| *old > new) {
            return Some(format!("job {job}: a count fell: {old:?}, {new:?}"));
        }
        let starts_over = matches!(
            step,
            Step::Decide(batch) if matches!(batch[..], [(_, Transition::Checkpoint { fresh: true, .. })])
        );
        if new.furthest_step < old.furthest_step
            || !starts_over && (new.sequence < old.sequence || new.step < old.step)
        {
            return Some(format!("job {job}: a resumed job went back: {old:?}, {new:?}"));
        }
        if old.held && old.phase != Phase::Running && new.phase == Phase::Running {
            return Some(format!("job {job}: it was started while it was on hold"));
        }
        if old.token.is_some() && new.token.is_some() && old.token != new.token {
            return Some(format!("job {job}: a claim was taken from whoever held it"));
        }
    }
    None
}
