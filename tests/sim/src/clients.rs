//! What clients ask of a host.
//!
//! Owns: one request after the other, drawn by chance, through the same methods that HTTP calls, and
//! what its answer tells. Knows nothing of faults: an answer that does not come tells nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use hb_host::{
    ChangeError, Executed, LeftReason, Notice, Observer, Orders, Piece, RetryFrom, Stream,
    Submission, SubmitError,
};
use hb_types::{
    capture::Progress,
    event::JobNumber,
    job::{CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    limits::Limits,
    state::Phase,
    terms::{Concurrency, Retry, Terms},
};

use crate::{
    check::{Broken, chain},
    draw::Draw,
    life::{Answer, Life},
    program::{COMPONENT, Program, Undisturbed},
    spoil::Mutation,
    told::{Asked, Told},
};

/// More events than any simulated job has.
const EVENTS_MAX: usize = 10_000;

/// All clients of a history.
pub struct Clients {
    /// What they were told.
    pub told: Told,
    names: u64,
    mutation: Option<Mutation>,
}

impl Clients {
    /// Nobody has asked for anything.
    pub fn new(mutation: Option<Mutation>) -> Self {
        Self { told: Told::default(), names: 0, mutation }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Writes down what arrived since this was last called.
    pub fn hear(&mut self, life: &Life) -> Result<(), Broken> {
        let (answers, saves) = life.answers();
        for Answer { name, number } in answers {
            self.told.accept(&name, number)?;
        }
        for save in saves {
            self.told.save(&save);
        }
        Ok(())
    }

    /// Asks for something; says what, for the trace.
    pub fn ask(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        match draw.below(20) {
            0..=4 => Ok(self.submit_new(draw, life)),
            5 | 6 => self.submit_again(draw, life),
            7 => self.submit_other_under_same_name(draw, life),
            8..=10 => self.look(draw, life),
            11 => self.read_output(draw, life),
            12 => self.hold(draw, life),
            13 => self.release(draw, life),
            14 => Ok(self.cancel(draw, life)),
            15 => Ok(self.fork(draw, life)),
            16 => Ok(self.retry(draw, life)),
            17 => self.forget(draw, life),
            18 => Ok(self.pause_starts(draw, life)),
            _ => Self::run_a_second_time(life),
        }
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("job-{}", self.names)
    }

    fn submit_new(&mut self, draw: &mut Draw, life: &Life) -> String {
        let name = self.name();
        let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        let component = match life.host.add_component(COMPONENT.to_vec(), &limits) {
            Ok(component) => component,
            Err(error) => return format!("upload: {}", chain(&error)),
        };
        let mut inputs = BTreeMap::new();
        if draw.chance(1, 4) {
            // A few blobs that jobs share.
            let bytes = [draw.below(3).to_le_bytes()[0]; 50];
            match life.host.add_blob(&mut &bytes[..]) {
                Ok(blob) => drop(inputs.insert("input".to_owned(), blob)),
                Err(error) => return format!("upload: {}", chain(&error)),
            }
        }
        let spec = JobSpec {
            component,
            arguments: Program::drawn(draw).to_arguments(),
            environment: vec![("NAME".to_owned(), name.clone())],
            stdin: None,
            inputs,
            limits,
            seed: draw.any(),
            start_ns: DEFAULT_START_NS,
            origin: None,
            checkpoints: CheckpointPolicy::EverySteps(draw.between(1, 3)),
            max_crashes: if draw.chance(1, 8) { 2 } else { 1000 },
            labels: BTreeMap::new(),
            container: None,
        };
        let terms = drawn_terms(draw, life.host.now_ns());
        let undisturbed = Undisturbed::of(&spec, &[]);
        self.told
            .asked
            .insert(name.clone(), Asked { spec, terms, before: Vec::new(), undisturbed });
        self.submit(life, &name)
    }

    /// Submits what is written down under a name.
    fn submit(&mut self, life: &Life, name: &str) -> String {
        let asked = &self.told.asked[name];
        let doubled = self.is(Mutation::ForgetsIdempotency);
        let submission = Submission {
            job_id: if doubled && self.told.accepted.contains_key(name) {
                None
            } else {
                Some(name.to_owned())
            },
            name_hint: name.to_owned(),
            spec: asked.spec.clone(),
            terms: asked.terms.clone(),
            rerun: doubled && self.told.accepted.contains_key(name),
        };
        let answers = Arc::clone(&life.answers);
        let name = name.to_owned();
        match life.dispatcher.submit(&submission) {
            Ok((submitted, decided)) => {
                let number = submitted.number();
                let said = format!("submit {name}: {submitted:?}");
                let answer = Answer { name, number };
                let early = self.is(Mutation::AcceptsBeforeDurable);
                if early {
                    answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer.clone());
                }
                let tell = move |durable: Result<(), _>| {
                    if durable.is_ok() {
                        answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                    }
                };
                match decided {
                    Some(decided) => life.host.when_durable(decided, tell),
                    None => life.host.when_durable_at(number, tell),
                }
                said
            }
            Err(error) => format!("submit {name}: {}", chain(&error)),
        }
    }

    fn submit_again(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        let Some(name) = self.some_asked(draw) else { return Ok("nothing to repeat".to_owned()) };
        let said = self.submit(life, &name);
        self.hear(life)?;
        Ok(said)
    }

    fn submit_other_under_same_name(
        &mut self,
        draw: &mut Draw,
        life: &Life,
    ) -> Result<String, Broken> {
        let Some((name, _)) = self.some_accepted(draw) else { return Ok("no conflict".to_owned()) };
        let mut spec = self.told.asked[&name].spec.clone();
        spec.seed = !spec.seed;
        let submission = Submission {
            job_id: Some(name.clone()),
            name_hint: name.clone(),
            spec,
            terms: Terms::default(),
            rerun: false,
        };
        match life.dispatcher.submit(&submission) {
            Ok(submitted) => {
                Err(format!("another job was taken under the name {name}: {:?}", submitted.0))
            }
            Err(SubmitError::Conflict { .. }) => Ok(format!("conflict about {name}")),
            Err(error) => Ok(format!("other under {name}: {}", chain(&error))),
        }
    }

    /// Reads the events that follow what was seen, as a client with `Last-Event-ID` does.
    fn look(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        let Some((name, number)) = self.some_accepted(draw) else {
            return Ok("no look".to_owned());
        };
        let durable = if self.is(Mutation::ShowsEventsBeforeDurable) {
            u64::MAX
        } else {
            life.host.durable_lsn()
        };
        let told = self.told.accepted.get_mut(&name).expect("it was accepted");
        let after = told.events.last().map_or(0, |event| event.lsn);
        match life.host.load(number) {
            Ok(Some(job)) => {
                let events = job.events_after(after, EVENTS_MAX);
                let new = events.into_iter().take_while(|event| event.lsn <= durable);
                let before = told.events.len();
                told.events.extend(new);
                if !told.events.is_sorted_by(|one, next| one.lsn < next.lsn) {
                    return Err(format!("{name}: events out of order: {:?}", told.events));
                }
                Ok(format!("{} new events of {name}", told.events.len() - before))
            }
            Ok(None) if self.told.going.contains(&name) => Ok(format!("{name} is going")),
            Ok(None) => Err(format!("{name} was accepted and cannot be found")),
            Err(error) => Ok(format!("{name}: {}", chain(&error))),
        }
    }

    fn read_output(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        let Some((name, number)) = self.some_accepted(draw) else {
            return Ok("no read".to_owned());
        };
        let undisturbed = &self.told.asked[&name].undisturbed.stdout;
        let from = draw.below(undisturbed.len() as u64 + 1);
        let durable_only = draw.chance(1, 2);
        match life.host.read_output(number, Stream::Stdout, from, 5000, durable_only) {
            Ok(Piece::Bytes { bytes, durable }) => {
                let start = usize::try_from(from).unwrap_or(usize::MAX);
                let rest = undisturbed.get(start..).unwrap_or_default();
                if !rest.starts_with(&bytes) {
                    return Err(format!("{name}: at {from} it printed something else"));
                }
                let told = self.told.accepted.get_mut(&name).expect("it was accepted");
                if durable {
                    told.output_bytes = told.output_bytes.max(from + bytes.len() as u64);
                }
                Ok(format!("{} bytes of {name} at {from}, durable {durable}", bytes.len()))
            }
            Ok(piece) => Ok(format!("{name} at {from}: {piece:?}")),
            Err(error) => Ok(format!("{name} at {from}: {}", chain(&error))),
        }
    }

    fn hold(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        let Some((name, number)) = self.some_accepted(draw) else {
            return Ok("no hold".to_owned());
        };
        let now = draw.chance(1, 2);
        let answer = life.dispatcher.hold(number, now);
        self.told_of_hold(&name, true, &answer)
    }

    fn release(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        let Some((name, number)) = self.some_accepted(draw) else {
            return Ok("no release".to_owned());
        };
        let answer = life.dispatcher.release(number);
        self.told_of_hold(&name, false, &answer)
    }

    fn told_of_hold(
        &mut self,
        name: &str,
        held: bool,
        answer: &Result<(), ChangeError>,
    ) -> Result<String, Broken> {
        let told = self.told.accepted.get_mut(name).expect("it was accepted");
        match answer {
            Ok(()) => told.held = Some(held),
            Err(ChangeError::Ended { .. } | ChangeError::NoSuchJob { .. }) => {}
            Err(ChangeError::Already { .. }) if told.held == Some(!held) => {
                return Err(format!("{name}: that it is on hold is {held} already, not as told"));
            }
            Err(_) => told.held = None,
        }
        Ok(format!("hold {held} of {name}: {:?}", told.held))
    }

    fn cancel(&mut self, draw: &mut Draw, life: &Life) -> String {
        let Some((name, number)) = self.some_accepted(draw) else {
            return "no cancel".to_owned();
        };
        let runs = life.actors.iter().any(|actor| actor.job == number);
        let answer = if self.is(Mutation::ForgetsCancellation) {
            Ok(())
        } else {
            life.dispatcher.cancel(number)
        };
        let said = format!("cancel {name}, which runs: {runs}: {}", answer.is_ok());
        if answer.is_ok() && !runs {
            // A job that runs is asked to end, which may come too late.
            self.told.accepted.get_mut(&name).expect("it was accepted").cancelled = true;
        }
        said
    }

    fn fork(&mut self, draw: &mut Draw, life: &Life) -> String {
        let Some((source, number)) = self.some_accepted(draw) else { return "no fork".to_owned() };
        let Ok(Some(job)) = life.host.load(number) else { return "no source".to_owned() };
        let Some(mark) = job.checkpoint_chain().last() else { return "nothing to fork".to_owned() };
        // Who has not been shown the checkpoint cannot ask for it.
        if mark.lsn > life.host.durable_lsn() {
            return "not durable yet".to_owned();
        }
        let step = mark.step;
        let Some(mut program) = Program::of_arguments(&job.spec.arguments) else {
            return "no program".to_owned();
        };
        program.steps = program.steps.max(step) + draw.below(3);
        let name = self.name();
        let changes = |spec: &mut JobSpec| {
            spec.arguments = program.to_arguments();
            spec.environment = vec![("NAME".to_owned(), name.clone())];
        };
        match life.host.fork_spec(number, Some(mark.sequence), changes) {
            Ok(spec) => {
                let behind = &self.told.asked[&source];
                let mut before = behind.before.clone();
                before.push((behind.spec.clone(), step));
                let terms = drawn_terms(draw, life.host.now_ns());
                let undisturbed = Undisturbed::of(&spec, &before);
                self.told.asked.insert(name.clone(), Asked { spec, terms, before, undisturbed });
                format!("fork of {source} at {step}: {}", self.submit(life, &name))
            }
            Err(error) => format!("fork of {source}: {}", chain(&error)),
        }
    }

    fn retry(&mut self, draw: &mut Draw, life: &Life) -> String {
        let Some((source, number)) = self.some_accepted(draw) else { return "no retry".to_owned() };
        let from =
            if draw.chance(1, 2) { RetryFrom::Beginning } else { RetryFrom::NewestCheckpoint };
        let submission = match life.host.retry_submission(number, from) {
            Ok(submission) => submission,
            Err(error) => return format!("retry of {source}: {}", chain(&error)),
        };
        let behind = &self.told.asked[&source];
        let mut before = behind.before.clone();
        if let Some(origin) =
            submission.spec.origin.as_ref().filter(|_| from == RetryFrom::NewestCheckpoint)
        {
            before.push((behind.spec.clone(), origin.step));
        }
        let (spec, terms) = (submission.spec.clone(), submission.terms.clone());
        let name = submission.job_id.clone().unwrap_or_default();
        if self.told.asked.contains_key(&name) {
            return format!("{name} was asked for before");
        }
        let undisturbed = Undisturbed::of(&spec, &before);
        self.told.asked.insert(name.clone(), Asked { spec, terms, before, undisturbed });
        format!("retry of {source}: {}", self.submit(life, &name))
    }

    fn forget(&mut self, draw: &mut Draw, life: &Life) -> Result<String, Broken> {
        let Some((name, number)) = self.some_accepted(draw) else {
            return Ok("no removal".to_owned());
        };
        let Ok(Some(job)) = life.host.load(number) else { return Ok("not readable".to_owned()) };
        if !job.is_over() {
            return Ok(format!("{name} is not over"));
        }
        self.told.accepted.remove(&name);
        self.told.going.insert(name.clone());
        match life.host.forget(&[number]) {
            Ok(report) if report.left.iter().all(|(_, why)| *why == LeftReason::Unknown) => {
                self.told.going.remove(&name);
                self.told.gone.insert(name.clone());
                Ok(format!("removed {name}"))
            }
            Ok(report) => Err(format!("{name} is over and was not removed: {report:?}")),
            Err(error) => Ok(format!("removal of {name}: {}", chain(&error))),
        }
    }

    fn pause_starts(&mut self, draw: &mut Draw, life: &Life) -> String {
        let paused = draw.chance(1, 3);
        self.told.starts_paused = life.dispatcher.pause_starts(paused).is_ok().then_some(paused);
        format!("starts paused {:?}", self.told.starts_paused)
    }

    /// What runs already cannot be claimed once more, whoever tries.
    fn run_a_second_time(life: &Life) -> Result<String, Broken> {
        let Some(number) = life.actors.first().map(|actor| actor.job) else {
            return Ok("nothing runs".to_owned());
        };
        let state = life.host.job(number).map(|job| job.state);
        if state.is_none_or(|state| state.phase != Phase::Running) {
            return Ok(format!("job {number} has not begun"));
        }
        match life.host.execute(number, &Orders::default(), &mut Nobody) {
            Err(error) => Ok(format!("job {number} a second time: {}", chain(&error))),
            Ok(Executed::Over) => Ok(format!("job {number} is over")),
            Ok(_) => Err(format!("job {number} was run by two attempts at once")),
        }
    }

    /// Releases everything and lets jobs start, so that they come to their end.
    pub fn let_everything_run(&mut self, life: &Life) -> Result<(), Broken> {
        let held: Vec<JobNumber> = life.host.with_ledger(|ledger| {
            let held = ledger.jobs.values().filter(|job| job.is_unfinished() && job.state.held);
            held.map(|job| job.number).collect()
        });
        let failed = |error: ChangeError| format!("at the end: {}", chain(&error));
        for number in held {
            life.dispatcher.release(number).map_err(failed)?;
        }
        for told in self.told.accepted.values_mut() {
            told.held = None;
        }
        self.told.starts_paused = Some(false);
        life.dispatcher.pause_starts(false).map_err(failed)
    }

    fn some_asked(&self, draw: &mut Draw) -> Option<String> {
        let is_there =
            |name: &&String| !self.told.gone.contains(*name) && !self.told.going.contains(*name);
        let names: Vec<&String> = self.told.asked.keys().filter(is_there).collect();
        (!names.is_empty()).then(|| (*draw.pick(&names)).clone())
    }

    fn some_accepted(&self, draw: &mut Draw) -> Option<(String, JobNumber)> {
        let jobs: Vec<_> = self.told.accepted.iter().collect();
        if jobs.is_empty() {
            return None;
        }
        let (name, told) = draw.pick(&jobs);
        Some(((*name).clone(), told.number))
    }
}

fn drawn_terms(draw: &mut Draw, now_ns: u64) -> Terms {
    const SECOND_NS: u64 = 1_000_000_000;
    let retry =
        Retry { max_retries: u32::try_from(draw.below(3)).unwrap_or(0), ..Retry::default() };
    let concurrency = draw.chance(1, 4).then(|| Concurrency { key: "one".to_owned(), limit: 1 });
    Terms {
        priority: i32::try_from(draw.below(3)).unwrap_or(0),
        queue: (*draw.pick(&["default", "other"])).to_owned(),
        concurrency,
        retry,
        not_before_ns: if draw.chance(1, 6) { now_ns + draw.below(20) * SECOND_NS } else { 0 },
        finish_by_ns: if draw.chance(1, 10) { now_ns + draw.below(60) * SECOND_NS } else { 0 },
        ..Terms::default()
    }
}

struct Nobody;

impl Observer for Nobody {
    fn notice(&mut self, _notice: Notice) {}

    fn output(&mut self, _stream: Stream, _bytes: &[u8]) {}

    fn progress(&mut self, _progress: &Progress) {}
}
