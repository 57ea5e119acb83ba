//! The host as a whole: how it is, whether it lives, whether it is ready.
//!
//! Owns: what "ready" means: a job that is submitted now can be accepted and run. Knows nothing of
//! metrics.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hb_api::{
    event::EventView,
    job::ProgressView,
    status::{HostStatus, LimitView, LogView, MachineView},
};
use hb_edge::{Problem, codes, extract::Json};
use hb_host::Mode;
use hb_types::{
    limits::{Limit, Unit},
    units::show_time,
};
use tokio::task::block_in_place;

use crate::{error::Failed, state::App};

/// Running jobs whose progress the status shows.
const SHOWN: usize = 100;

/// How the host is.
///
/// One place that says idle, running, paused, draining or error, the last event, and what running jobs
/// last said of themselves. Readers cost nothing but their own request.
#[utoipa::path(get, path = "/v1/status", tag = "host", responses((status = 200, body = HostStatus)))]
pub(crate) async fn status(State(app): State<App>) -> Json<HostStatus> {
    Json(block_in_place(|| status_of(&app)))
}

// Thousandths of a processor are small numbers.
#[allow(clippy::cast_precision_loss)]
fn processors(milli: u64) -> f64 {
    milli as f64 / 1000.0
}

pub(crate) fn status_of(app: &App) -> HostStatus {
    let host = app.host();
    let figures = app.dispatcher.figures();
    let log = host.log_figures();
    let failure = app.dispatcher.failure();
    let paused = host.with_ledger(|ledger| ledger.starts_paused);
    let status = if failure.is_some() {
        "error"
    } else if figures.mode != Mode::Open {
        "draining"
    } else if figures.running > 0 {
        "running"
    } else if paused {
        "paused"
    } else {
        "idle"
    };
    let counts = app.read_model.counts_by_phase().unwrap_or_default();
    let last_event = app.feed.last_line();
    let last_event = last_event.and_then(|line| serde_json::from_str::<EventView>(&line.json).ok());
    let started_ns = host.started_ns();
    HostStatus {
        status: status.to_owned(),
        error: failure.clone(),
        host: host.name().to_owned(),
        ledger: hex::encode(host.ledger_id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: show_time(started_ns),
        uptime_seconds: app.options.started.elapsed().as_secs(),
        running: figures.running as u64,
        waiting: figures.waiting as u64,
        jobs: counts.into_iter().map(|(phase, count)| (phase.name().to_owned(), count)).collect(),
        machine: MachineView {
            cpus: processors(figures.machine.cpu_milli),
            cpus_used: processors(figures.used.cpu_milli),
            memory_bytes: figures.machine.memory_bytes,
            memory_used_bytes: figures.used.memory_bytes,
        },
        log: LogView {
            durable: log.durable_lsn,
            records: log.records,
            flushes: log.flushes,
            bytes: log.bytes,
            failure,
        },
        last_event,
        progress: progress(app),
    }
}

fn progress(app: &App) -> std::collections::BTreeMap<String, ProgressView> {
    let host = app.host();
    let running = host.live().running();
    let shown = running.into_iter().take(SHOWN).filter_map(|number| {
        let job_id = host.with_ledger(|ledger| Some(ledger.jobs.get(&number)?.job_id.clone()))?;
        Some((job_id, ProgressView::of(&host.live().progress(number)?, false)))
    });
    shown.collect()
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/livez", tag = "host", responses((status = 200, body = String)))]
pub(crate) async fn livez() -> &'static str {
    "alive\n"
}

/// Whether a job that is submitted now can be accepted and run.
#[utoipa::path(get, path = "/readyz", tag = "host",
    responses((status = 200, body = String), (status = 503, description = "not-ready, draining")))]
pub(crate) async fn readyz(State(app): State<App>) -> Result<Response, Failed> {
    app.check_open()?;
    if let Some((needed, free)) = app.host().log_figures().full {
        let detail = format!(
            "the disk is full: the log needs {needed} bytes for its next segment, {free} are free"
        );
        return Err(Failed(Problem::new(&codes::NOT_READY, detail).retry_after(5)));
    }
    if let Some(fault) = app.options.self_test.fault() {
        let detail = format!("no job can be run: {fault}");
        return Err(Failed(Problem::new(&codes::NOT_READY, detail).retry_after(1)));
    }
    Ok((StatusCode::OK, "ready\n").into_response())
}

/// The limits that a manifest may set, and the most that this host allows.
#[utoipa::path(get, path = "/v1/limits", tag = "host", responses((status = 200, body = Vec<LimitView>)))]
pub(crate) async fn limits(State(app): State<App>) -> Json<Vec<LimitView>> {
    let ceilings = app.host().ceilings();
    let view = |limit: &Limit| {
        let spec = limit.spec();
        LimitView {
            name: spec.name.to_owned(),
            what: spec.what.to_owned(),
            unit: match spec.unit {
                Unit::Fuel => "fuel",
                Unit::Bytes => "bytes",
                Unit::Count => "count",
                Unit::Milliseconds => "milliseconds",
            }
            .to_owned(),
            default: spec.default,
            ceiling: ceilings.get(*limit),
            flag: spec.flag.to_owned(),
            hashed: spec.hashed,
        }
    };
    Json(Limit::ALL.iter().map(view).collect())
}
