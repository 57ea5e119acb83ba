//! Connections that read: a few, each with a clock that stops it.
//!
//! Owns: how long a question may take, and in which snapshot it is answered. Readers see the file
//! as it was when they began and wait neither for the writer nor for each other, except for a free
//! connection when more of them ask at once than there are.

use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    bounds::{READER_CACHE_KIB, STEPS_BETWEEN_LOOKS},
    error::Fault,
    open::connect,
};

/// A snapshot that a question is answered from.
pub struct Reading<'c> {
    /// The connection, within a transaction.
    pub connection: &'c Connection,
    until: Instant,
}

impl Reading<'_> {
    /// Fails once the time is over. `SQLite` looks at the same clock within a statement.
    pub fn check_time(&self) -> Result<(), Fault> {
        if Instant::now() < self.until { Ok(()) } else { Err(Fault::TimeIsOver) }
    }
}

/// The connections.
pub struct Readers {
    path: PathBuf,
    most: usize,
    time: Duration,
    pool: Mutex<Pool>,
    freed: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Reader>,
    open: usize,
}

struct Reader {
    connection: Connection,
    alarm: Arc<Alarm>,
}

/// When a connection has to stop, in microseconds since it was made.
struct Alarm {
    made: Instant,
    stop_us: AtomicU64,
}

impl Alarm {
    fn set(&self, until: Instant) {
        let stop = until.saturating_duration_since(self.made).as_micros();
        self.stop_us.store(u64::try_from(stop).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn rings(&self) -> bool {
        self.made.elapsed().as_micros() >= u128::from(self.stop_us.load(Ordering::Relaxed))
    }
}

impl Readers {
    /// At most `most` connections to a file; each question has so much time.
    pub fn new(path: PathBuf, most: usize, time: Duration) -> Self {
        Self { path, most: most.max(1), time, pool: Mutex::default(), freed: Condvar::new() }
    }

    /// How long a question may take.
    pub fn limit_ms(&self) -> u64 {
        u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX)
    }

    /// Answers a question from one snapshot.
    pub fn read<T>(
        &self,
        answer: impl FnOnce(&Reading<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let until = Instant::now() + self.time;
        let lent = self.lend(until)?;
        lent.reader().alarm.set(until);
        let transaction = lent.reader().connection.unchecked_transaction()?;
        let answer = answer(&Reading { connection: &transaction, until });
        // Nothing was written; this only lets the snapshot go.
        transaction.finish()?;
        answer
    }

    /// Closes every idle connection. The caller sees to it that no other is in use.
    pub fn close(&self) {
        let mut pool = self.lock();
        pool.open -= pool.idle.len();
        pool.idle.clear();
    }

    fn lend(&self, until: Instant) -> Result<Lent<'_>, Fault> {
        let mut pool = self.lock();
        loop {
            if let Some(reader) = pool.idle.pop() {
                return Ok(Lent { readers: self, reader: Some(reader) });
            }
            if pool.open < self.most {
                pool.open += 1;
                drop(pool);
                // Gives its place back when opening fails.
                let mut lent = Lent { readers: self, reader: None };
                lent.reader = Some(Reader::open(&self.path)?);
                return Ok(lent);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::TimeIsOver);
            }
            let waited = self.freed.wait_timeout(pool, left);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn open(path: &std::path::Path) -> Result<Self, Fault> {
        let mut connection = connect(path, READER_CACHE_KIB)?;
        connection.pragma_update(None, "query_only", true)?;
        let alarm = Arc::new(Alarm { made: Instant::now(), stop_us: AtomicU64::new(u64::MAX) });
        let heard = Arc::clone(&alarm);
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(move || heard.rings()))?;
        Ok(Self { connection, alarm })
    }
}

/// A connection that is in use; it goes back when this is dropped.
struct Lent<'r> {
    readers: &'r Readers,
    reader: Option<Reader>,
}

impl Lent<'_> {
    fn reader(&self) -> &Reader {
        self.reader.as_ref().expect("a connection goes back only when this is dropped")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self.readers.lock();
        match self.reader.take() {
            Some(reader) => {
                reader.alarm.stop_us.store(u64::MAX, Ordering::Relaxed);
                pool.idle.push(reader);
            }
            None => pool.open -= 1,
        }
        drop(pool);
        self.readers.freed.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::ReadModelError;

    fn readers(directory: &tempfile::TempDir, most: usize, time: Duration) -> Readers {
        let path = directory.path().join("history.sqlite");
        crate::open::create(&path, [0; 16]).unwrap();
        Readers::new(path, most, time)
    }

    #[test]
    fn a_statement_that_would_never_end_is_stopped_and_the_connection_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let readers = readers(&directory, 1, Duration::from_millis(50));
        for _ in 0..2 {
            let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                           SELECT count(*) FROM n";
            let fault = readers
                .read(|reading| Ok(reading.connection.query_row(endless, [], |_| Ok(()))?))
                .unwrap_err();
            let error = fault.while_doing("count for ever", readers.limit_ms());
            assert!(matches!(error, ReadModelError::TooSlow { limit_ms: 50, .. }), "{error:?}");
            readers.read(|reading| crate::history::totals(reading.connection)).unwrap();
        }
    }

    #[test]
    fn one_who_finds_no_free_connection_in_time_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let readers = readers(&directory, 2, Duration::from_millis(50));
        let (both_read, refused) = (Barrier::new(3), Barrier::new(3));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let wait = |_: &Reading<'_>| {
                        both_read.wait();
                        refused.wait();
                        Ok(())
                    };
                    readers.read(wait).unwrap();
                });
            }
            both_read.wait();
            let fault = readers.read(|_| Ok(())).unwrap_err();
            assert!(matches!(fault, Fault::TimeIsOver), "{fault:?}");
            refused.wait();
        });
        readers.read(|_| Ok(())).unwrap();
    }

    #[test]
    fn a_reader_cannot_write() {
        let directory = tempfile::tempdir().unwrap();
        let readers = readers(&directory, 1, Duration::from_secs(5));
        let write =
            |reading: &Reading<'_>| Ok(reading.connection.execute("DELETE FROM job", [])?);
        readers.read(write).unwrap_err();
    }
}
