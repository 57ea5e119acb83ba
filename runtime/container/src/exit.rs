//! How a container ended.
//!
//! Owns: waiting for the end of a container beside everything else, over an engine that may itself
//! die, and reading what its last state says. Knows nothing of files and protocols.
//!
//! Invariant: an end that the engine, or anybody else, may have caused is never taken for the
//! program's own.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    errors::Error as ApiError,
    models::{ContainerState, ContainerStateStatusEnum as Status},
    query_parameters::{InspectContainerOptions, WaitContainerOptions},
};
use futures_util::StreamExt as _;

use crate::engine::Engine;

/// How long an engine may be away before an attempt is given up.
const ENGINE_AWAY: Duration = Duration::from_mins(2);
/// The pause between two looks at an engine that is away.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const SIGKILL: i64 = 137;
const SIGTERM: i64 = 143;
/// What an engine says of a container whose end it did not see.
const UNKNOWN: i64 = 255;

/// What is known of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It ended by itself.
    Code(u8),
    /// The kernel ended something in it for want of memory.
    OutOfMemory,
    /// Somebody killed it, or its engine died and took it along.
    Killed(i64),
    /// Its engine no longer has it.
    Gone,
    /// Its engine is away and does not come back.
    EngineAway,
}

/// Reads the state of a container that no longer runs. `watched` says that its engine saw all of it.
pub(crate) fn read(state: &ContainerState, watched: bool) -> Exit {
    let code = state.exit_code.unwrap_or(UNKNOWN);
    if code != 0 && state.oom_killed == Some(true) {
        return Exit::OutOfMemory;
    }
    let from_outside = code == SIGKILL || (!watched && (code == SIGTERM || code == UNKNOWN));
    match u8::try_from(code) {
        Ok(code) if !from_outside => Exit::Code(code),
        _ => Exit::Killed(code),
    }
}

/// Whether a container runs.
pub(crate) fn is_running(state: &ContainerState) -> bool {
    state.running == Some(true) && state.paused != Some(true)
}

/// Whether a container ran and no longer does.
pub(crate) fn has_ended(state: &ContainerState) -> bool {
    state.status == Some(Status::EXITED) || state.status == Some(Status::DEAD)
}

/// Waits for the end of a container. Something is written to `wake` when it is known.
pub(crate) fn watch(
    engine: &Engine,
    docker: Docker,
    id: String,
    wake: UnixStream,
) -> Receiver<Exit> {
    let (sender, receiver) = mpsc::channel();
    engine.spawn(async move {
        let exit = wait(&docker, &id).await;
        // Whoever wanted to know may be gone.
        let _ = sender.send(exit);
        let _ = (&wake).write_all(b"x");
    });
    receiver
}

async fn wait(docker: &Docker, id: &str) -> Exit {
    let mut watched = true;
    let mut away_since: Option<Instant> = None;
    loop {
        let answer = Box::pin(docker.wait_container(id, None::<WaitContainerOptions>)).next().await;
        watched &= matches!(
            answer,
            Some(
                Ok(_)
                    | Err(ApiError::DockerContainerWaitError { .. } | ApiError::RequestTimeoutError)
            )
        );
        match docker.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(found) => {
                away_since = None;
                let state = found.state.unwrap_or_default();
                if has_ended(&state) {
                    return read(&state, watched);
                }
            }
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => return Exit::Gone,
            Err(error) => {
                watched = false;
                let since = *away_since.get_or_insert_with(|| {
                    tracing::warn!(%error, "the container engine does not answer");
                    Instant::now()
                });
                if since.elapsed() > ENGINE_AWAY {
                    return Exit::EngineAway;
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(code: i64, oom: bool) -> ContainerState {
        ContainerState { exit_code: Some(code), oom_killed: Some(oom), ..ContainerState::default() }
    }

    #[test]
    fn an_end_from_outside_is_not_the_programs_own() {
        assert_eq!(read(&state(0, false), true), Exit::Code(0));
        assert_eq!(read(&state(3, false), false), Exit::Code(3));
        assert_eq!(read(&state(137, false), true), Exit::Killed(137));
        assert_eq!(read(&state(143, false), true), Exit::Code(143));
        assert_eq!(read(&state(143, false), false), Exit::Killed(143));
        assert_eq!(read(&state(255, false), false), Exit::Killed(255));
        assert_eq!(read(&state(255, false), true), Exit::Code(255));
    }

    #[test]
    fn memory_counts_only_where_the_program_failed_of_it() {
        assert_eq!(read(&state(137, true), true), Exit::OutOfMemory);
        assert_eq!(read(&state(1, true), true), Exit::OutOfMemory);
        assert_eq!(read(&state(0, true), true), Exit::Code(0));
    }
}
