//! Clients that do not give up: each submits jobs under names of its own, asks again until it is
//! told, and watches what it was promised.
//!
//! Owns: what a client has to do when a host goes away. Knows nothing of what is done to the host.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hb_api::job::Accepted;
use hb_client::{Client, ClientError, EventStream, Follow, Happened, Output, Patience};

use crate::{
    experiment::Subject,
    told::{BlobTold, JobTold, Told},
};

/// Between two tries that the host refused for now.
const PAUSE: Duration = Duration::from_millis(20);

/// What all clients share.
pub(crate) struct Crowd {
    pub subjects: Vec<Subject>,
    /// Names of jobs begin with this.
    pub prefix: String,
    /// Jobs that a client has unfinished at any time.
    pub share: usize,
    /// How long a host may be away.
    pub patience: Duration,
    /// Nothing new is to be submitted.
    pub over: AtomicBool,
    /// The host is gone for good.
    pub dead: AtomicBool,
    /// When jobs were seen to end.
    pub ends: Mutex<Vec<Instant>>,
}

impl Crowd {
    fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

/// One client, until nothing new is wanted and its jobs are over.
pub(crate) fn client(crowd: &Crowd, client: &Client, name: usize) -> Told {
    let mut told = Told::new();
    let mut watched = 0;
    loop {
        let over = crowd.over.load(Ordering::Relaxed) || crowd.is_dead();
        while !over && told.len() < watched + crowd.share {
            let number = told.len();
            let subject = (name + number) % crowd.subjects.len();
            let job_id = format!("{}-{name}-{number}", crowd.prefix);
            told.push(submit(crowd, client, job_id, subject));
        }
        let Some(job) = told.get_mut(watched) else { return told };
        watched += 1;
        if job.trouble.is_none() {
            watch(crowd, client, job);
        }
    }
}

/// Submits until it is answered.
fn submit(crowd: &Crowd, client: &Client, job_id: String, subject: usize) -> JobTold {
    let mut job = JobTold { job_id, subject, ..JobTold::default() };
    let subject = &crowd.subjects[subject];
    let mut manifest = subject.manifest.clone();
    manifest.job_id = Some(job.job_id.clone());
    let begun = Instant::now();
    loop {
        match client.submit(&manifest) {
            Ok(Accepted { job_hash, created, .. }) => {
                (job.job_hash, job.created) = (job_hash, created);
                return job;
            }
            Err(error) if crowd.is_dead() || begun.elapsed() > crowd.patience => {
                job.trouble = Some(describe(&error));
                return job;
            }
            Err(error) if error.is("blob-missing") => {
                // What no job refers to goes with the next start.
                let _ = upload(client, &subject.blobs);
            }
            Err(error) if is_passing(&error) => thread::sleep(PAUSE),
            Err(error) => {
                job.trouble = Some(describe(&error));
                return job;
            }
        }
    }
}

/// Brings files to the host.
pub(crate) fn upload(client: &Client, files: &[PathBuf]) -> Result<(), ClientError> {
    for path in files {
        let mut file = File::open(path).map_err(ClientError::Source)?;
        client.upload(&mut file, &mut |_, _| {})?;
    }
    Ok(())
}

/// Whether the host, or the one that takes its place, may answer otherwise later.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Broken { .. }
        | ClientError::Interrupted { .. }
        | ClientError::GaveUp { .. } => true,
        ClientError::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504 | 507),
        _ => false,
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    hb_types::text::printable(&text, 600)
}

/// Follows a job to its end.
fn watch(crowd: &Crowd, client: &Client, job: &mut JobTold) {
    let follow = Follow::Job { job: job.job_id.clone(), output: true, durable: false };
    let patience = Patience {
        total: crowd.patience,
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(200),
    };
    let mut printed = [Printed::default(), Printed::default()];
    let stream: EventStream<'_> = client.events(follow, patience);
    for happened in stream {
        if crowd.is_dead() {
            return;
        }
        match happened {
            Ok(Happened::Event(event)) => job.events.push(*event),
            Ok(Happened::Output(piece)) => {
                printed[usize::from(piece.output == Output::Stderr)].take(&piece.bytes);
            }
            Ok(Happened::Lost { .. }) => job.lost_connections += 1,
            Ok(_) => {}
            // That it is gone is found by whoever asks for it in the end.
            Err(error) if error.is("job-not-found") => return,
            Err(error) => {
                job.trouble = Some(describe(&error));
                return;
            }
        }
    }
    let [stdout, stderr] = printed;
    (job.stdout, job.stderr, job.over) = (stdout.told(), stderr.told(), true);
    crowd.ends.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
}

#[derive(Default)]
struct Printed {
    hasher: blake3::Hasher,
}

impl Printed {
    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    fn told(&self) -> BlobTold {
        BlobTold { bytes: self.hasher.count(), digest: self.hasher.finalize().to_hex().to_string() }
    }
}
