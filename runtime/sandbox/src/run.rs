//! One attempt, from an empty store to an ending.
//!
//! Owns: the settings of a store, the order of the last steps (the guest is gone before its final
//! condition is handed over), and that a panic below becomes a fault of the host. Knows nothing
//! of how an error is read (`outcome.rs`) or how a guest is driven (`drive.rs`).
//!
//! Invariant: a store is used for one attempt and dropped.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::{Arc, Mutex, PoisonError},
};

use hb_files::World;
use hb_types::{
    capture::{Capture, Counters, Progress},
    text,
};
use wasmtime::{Engine, Store};

use crate::{
    abort::HostFault,
    drive::drive,
    engine::YIELD_INTERVAL_FUEL,
    guest::{Guest, capacity},
    lease::{Lease, lend},
    outcome::{Conclusion, conclude},
    preview1,
    pulse::Pulse,
    sandbox::Program,
    session::{Control, Ended, Ending, Launch, Session},
};

/// Bytes of a panic's message.
const PANIC_BYTES: usize = 500;

/// What is left when the guest is gone.
struct Remains {
    conclusion: Conclusion,
    world: Arc<Mutex<World>>,
    counters: Counters,
    step: u64,
    progress: Progress,
    peak_memory_bytes: u64,
}

pub(crate) fn run(
    engine: &Engine,
    program: &Program,
    launch: Launch,
    session: &mut dyn Session,
    control: &Control,
) -> Result<Ended, HostFault> {
    let remains = lend(session, |lease| {
        let guarded = AssertUnwindSafe(|| run_guest(engine, program, launch, lease, control));
        panic::catch_unwind(guarded).unwrap_or_else(|panic| Err(panicked(&*panic)))
    })?;
    let (outcome, explanation) = match remains.conclusion {
        Conclusion::Ended(outcome, explanation) => (outcome, explanation),
        Conclusion::Stopped => return Ok(Ended::Stopped),
        Conclusion::Fault(fault) => return Err(fault),
    };
    let ending = Ending {
        outcome,
        explanation,
        counters: remains.counters,
        peak_memory_bytes: remains.peak_memory_bytes,
    };
    let world = remains.world.lock().unwrap_or_else(PoisonError::into_inner);
    let (contents, names) = world.capture();
    let capture = Capture {
        step: remains.step,
        state: &[],
        counters: remains.counters,
        contents,
        names,
        progress: remains.progress,
        source: &*world,
    };
    session.finish(&ending, &capture)?;
    Ok(Ended::Finished(ending))
}

fn run_guest(
    engine: &Engine,
    program: &Program,
    launch: Launch,
    lease: Lease,
    control: &Control,
) -> Result<Remains, HostFault> {
    let limits = launch.limits.clone();
    let pulse = Pulse::new(control, &limits);
    let guest = Guest::new(launch, lease, pulse.clone())?;
    let clock = Arc::clone(&guest.clock);
    let mut store = new_store(engine, guest)
        .map_err(|error| HostFault::message(format!("a store cannot be made: {error:#}")))?;
    let result = drive(
        async {
            match program {
                Program::Component(command) => {
                    let command = command.instantiate_async(&mut store).await?;
                    command.wasi_cli_run().call_run(&mut store).await
                }
                Program::Module(module) => preview1::run(module, &mut store).await.map(Ok),
            }
        },
        &clock,
        &pulse,
    );
    let is_out_of_fuel = matches!(&result, Err(error) if error.downcast_ref::<wasmtime::Trap>()
        == Some(&wasmtime::Trap::OutOfFuel));
    let fuel_left = if is_out_of_fuel { 0 } else { store.get_fuel().unwrap_or(0) };
    let guest = store.data();
    Ok(Remains {
        conclusion: conclude(result, &limits),
        world: Arc::clone(&guest.stdio.world),
        counters: guest.counters(fuel_left),
        step: guest.job.step(),
        progress: guest.job.progress(),
        peak_memory_bytes: guest.limiter.peak_memory_bytes(),
    })
}

fn new_store(engine: &Engine, guest: Guest) -> wasmtime::Result<Store<Guest>> {
    let limits = guest.limits.clone();
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.limiter);
    store.set_hostcall_fuel(capacity(limits.hostcall_bytes));
    store.set_max_component_handles(capacity(limits.handles));
    store.set_fuel(limits.fuel)?;
    store.fuel_async_yield_interval(Some(YIELD_INTERVAL_FUEL))?;
    Ok(store)
}

/// The last line of defence: whatever a guest made panic, the host goes on.
fn panicked(panic: &(dyn std::any::Any + Send)) -> HostFault {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message");
    HostFault::message(format!(
        "the sandbox panicked: {}; report it with the component",
        text::printable(message, PANIC_BYTES)
    ))
}
