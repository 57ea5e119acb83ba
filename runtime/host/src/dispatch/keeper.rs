//! The thread that looks after a host while others run jobs.
//!
//! Owns: when the ledger is tidied, when jobs that are over leave memory, when jobs that wait run
//! out of time, and when schedules are looked at. Knows nothing of how any of it is done.

use std::{
    sync::{Arc, PoisonError},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use hb_types::event::JobNumber;

use super::{Mode, Shared};
use crate::{error::DecideError, execute::chain_of, retention::RetentionPolicy};

/// Time between two rounds.
const EVERY: Duration = Duration::from_millis(50);
/// Rounds in one turn of archiving: other work is not kept waiting by it.
const ARCHIVES_IN_A_ROUND: usize = 4;

pub(super) fn spawn(shared: &Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    Builder::new().name("keeper".to_owned()).spawn(move || {
        let mut last_second = 0;
        let mut pruned = Instant::now();
        let mut state = shared.lock();
        while state.mode != Mode::Stopped {
            drop(state);
            let now_ns = shared.host.now_ns();
            shared.keep_once(now_ns);
            // No calendar names a moment between two seconds.
            let second = now_ns / 1_000_000_000;
            if second != last_second {
                last_second = second;
                shared.fire_schedules(now_ns);
            }
            if pruned.elapsed() >= shared.options.retention_every {
                pruned = Instant::now();
                shared.prune(now_ns);
            }
            state = shared.lock();
            if state.mode != Mode::Stopped {
                let waited = shared.keeper.wait_timeout(state, EVERY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    })
}

/// Bytes of compiled code that are kept: what was not used for longest goes first.
const CODE_CACHE_BYTES: u64 = 2 << 30;

impl Shared {
    /// Removes what the policy does not keep.
    fn prune(&self, now_ns: u64) {
        if let Err(error) = self.host.shrink_code_cache(CODE_CACHE_BYTES) {
            tracing::warn!(%error, "compiled code could not be removed");
        }
        if self.options.retention == RetentionPolicy::default() {
            return;
        }
        let plan = self.host.prune_plan(&self.options.retention, now_ns);
        let jobs: Vec<JobNumber> = plan.jobs.iter().map(|job| job.job).collect();
        match self.host.forget(&jobs) {
            Ok(report) if !report.forgotten.is_empty() => {
                tracing::info!(jobs = report.forgotten.len(), "jobs were removed by policy");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = chain_of(&error), "jobs could not be removed by policy");
            }
        }
    }

    pub(super) fn keep_once(&self, now_ns: u64) {
        self.end_those_out_of_time(now_ns);
        for _ in 0..ARCHIVES_IN_A_ROUND {
            match self.host.archive_if_due() {
                Ok(true) => {}
                // `Apply`: a job was removed in between; the next round sees the ledger as it is then.
                Ok(false) | Err(DecideError::Apply(_)) => break,
                Err(DecideError::Journal(error)) => {
                    tracing::warn!(error = chain_of(&error), "jobs could not be archived");
                    break;
                }
            }
        }
        self.host.tidy();
    }
}
