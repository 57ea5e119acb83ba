//! The container engine, over its HTTP interface (Docker Engine API, which Podman speaks too).
//!
//! Owns: where an engine may be found, the calls that are made, and the threads that wait for their
//! answers. Knows nothing of jobs.
//!
//! Calls block the caller; whether that runs inside another asynchronous runtime does not matter.

use std::{
    collections::HashMap,
    future::Future,
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as ApiError,
    models::{ContainerCreateBody, ContainerState, ContainerSummary},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
        KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
        StartContainerOptions,
    },
};
use futures_util::TryStreamExt as _;
use hb_types::text::printable;
use tokio::runtime::{Builder, Runtime};

/// How long one answer may take; images are pulled step by step, each with an answer of its own.
const TIMEOUT_S: u64 = 120;
/// How long finding an engine may take, for each place.
const FIND: Duration = Duration::from_secs(5);
/// How often the removal of a container is tried again while its engine is away, and the pause
/// between: half a day. What is left then is found by the next start of the host.
const REMOVALS: u32 = 43_200;
const REMOVE_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of an engine's message that are told.
const MESSAGE_BYTES: usize = 500;

/// Something that an engine did not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is none.
    #[error(
        "no container engine answers (looked at {}): start Docker or Podman, or name its socket with container.engine or DOCKER_HOST",
        looked_at.join(", ")
    )]
    None {
        /// Where it was looked for.
        looked_at: Vec<String>,
    },
    /// It has no such thing.
    #[error("the container engine has no {what}: check the name, or load it into the engine")]
    Absent {
        /// What was asked for.
        what: String,
    },
    /// It refused, or failed.
    #[error("the container engine could not {what}: {message}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What it says.
        message: String,
        /// The status of its answer.
        status: u16,
    },
    /// It could not be asked.
    #[error("the container engine could not be asked to {what}")]
    Broken {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The threads that talk to it.
    #[error("no thread can be started that talks to the container engine")]
    Threads(#[source] std::io::Error),
}

impl EngineError {
    /// Whether the engine is there and has no such thing.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}

/// Where an engine may be, in the order in which it is asked.
pub fn candidates(
    named: Option<&str>,
    docker_host: Option<&str>,
    runtime_dir: Option<&str>,
) -> Vec<String> {
    if let Some(named) = named.or(docker_host).filter(|text| !text.is_empty()) {
        let is_path = named.starts_with('/');
        return vec![if is_path { format!("unix://{named}") } else { named.to_owned() }];
    }
    let mut found: Vec<String> = vec!["unix:///var/run/docker.sock".to_owned()];
    if let Some(runtime_dir) = runtime_dir {
        found.push(format!("unix://{runtime_dir}/docker.sock"));
        found.push(format!("unix://{runtime_dir}/podman/podman.sock"));
    }
    found.push("unix:///run/podman/podman.sock".to_owned());
    found
}

/// A way to the engine. It is looked for when it is first needed, and again when it was not there.
pub(crate) struct Engine {
    candidates: Vec<String>,
    connected: Mutex<Option<Docker>>,
    /// Always there; an option only so that it can be given up without waiting.
    runtime: Option<Runtime>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    pub(crate) fn new(candidates: Vec<String>) -> Result<Self, EngineError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("containers")
            .enable_all()
            .build()
            .map_err(EngineError::Threads)?;
        Ok(Self { candidates, connected: Mutex::new(None), runtime: Some(runtime) })
    }

    /// Runs something on the engine's own thread and waits for it.
    fn wait_for<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.spawn(async move { drop(sender.send(future.await)) });
        receiver.recv().ok()
    }

    /// Runs something on the engine's own thread.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().expect("it is given up only at the end").spawn(future);
    }

    /// The engine, found.
    pub(crate) fn docker(&self) -> Result<Docker, EngineError> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(docker) = &*connected {
            return Ok(docker.clone());
        }
        for candidate in &self.candidates {
            let Some(docker) = connect(candidate) else { continue };
            let negotiated = self.wait_for(async move {
                tokio::time::timeout(FIND, docker.negotiate_version()).await
            });
            if let Some(Ok(Ok(docker))) = negotiated {
                return Ok(connected.insert(docker).clone());
            }
        }
        Err(EngineError::None { looked_at: self.candidates.clone() })
    }

    fn call<T, F>(
        &self,
        what: &'static str,
        subject: &str,
        ask: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let docker = self.docker()?;
        match self.wait_for(ask(docker)) {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(failed(what, subject, error)),
            None => Err(EngineError::Broken { what, source: "its thread ended".into() }),
        }
    }

    /// Whether it answers.
    pub(crate) fn ping(&self) -> Result<(), EngineError> {
        self.call("answer", "", |docker| async move { docker.ping().await }).map(drop)
    }

    /// Its name and version, in words.
    pub(crate) fn version(&self) -> Result<String, EngineError> {
        let version =
            self.call("tell its version", "", |docker| async move { docker.version().await })?;
        let of = |text: Option<String>| printable(&text.unwrap_or_default(), 80);
        let name = version.platform.map_or_else(|| "engine".to_owned(), |one| of(Some(one.name)));
        let name = if name.is_empty() { "engine".to_owned() } else { name };
        Ok(format!("{name} {}", of(version.version)))
    }

    /// An image by name or content: what it is by its content.
    pub(crate) fn image(&self, name: &str) -> Result<String, EngineError> {
        let asked = name.to_owned();
        let image = self.call("look at an image", name, |docker| async move {
            docker.inspect_image(&asked).await
        })?;
        let id = image.id.unwrap_or_default();
        // Podman leaves the algorithm out.
        Ok(if id.contains(':') { id } else { format!("sha256:{id}") })
    }

    /// Brings an image from its registry.
    pub(crate) fn pull(&self, name: &str) -> Result<(), EngineError> {
        // Without a tag or a digest the interface would bring every version there is.
        let last = name.rsplit('/').next().unwrap_or_default();
        let name =
            if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") };
        let asked = name.clone();
        self.call("pull an image", &name, |docker| async move {
            let options = CreateImageOptionsBuilder::default().from_image(&asked).build();
            docker.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await
        })
    }

    /// Makes a container and returns its id.
    pub(crate) fn create(
        &self,
        name: &str,
        body: ContainerCreateBody,
    ) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let made = self.call("create a container", name, |docker| async move {
            docker.create_container(Some(options), body).await
        })?;
        for warning in &made.warnings {
            let warning = printable(warning, MESSAGE_BYTES);
            tracing::warn!(warning, "the container engine warns");
        }
        Ok(made.id)
    }

    pub(crate) fn start(&self, id: &str) -> Result<(), EngineError> {
        let asked = id.to_owned();
        self.call("start a container", id, |docker| async move {
            docker.start_container(&asked, None::<StartContainerOptions>).await
        })
    }

    /// Sends SIGKILL; one that does not run is left as it is.
    pub(crate) fn kill(&self, id: &str) -> Result<(), EngineError> {
        let asked = id.to_owned();
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let killed = self.call("kill a container", id, |docker| async move {
            docker.kill_container(&asked, Some(options)).await
        });
        match killed {
            Err(EngineError::Absent { .. } | EngineError::Refused { status: 409, .. }) => Ok(()),
            other => other,
        }
    }

    /// Ends and removes a container with everything that belongs to it.
    pub(crate) fn remove(&self, id: &str) -> Result<(), EngineError> {
        let asked = id.to_owned();
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = self.call("remove a container", id, |docker| async move {
            docker.remove_container(&asked, Some(options)).await
        });
        match removed {
            // It is gone, or just being removed.
            Err(EngineError::Absent { .. } | EngineError::Refused { status: 409, .. }) => Ok(()),
            other => other,
        }
    }

    /// Removes a container now, or as soon as its engine is there again.
    pub(crate) fn remove_surely(&self, id: String) {
        let Err(error) = self.remove(&id) else { return };
        tracing::warn!(container = id, %error, "a container is removed later");
        let Ok(docker) = self.docker() else { return };
        self.spawn(async move {
            for _ in 0..REMOVALS {
                tokio::time::sleep(REMOVE_AGAIN).await;
                let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
                match docker.remove_container(&id, Some(options)).await {
                    Ok(()) | Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => {
                        return;
                    }
                    Err(_) => {}
                }
            }
        });
    }

    pub(crate) fn state(&self, id: &str) -> Result<ContainerState, EngineError> {
        let asked = id.to_owned();
        let found = self.call("look at a container", id, |docker| async move {
            docker.inspect_container(&asked, None::<InspectContainerOptions>).await
        })?;
        Ok(found.state.unwrap_or_default())
    }

    /// All containers that have these labels, running or not.
    pub(crate) fn list(&self, labels: &[String]) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), labels.to_vec())]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.call("list containers", "", |docker| async move {
            docker.list_containers(Some(options)).await
        })
    }
}

fn connect(candidate: &str) -> Option<Docker> {
    if let Some(path) = candidate.strip_prefix("unix://") {
        if !Path::new(path).exists() {
            return None;
        }
        return Docker::connect_with_unix(path, TIMEOUT_S, API_DEFAULT_VERSION).ok();
    }
    let address = candidate.strip_prefix("tcp://").or(candidate.strip_prefix("http://"))?;
    let address = format!("tcp://{}", address.trim_end_matches('/'));
    Docker::connect_with_http(&address, TIMEOUT_S, API_DEFAULT_VERSION).ok()
}

fn failed(what: &'static str, subject: &str, error: ApiError) -> EngineError {
    match error {
        ApiError::DockerResponseServerError { status_code: 404, message } => {
            let subject = printable(subject, 200);
            let message = printable(&message, MESSAGE_BYTES);
            EngineError::Absent { what: format!("{subject} ({message})") }
        }
        ApiError::DockerResponseServerError { status_code, message } => {
            let message = printable(&message, MESSAGE_BYTES);
            EngineError::Refused { what, message, status: status_code }
        }
        ApiError::DockerStreamError { error } => {
            let message = printable(&error, MESSAGE_BYTES);
            EngineError::Refused { what, message, status: 0 }
        }
        other => EngineError::Broken { what, source: Box::new(other) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_named_is_the_only_one_that_is_asked() {
        assert_eq!(candidates(Some("/x.sock"), Some("tcp://a:1"), None), ["unix:///x.sock"]);
        assert_eq!(candidates(None, Some("tcp://a:1"), Some("/run/user/1")), ["tcp://a:1"]);
        let usual = candidates(None, Some(""), Some("/run/user/1"));
        assert_eq!(usual.first().map(String::as_str), Some("unix:///var/run/docker.sock"));
        assert!(usual.contains(&"unix:///run/user/1/podman/podman.sock".to_owned()));
    }

    #[test]
    fn where_nothing_listens_the_error_says_where_it_was_looked() {
        let engine = Engine::new(candidates(Some("/nowhere/engine.sock"), None, None));
        let error = engine.and_then(|engine| engine.ping()).expect_err("there is none");
        assert!(error.to_string().contains("/nowhere/engine.sock"), "{error}");
    }
}
