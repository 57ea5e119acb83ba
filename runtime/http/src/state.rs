//! What every handler can reach.

use std::sync::Arc;

use hb_edge::Problem;
use hb_host::{Dispatcher, Host};
use hb_read_model::ReadModel;
use hb_types::{event::JobNumber, ledger::Job, text::printable};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{feed::Feed, hub::Hub, server::Options, uploads::Uploads};

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

pub(crate) struct Parts {
    pub dispatcher: Arc<Dispatcher>,
    pub hub: Arc<Hub>,
    pub read_model: Arc<ReadModel>,
    pub feed: Arc<Feed>,
    pub uploads: Arc<Uploads>,
    pub metrics: Option<PrometheusHandle>,
    pub options: Options,
}

impl App {
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub fn host(&self) -> &Arc<Host> {
        self.0.dispatcher.host()
    }

    /// The number that a path names: a job id, or a job's number.
    pub fn number(&self, name: &str) -> Result<JobNumber, Problem> {
        self.host()
            .with_ledger(|ledger| {
                let by_id = ledger.by_id(name);
                let by_number = || ledger.by_number(name.parse().ok()?);
                by_id.or_else(by_number).map(|found| found.number())
            })
            .ok_or_else(|| no_such_job(name))
    }

    /// The job that a path names.
    pub fn job(&self, name: &str) -> Result<Job, Problem> {
        let number = self.number(name)?;
        let job = tokio::task::block_in_place(|| self.host().load(number));
        job.map_err(|error| Problem::internal(&error))?.ok_or_else(|| no_such_job(name))
    }
}

pub(crate) fn no_such_job(name: &str) -> Problem {
    let shown = printable(name, 128);
    Problem::new(&hb_edge::codes::JOB_NOT_FOUND, format!("there is no job {shown:?} on this host"))
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// The job that a path names, once all that the ledger says of it is durable.
    pub async fn durable_job(&self, name: &str) -> Result<Job, crate::error::Failed> {
        let job = self.job(name)?;
        if job.last > self.host().durable_lsn() {
            crate::jobs::durable(self, job.last, None).await?;
        }
        Ok(job)
    }

    /// Refuses new work when there will be no time for it, or no log.
    pub fn check_open(&self) -> Result<(), Problem> {
        if self.dispatcher.failure().is_some() {
            let detail = "the host's log takes nothing any more: it has to be started again";
            return Err(Problem::new(&hb_edge::codes::NOT_READY, detail).retry_after(5));
        }
        if self.dispatcher.figures().mode != hb_host::Mode::Open {
            return Err(Problem::of(&hb_edge::codes::DRAINING).retry_after(5));
        }
        Ok(())
    }
}
