//! Looks at a queue folder from time to time and does what follows.
//!
//! Owns: when a file counts as whole, the order of the steps with each, and what is told when. Polls:
//! network filesystems tell nobody of changes, and a scan of an empty folder costs microseconds.
//!
//! A file that parses is whole. One that does not may be half-written: it is given until it has not
//! changed for [`SETTLED`].

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, SystemTime},
};

use hb_types::{Digest, event::JobNumber, text::printable};

use crate::{
    desk::{Desk, HandError},
    folder::{ARCHIVE, Content, Folder, FolderError, MANIFEST_MAX_BYTES, REJECTED, Stamp},
    manifest,
    report::{Report, State},
};

/// Time between two scans.
pub const SCAN_EVERY: Duration = Duration::from_millis(500);
/// How long a file that makes no sense must not have changed until it is rejected.
const SETTLED: Duration = Duration::from_secs(2);
/// Bytes of a reason.
const REASON_BYTES: usize = 2000;

/// What is known of a manifest that lies in the queue.
#[derive(Debug)]
struct Known {
    stamp: Stamp,
    digest: Digest,
    number: Option<JobNumber>,
    reported: Option<Report>,
}

/// The state between two scans. Losing it costs time: everything in it follows from folder and
/// ledger.
pub(crate) struct Watch {
    folder: Folder,
    desk: Box<dyn Desk>,
    known: BTreeMap<String, Known>,
}

impl Watch {
    pub fn new(folder: Folder, desk: Box<dyn Desk>) -> Self {
        Self { folder, desk, known: BTreeMap::new() }
    }

    /// One scan.
    pub fn scan(&mut self, now: SystemTime) -> Result<(), FolderError> {
        let names = self.folder.manifests()?;
        self.known.retain(|name, _| names.binary_search(name).is_ok());
        for name in names {
            self.look_at(&name, now)?;
        }
        Ok(())
    }

    fn look_at(&mut self, name: &str, now: SystemTime) -> Result<(), FolderError> {
        let (bytes, stamp) = match self.folder.read(name) {
            Content::Bytes(bytes, stamp) => (bytes, stamp),
            Content::TooLarge(stamp) => {
                let reason = format!(
                    "it has {} bytes, a manifest has at most {MANIFEST_MAX_BYTES}",
                    stamp.len_bytes
                );
                return self.refuse_settled(name, Digest::of(b""), stamp, now, &reason);
            }
            Content::Nothing(reason) => {
                tracing::debug!(name, reason, "a file in the queue cannot be read");
                return Ok(());
            }
        };
        let digest = Digest::of(&bytes);
        // Another manifest under the same name is another manifest.
        if self.known.get(name).is_some_and(|known| known.digest != digest) {
            self.known.remove(name);
        }
        match self.known.get(name).and_then(|known| known.number) {
            Some(number) => self.follow(name, digest, number),
            None => self.hand_in(name, digest, &bytes, stamp, now),
        }
    }

    fn hand_in(
        &mut self,
        name: &str,
        digest: Digest,
        bytes: &[u8],
        stamp: Stamp,
        now: SystemTime,
    ) -> Result<(), FolderError> {
        let parsed = match manifest::parse(bytes) {
            Ok(parsed) => parsed,
            Err(reason) => return self.refuse_settled(name, digest, stamp, now, &reason),
        };
        let completed = manifest::complete(&self.folder, self.desk.as_ref(), name, digest, parsed);
        match completed.and_then(|manifest| self.desk.hand_in(&manifest)) {
            Ok(handed) => {
                let known = Known { stamp, digest, number: Some(handed.number), reported: None };
                self.known.insert(name.to_owned(), known);
                self.follow(name, digest, handed.number)
            }
            // Files that it names may still be on their way too.
            Err(HandError::Refused(reason)) => {
                self.refuse_settled(name, digest, stamp, now, &reason)
            }
            Err(HandError::Later(reason)) => {
                let reason = printable(&reason, REASON_BYTES);
                let report = Report::without_job(name, digest, State::Waiting, reason);
                self.tell(name, digest, stamp, report)
            }
        }
    }

    /// Rejects a file that does not change any more.
    fn refuse_settled(
        &mut self,
        name: &str,
        digest: Digest,
        stamp: Stamp,
        now: SystemTime,
        reason: &str,
    ) -> Result<(), FolderError> {
        let age = stamp.modified.and_then(|modified| now.duration_since(modified).ok());
        // Without a time, or with one in the future, what was seen last time decides.
        let same = self.known.get(name).is_some_and(|known| known.stamp == stamp);
        let settled = age.map_or(same, |age| age >= SETTLED);
        if !settled {
            let known = Known { stamp, digest, number: None, reported: None };
            self.known.entry(name.to_owned()).or_insert(known).stamp = stamp;
            return Ok(());
        }
        let reason = printable(reason, REASON_BYTES);
        let report = Report::without_job(name, digest, State::Rejected, reason);
        tracing::warn!(name, reason = report.reason, "a manifest in the queue is rejected");
        self.tell(name, digest, stamp, report)?;
        self.folder.move_to(REJECTED, name)?;
        self.known.remove(name);
        Ok(())
    }

    /// Reports how the job of a manifest is, and takes the manifest out of the queue when it is over.
    fn follow(&mut self, name: &str, digest: Digest, number: JobNumber) -> Result<(), FolderError> {
        // Its newest record is on its way to the disk: the next scan sees it.
        let Some(job) = self.desk.look(number) else { return Ok(()) };
        let report = Report::of_job(name, digest, &job);
        let over = report.state == State::Over;
        let stamp = self
            .known
            .get(name)
            .map_or(Stamp { len_bytes: 0, modified: None }, |known| known.stamp);
        self.tell(name, digest, stamp, report)?;
        if over {
            self.folder.move_to(ARCHIVE, name)?;
            self.known.remove(name);
        }
        Ok(())
    }

    /// Writes a report that says something new.
    fn tell(
        &mut self,
        name: &str,
        digest: Digest,
        stamp: Stamp,
        report: Report,
    ) -> Result<(), FolderError> {
        let known = self.known.entry(name.to_owned()).or_insert(Known {
            stamp,
            digest,
            number: None,
            reported: None,
        });
        if known.reported.as_ref() == Some(&report) {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec_pretty(&report).expect("a report is plain data");
        bytes.push(b'\n');
        if self.folder.report(name).as_ref() != Some(&bytes) {
            self.folder.write_report(name, &bytes)?;
        }
        known.reported = Some(report);
        Ok(())
    }
}

/// A queue folder that is being watched, until this is dropped.
pub struct QueueFolder {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    asked: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl QueueFolder {
    /// Watches the folder at `path`, which is made where there is none.
    pub fn watch(path: &Path, desk: Box<dyn Desk>) -> Result<Self, FolderError> {
        let mut watch = Watch::new(Folder::open(path)?, desk);
        let stop = Arc::new(Stop::default());
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("queue-folder".to_owned()).spawn(move || {
            while !stopped.asked.load(Ordering::SeqCst) {
                if let Err(error) = watch.scan(SystemTime::now()) {
                    tracing::warn!(error = %chain(&error), "the queue folder; it is tried again");
                }
                let guard = stopped.lock.lock().unwrap_or_else(PoisonError::into_inner);
                if !stopped.asked.load(Ordering::SeqCst) {
                    drop(stopped.wake.wait_timeout(guard, SCAN_EVERY));
                }
            }
        });
        let path = path.to_owned();
        let failed = |source| FolderError { doing: "start a thread for", path, source };
        Ok(Self { stop, thread: Some(thread.map_err(failed)?) })
    }
}

fn chain(error: &FolderError) -> String {
    format!("{error}: {}", error.source)
}

impl Drop for QueueFolder {
    fn drop(&mut self) {
        self.stop.asked.store(true, Ordering::SeqCst);
        drop(self.stop.lock.lock());
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the queue folder panicked");
        }
    }
}

#[cfg(test)]
#[path = "watch/tests.rs"]
mod tests;
