//! What an experiment came to, for people and for machines.
//!
//! Owns the figures and the words; the picture is `timeline.rs`.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    check::{Reference, Violation},
    experiment::Experiment,
    fault::Fault,
    plan::Round,
    timeline,
    told::{Finals, Told},
};

/// One life of a host.
#[derive(Clone, Debug, Serialize)]
pub struct Restart {
    /// Its number, from 1.
    pub round: u32,
    /// What was done to it.
    pub fault: Fault,
    /// Where.
    pub place: String,
    /// Whether that place was reached; a host that did not come by was killed all the same.
    pub reached: bool,
    /// Whether the components were compiled anew.
    pub cold: bool,
    /// When it was started, in seconds from the beginning.
    pub start_s: f64,
    /// From its start until it took jobs, in milliseconds; absent if it did not live so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<f64>,
    /// When it was gone.
    pub end_s: f64,
    /// Whether a flipped bit was noticed by `hb ledger check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed: Option<bool>,
}

impl Restart {
    pub(crate) fn of(round: &Round, start: Duration) -> Self {
        Self {
            round: round.number,
            fault: round.fault,
            place: round.trap.map_or("at a random moment", |(at, ..)| at.name()).to_owned(),
            reached: false,
            cold: round.cold,
            start_s: start.as_secs_f64(),
            ready_ms: None,
            end_s: start.as_secs_f64(),
            noticed: None,
        }
    }

    pub(crate) fn until(mut self, end: Duration) -> Self {
        self.end_s = end.as_secs_f64();
        self
    }
}

/// What clients did meanwhile.
pub(crate) struct Load<'a> {
    pub told: &'a Told,
    pub finals: &'a Finals,
    pub ends_s: Vec<f64>,
}

/// A job that was put through it.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectReport {
    /// What it is called.
    pub name: String,
    /// How the undisturbed run ended.
    pub outcome: String,
    /// The seal of the undisturbed run.
    pub seal: String,
    /// Jobs of it that ended with that seal.
    pub sealed: u64,
    /// Attempts of these that died with their host.
    pub crashes: u64,
    /// The most that one job went through.
    pub most_crashes: u32,
    /// Checkpoints of all of them.
    pub checkpoints: u64,
}

/// Median and extremes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// 99 of 100 are not larger.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let at = |part: usize| values.get((count * part / 100).min(count.saturating_sub(1)));
        let at = |part| at(part).copied().unwrap_or_default();
        Self { count, min: at(0), median: at(50), p99: at(99), max: at(100) }
    }
}

/// What an experiment came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every promise held.
    pub held: bool,
    /// What the plan followed from.
    pub seed: u64,
    /// How often the host was killed.
    pub kills: u32,
    /// Which faults were asked for.
    pub faults: Vec<Fault>,
    /// Jobs that were unfinished at any time.
    pub jobs: usize,
    /// Clients.
    pub clients: usize,
    /// How long it took.
    pub duration_s: f64,
    /// What was run.
    pub subjects: Vec<SubjectReport>,
    /// Jobs that clients were told about.
    pub told: usize,
    /// Events that clients were told about.
    pub events: u64,
    /// Connections that watchers lost.
    pub lost_connections: u64,
    /// From the start of a host until it took jobs, in milliseconds, with compiled components.
    pub ready_ms: Spread,
    /// Flipped bits: how many were noticed, and how many were where they do not matter.
    pub bits_noticed: usize,
    /// The latter.
    pub bits_harmless: usize,
    /// How many lives ended by each fault, at each place.
    pub places: Vec<Struck>,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// Every life of a host.
    pub restarts: Vec<Restart>,
    /// When jobs were seen to end, in seconds.
    #[serde(skip)]
    ends_s: Vec<f64>,
}

/// How often a fault came where.
#[derive(Clone, Debug, Serialize)]
pub struct Struck {
    /// The fault.
    pub fault: Fault,
    /// Where.
    pub place: String,
    /// How often it was planned.
    pub planned: usize,
    /// How often the host came by.
    pub reached: usize,
}

impl Report {
    pub(crate) fn new(
        experiment: &Experiment,
        references: &[Reference],
        load: &Load<'_>,
        restarts: Vec<Restart>,
        violations: Vec<Violation>,
        duration: Duration,
    ) -> Self {
        let subjects = references.iter().enumerate();
        let warm = restarts.iter().filter(|one| !one.cold).filter_map(|one| one.ready_ms).collect();
        let bits = |is| restarts.iter().filter(|one| one.noticed == Some(is)).count();
        Self {
            held: violations.is_empty(),
            seed: experiment.seed,
            kills: u32::try_from(restarts.len()).unwrap_or(u32::MAX),
            faults: experiment.faults.clone(),
            jobs: experiment.jobs,
            clients: experiment.clients,
            duration_s: duration.as_secs_f64(),
            subjects: subjects.map(|(index, one)| subject(index, one, load)).collect(),
            told: load.told.len(),
            events: load.told.iter().map(|job| job.events.len() as u64).sum(),
            lost_connections: load.told.iter().map(|job| u64::from(job.lost_connections)).sum(),
            ready_ms: Spread::of(warm),
            bits_noticed: bits(true),
            bits_harmless: bits(false),
            places: places(&restarts),
            violations,
            restarts,
            ends_s: load.ends_s.clone(),
        }
    }

    /// For people. `repeat` is the command that does the same again.
    pub fn text(&self, repeat: &str) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, repeat);
        text
    }

    fn write(&self, text: &mut String, repeat: &str) -> std::fmt::Result {
        let Self { kills, seed, duration_s, .. } = self;
        writeln!(text, "{kills} lives of a host in {duration_s:.1} s, seed {seed}\n")?;
        writeln!(text, "done:")?;
        for place in &self.places {
            let Struck { fault, place, planned, reached } = place;
            let missed = planned - reached;
            let missed = if missed == 0 {
                String::new()
            } else {
                format!(", and {missed} killed that did not come by")
            };
            writeln!(text, "  {reached:>5} x {}, {place}{missed}", fault.done())?;
        }
        if self.bits_noticed + self.bits_harmless > 0 {
            let (noticed, harmless) = (self.bits_noticed, self.bits_harmless);
            writeln!(
                text,
                "        flipped bits: {noticed} noticed by hb ledger check and put back, {harmless} \
                 where nothing is kept"
            )?;
        }
        writeln!(text, "\nmeanwhile:")?;
        let Self { told, clients, events, lost_connections, .. } = self;
        writeln!(
            text,
            "  {told} jobs acknowledged to {clients} clients, each under a name of its own"
        )?;
        writeln!(text, "  {events} events watched over {lost_connections} broken connections")?;
        for subject in &self.subjects {
            let SubjectReport { name, outcome, seal, sealed, crashes, most_crashes, checkpoints } =
                subject;
            writeln!(
                text,
                "  {name}: {sealed} ended as undisturbed ({outcome}, seal {seal:.12}…), through {crashes} \
                 crashes, at most {most_crashes} for one job, and {checkpoints} checkpoints"
            )?;
        }
        let Spread { count, min, median, p99, max } = self.ready_ms;
        writeln!(
            text,
            "\nready again, {count} times: median {median:.0} ms, at least {min:.0}, p99 {p99:.0}, at \
             most {max:.0}"
        )?;
        writeln!(text, "\n{}", timeline::draw(&self.restarts, &self.ends_s, self.duration_s))?;
        self.write_verdict(text, repeat)
    }

    fn write_verdict(&self, text: &mut String, repeat: &str) -> std::fmt::Result {
        if self.held {
            writeln!(
                text,
                "held: nothing that was acknowledged is lost, nothing was done twice, state went only \
                 forward,\n      every watcher saw each event and byte once, every seal is that of the \
                 undisturbed run,\n      the ledger is healthy, and a job of each kind verifies"
            )?;
        } else {
            writeln!(text, "BROKEN: {} times", self.violations.len())?;
            for violation in self.violations.iter().take(SHOWN) {
                let Violation { promise, job_id, found } = violation;
                let job = job_id.as_ref().map(|job| format!(" {job}:")).unwrap_or_default();
                writeln!(text, "  {promise}:{job} {found}")?;
            }
            if self.violations.len() > SHOWN {
                writeln!(text, "  and {} more, see --json", self.violations.len() - SHOWN)?;
            }
        }
        writeln!(text, "\nagain: {repeat}")
    }
}

/// Violations that people are shown.
const SHOWN: usize = 20;

fn subject(index: usize, reference: &Reference, load: &Load<'_>) -> SubjectReport {
    let of_it = load.told.iter().filter(|job| job.subject == index);
    let ended: Vec<_> = of_it
        .filter_map(|job| load.finals.get(&job.job_id))
        .filter(|there| there.seal == reference.ended.seal)
        .collect();
    let checkpoints = ended.iter().map(|there| {
        there.history.iter().filter(|event| event.what.name() == "checkpoint").count() as u64
    });
    SubjectReport {
        name: reference.name.clone(),
        outcome: reference.ended.outcome.clone(),
        seal: reference.ended.seal.clone(),
        sealed: ended.len() as u64,
        crashes: ended.iter().map(|there| u64::from(there.crashes)).sum(),
        most_crashes: ended.iter().map(|there| there.crashes).max().unwrap_or_default(),
        checkpoints: checkpoints.sum(),
    }
}

fn places(restarts: &[Restart]) -> Vec<Struck> {
    let mut counts: BTreeMap<(Fault, String), (usize, usize)> = BTreeMap::new();
    for restart in restarts {
        // Each flipped bit has a place of its own.
        let place = match restart.fault {
            Fault::Bitrot => "while no host ran",
            _ => &restart.place,
        };
        let (planned, reached) = counts.entry((restart.fault, place.to_owned())).or_default();
        *planned += 1;
        *reached += usize::from(restart.reached);
    }
    let place = |((fault, place), (planned, reached))| Struck { fault, place, planned, reached };
    counts.into_iter().map(place).collect()
}
