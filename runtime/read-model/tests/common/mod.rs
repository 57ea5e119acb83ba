//! A read model in a temporary directory, a naive one beside it, and rows made of few values, so
//! that filters meet them.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use hb_read_model::{
    Changes, EventRow, Filter, HexPrefix, IdMatch, JobRow, LabelMatch, Opened, ReadModel, TimeRange,
};
use hb_types::{Digest, Lsn, state::Phase};

pub const LEDGER: [u8; 16] = *b"the test's ledge";

/// A directory with a place for a read model.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("history.sqlite")
    }

    pub fn side(&self, suffix: &str) -> PathBuf {
        self.directory.path().join(format!("history.sqlite{suffix}"))
    }

    pub fn open(&self) -> (ReadModel, Opened) {
        ReadModel::open(&self.path(), LEDGER).unwrap()
    }
}

/// Numbers that look random and follow from a seed (`SplitMix64`).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, times: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.one_in(times) { Some(make(self)) } else { None }
    }
}

/// A plain job.
pub fn job(number: u64) -> JobRow {
    JobRow {
        number,
        job_id: format!("job-{number}"),
        job_hash: Digest::of(&number.to_le_bytes()),
        phase: Phase::Received,
        outcome: None,
        exit_code: None,
        seal: None,
        program: "kmer".to_owned(),
        queue: "default".to_owned(),
        labels: BTreeMap::new(),
        received_ns: number * 10,
        started_ns: None,
        ended_ns: None,
        attempts: 0,
        crashes: 0,
        checkpoints: 0,
        bytes: 0,
        last: number,
    }
}

/// The same job, sealed.
pub fn sealed(number: u64) -> JobRow {
    JobRow {
        phase: Phase::Sealed,
        outcome: Some("exit 0".to_owned()),
        exit_code: Some(0),
        seal: Some(Digest::of(&(!number).to_le_bytes())),
        ended_ns: Some(number * 10 + 5),
        bytes: number,
        last: number + 1,
        ..job(number)
    }
}

pub fn event(lsn: Lsn, job: u64) -> EventRow {
    EventRow { lsn, job, kind: "started".to_owned(), json: format!("{{\"lsn\":{lsn}}}") }
}

pub fn jobs(jobs: Vec<JobRow>) -> Changes {
    let applied = jobs.iter().map(|job| job.last).max().unwrap_or(0);
    Changes { jobs, applied, ..Changes::default() }
}

/// What the read model must be equal to: everything in memory, every question a walk over it.
#[derive(Clone, Debug, Default)]
pub struct Naive {
    pub jobs: BTreeMap<u64, JobRow>,
    pub events: BTreeMap<Lsn, EventRow>,
    pub applied: Lsn,
    pub newest: u64,
}

impl Naive {
    pub fn apply(&mut self, changes: &Changes) {
        for job in &changes.jobs {
            self.newest = self.newest.max(job.number);
            self.jobs.insert(job.number, job.clone());
        }
        for event in &changes.events {
            self.events.entry(event.lsn).or_insert_with(|| event.clone());
        }
        for number in &changes.forgotten {
            self.jobs.remove(number);
            self.events.retain(|_, event| event.job != *number);
        }
        self.applied = self.applied.max(changes.applied);
    }

    /// Jobs that satisfy a filter, newest first, below a number.
    pub fn find<'a>(
        &'a self,
        filter: &'a Filter,
        below: u64,
    ) -> impl Iterator<Item = &'a JobRow> + 'a {
        self.jobs.range(..below).rev().map(|(_, job)| job).filter(|job| satisfies(filter, job))
    }
}

/// The meaning of a filter, said once more and in another way.
pub fn satisfies(filter: &Filter, job: &JobRow) -> bool {
    let text_is = |wanted: &Option<String>, found: &str| match wanted {
        Some(wanted) => wanted == found,
        None => true,
    };
    let digest_is = |wanted: &Option<HexPrefix>, found: Option<Digest>| match (wanted, found) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wanted), Some(found)) => found.to_string().starts_with(&wanted.to_string()),
    };
    let time_is = |range: TimeRange, found: Option<u64>| match (range, found) {
        (TimeRange { from_ns: None, before_ns: None }, _) => true,
        (_, None) => false,
        (TimeRange { from_ns, before_ns }, Some(found)) => {
            (from_ns.unwrap_or(0)..before_ns.unwrap_or(u64::MAX)).contains(&found)
        }
    };
    let id_is = match &filter.id {
        None => true,
        Some(IdMatch::Prefix(prefix)) => job.job_id.as_bytes().starts_with(prefix.as_bytes()),
        Some(IdMatch::Contains(part)) => {
            job.job_id.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
        }
    };
    let label_is = |label: &LabelMatch| match (job.labels.get(&label.name), &label.value) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(found), Some(wanted)) => found == wanted,
    };
    let phase_is = filter.phases.is_empty() || filter.phases.iter().any(|one| *one == job.phase);
    let outcome_is = filter.outcome.is_none() || filter.outcome == job.outcome;
    phase_is
        && id_is
        && outcome_is
        && text_is(&filter.program, &job.program)
        && text_is(&filter.queue, &job.queue)
        && digest_is(&filter.job_hash, Some(job.job_hash))
        && digest_is(&filter.seal, job.seal)
        && time_is(filter.received, Some(job.received_ns))
        && time_is(filter.ended, job.ended_ns)
        && filter.labels.iter().all(label_is)
}

const ID_PARTS: [&str; 9] = ["ab", "AB", "a", "-", "sweep", "weep", "\u{2}", "é", "17"];
const PROGRAMS: [&str; 4] = ["kmer", "fold", "", "k'mer\0"];
const QUEUES: [&str; 3] = ["default", "gpu", "batch"];
const NAMES: [&str; 4] = ["project", "owner", "%", "rare"];
const VALUES: [&str; 4] = ["yes", "", "a\"b", "no"];
const OUTCOMES: [&str; 4] = ["exit 0", "exit 1", "trap unreachable", "cancelled"];

/// A name of a few parts.
fn id(random: &mut Random) -> String {
    (0..=random.below(4)).map(|_| random.pick(&ID_PARTS)).collect()
}

/// A digest with few different heads and few different tails.
fn digest(random: &mut Random) -> Digest {
    let mut digest = Digest([0xa0; 32]);
    digest.0[0] = u8::try_from(random.below(3)).unwrap();
    digest.0[1] = u8::try_from(random.below(8)).unwrap() * 0x11;
    digest.0[9] = u8::try_from(random.below(3)).unwrap();
    digest
}

/// A job with that number, made of few values.
pub fn any_job(random: &mut Random, number: u64, last: Lsn) -> JobRow {
    let phase = if random.one_in(20) { random.pick(&Phase::ALL) } else { Phase::Sealed };
    let names: BTreeSet<&str> = (0..random.below(4)).map(|_| random.pick(&NAMES)).collect();
    let names = names.into_iter().filter(|name| *name != "rare" || random.one_in(500));
    let names: Vec<String> = names.map(str::to_owned).collect();
    // Mostly in order, sometimes by a clock that was set wrong.
    let received_ns = if random.one_in(200) { random.below(300_000) } else { number * 10 };
    JobRow {
        number,
        job_id: id(random),
        job_hash: digest(random),
        phase,
        outcome: phase.is_final().then(|| random.pick(&OUTCOMES).to_owned()),
        exit_code: random.maybe(2, |random| u8::try_from(random.below(256)).unwrap()),
        seal: (phase == Phase::Sealed).then(|| digest(random)),
        program: random.pick(&PROGRAMS).to_owned(),
        queue: random.pick(&QUEUES).to_owned(),
        labels: names.into_iter().map(|name| (name, random.pick(&VALUES).to_owned())).collect(),
        received_ns,
        started_ns: random.maybe(2, |random| received_ns + random.below(100)),
        ended_ns: phase.is_final().then(|| {
            let ran_ns = if random.one_in(100) { 100_000 } else { 100 };
            received_ns + random.below(ran_ns)
        }),
        attempts: u32::try_from(random.below(5)).unwrap(),
        crashes: u32::try_from(random.below(5)).unwrap(),
        checkpoints: random.below(1000),
        bytes: random.below(1 << 40),
        last,
    }
}

/// A filter of one to three conditions.
pub fn any_filter(random: &mut Random) -> Filter {
    let mut filter = Filter::default();
    for _ in 0..=random.below(3) {
        match random.below(10) {
            0 => {
                filter.phases = (0..=random.below(3)).map(|_| random.pick(&Phase::ALL)).collect();
            }
            1 => filter.phases = [Phase::Sealed].into(),
            2 => {
                filter.id = Some(IdMatch::Prefix(if random.one_in(5) {
                    String::new()
                } else {
                    id(random)
                }));
            }
            3 => {
                let part = id(random);
                filter.id = (part.len() >= 3).then_some(IdMatch::Contains(part));
            }
            4 => filter.job_hash = Some(prefix(random)),
            5 => filter.seal = Some(prefix(random)),
            6 => filter.program = Some(random.pick(&PROGRAMS).to_owned()),
            7 => filter.queue = Some(random.pick(&QUEUES).to_owned()),
            8 => filter.outcome = Some(random.pick(&OUTCOMES).to_owned()),
            _ => filter.labels.push(LabelMatch {
                name: random.pick(&NAMES).to_owned(),
                value: random.maybe(2, |random| random.pick(&VALUES).to_owned()),
            }),
        }
        if random.one_in(4) {
            filter.received = range(random);
        }
        if random.one_in(4) {
            filter.ended = range(random);
        }
    }
    filter
}

fn prefix(random: &mut Random) -> HexPrefix {
    let digits = 1 + usize::try_from(random.below(64)).unwrap();
    digest(random).to_string()[..digits].parse().unwrap()
}

fn range(random: &mut Random) -> TimeRange {
    let start = random.below(300_000);
    TimeRange {
        from_ns: random.maybe(2, |_| start),
        before_ns: random.maybe(2, |random| start + random.below(100_000)),
    }
}
