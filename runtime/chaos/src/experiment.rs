//! The whole experiment: an undisturbed run, then rounds under load, then the check.
//!
//! Owns the order of things and the directories; each part is in a file of its own.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hb_api::manifest::{Manifest, ResourceRequest};
use hb_client::{Client, ClientError, Follow, OptionsError, Patience};

use crate::{
    check::{self, Reference, Violation},
    clients::{self, Crowd},
    fault::Fault,
    host::{Home, Start},
    judge,
    plan::Plan,
    report::{Load, Report, Restart},
    rounds::{Ring, peaceful},
    told::{Finals, Told},
};

/// A job that is put through it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is called in the report.
    pub name: String,
    /// What is submitted, without a name.
    pub manifest: Manifest,
    /// The files that it names by their digests.
    pub blobs: Vec<PathBuf>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The program `hb`.
    pub hb: PathBuf,
    /// An empty directory for everything.
    pub dir: PathBuf,
    /// What is run.
    pub subjects: Vec<Subject>,
    /// How often the host is killed.
    pub kills: u32,
    /// What the plan follows from.
    pub seed: u64,
    /// What is done.
    pub faults: Vec<Fault>,
    /// Jobs that are unfinished at any time.
    pub jobs: usize,
    /// Clients that submit and watch.
    pub clients: usize,
    /// Set by whoever wants no answer any more.
    pub cancel: Arc<AtomicBool>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// Somebody did not want to know.
    #[error("the experiment was stopped before its end")]
    Cancelled,
    /// The machine.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The host that nothing was done to.
    #[error("the undisturbed host did not do its work: {why}")]
    Reference {
        /// Why.
        why: String,
    },
    /// The host did not answer.
    #[error("the undisturbed host did not answer as expected")]
    Call(#[from] ClientError),
    /// A client.
    #[error("no client can be made")]
    Client(#[from] OptionsError),
    /// A job whose result may differ without anything being wrong.
    #[error(
        "{name} ended with {outcome}, which a repetition need not: there is nothing that a disturbed run \
         could be compared with; raise the limit that it met"
    )]
    NotReproducible {
        /// Which.
        name: String,
        /// How.
        outcome: String,
    },
}

impl Experiment {
    fn go_on(&self) -> Result<(), ChaosError> {
        if self.cancel.load(Ordering::Relaxed) { Err(ChaosError::Cancelled) } else { Ok(()) }
    }
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> ChaosError {
    move |source| ChaosError::Io { doing, source }
}

/// How long clients wait for a host.
const PATIENCE: Duration = Duration::from_mins(2);
const STOP_PATIENCE: Duration = Duration::from_mins(1);
/// Crashes that a job bears: all of them.
const MAX_CRASHES: u32 = 1_000_000;
/// A share of a processor that lets many jobs run side by side.
const CPU: f64 = 0.2;

/// Runs the experiment. `tell` hears of each round as it is over.
pub fn run(experiment: &Experiment, tell: &mut dyn FnMut(&Restart)) -> Result<Report, ChaosError> {
    let subjects: Vec<Subject> = experiment.subjects.iter().map(tolerant).collect();
    let references = undisturbed(experiment, &subjects)?;
    let home = home(experiment, "data")?;
    let client = Arc::new(home.client(PATIENCE)?);
    let begun = Instant::now();
    let crowd = Arc::new(Crowd {
        subjects,
        prefix: format!("chaos-{}", experiment.seed),
        share: experiment.jobs.div_ceil(experiment.clients.max(1)).max(1),
        patience: PATIENCE,
        over: AtomicBool::new(false),
        dead: AtomicBool::new(false),
        ends: Mutex::new(Vec::new()),
    });
    let struck = experiment.dir.join("struck");
    let ring = Ring { home: &home, client: &home.client(Duration::ZERO)?, struck, begun };
    let mut restarts = Vec::new();
    let clients: Vec<_> = (0..experiment.clients.max(1))
        .map(|name| {
            let (crowd, client) = (Arc::clone(&crowd), Arc::clone(&client));
            thread::spawn(move || clients::client(&crowd, &client, name))
        })
        .collect();
    let after = match disturb(experiment, &ring, &mut restarts, tell) {
        Ok(Some(violation)) => Ok(Aftermath::Dead(violation)),
        Ok(None) => aftermath(experiment, &home, &client, &crowd.over, || {
            clients.iter().all(thread::JoinHandle::is_finished)
        }),
        Err(error) => Err(error),
    };
    crowd.dead.store(!matches!(after, Ok(Aftermath::Read(_))), Ordering::Relaxed);
    let duration = begun.elapsed();
    let mut told = Told::new();
    let (finals, mut violations) = match after? {
        Aftermath::Read(finals) => {
            told.extend(clients.into_iter().flat_map(|one| one.join().unwrap_or_default()));
            let mut broken = check::check(&told, &finals, &references);
            let sample = sample(&told, &finals, references.len());
            broken.extend(judge::examine(&experiment.hb, &home.data, &sample));
            (finals, broken)
        }
        // Clients that wait for a host that does not come back are left to their patience.
        Aftermath::Dead(violation) => (Finals::new(), vec![violation]),
    };
    violations.truncate(VIOLATIONS_SHOWN);
    let ends_s = seconds(&crowd.ends.lock().unwrap_or_else(PoisonError::into_inner), begun);
    let load = Load { told: &told, finals: &finals, ends_s };
    Ok(Report::new(experiment, &references, &load, restarts, violations, duration))
}

/// What is broken a thousand times is understood from a few.
const VIOLATIONS_SHOWN: usize = 200;

enum Aftermath {
    Read(Finals),
    Dead(Violation),
}

/// All rounds; the violation that ended them early, if one did.
fn disturb(
    experiment: &Experiment,
    ring: &Ring<'_>,
    restarts: &mut Vec<Restart>,
    tell: &mut dyn FnMut(&Restart),
) -> Result<Option<Violation>, ChaosError> {
    for round in Plan::new(experiment.seed, experiment.kills, &experiment.faults).rounds {
        experiment.go_on()?;
        match ring.play(&round).map_err(failed("do what the plan says"))? {
            Ok(restart) => {
                tell(&restart);
                restarts.push(restart);
            }
            Err(violation) => return Ok(Some(violation)),
        }
    }
    Ok(None)
}

/// Nothing more is done: all jobs end, and the host is asked what there is.
fn aftermath(
    experiment: &Experiment,
    home: &Home,
    client: &Client,
    over: &AtomicBool,
    all_seen: impl Fn() -> bool,
) -> Result<Aftermath, ChaosError> {
    let mut host = home.start(&peaceful()).map_err(failed("start the host"))?;
    let start = host.wait_ready(client, PATIENCE).map_err(failed("wait for the host"))?;
    let dead = |why: &str| {
        let why = format!("the host did not come back: {why}; it said: {}", home.last_words());
        Ok(Aftermath::Dead(Violation::of_host("refused", why)))
    };
    if !matches!(start, Start::Ready) {
        return dead("it did not become ready");
    }
    over.store(true, Ordering::Relaxed);
    while !all_seen() {
        experiment.go_on()?;
        if host.wait_end(Duration::from_millis(20)).map_err(failed("wait for jobs"))?.is_some() {
            return dead("it ended by itself although nothing was done to it");
        }
    }
    // The list is some milliseconds behind; who is told the end of a job asks for it by name.
    let mut finals = judge::finals(client)?;
    loop {
        let again = judge::finals(client)?;
        if again.len() == finals.len() {
            break;
        }
        finals = again;
    }
    let stopped = host.stop(STOP_PATIENCE).map_err(failed("stop the host"))?;
    if stopped.is_none_or(|status| !status.success()) {
        return dead("it did not stop in order");
    }
    Ok(Aftermath::Read(finals))
}

/// A job of each subject that went through the most crashes.
fn sample<'a>(told: &'a Told, finals: &Finals, subjects: usize) -> Vec<&'a str> {
    let crashes = |job_id: &str| finals.get(job_id).map_or(0, |there| there.crashes);
    let most = |subject| {
        let of_it = told.iter().filter(|job| job.subject == subject && job.trouble.is_none());
        of_it.max_by_key(|job| crashes(&job.job_id)).map(|job| job.job_id.as_str())
    };
    (0..subjects).filter_map(most).collect()
}

fn seconds(ends: &[Instant], begun: Instant) -> Vec<f64> {
    ends.iter().map(|end| end.duration_since(begun).as_secs_f64()).collect()
}

/// The same job under terms that let it live through all this.
fn tolerant(subject: &Subject) -> Subject {
    let mut subject = subject.clone();
    let manifest = &mut subject.manifest;
    manifest.max_crashes = Some(MAX_CRASHES);
    manifest.resources.get_or_insert_with(ResourceRequest::default).cpu.get_or_insert(CPU);
    subject
}

fn home(experiment: &Experiment, name: &str) -> Result<Home, ChaosError> {
    let data = experiment.dir.join(name);
    fs::create_dir_all(&data).map_err(failed("make a directory"))?;
    let log = experiment.dir.join(format!("{name}.log"));
    Ok(Home { hb: experiment.hb.clone(), data, log })
}

/// What each subject comes to when nothing is done to it.
fn undisturbed(
    experiment: &Experiment,
    subjects: &[Subject],
) -> Result<Vec<Reference>, ChaosError> {
    let home = home(experiment, "undisturbed")?;
    let client = home.client(PATIENCE)?;
    let mut host = home.start(&peaceful()).map_err(failed("start a host"))?;
    if !matches!(host.wait_ready(&client, PATIENCE).map_err(failed("start a host"))?, Start::Ready)
    {
        return Err(ChaosError::Reference { why: home.last_words() });
    }
    let mut references = Vec::new();
    for (number, subject) in subjects.iter().enumerate() {
        clients::upload(&client, &subject.blobs)?;
        let mut manifest = subject.manifest.clone();
        let job_id = format!("undisturbed-{number}");
        manifest.job_id = Some(job_id.clone());
        client.submit(&manifest)?;
        let follow = Follow::Job { job: job_id.clone(), output: false, durable: true };
        for happened in client.events(follow, Patience::default()) {
            experiment.go_on()?;
            happened?;
        }
        let job = client.job(&job_id)?;
        if let Some(ended) = job.conclusion.filter(|ended| !ended.reproducible) {
            let (name, outcome) = (subject.name.clone(), ended.outcome);
            return Err(ChaosError::NotReproducible { name, outcome });
        }
        let ended = judge::final_of(&client, &job_id)?;
        references.push(Reference { name: subject.name.clone(), ended });
    }
    host.stop(STOP_PATIENCE).map_err(failed("stop the host"))?;
    Ok(references)
}
