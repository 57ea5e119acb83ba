//! A value that stands in files, and is read again when the files change.
//!
//! Owns: when to look (at most once a second, when somebody needs the value) and how a change is noticed. Knows nothing
//! of: what the files mean.
//!
//! A file that changed within the clock's granularity of being read looks unchanged afterwards. So a stamp that was
//! fresh when it was taken counts as changed at the next look.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// More than the granularity of any file system's times.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Where a value comes from.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is kept.
    type Value: Send + Sync + 'static;

    /// The files and directories whose change means that the value may have changed.
    fn paths(&self) -> Vec<PathBuf>;

    /// Reads the value again. `None` keeps the one before; the reason is in the log then.
    fn reload(&self) -> Option<Self::Value>;
}

/// A value, and how its files looked when it was read.
#[derive(Debug)]
pub(crate) struct Watched<S: Source> {
    source: Arc<S>,
    state: Mutex<State<S::Value>>,
    /// Held by whoever looks, so that others wait for what is found instead of going by the value before.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State<V> {
    /// When the last look began that has ended.
    looked: Instant,
    stamps: Stamps,
    value: Arc<V>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamps {
    each: Vec<Option<Stamp>>,
    is_settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    /// Change times cannot be set by a program that keeps modification times.
    changed: Duration,
    bytes: u64,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
        let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
        Ok(Self {
            changed: Duration::new(seconds, nanos),
            bytes: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

impl Stamps {
    fn of(paths: &[PathBuf]) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let each: Vec<_> = paths.iter().map(|path| Stamp::of(path).ok()).collect();
        let is_settled = each.iter().flatten().all(|one| {
            // A time in the future belongs to another clock, about which nothing is known.
            now.checked_sub(one.changed).is_some_and(|age| age > SETTLED_AFTER)
        });
        Self { each, is_settled }
    }

    fn is_same(&self, later: &Self) -> bool {
        self.is_settled && self.each == later.each
    }
}

impl<S: Source> Watched<S> {
    /// Reads the value for the first time; `load` says why when it cannot.
    pub(crate) fn new<E>(
        source: S,
        load: impl FnOnce(&S) -> Result<S::Value, E>,
    ) -> Result<Self, E> {
        // Before reading: what changes in between has another stamp at the next look.
        let stamps = Stamps::of(&source.paths());
        let looked = Instant::now();
        let value = Arc::new(load(&source)?);
        let state = Mutex::new(State { looked, stamps, value });
        Ok(Self { source: Arc::new(source), state, looking: tokio::sync::Mutex::new(()) })
    }

    /// The value as it is now, or was less than a second ago.
    pub(crate) async fn current(&self) -> Arc<S::Value> {
        if !self.is_due() {
            return self.value();
        }
        let _looking = self.looking.lock().await;
        if self.is_due() {
            self.look().await;
        }
        self.value()
    }

    /// The value as it is now: waits until it is time to look again.
    pub(crate) async fn fresh(&self) -> Arc<S::Value> {
        let asked = Instant::now();
        loop {
            let looked = self.state().looked;
            if looked >= asked {
                return self.value();
            }
            tokio::time::sleep_until((looked + INTERVAL).into()).await;
            self.current().await;
        }
    }

    async fn look(&self) {
        let source = Arc::clone(&self.source);
        let begun = Instant::now();
        let before = self.state().stamps.clone();
        let look = move || {
            let stamps = Stamps::of(&source.paths());
            if before.is_same(&stamps) { None } else { Some((source.reload(), stamps)) }
        };
        // A task of the blocking pool only fails when it panics or the runtime ends.
        let found = tokio::task::spawn_blocking(look).await.ok().flatten();
        let mut state = self.state();
        // Only now: whoever asks in between waits.
        state.looked = begun;
        if let Some((value, stamps)) = found {
            state.stamps = stamps;
            if let Some(value) = value {
                state.value = Arc::new(value);
            }
        }
    }

    fn is_due(&self) -> bool {
        self.state().looked.elapsed() >= INTERVAL
    }

    fn value(&self) -> Arc<S::Value> {
        Arc::clone(&self.state().value)
    }

    fn state(&self) -> MutexGuard<'_, State<S::Value>> {
        // Nothing in the critical sections can panic halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_that_was_fresh_when_it_was_read_counts_as_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let fresh = Stamps::of(&[file.path().to_owned()]);
        assert!(!fresh.is_same(&fresh.clone()), "a change in the same moment could not be seen");
        let settled = Stamps { is_settled: true, ..fresh.clone() };
        assert!(settled.is_same(&fresh));
        std::fs::write(file.path(), "longer").unwrap();
        assert!(!settled.is_same(&Stamps::of(&[file.path().to_owned()])));
        let gone = file.path().to_owned();
        drop(file);
        assert!(!settled.is_same(&Stamps::of(&[gone])));
    }

    /// Counts how often it was read.
    struct Counting(PathBuf, std::sync::atomic::AtomicUsize);

    impl Source for Counting {
        type Value = usize;

        fn paths(&self) -> Vec<PathBuf> {
            vec![self.0.clone()]
        }

        fn reload(&self) -> Option<usize> {
            Some(self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1)
        }
    }

    #[tokio::test]
    async fn everybody_who_needs_a_fresh_value_shares_one_look() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = Counting(file.path().to_owned(), 0.into());
        let watched = Arc::new(Watched::new(source, |_| Ok::<_, ()>(0)).unwrap());
        assert_eq!(*watched.current().await, 0, "it is not time yet");
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let watched = Arc::clone(&watched);
                tokio::spawn(async move { *watched.fresh().await })
            })
            .collect();
        for asked in asking {
            assert_eq!(asked.await.unwrap(), 1);
        }
    }
}
