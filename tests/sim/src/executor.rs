//! What runs simulated programs below a real host.
//!
//! Owns: an attempt at a program: its streams and files lie in a real [`World`], as those of a guest
//! do, and it keeps the contract of a checkpoint. It gives way before every step.
//! Knows nothing of: wasm, the ledger.

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use hb_files::{Handle, Open, Root, World};
use hb_host::{Executor, Program as Ready};
use hb_sandbox::{Control, Ended, Ending, HostFault, Launch, PrepareError, Saved, Session, Stream};
use hb_types::{
    Digest,
    capture::{Capture, ContentId, Counters, Progress},
    event::JobNumber,
    limits::Limits,
    outcome::{Explanation, Outcome},
};

use crate::{
    process::Process,
    program::{GREETING, Memory, Program, STEP_FUEL},
    spoil::{Spoil, SpoiledSession},
    stage,
};

/// What a guest was told: its checkpoint is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldSave {
    /// The job whose attempt it was.
    pub job: JobNumber,
    /// The specification that it ran by, named by its environment.
    pub own_name: Option<String>,
    /// The number of the checkpoint; `None` where the attempt was to stop with it.
    pub sequence: Option<u64>,
    /// Its step.
    pub step: u64,
}

/// Runs simulated programs.
pub struct SimulatedExecutor {
    shared: Arc<Shared>,
}

struct Shared {
    /// The process that all of this belongs to.
    process: Process,
    saves: Arc<Mutex<Vec<ToldSave>>>,
    spoil: Option<Spoil>,
}

impl SimulatedExecutor {
    /// For a process; what guests are told is written down in `saves`.
    pub fn new(process: Process, saves: Arc<Mutex<Vec<ToldSave>>>, spoil: Option<Spoil>) -> Self {
        Self { shared: Arc::new(Shared { process, saves, spoil }) }
    }
}

impl Executor for SimulatedExecutor {
    fn to_binary(&self, bytes: Vec<u8>, _limits: &Limits) -> Result<Vec<u8>, PrepareError> {
        Ok(bytes)
    }

    fn prepare(
        &self,
        _component: &[u8],
        _digest: Digest,
        _limits: &Limits,
    ) -> Result<Arc<dyn Ready>, PrepareError> {
        Ok(Arc::new(SimulatedProgram(Arc::clone(&self.shared))))
    }

    // Never kept: every attempt reads its component from the store.
    fn prepared(&self, _digest: Digest) -> Option<Arc<dyn Ready>> {
        None
    }

    fn shrink_cache(&self, _max_bytes: u64) -> std::io::Result<u64> {
        Ok(0)
    }
}

struct SimulatedProgram(Arc<Shared>);

impl Ready for SimulatedProgram {
    fn run(
        &self,
        launch: Launch,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault> {
        match &self.0.spoil {
            Some(spoil) => {
                let mut spoiled = SpoiledSession::new(session, spoil, &self.0.process);
                Guest::new(&self.0, launch)?.run(&mut spoiled, control)
            }
            None => Guest::new(&self.0, launch)?.run(session, control),
        }
    }
}

struct Guest<'a> {
    shared: &'a Shared,
    program: Program,
    own_name: Option<String>,
    fuel: u64,
    world: World,
    out: Handle,
    memory: Memory,
    counters: Counters,
}

fn refused(what: &'static str) -> impl FnOnce(hb_files::Refused) -> HostFault {
    move |error| HostFault::message(format!("{what}: {error:?}"))
}

impl<'a> Guest<'a> {
    fn new(shared: &'a Shared, launch: Launch) -> Result<Self, HostFault> {
        let program = Program::of_arguments(&launch.arguments)
            .ok_or_else(|| HostFault::message("not a simulated program"))?;
        let world = World::new(launch.scratch, &launch.limits, launch.start_ns, Vec::new());
        let mut world = world.map_err(refused("a world"))?;
        let out = world.open_root(Root::Out).map_err(refused("/out"))?;
        let counters = Counters { next_content: ContentId::FIRST_FILE.0, ..Counters::default() };
        Ok(Self {
            shared,
            program,
            own_name: launch.environment.into_iter().map(|(_, name)| name).next(),
            fuel: launch.limits.fuel,
            world,
            out,
            memory: Memory::of_seed(&launch.seed),
            counters,
        })
    }

    fn run(mut self, session: &mut dyn Session, control: &Control) -> Result<Ended, HostFault> {
        self.print(session, Stream::Stdout, GREETING)?;
        if self.program.restores {
            self.restore(session)?;
        }
        loop {
            stage::give_way();
            if self.shared.process.is_gone() {
                return Err(HostFault::message("the process is gone"));
            }
            if control.cancel.load(Ordering::Relaxed) {
                return self.end(session, Outcome::Cancelled);
            }
            if control.stop.load(Ordering::Relaxed) {
                return Ok(Ended::Stopped);
            }
            if self.memory.step >= self.program.steps {
                let outcome = self.program.outcome(self.fuel);
                return self.end(session, outcome);
            }
            self.step(session)?;
            if session.due(self.memory.step) && self.save(session)? == Saved::Stop {
                return Ok(Ended::Stopped);
            }
        }
    }

    fn restore(&mut self, session: &mut dyn Session) -> Result<(), HostFault> {
        let Some(restored) = session.restore()? else { return Ok(()) };
        self.memory = Memory::of_state(&restored.state)
            .ok_or_else(|| HostFault::message("a state that is none of ours"))?;
        self.counters = restored.counters;
        let put_back = self.world.restore(
            &restored.contents,
            &restored.names,
            restored.counters.next_content,
            &*restored.source,
        );
        put_back.map_err(|error| HostFault::new("a checkpoint could not be put back", error))?;
        self.out = self.world.open_root(Root::Out).map_err(refused("/out"))?;
        Ok(())
    }

    fn step(&mut self, session: &mut dyn Session) -> Result<(), HostFault> {
        let made = self.program.step(&mut self.memory);
        self.counters.fuel_used += STEP_FUEL;
        self.counters.clock_ns += 1;
        self.print(session, Stream::Stdout, &made.line)?;
        if let Some(remark) = made.remark {
            self.print(session, Stream::Stderr, &remark)?;
        }
        if let Some((name, bytes)) = made.file {
            let now_ns = self.counters.clock_ns;
            let how = Open { create: true, write: true, ..Open::default() };
            let file = self.world.open(self.out, name, how, now_ns).map_err(refused("open"))?;
            self.world.append(file, &bytes, now_ns).map_err(refused("append"))?;
            self.world.close(file);
        }
        session.progress(&self.progress());
        Ok(())
    }

    fn print(
        &mut self,
        session: &mut dyn Session,
        stream: Stream,
        bytes: &[u8],
    ) -> Result<(), HostFault> {
        let id = hb_host::content_of(stream);
        self.world.append_output(id, bytes).map_err(refused("print"))?;
        session.output(stream, bytes);
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress { done: self.memory.step, ..Progress::default() }
    }

    fn save(&mut self, session: &mut dyn Session) -> Result<Saved, HostFault> {
        let state = self.program.state(&self.memory);
        let saved = session.save(&self.capture(&state))?;
        self.world.mark_clean();
        let sequence = match saved {
            Saved::Continue(sequence) => Some(sequence),
            Saved::Stop => None,
        };
        if let Some(job) = stage::current_job() {
            let (own_name, step) = (self.own_name.clone(), self.memory.step);
            let told = ToldSave { job, own_name, sequence, step };
            self.shared.saves.lock().unwrap_or_else(PoisonError::into_inner).push(told);
        }
        Ok(saved)
    }

    fn capture<'b>(&'b self, state: &'b [u8]) -> Capture<'b> {
        let (contents, names) = self.world.capture();
        let counters = Counters { next_content: self.world.next_content(), ..self.counters };
        Capture {
            step: self.memory.step,
            state,
            counters,
            contents,
            names,
            progress: self.progress(),
            source: &self.world,
        }
    }

    fn end(self, session: &mut dyn Session, outcome: Outcome) -> Result<Ended, HostFault> {
        let explanation =
            Explanation { message: "the program ended".to_owned(), backtrace: Vec::new() };
        let capture = self.capture(&[]);
        let counters = capture.counters;
        let ending = Ending { outcome, explanation, counters, peak_memory_bytes: 1 };
        session.finish(&ending, &capture)?;
        Ok(Ended::Finished(ending))
    }
}
