//! A host behind its HTTP interface.
//!
//! Owns: what is made in which order, and what is undone when it ends. Knows nothing of command lines
//! or signals: whoever runs it says when to stop.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use axum::Router;
use hb_edge::{Bound, Edge, Served, Shutdown};
use hb_host::{Dispatcher, Host};
use hb_read_model::{Opened, ReadModel, ReadModelError};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    feed::Feed,
    hub::Hub,
    metrics, openapi,
    state::{App, Parts},
    uploads::Uploads,
};

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file of the read model.
    pub read_model: PathBuf,
    /// The directory of unfinished uploads.
    pub uploads: PathBuf,
    /// The most bytes of one blob.
    pub blob_bytes: u64,
    /// When the process began.
    pub started: Instant,
    /// Whether a job can be run here, once that is known.
    pub self_test: SelfTest,
}

/// Whether a job can be run here.
#[derive(Clone, Debug, Default)]
pub struct SelfTest(Arc<OnceLock<Result<(), String>>>);

impl SelfTest {
    /// Tells what the test found; only the first time counts.
    pub fn tell(&self, result: Result<(), String>) {
        let _ = self.0.set(result);
    }

    /// Why no job can be run, if that is so or not known yet.
    pub(crate) fn fault(&self) -> Option<String> {
        match self.0.get() {
            None => Some("the self-test at the start has not ended yet".to_owned()),
            Some(Ok(())) => None,
            Some(Err(why)) => Some(why.clone()),
        }
    }
}

/// Why a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The read model.
    #[error("the read model cannot be opened: remove its file, it is made again from the ledger")]
    ReadModel(#[from] ReadModelError),
    /// A thread.
    #[error("a thread cannot be started")]
    Thread(#[from] std::io::Error),
}

/// A host behind its HTTP interface.
pub struct Server {
    app: App,
    feeder: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Listens to a host, before anything runs on it: every change from here on is told.
    pub fn listen(host: &Arc<Host>) -> Arc<Hub> {
        let hub = Arc::new(Hub::new(host.with_ledger(|ledger| ledger.applied)));
        host.listen(hub.clone());
        hub
    }

    /// Makes the server of a dispatcher whose host `hub` listens to.
    pub fn new(
        dispatcher: Arc<Dispatcher>,
        hub: Arc<Hub>,
        options: Options,
    ) -> Result<Self, ServerError> {
        let host = dispatcher.host();
        let (read_model, opened) = ReadModel::open(&options.read_model, host.ledger_id())?;
        if let Opened::Fresh(reason) = opened {
            tracing::info!(%reason, "the read model is made from the ledger");
        }
        let read_model = Arc::new(read_model);
        let feed = Arc::new(Feed::new(Arc::clone(host), Arc::clone(&hub), Arc::clone(&read_model)));
        let feeder = Mutex::new(Some(feed.spawn()?));
        let metrics = exporter();
        metrics::describe();
        let uploads = Arc::new(Uploads::new(options.uploads.clone()));
        let parts = Parts { dispatcher, hub, read_model, feed, uploads, metrics, options };
        let app = App::new(parts);
        Ok(Self { app, feeder })
    }

    /// The routes.
    pub fn router(&self) -> Router {
        let (routes, document) = openapi::routes(self.app.options.blob_bytes);
        routes.merge(openapi::pages(&document)).with_state(self.app.clone())
    }

    /// An edge that knows which of the routes need less, or no, permission.
    pub fn dress(edge: Edge) -> Edge {
        edge.public("/livez")
            .public("/readyz")
            .unbounded("/livez")
            .unbounded("/readyz")
            .unbounded("/metrics")
    }

    /// Serves until `shutdown` is requested.
    pub async fn serve(&self, bound: Bound, shutdown: Shutdown) -> Served {
        bound.serve(self.router(), shutdown).await
    }

    /// Ends what was started, once nothing is served any more.
    pub fn close(&self) {
        self.app.hub.stop();
        let feeder = self.feeder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(feeder) = feeder
            && feeder.join().is_err()
        {
            tracing::error!("the thread that feeds the read model panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

/// One for a process: whoever comes second shares it.
fn exporter() -> Option<PrometheusHandle> {
    static EXPORTER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || PrometheusBuilder::new().install_recorder().ok();
    EXPORTER.get_or_init(install).clone()
}
