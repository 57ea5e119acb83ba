//! Looking after a ledger: check, repair, figures.
//!
//! Owns: what "healthy" means for the whole: the log, the records in it, and the blobs that they
//! refer to. Check and figures change nothing and may run beside the owner; repair needs the lock.

use std::{path::Path, sync::Arc};

use hb_disk::{RealDisk, Storage};
use hb_store::{Audit, Store, StoreError};
use hb_types::{Digest, ledger::Ledger, state::Phase};
use hb_wal::{CheckReport, RepairError, RepairReport};

use crate::{
    error::OpenHostError,
    layout::{self, Layout},
};

/// The most findings of one kind that a report names.
const FINDINGS_MAX: usize = 100;

/// What a check found.
pub struct LedgerReport {
    /// The log.
    pub log: CheckReport,
    /// Why its records do not make a ledger, if they do not.
    pub records: Option<OpenHostError>,
    /// The blobs that are there.
    pub blobs: Audit,
    /// Blobs that jobs refer to and that are not there, at most a hundred.
    pub missing: Vec<Digest>,
    /// Jobs in the ledger.
    pub jobs: usize,
    /// Whether another process owns the ledger.
    pub live: bool,
}

impl LedgerReport {
    /// Whether nothing is wrong.
    pub fn is_healthy(&self) -> bool {
        self.log.healthy()
            && self.records.is_none()
            && self.blobs.damaged == 0
            && self.missing.is_empty()
    }
}

/// Figures of a ledger.
pub struct LedgerFigures {
    /// The log.
    pub log: CheckReport,
    /// How many jobs are in each phase.
    pub jobs: Vec<(Phase, usize)>,
    /// Checkpoints that are recorded of jobs that are not archived.
    pub checkpoints: usize,
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes that are free on the disk.
    pub free_bytes: u64,
}

/// Why a ledger cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum CareError {
    /// It cannot be opened at all.
    #[error(transparent)]
    Open(#[from] OpenHostError),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] hb_wal::OpenError),
    /// The blobs cannot be listed.
    #[error("the blobs cannot be read")]
    Store(#[from] StoreError),
    /// The repair.
    #[error("the log cannot be repaired")]
    Repair(#[from] RepairError),
    /// The disk.
    #[error("the disk cannot be asked")]
    Disk(#[from] std::io::Error),
}

fn disk(root: &Path) -> Result<RealDisk, OpenHostError> {
    if !root.join("wal").is_dir() && !root.join("mark").is_dir() {
        return Err(OpenHostError::NoLedger { path: root.to_owned() });
    }
    RealDisk::open(root)
        .map_err(|source| OpenHostError::Directory { path: root.to_owned(), source })
}

/// Reads and verifies everything.
pub fn check(root: &Path) -> Result<LedgerReport, CareError> {
    let disk = disk(root)?;
    let live = disk.is_locked()?;
    let log = hb_wal::check(&disk, live)?;
    let store = Store::attach(Arc::new(disk));
    let blobs = store.verify_all()?;
    let (mut missing, mut jobs, mut records) = (Vec::new(), 0, None);
    if log.healthy() {
        match crate::LedgerView::open(root) {
            Ok(view) => {
                jobs = view.ledger.count();
                missing = missing_blobs(&view.ledger, &store)?;
                if live && !missing.is_empty() {
                    // The owner removes what its newest records let go of, so what is missing
                    // by an older view may not be needed any more.
                    let newer = crate::LedgerView::open(root)?.ledger;
                    missing.retain(|digest| newer.refers_to(*digest));
                }
            }
            Err(error) => records = Some(error),
        }
    }
    Ok(LedgerReport { log, records, blobs, missing, jobs, live })
}

fn missing_blobs(ledger: &Ledger, store: &Store) -> Result<Vec<Digest>, StoreError> {
    let mut missing = Vec::new();
    for digest in ledger.referenced() {
        if missing.len() < FINDINGS_MAX && !store.contains(digest)? {
            missing.push(digest);
        }
    }
    Ok(missing)
}

/// Gives up what follows record `to`.
pub fn repair(root: &Path, to: u64, options: &hb_wal::Options) -> Result<RepairReport, CareError> {
    let disk = disk(root)?;
    let Some(_lock) = disk.lock(layout::LOCK)? else {
        let owner = disk.lock_owner(layout::LOCK);
        return Err(
            OpenHostError::InUse { path: Layout::new(root).root().to_owned(), owner }.into()
        );
    };
    Ok(hb_wal::repair(&disk, to, options)?)
}

/// Counts.
pub fn figures(root: &Path) -> Result<LedgerFigures, CareError> {
    let disk = disk(root)?;
    let live = disk.is_locked()?;
    let log = hb_wal::check(&disk, live)?;
    let free_bytes = disk.free_bytes()?;
    let view = crate::LedgerView::open(root)?;
    let here = view.ledger.jobs.values().map(|job| job.state.phase);
    let archived = view.ledger.archive.jobs().values().map(|job| job.phase);
    let phases: Vec<Phase> = here.chain(archived).collect();
    let count = |phase| phases.iter().filter(|other| **other == phase).count();
    let (mut blobs, mut blob_bytes) = (0, 0);
    for blob in view.store().list() {
        let (_, len_bytes) = blob?;
        blobs += 1;
        blob_bytes += len_bytes;
    }
    Ok(LedgerFigures {
        log,
        jobs: Phase::ALL.into_iter().map(|phase| (phase, count(phase))).collect(),
        checkpoints: view.ledger.jobs.values().map(|job| job.checkpoints.len()).sum(),
        blobs,
        blob_bytes,
        free_bytes,
    })
}
