//! A ledger as it stands, for reading: also beside the process that owns it.
//!
//! Owns: replay of the log into a ledger, and the ways in which what a job left is handed out.
//! Changes nothing.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::fs::Dir;
use hb_disk::{RealDisk, Storage};
use hb_store::{Store, StoreError};
use hb_types::{
    Digest,
    capture::{ChunkSource, ContentId, chunk_count},
    content::Kept,
    event::{Artifact, Event, JobNumber},
    job::BlobRef,
    ledger::{Job, KeptSeal, Ledger},
};
use hb_wal::{RecordRef, ReplayError, Snapshot};

use crate::{
    contents::HeldContents,
    error::{LoadError, OpenHostError, RunError},
    layout::Layout,
};

/// The records of a log as a ledger; `read` visits those after the snapshot.
pub(crate) fn replay(
    snapshot: Option<&Snapshot>,
    read: impl FnOnce(&mut Visit<'_>) -> Result<(), ReplayError<OpenHostError>>,
) -> Result<Ledger, OpenHostError> {
    let mut ledger = match snapshot {
        Some(Snapshot { lsn, state }) => {
            Ledger::from_bytes(state).ok_or(OpenHostError::Snapshot { lsn: *lsn })?
        }
        None => Ledger::default(),
    };
    let mut visit = |record: RecordRef<'_>| {
        let lsn = record.lsn;
        let event = Event::decode(record.kind, record.schema, record.payload)
            .map_err(|source| OpenHostError::Record { lsn, source })?;
        ledger.apply(lsn, &event)?;
        Ok(())
    };
    match read(&mut visit) {
        Ok(()) => Ok(ledger),
        Err(ReplayError::Visitor { source, .. }) => Err(source),
        Err(error) => Err(OpenHostError::Replay(error.to_string())),
    }
}

type Visit<'a> = dyn FnMut(RecordRef<'_>) -> Result<(), OpenHostError> + 'a;

/// A verified blob as an open file; a copy without a name where the store's disk has no files of
/// the operating system.
pub(crate) fn blob_file(store: &Store, blob: BlobRef) -> Result<std::fs::File, RunError> {
    let verified = store.open_verified(blob.digest)?;
    if let Some(file) = verified.host_file()? {
        return Ok(file);
    }
    let mut copy = tempfile::tempfile().map_err(RunError::Scratch)?;
    io::copy(&mut verified.cursor(), &mut copy).map_err(RunError::Scratch)?;
    Ok(copy)
}

/// What could not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What the job left cannot be read.
    #[error("cannot read {what} of the job")]
    Read {
        /// Which part.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Where it goes takes no more.
    #[error("cannot write {what}: check that there is room")]
    Sink {
        /// Which part.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The files cannot be written.
    #[error("cannot write {}: check that the directory can be written to and has room", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was read is not what was sealed.
    #[error(
        "{what} is damaged: digest {expected} expected, {found} found; restore the data directory from a copy or run the job again with --rerun"
    )]
    Damaged {
        /// Which part.
        what: String,
        /// Its sealed digest.
        expected: Digest,
        /// The digest of what is there.
        found: Digest,
    },
    /// A blob.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A ledger that is only read.
pub struct LedgerView {
    /// The jobs.
    pub ledger: Ledger,
    store: Store,
    layout: Layout,
}

impl LedgerView {
    /// Reads the ledger of a data directory as it stands.
    pub fn open(root: &Path) -> Result<Self, OpenHostError> {
        let layout = Layout::new(root);
        if !root.join("wal").is_dir() {
            return Err(OpenHostError::NoLedger { path: root.to_owned() });
        }
        let disk = RealDisk::open(root)
            .map_err(|source| OpenHostError::Directory { path: root.to_owned(), source })?;
        let disk: Arc<dyn Storage> = Arc::new(disk);
        let reader = hb_wal::read_only(disk.as_ref())?;
        let ledger = replay(reader.snapshot.as_ref(), |visit| reader.replay(visit))?;
        Ok(Self { ledger, store: Store::attach(disk), layout })
    }

    /// Where things are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The blobs.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The numbers of all jobs, newest first.
    pub fn numbers(&self) -> Vec<JobNumber> {
        let here = self.ledger.jobs.keys();
        let mut numbers: Vec<JobNumber> =
            here.chain(self.ledger.archive.jobs().keys()).copied().collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers
    }

    /// A job, wherever its record lies; `None` where there is none of that number.
    pub fn load(&self, number: JobNumber) -> Result<Option<Job>, LoadError> {
        crate::archive::load(&self.store, &self.ledger, number)
    }

    /// Writes everything that a job durably printed to `sink`.
    pub fn copy_output(
        &self,
        job: &Job,
        id: ContentId,
        sink: &mut dyn Write,
    ) -> Result<u64, ExportError> {
        copy_output(&self.store, job, id, sink)
    }

    /// Writes a job's artifacts below `out`, each verified against its sealed digest.
    pub fn export_artifacts(&self, job: &Job, out: &Path) -> Result<u64, ExportError> {
        export_artifacts(&self.store, job, out)
    }

    /// The signed envelope of a seal, as JSON.
    pub fn envelope(&self, seal: &KeptSeal) -> Result<Vec<u8>, StoreError> {
        match &seal.envelope {
            Kept::Inline(bytes) => Ok(bytes.clone()),
            Kept::Blob(blob) => self.store.get(blob.digest),
        }
    }
}

impl crate::Host {
    /// Writes everything that a job durably printed to `sink`.
    pub fn copy_output(
        &self,
        job: &Job,
        id: ContentId,
        sink: &mut dyn Write,
    ) -> Result<u64, ExportError> {
        copy_output(self.store(), job, id, sink)
    }
}

fn copy_output(
    store: &Store,
    job: &Job,
    id: ContentId,
    sink: &mut dyn Write,
) -> Result<u64, ExportError> {
    let len_bytes = job.holdings.content(id).map_or(0, |content| content.len_bytes);
    let source = HeldContents { store, holdings: &job.holdings };
    copy_content(&source, id, len_bytes, "the output", sink)?;
    Ok(len_bytes)
}

/// Copies one content and says which side failed.
fn copy_content(
    source: &HeldContents<'_>,
    id: ContentId,
    len_bytes: u64,
    what: &str,
    sink: &mut dyn Write,
) -> Result<Digest, ExportError> {
    let mut hasher = blake3::Hasher::new();
    for index in 0..chunk_count(len_bytes) {
        let chunk = source
            .read_chunk(id, index)
            .map_err(|source| ExportError::Read { what: what.to_owned(), source })?;
        hasher.update(&chunk);
        sink.write_all(&chunk)
            .map_err(|source| ExportError::Sink { what: what.to_owned(), source })?;
    }
    Ok(Digest::from(hasher.finalize()))
}

fn export_artifacts(store: &Store, job: &Job, out: &Path) -> Result<u64, ExportError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Write { path, source }
    };
    std::fs::create_dir_all(out).map_err(write(out))?;
    // A guest chose the names: nothing outside of this directory can be reached through them.
    let dir = Dir::open_ambient_dir(out, cap_std::ambient_authority()).map_err(write(out))?;
    let none = std::collections::BTreeMap::new();
    let artifacts = job.conclusion.as_ref().map_or(&none, |conclusion| &conclusion.artifacts);
    let source = HeldContents { store, holdings: &job.holdings };
    for (name, artifact) in artifacts {
        let path = out.join(name);
        if let Some(parent) = Path::new(name).parent() {
            dir.create_dir_all(parent).map_err(write(&path))?;
        }
        // Under its name it is whole and verified, or not there.
        let partial = format!("{name}.partial-{}", std::process::id());
        let mut file = io::BufWriter::new(dir.create(&partial).map_err(write(&path))?);
        let copied = copy_verified(&source, name, artifact, &mut file)
            .and_then(|()| file.flush().map_err(write(&path)))
            .and_then(|()| dir.rename(&partial, &dir, name).map_err(write(&path)));
        if let Err(error) = copied {
            // The first error says what is wrong; that something stays behind adds nothing.
            let _ = dir.remove_file(&partial);
            return Err(error);
        }
    }
    Ok(artifacts.len() as u64)
}

fn copy_verified(
    source: &HeldContents<'_>,
    name: &str,
    artifact: &Artifact,
    sink: &mut dyn Write,
) -> Result<(), ExportError> {
    let what = format!("artifact {}", hb_types::text::printable(name, 200));
    let found = copy_content(source, artifact.content, artifact.blob.len_bytes, &what, sink)?;
    let expected = artifact.blob.digest;
    if found != expected {
        return Err(ExportError::Damaged { what, expected, found });
    }
    Ok(())
}

/// The public key that belongs to a data directory, if it has one.
pub fn public_key(layout: &Layout) -> Result<Option<hb_seal::PublicKey>, hb_seal::KeyError> {
    let Ok(dir) = Dir::open_ambient_dir(layout.keys(), cap_std::ambient_authority()) else {
        return Ok(None);
    };
    Ok(hb_seal::load_key(&dir, crate::layout::KEY)?.map(|key| key.public()))
}
