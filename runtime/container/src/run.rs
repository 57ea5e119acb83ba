//! One attempt: GATHER, RUN, TEARDOWN.
//!
//! Owns: the order of the three, and what an end means for the job. TEARDOWN comes after every other
//! step, whether it went well, failed or panicked; where the engine is away it is made up for.

use std::{
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use hb_files::World;
use hb_session::{Control, Ended, Ending, HostFault, Session};
use hb_types::{
    capture::Counters,
    container::{Grant, is_image_id},
    limits::{Limit, LimitReached},
    outcome::{Explanation, Outcome, TrapKind},
    text::printable,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    adopt,
    attempt::Attempt,
    connection::Connections,
    containers::Task,
    end::End,
    engine::{Engine, EngineError},
    exit::{self, Exit},
    mounts,
    options::ContainerOptions,
    place::{self, Note, Place, User},
    profile::Profile,
};

/// How often everything is looked at where nothing happens.
const TICK: Duration = Duration::from_millis(20);
/// How long a program may take to come to its gate.
const GATE: Duration = Duration::from_mins(1);
/// How long a container that was killed may take to be gone.
const GOING: Duration = Duration::from_secs(20);
/// Bytes of an explanation's line.
const MESSAGE_BYTES: usize = 500;

/// A container, and the directories that it uses. Letting go of it removes both.
struct Started {
    engine: Arc<Engine>,
    id: Option<String>,
    place: Place,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.engine.remove_surely(id);
        }
        if let Err(error) = self.place.remove() {
            tracing::warn!(%error, "a container's directories could not be removed");
        }
    }
}

/// What GATHER came to.
struct Gathered {
    started: Started,
    note: Note,
    adopted: bool,
    connections: Connections,
}

/// Runs one attempt to its end, on the calling thread.
pub(crate) fn run(
    engine: &Arc<Engine>,
    options: &ContainerOptions,
    task: &mut Task<'_>,
    session: &mut dyn Session,
    control: &Control,
) -> Result<Ended, HostFault> {
    let scratch = task.launch.scratch.try_clone();
    let scratch = scratch.map_err(|error| HostFault::new("a scratch file is gone", error))?;
    let start_ns = task.launch.start_ns;
    let limits = task.launch.limits.clone();
    let world = || {
        let world = World::new(scratch.try_clone()?, &limits, start_ns, Vec::new());
        world.map_err(std::io::Error::other)
    };
    let no_world = |error| HostFault::new("a job's files cannot be kept", error);
    let gathered = match gather(engine, options, task) {
        Ok(gathered) => gathered,
        Err(end) => return not_begun(end, session, &world().map_err(no_world)?),
    };
    let Gathered { started, note, adopted, mut connections } = gathered;
    let world = world().map_err(no_world)?;
    let settings = (limits.clone(), start_ns);
    let mut attempt =
        Attempt::new(session, control, world, settings, &started.place, note).map_err(as_fault)?;
    if adopted && !attempt.take_over().map_err(as_fault)? {
        return Err(HostFault::message(
            "a container that still runs stands on a checkpoint that the ledger does not have",
        ));
    }
    let id = started.id.clone().unwrap_or_default();
    let (wake, woken) = UnixStream::pair()
        .and_then(|(one, other)| {
            other.set_nonblocking(true)?;
            Ok((one, other))
        })
        .map_err(|error| HostFault::new("a pair of sockets cannot be made", error))?;
    let docker = engine.docker().map_err(fault)?;
    let exits = exit::watch(engine, docker, id.clone(), wake);
    let pid = engine.state(&id).ok().and_then(|state| state.pid).filter(|pid| *pid > 0);
    let watched = Watched { exits, woken, pid };
    let outcome = drive(&mut attempt, &mut connections, &watched);
    drop(connections);
    conclude(engine, &id, &mut attempt, &watched, outcome)
}

fn as_fault(end: End) -> HostFault {
    match end {
        End::Fault(fault) => fault,
        End::Limit(reached) => HostFault::message(reached.to_string()),
        End::Contract(why) | End::NotRunnable(why) => HostFault::message(why),
        End::Cancelled | End::Stopped => HostFault::message("it was stopped before it began"),
    }
}

fn fault(error: EngineError) -> HostFault {
    HostFault::new("the container engine failed", error)
}

/// Ends a job whose container could not even be made.
fn not_begun(end: End, session: &mut dyn Session, world: &World) -> Result<Ended, HostFault> {
    let End::NotRunnable(message) = end else { return Err(as_fault(end)) };
    let message = printable(&message, MESSAGE_BYTES);
    let ending = Ending {
        outcome: Outcome::NotRunnable,
        explanation: Explanation { message, backtrace: Vec::new() },
        counters: Counters::default(),
        peak_memory_bytes: 0,
    };
    let (contents, names) = world.capture();
    let capture = hb_types::capture::Capture {
        step: 0,
        state: &[],
        counters: ending.counters,
        contents,
        names,
        progress: hb_types::capture::Progress::default(),
        source: world,
    };
    session.finish(&ending, &capture)?;
    Ok(Ended::Finished(ending))
}

/// Everything that has to be there: image, directories, inputs, mounts, the container itself.
fn gather(
    engine: &Arc<Engine>,
    options: &ContainerOptions,
    task: &mut Task<'_>,
) -> Result<Gathered, End> {
    let container = task.container;
    options.check(container).map_err(|error| End::NotRunnable(error.to_string()))?;
    let wants_root = container.grants.contains(&Grant::RootUser);
    let Some(user) = User::choose(wants_root) else {
        let why = "the grant root-user needs a host that runs as root itself";
        return Err(End::NotRunnable(why.to_owned()));
    };
    fetch_image(engine, &container.image, &container.name)?;
    let place = Place::new(directory(options, task), user);
    let job_hash = task.job_hash.to_string();
    let found = adopt::find(engine, &task.identity, &place, &job_hash);
    if let Some(note) = found.map_err(|error| End::Fault(fault(error)))? {
        tracing::info!(container = note.container, "a container that is there is taken over");
        let started =
            Started { engine: Arc::clone(engine), id: Some(note.container.clone()), place };
        let listener = started.place.listen();
        let listener = listener.map_err(End::io("a socket for the container cannot be made"))?;
        let connections = Connections::new(listener);
        return Ok(Gathered { started, note, adopted: true, connections });
    }
    start_anew(engine, options, task, place)
}

fn start_anew(
    engine: &Arc<Engine>,
    options: &ContainerOptions,
    task: &mut Task<'_>,
    place: Place,
) -> Result<Gathered, End> {
    let container = task.container;
    // From here on whatever was made is removed again.
    let mut started = Started { engine: Arc::clone(engine), id: None, place };
    let name = task.name();
    let launch = &mut task.launch;
    started
        .place
        .prepare(&launch.inputs, launch.stdin.as_mut(), container.preflight.as_deref())
        .map_err(End::io("a container's directories cannot be made"))?;
    let opened = mounts::open(options, container)?;
    if !opened.is_empty() {
        started.place.make_gate().map_err(End::io("a container's gate cannot be made"))?;
    }
    let listener = started.place.listen();
    let listener = listener.map_err(End::io("a socket for the container cannot be made"))?;
    let sources: Vec<String> = opened.iter().map(|mount| mount.source.clone()).collect();
    let profile = Profile {
        container,
        arguments: &launch.arguments,
        environment: &launch.environment,
        limits: &launch.limits,
        cpu_milli: task.cpu_milli,
        labels: adopt::labels(&task.identity),
        place: &started.place,
        sources: &sources,
    };
    let id = engine.create(&name, profile.body()).map_err(refused)?;
    started.id = Some(id.clone());
    let mut note = Note {
        boot: place::boot(),
        job_hash: task.job_hash.to_string(),
        container: id.clone(),
        released: opened.is_empty(),
        bound: false,
    };
    let unnoted = End::io("a note of the container cannot be made");
    started.place.set_note(&note).map_err(&unnoted)?;
    engine.start(&id).map_err(refused)?;
    if !opened.is_empty() {
        let state = engine.state(&id).map_err(|error| End::Fault(fault(error)))?;
        mounts::verify(&opened, state.pid.unwrap_or(0))?;
        note.released = true;
        started.place.set_note(&note).map_err(&unnoted)?;
        open_gate(&started.place)?;
    }
    Ok(Gathered { started, note, adopted: false, connections: Connections::new(listener) })
}

/// Lets a program go that waits at its gate.
fn open_gate(place: &Place) -> Result<(), End> {
    let begun = Instant::now();
    while !place.open_gate().map_err(End::io("a container's gate cannot be opened"))? {
        if begun.elapsed() > GATE {
            let why = "the container did not come to its gate";
            return Err(End::Fault(HostFault::message(why)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What an engine refuses as impossible is the job's affair, all else the host's.
fn refused(error: EngineError) -> End {
    match error {
        EngineError::Refused { status: 400 | 404, message, what } => {
            let advice = if message.contains("/bin/sh") {
                "; the image needs /bin/sh, by which its program is started"
            } else {
                ""
            };
            End::NotRunnable(format!("the container engine could not {what}: {message}{advice}"))
        }
        EngineError::Absent { what } => {
            End::NotRunnable(format!("the container engine has no {what}"))
        }
        other => End::Fault(fault(other)),
    }
}

/// Sees to it that an image is there.
fn fetch_image(engine: &Engine, image: &str, name: &str) -> Result<(), End> {
    match engine.image(image) {
        Ok(_) => return Ok(()),
        Err(error) if error.is_absent() => {}
        Err(error) => return Err(End::Fault(fault(error))),
    }
    if name.is_empty() || is_image_id(name) {
        return Err(End::NotRunnable(format!(
            "image {image} is not on this host, and the job says no name to pull it by: load it first"
        )));
    }
    engine.pull(name).map_err(|error| End::Fault(fault(error)))?;
    match engine.image(image) {
        Ok(_) => Ok(()),
        Err(error) if error.is_absent() => Err(End::NotRunnable(format!(
            "image {image} is not on this host, and what {} names now is another one",
            printable(name, 200)
        ))),
        Err(error) => Err(End::Fault(fault(error))),
    }
}

fn directory(options: &ContainerOptions, task: &Task<'_>) -> PathBuf {
    options.directory.join(task.directory())
}

/// What tells of the container's end.
struct Watched {
    exits: Receiver<Exit>,
    woken: UnixStream,
    pid: Option<i64>,
}

/// Serves the program until it has ended or has to be ended.
fn drive(
    attempt: &mut Attempt<'_>,
    connections: &mut Connections,
    watched: &Watched,
) -> Result<Exit, End> {
    loop {
        wait(connections, watched)?;
        if let Ok(exit) = watched.exits.try_recv() {
            return Ok(exit);
        }
        attempt.check_control()?;
        attempt.pump()?;
        attempt.check_disk(watched.pid)?;
        connections.accept();
        for index in 0..connections.all.len() {
            serve(attempt, connections, index)?;
        }
        connections.forget();
    }
}

fn serve(
    attempt: &mut Attempt<'_>,
    connections: &mut Connections,
    index: usize,
) -> Result<(), End> {
    connections.all[index].write();
    if !connections.may_read(index) {
        return Ok(());
    }
    connections.all[index].read();
    loop {
        let payload_max = attempt.limits().checkpoint_bytes;
        let brought = connections.all[index].next(payload_max);
        let Some(frame) = attempt.answer(brought)? else { return Ok(()) };
        connections.all[index].answer(&frame);
        // Whoever does not take its answers is not asked for more.
        if connections.all[index].has_output() {
            return Ok(());
        }
    }
}

/// Waits until something may have happened.
fn wait(connections: &Connections, watched: &Watched) -> Result<(), End> {
    let mut files = vec![PollFd::from_borrowed_fd(watched.woken.as_fd(), PollFlags::IN)];
    if connections.has_room() {
        files.push(PollFd::new(&connections.listener, PollFlags::IN));
    }
    for (index, connection) in connections.all.iter().enumerate() {
        if connection.has_output() {
            files.push(PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::OUT));
        } else if connections.may_read(index) {
            files.push(PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN));
        }
    }
    let tick = Timespec::try_from(TICK).expect("a short time");
    match poll(&mut files, Some(&tick)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(End::Fault(HostFault::new("a container cannot be waited for", error))),
    }
}

/// Ends the container where it has not ended, takes over what it left, and says how it was.
fn conclude(
    engine: &Engine,
    id: &str,
    attempt: &mut Attempt<'_>,
    watched: &Watched,
    result: Result<Exit, End>,
) -> Result<Ended, HostFault> {
    let ended = match result {
        Ok(exit) => read_exit(exit, attempt),
        Err(end) => {
            if let Err(error) = engine.kill(id) {
                tracing::warn!(%error, "a container could not be killed");
            } else {
                // Nothing changes any more what is taken over.
                let _ = watched.exits.recv_timeout(GOING);
            }
            Err(end)
        }
    };
    let taken = match &ended {
        // Files that exceed a limit, or cannot be kept, are left; what was printed is evidence.
        Err(
            End::Limit(LimitReached { limit: Limit::FilesBytes | Limit::Files, .. })
            | End::Contract(_),
        ) => attempt.pump(),
        Err(End::Fault(_) | End::Stopped | End::NotRunnable(_)) => Ok(()),
        Err(End::Limit(_) | End::Cancelled) | Ok(_) => attempt.pump().and_then(|()| attempt.pull()),
    };
    let (outcome, message) = match (ended, taken) {
        // What was left is a part of the outcome only where the program came to its end.
        (Ok(_), Err(end)) | (Err(end), _) => match end {
            End::Limit(reached) => (Outcome::Limit { reached }, reached.to_string()),
            End::Contract(why) => (
                Outcome::Trap { trap: TrapKind::ContractBroken },
                format!("the program broke a contract: {why}"),
            ),
            End::Cancelled => (Outcome::Cancelled, "cancelled".to_owned()),
            End::NotRunnable(why) => (Outcome::NotRunnable, why),
            End::Stopped => return Ok(Ended::Stopped),
            End::Fault(fault) => return Err(fault),
        },
        (Ok(0), Ok(())) => (Outcome::Success, "ended with success".to_owned()),
        (Ok(code), Ok(())) => (Outcome::Exit { code }, exit_message(code)),
    };
    let message = printable(&message, MESSAGE_BYTES);
    let ending = Ending {
        outcome,
        explanation: Explanation { message, backtrace: Vec::new() },
        counters: Counters::default(),
        peak_memory_bytes: 0,
    };
    attempt.finish(ending).map(Ended::Finished)
}

fn read_exit(exit: Exit, attempt: &Attempt<'_>) -> Result<u8, End> {
    let fault = |why: String| Err(End::Fault(HostFault::message(why)));
    match exit {
        Exit::Code(code) => Ok(code),
        Exit::OutOfMemory => Err(End::limit(attempt.limits(), Limit::Memory, 0)),
        Exit::Killed(code) => Err(End::Fault(HostFault::death(format!(
            "the container was killed from outside, or with its engine (exit code {code})"
        )))),
        Exit::Gone => Err(End::Fault(HostFault::death("the container was removed from outside"))),
        Exit::EngineAway => fault("the container engine is away and did not come back".to_owned()),
    }
}

fn exit_message(code: u8) -> String {
    match code {
        126 | 127 => {
            format!("ended with exit code {code}: the image has no such program, or cannot run it")
        }
        129..=192 => format!("ended with exit code {code} (signal {})", code - 128),
        code => format!("ended with exit code {code}"),
    }
}
