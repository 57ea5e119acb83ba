//! Everything that a host may ask of containers.
//!
//! Owns: the way in. Knows nothing of how an attempt goes (`run.rs`) or an engine is asked
//! (`engine.rs`).

use std::{
    fs, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hb_session::{Control, Ended, HostFault, Launch, Session};
use hb_types::{Digest, container::Container};

use crate::{
    adopt,
    engine::{Engine, EngineError, candidates},
    options::{ContainerOptions, NotAllowed},
    place, run,
};

/// Who a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A job of a ledger.
    Job {
        /// The ledger.
        ledger: [u8; 16],
        /// The job's number in it.
        number: u64,
        /// The claim of the attempt.
        attempt: u64,
    },
    /// A repetition that nothing is written down of.
    Repetition,
}

/// One attempt to make.
pub struct Task<'a> {
    /// What it runs in.
    pub container: &'a Container,
    /// What decides what the program sees.
    pub launch: Launch,
    /// Whose it is.
    pub identity: Identity,
    /// Hash of the job.
    pub job_hash: Digest,
    /// Thousandths of a processor that it may use.
    pub cpu_milli: u32,
    number: u64,
}

/// Counts repetitions of this process.
static REPETITIONS: AtomicU64 = AtomicU64::new(1);

impl<'a> Task<'a> {
    /// An attempt.
    pub fn new(
        container: &'a Container,
        launch: Launch,
        identity: Identity,
        job_hash: Digest,
        cpu_milli: u32,
    ) -> Self {
        let number = REPETITIONS.fetch_add(1, Ordering::Relaxed);
        Self { container, launch, identity, job_hash, cpu_milli, number }
    }

    /// The container's name, which nobody else has.
    pub(crate) fn name(&self) -> String {
        match &self.identity {
            Identity::Job { ledger, number, attempt } => {
                format!("hackbrain-{}-{number}-{attempt}", &hex::encode(ledger)[..12])
            }
            Identity::Repetition => {
                let process = std::process::id();
                format!("hackbrain-repetition-{}-{process}-{}", self.job_hash.short(), self.number)
            }
        }
    }

    /// The name of its directory: a job's is found again by a later host.
    pub(crate) fn directory(&self) -> String {
        match &self.identity {
            Identity::Job { number, .. } => job_directory(*number),
            Identity::Repetition => format!("repetition-{}-{}", std::process::id(), self.number),
        }
    }
}

fn job_directory(number: u64) -> String {
    format!("job-{number}")
}

/// Runs native programs in containers. One for a process; all methods may be called from several
/// threads. The engine is looked for when it is first needed.
pub struct Containers {
    options: ContainerOptions,
    engine: OnceLock<Arc<Engine>>,
    name: OnceLock<String>,
}

impl std::fmt::Debug for Containers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Containers").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Containers {
    /// What runs containers as the operator wants it.
    pub fn new(options: ContainerOptions) -> Self {
        Self { options, engine: OnceLock::new(), name: OnceLock::new() }
    }

    fn engine(&self) -> Result<&Arc<Engine>, EngineError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let variable = |name| std::env::var(name).ok();
        let candidates = candidates(
            self.options.engine.as_deref(),
            variable("DOCKER_HOST").as_deref(),
            variable("XDG_RUNTIME_DIR").as_deref(),
        );
        let engine = Arc::new(Engine::new(candidates)?);
        Ok(self.engine.get_or_init(|| engine))
    }

    /// Whether a container asks for no more than the operator allows.
    pub fn check(&self, container: &Container) -> Result<(), NotAllowed> {
        self.options.check(container)
    }

    /// What an image is by its content; one that is not here is pulled.
    pub fn pin(&self, name: &str) -> Result<String, EngineError> {
        let engine = self.engine()?;
        match engine.image(name) {
            Err(error) if error.is_absent() && !hb_types::container::is_image_id(name) => {
                engine.pull(name)?;
                engine.image(name)
            }
            other => other,
        }
    }

    /// Whether an engine answers.
    pub fn ping(&self) -> Result<(), EngineError> {
        self.engine()?.ping()
    }

    /// Name and version of the engine, in words, as it was when it was first asked.
    pub fn engine_name(&self) -> String {
        if let Some(name) = self.name.get() {
            return name.clone();
        }
        match self.engine().and_then(|engine| engine.version()) {
            Ok(name) => self.name.get_or_init(|| name).clone(),
            // It is away; what it was is no secret, but not known.
            Err(_) => "container engine".to_owned(),
        }
    }

    /// Runs one attempt to its end, on the calling thread.
    ///
    /// An error says that the host or the engine failed and not the job; the attempt then has no
    /// outcome.
    pub fn run(
        &self,
        mut task: Task<'_>,
        session: &mut dyn Session,
        control: &Control,
    ) -> Result<Ended, HostFault> {
        let engine = self.engine();
        let engine = engine.map_err(|error| HostFault::new("no container can be run", error))?;
        run::run(engine, &self.options, &mut task, session, control)
    }

    /// Removes what earlier processes left and no job of the ledger needs. Costs nothing where no
    /// container was ever run.
    pub fn sweep(
        &self,
        ledger: [u8; 16],
        is_wanted: &dyn Fn(u64) -> bool,
    ) -> Result<u64, EngineError> {
        let left = self.left_directories();
        if left.is_empty() {
            return Ok(0);
        }
        let engine = self.engine()?;
        engine.ping()?;
        let removed = adopt::sweep(engine, &ledger, is_wanted)?;
        for (name, number) in left {
            if number.is_some_and(is_wanted) {
                continue;
            }
            if let Err(error) = place::remove(&self.options.directory.join(&name)) {
                tracing::warn!(name, %error, "a container's directories could not be removed");
            }
        }
        Ok(removed)
    }

    /// Removes what an earlier process left of a job that does not run and is about to be over. Costs
    /// nothing where it left nothing.
    pub fn discard(&self, ledger: [u8; 16], number: u64) {
        let directory = self.options.directory.join(job_directory(number));
        if !directory.exists() {
            return;
        }
        let removed = self.engine().and_then(|engine| adopt::discard(engine, &ledger, number));
        if let Err(error) = removed {
            tracing::warn!(job = number, %error, "a container may be left; the next start looks again");
            return;
        }
        if let Err(error) = place::remove(&directory) {
            tracing::warn!(job = number, %error, "a container's directories could not be removed");
        }
    }

    /// Directories of containers of earlier processes, and whose job they are.
    fn left_directories(&self) -> Vec<(String, Option<u64>)> {
        let entries = match fs::read_dir(&self.options.directory) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "directories of containers cannot be read");
                }
                return Vec::new();
            }
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let parsed = names.map(|name| {
            let number = name.strip_prefix("job-").and_then(|text| text.parse().ok());
            (name, number)
        });
        parsed.filter(|(name, _)| !is_of_a_living_process(name)).collect()
    }
}

/// Whether a directory belongs to a repetition whose process is still there.
fn is_of_a_living_process(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("repetition-") else { return false };
    let pid = rest.split('-').next().unwrap_or_default();
    !pid.is_empty() && fs::exists(format!("/proc/{pid}")).unwrap_or(true)
}
