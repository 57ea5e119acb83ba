//! A made-up history of jobs that looks like a real one: the same for the same size.
//!
//! Most jobs are sealed; names come from sweeps, from identifiers and from people; programs and
//! queues go together, so that some pairs never meet; a few jobs run for weeks.

use std::collections::BTreeMap;

use hb_read_model::JobRow;
use hb_types::{Digest, state::Phase};

/// When the first job was received: 2026-01-01.
pub const START_NS: u64 = 1_767_225_600 * SECOND_NS;

const SECOND_NS: u64 = 1_000_000_000;

/// Between two jobs, on average.
const BETWEEN_NS: u64 = 5 * SECOND_NS;

/// Records of the log between two jobs, on average.
const RECORDS: u64 = 7;

const PROGRAMS: [&str; 8] =
    ["kmer", "align", "hunt", "fold", "render", "train", "evaluate", "distil"];

/// A row of random numbers that depends on nothing but where it starts (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The number of the job at a place of the history.
pub const fn number(place: u64) -> u64 {
    place * RECORDS + 1 + place % 3
}

/// When the job at a place was received, but for some jitter.
pub const fn received_ns(place: u64) -> u64 {
    START_NS + place * BETWEEN_NS
}

/// The job at a place of a history of `rows` jobs.
pub fn job(place: u64, rows: u64) -> JobRow {
    let mut random = Random(place.wrapping_mul(0xd134_2543_de82_ef95));
    let gpu = random.one_in(5);
    // The last three programs are those that need the queue "gpu", and nothing else does.
    let program = if gpu { 5 + random.below(3) } else { random.below(5).min(random.below(5)) };
    let program = PROGRAMS[usize::try_from(program).expect("there are eight")];
    let phase = phase(place, rows, &mut random);
    let received_ns = received_ns(place) + random.below(BETWEEN_NS);
    let ran_ns = duration_ns(&mut random);
    let has_ended = phase.is_final();
    let again = random.one_in(10);
    let hashed = if again { random.below(100) } else { place + 1000 };
    let attempts = u32::from(phase != Phase::Received) + u32::from(random.one_in(50));
    JobRow {
        number: number(place),
        job_id: job_id(place, program, &mut random),
        job_hash: Digest::of(&hashed.to_le_bytes()),
        phase,
        outcome: outcome(phase, &mut random),
        exit_code: has_ended.then(|| u8::from(phase != Phase::Sealed)),
        seal: (phase == Phase::Sealed).then(|| Digest::of(&(!hashed).to_le_bytes())),
        program: program.to_owned(),
        queue: if gpu {
            "gpu"
        } else if random.one_in(8) {
            "batch"
        } else {
            "default"
        }
        .to_owned(),
        labels: labels(place, rows, &mut random),
        received_ns,
        started_ns: (attempts > 0).then_some(received_ns + SECOND_NS),
        ended_ns: has_ended.then_some(received_ns + SECOND_NS + ran_ns),
        attempts,
        crashes: attempts.saturating_sub(1),
        checkpoints: ran_ns / (10 * SECOND_NS),
        bytes: 1000 + random.below(10_000_000),
        last: number(place) + 5,
    }
}

/// The last three jobs have just been received; before them some wait and some run.
fn phase(place: u64, rows: u64, random: &mut Random) -> Phase {
    match rows - place {
        0..=3 => Phase::Received,
        4..=1000 => Phase::Scheduled,
        1001..=1200 => Phase::Running,
        _ => match random.below(200) {
            0..=7 => Phase::Failed,
            8..=9 => Phase::Cancelled,
            _ => Phase::Sealed,
        },
    }
}

fn outcome(phase: Phase, random: &mut Random) -> Option<String> {
    let text = match phase {
        Phase::Sealed => "exit 0".to_owned(),
        Phase::Cancelled => "cancelled".to_owned(),
        Phase::Failed => match random.below(4) {
            0 => "trap unreachable".to_owned(),
            1 => "limit memory_bytes".to_owned(),
            _ => format!("exit {}", 1 + random.below(3)),
        },
        Phase::Received | Phase::Scheduled | Phase::Running | Phase::Completed => return None,
    };
    Some(text)
}

/// Mostly seconds to an hour, for one in a thousand up to three weeks.
fn duration_ns(random: &mut Random) -> u64 {
    let most_s = if random.one_in(1000) { 21 * 86_400 } else { 3600 >> random.below(10) };
    random.below(most_s * SECOND_NS)
}

fn job_id(place: u64, program: &str, random: &mut Random) -> String {
    match random.below(10) {
        0..=4 => format!("sweep-{:02}-{place:07}", random.below(40)),
        5..=7 => format!("{:016x}{:016x}", random.next(), random.next()),
        _ => {
            let what = ["ecoli", "lambda", "yeast", "fly"]
                [usize::try_from(random.below(4)).expect("four")];
            format!("{program}.{what}.{place}")
        }
    }
}

fn labels(place: u64, rows: u64, random: &mut Random) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut label = |name: &str, value: String| labels.insert(name.to_owned(), value);
    label("project", format!("p{}", random.below(20)));
    label(
        "owner",
        ["ada", "bo", "cy", "di", "ed"][usize::try_from(random.below(5)).expect("five")].to_owned(),
    );
    if random.one_in(2) {
        label("nightly", "yes".to_owned());
    }
    if random.one_in(3) {
        label("run", format!("{:08x}", random.next() >> 32));
    }
    if place % (rows / 10).max(1) == 7 {
        label("kept", "paper".to_owned());
    }
    labels
}
