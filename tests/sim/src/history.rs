//! One history, from a seed.
//!
//! Owns: the order of everything: lives of hosts, what clients ask, which attempt goes on, when time
//! passes, what is left of a disk, and when the checker looks. Everything follows from the seed.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use hb_disk::{CrashChoice, SimulatedDisk};

use crate::{
    check::{self, Broken, chain},
    clients::Clients,
    clock::SimulatedClock,
    draw::Draw,
    faults::{self, EndOfLife, Faults, Kind},
    life::{Life, log_options},
    process::Process,
    seen::Seen,
    spoil::{Mutation, Spoil},
};

const SECOND_NS: u64 = 1_000_000_000;

/// Steps after which jobs that still have something to do will never end.
const LAST_STEPS: u32 = 5_000;

/// What happened, line by line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// What clients asked and were answered, and what became of hosts.
    pub lines: Vec<String>,
    /// Lives of hosts that were opened.
    pub opened: u64,
    /// Operations of disks.
    pub operations: u64,
    /// What the ledger held at the end.
    pub seen: Seen,
}

/// A history in which a promise was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that repeats it.
    pub seed: u64,
    /// Which promise.
    pub what: Broken,
    /// What happened before.
    pub trace: Trace,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, .. } = self;
        write!(
            f,
            "seed {seed}: {what}\n  repeat it: HB_SIM_SEED={seed} cargo run --release -p hb-sim"
        )
    }
}

/// Runs the history of a seed.
pub fn run(seed: u64) -> Result<Trace, Box<Violation>> {
    run_spoiled(seed, None)
}

/// Runs the history of a seed with a host that is wrong on purpose.
pub fn run_spoiled(seed: u64, mutation: Option<Mutation>) -> Result<Trace, Box<Violation>> {
    let mut history = History::new(seed, mutation);
    let ran = catch_unwind(AssertUnwindSafe(|| history.run()));
    let ran = ran.unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))));
    let trace = history.trace;
    match ran {
        Ok(()) => Ok(trace),
        Err(what) => Err(Box::new(Violation { seed, what, trace })),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A disk on which a host was founded.
fn founded() -> SimulatedDisk {
    static FOUNDED: OnceLock<SimulatedDisk> = OnceLock::new();
    FOUNDED.get_or_init(Life::found).fork()
}

struct History {
    draw: Draw,
    kind: Kind,
    disk: SimulatedDisk,
    clock: Arc<SimulatedClock>,
    clients: Clients,
    spoil: Option<Spoil>,
    trace: Trace,
}

impl History {
    fn new(seed: u64, mutation: Option<Mutation>) -> Self {
        let mut draw = Draw::new(seed);
        let kind = if mutation.is_some() { Kind::Survivable } else { Kind::drawn(&mut draw) };
        // Now and then even the founding is disturbed.
        let disk = if draw.chance(1, 40) { SimulatedDisk::new() } else { founded() };
        if mutation == Some(Mutation::AnswersBeforeFlush) {
            disk.set_flush_mode(hb_disk::FlushMode::Late);
        }
        Self {
            kind,
            disk,
            clock: Arc::new(SimulatedClock::new(1_700_000_000 * SECOND_NS)),
            clients: Clients::new(mutation),
            spoil: mutation.map(Spoil::new),
            draw,
            trace: Trace::default(),
        }
    }

    fn mutation(&self) -> Option<Mutation> {
        self.spoil.as_ref().map(|spoil| spoil.mutation)
    }

    fn say(&mut self, line: impl Into<String>) {
        self.trace.lines.push(line.into());
    }

    fn run(&mut self) -> Result<(), Broken> {
        self.say(format!("{:?}", self.kind));
        for _ in 0..self.draw.between(1, 4) {
            let faults = Faults::drawn(&mut self.draw, &self.disk, self.kind);
            self.say(format!("{faults:?}"));
            self.live(&faults)?;
            self.after(&faults);
            if self.kind == Kind::Rot && self.draw.chance(1, 2) {
                return self.rot();
            }
            if self.kind == Kind::Lies {
                return self.after_lies();
            }
            self.cut_too_far();
        }
        self.disk.heal();
        self.live_to_the_end()?;
        self.look_once_more()
    }

    fn open(&mut self, operations: u64, flush_ns: u64) -> Result<Life, hb_host::OpenHostError> {
        let process = Process::new(&self.disk, operations, &self.clock, flush_ns, self.mutation());
        Life::open(process, &self.clock, self.spoil.as_ref())
    }

    fn live(&mut self, faults: &Faults) -> Result<(), Broken> {
        let mut life = match self.open(faults.operations(), faults.flush_ns) {
            Ok(life) => life,
            Err(error) => {
                let excused = faults.failing || faults.end != EndOfLife::Drain;
                self.say(format!("not opened: {}", chain(&error)));
                if excused {
                    return Ok(());
                }
                return Err(format!("refused: {}", chain(&error)));
            }
        };
        self.trace.opened += 1;
        self.check_opened(&life)?;
        for _ in 0..self.draw.between(5, 110) {
            if life.is_over() {
                break;
            }
            self.act(&mut life)?;
        }
        let failed = life.dispatcher.failure();
        self.say(format!("the life ends; failure: {failed:?}"));
        if faults.end == EndOfLife::Drain && !life.is_over() {
            life.drain();
            if !faults.failing {
                check::nothing_runs(&life.host)?;
            }
        } else {
            life.kill();
        }
        self.clients.hear(&life)
    }

    /// What a host that was just opened shows. Where the process is gone in the middle of it, the
    /// reader was told nothing.
    fn check_opened(&mut self, life: &Life) -> Result<(), Broken> {
        let checked = check::opened(&life.host, &self.clients.told).and_then(|()| {
            // Blobs of records that were given up are kept on purpose.
            let gave_up = self.mutation() == Some(Mutation::CutsTailTooFar);
            if gave_up { Ok(()) } else { check::blobs(&life.storage(), &life.host) }
        });
        if life.process.is_gone() { Ok(()) } else { checked }
    }

    /// One thing happens.
    fn act(&mut self, life: &mut Life) -> Result<(), Broken> {
        let said = match self.draw.below(20) {
            0..=6 => self.clients.ask(&mut self.draw, life)?,
            7..=9 => format!("started {:?}", life.start_next()),
            10..=16 if !life.actors.is_empty() => {
                let index = self.draw.index(life.actors.len());
                let job = life.actors[index].job;
                life.resume(index);
                format!("job {job} went on")
            }
            17 => {
                life.dispatcher.keep_once();
                "kept".to_owned()
            }
            18 => {
                let applied = life.host.with_ledger(|ledger| ledger.applied);
                let settled = life.host.await_durable(applied).is_ok();
                format!("idle: {settled}")
            }
            _ => self.pass_time(),
        };
        self.say(said);
        life.check_announcements()?;
        if self.draw.chance(1, 30) {
            let checked = check::no_blob_is_missing(&life.storage(), &life.host);
            if !life.process.is_gone() {
                checked?;
            }
        }
        self.clients.hear(life)
    }

    fn pass_time(&mut self) -> String {
        let jump_ns = *self.draw.pick(&[1_000, SECOND_NS, 10 * SECOND_NS, 3600 * SECOND_NS]);
        if self.draw.chance(1, 5) {
            self.clock.turn_back(jump_ns);
            return format!("the clock is set back by {jump_ns}");
        }
        self.clock.advance(jump_ns);
        format!("time passes: {jump_ns}")
    }

    /// What the end of a life leaves of the disk.
    fn after(&mut self, faults: &Faults) {
        self.trace.operations += self.disk.operations();
        let log = blake3::hash(self.disk.operation_log().join("\n").as_bytes());
        self.say(format!("{} operations, {}", self.disk.operations(), log.to_hex()));
        let power = faults.end == EndOfLife::PowerCut || self.kind == Kind::Lies;
        if power {
            let choice = match self.draw.below(6) {
                0 => CrashChoice::Nothing,
                1 => CrashChoice::Everything,
                _ => CrashChoice::Seeded(self.draw.any()),
            };
            self.say(format!("power is lost: {choice:?}"));
            self.disk = self.disk.crash_image(choice);
            if self.mutation() == Some(Mutation::AnswersBeforeFlush) {
                self.disk.set_flush_mode(hb_disk::FlushMode::Late);
            }
        } else if faults.failing {
            // What fails, fails in one life; the page cache is what it is.
            self.disk.heal();
        }
    }

    /// A recovery that gives up one record too many.
    fn cut_too_far(&mut self) {
        if self.mutation() != Some(Mutation::CutsTailTooFar) {
            return;
        }
        let report = hb_wal::check(&self.disk, false);
        let last = report.map_or(0, |report| report.last_good_lsn);
        if last > 1 {
            // Where nothing can be given up, nothing is.
            let _ = hb_wal::repair(&self.disk, last - 1, &log_options());
        }
    }

    fn live_to_the_end(&mut self) -> Result<(), Broken> {
        let mut life =
            self.open(u64::MAX, 0).map_err(|error| format!("refused: {}", chain(&error)))?;
        self.trace.opened += 1;
        self.check_opened(&life)?;
        self.clients.let_everything_run(&life)?;
        self.run_everything(&mut life)?;
        check::records(&life.host, &self.clients.told)?;
        check::all_over(&life.host, &self.clients.told)?;
        self.trace.seen = Seen::of(&life.host)?;
        life.drain();
        let failed = life.dispatcher.failure();
        failed.map_or(Ok(()), |failure| Err(format!("failed on a healthy disk: {failure}")))
    }

    /// Runs until nothing is left to do.
    fn run_everything(&mut self, life: &mut Life) -> Result<(), Broken> {
        for _ in 0..LAST_STEPS {
            while life.start_next().is_some() {}
            if life.actors.is_empty() {
                life.dispatcher.keep_once();
                let left = life.host.with_ledger(|ledger| {
                    ledger.jobs.values().filter(|job| job.is_unfinished()).count()
                });
                if left == 0 {
                    return Ok(());
                }
                self.clock.advance(60 * SECOND_NS);
            } else {
                let index = self.draw.index(life.actors.len());
                life.resume(index);
            }
            self.clients.hear(life)?;
        }
        Err("jobs are never brought to their end".to_owned())
    }

    /// Power is lost once more after everything was shown.
    fn look_once_more(&mut self) -> Result<(), Broken> {
        self.disk = self.disk.crash_image(CrashChoice::Nothing);
        let life = self.open(u64::MAX, 0).map_err(|error| format!("refused: {}", chain(&error)))?;
        self.check_opened(&life)?;
        check::all_over(&life.host, &self.clients.told)?;
        self.say(format!("at the end: {}", life.host.durable_lsn()));
        Ok(())
    }

    /// Bits flip while nobody looks. What opens holds all that was told; else it is refused, with a
    /// place. A job whose blobs are damaged does not end, or it ends as it must.
    fn rot(&mut self) -> Result<(), Broken> {
        let what = faults::rot(&mut self.draw, &self.disk);
        self.say(format!("rot: {what}"));
        self.disk.heal();
        let mut life = match self.open(u64::MAX, 0) {
            Ok(life) => life,
            Err(error) => {
                let text = chain(&error);
                self.say(format!("refused: {text}"));
                if ["segment", "mark", "snapshot", "blob", "wal/"]
                    .iter()
                    .any(|place| text.contains(place))
                {
                    return Ok(());
                }
                return Err(format!("{what} rotted, and the refusal does not say where: {text}"));
            }
        };
        if let Err(broken) = check::opened(&life.host, &self.clients.told) {
            // Jobs that are over lie in blobs of their own: what is damaged there must be said.
            let is_said = what.starts_with("blob/") && broken.contains("blob");
            return if is_said { Ok(()) } else { Err(format!("{what} rotted: {broken}")) };
        }
        if !what.starts_with("blob/") {
            self.clients.let_everything_run(&life)?;
            self.run_everything(&mut life)?;
            check::all_over(&life.host, &self.clients.told)?;
        } else if let Ok(()) = self.clients.let_everything_run(&life) {
            for _ in 0..200 {
                while life.start_next().is_some() {}
                if life.actors.is_empty() {
                    self.clock.advance(60 * SECOND_NS);
                } else {
                    life.resume(0);
                }
            }
            self.clients.hear(&life)?;
            life.kill();
            let shown = check::records(&life.host, &self.clients.told);
            let is_said = |broken: &Broken| broken.contains("blob");
            return shown.or_else(|broken| if is_said(&broken) { Ok(()) } else { Err(broken) });
        }
        life.drain();
        Ok(())
    }

    /// A disk whose flushes did nothing has lost power. What is gone may be gone; but a log that
    /// still knows of it must not be opened as if nothing were missing.
    fn after_lies(&mut self) -> Result<(), Broken> {
        let marked =
            hb_wal::check(&self.disk, false).map_or(None, |report| report.acknowledged_lsn);
        match self.open(u64::MAX, 0) {
            Ok(life) => {
                let found = life.host.durable_lsn();
                let marked = marked.unwrap_or(0);
                self.say(format!("opened at {found}, {marked} was marked"));
                if found < marked {
                    return Err(format!("records up to {marked} were marked, {found} is silent"));
                }
                Ok(())
            }
            Err(error) => {
                self.say(format!("the loss is noticed: {}", chain(&error)));
                Ok(())
            }
        }
    }
}
