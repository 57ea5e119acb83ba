//! Figures for Prometheus.
//!
//! Owns: every name of a figure about jobs and the log, and what is measured when somebody asks. What
//! the edge counts has its names there. No figure has a label whose values a client can choose.

use axum::{
    extract::State,
    http::{HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use hb_edge::{Problem, codes};
use hb_host::Mode;
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::task::block_in_place;

use crate::{error::Failed, state::App};

const JOBS: &str = "hb_jobs";
const RUNNING: &str = "hb_jobs_running";
const WAITING: &str = "hb_jobs_waiting";
const CPU_USED: &str = "hb_cpu_used_cores";
const CPU: &str = "hb_cpu_cores";
const MEMORY_USED: &str = "hb_memory_promised_bytes";
const MEMORY: &str = "hb_memory_bytes";
const LOG_RECORDS: &str = "hb_log_records_total";
const LOG_FLUSHES: &str = "hb_log_flushes_total";
const LOG_BYTES: &str = "hb_log_written_bytes_total";
const LOG_DURABLE: &str = "hb_log_durable_lsn";
const LOG_SEGMENTS: &str = "hb_log_segments";
const LOG_FAILED: &str = "hb_log_failed";
const READ_MODEL_LAG: &str = "hb_read_model_lag_records";
const ACCEPTING: &str = "hb_accepting";
const STARTED: &str = "hb_start_time_seconds";

/// Tells the exporter what the figures mean.
pub(crate) fn describe() {
    describe_gauge!(JOBS, Unit::Count, "jobs in the history, by state");
    describe_gauge!(RUNNING, Unit::Count, "jobs that run");
    describe_gauge!(WAITING, Unit::Count, "jobs that wait");
    describe_gauge!(CPU_USED, "processors that running jobs take");
    describe_gauge!(CPU, "processors that jobs may take");
    describe_gauge!(MEMORY_USED, Unit::Bytes, "memory that is promised to running jobs");
    describe_gauge!(MEMORY, Unit::Bytes, "memory that jobs may be promised");
    describe_counter!(LOG_RECORDS, Unit::Count, "records written to the log");
    describe_counter!(LOG_FLUSHES, Unit::Count, "flushes of the log");
    describe_counter!(LOG_BYTES, Unit::Bytes, "bytes written to the log");
    describe_gauge!(LOG_DURABLE, "newest durable position of the log");
    describe_gauge!(LOG_SEGMENTS, Unit::Count, "segments of the log");
    describe_gauge!(LOG_FAILED, "1 when the log takes nothing any more");
    describe_gauge!(READ_MODEL_LAG, Unit::Count, "records that the read model is behind");
    describe_gauge!(ACCEPTING, "1 while jobs are accepted");
    describe_gauge!(STARTED, Unit::Seconds, "when the host started, since the Unix epoch");
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "host",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(app): State<App>) -> Result<Response, Failed> {
    let Some(handle) = &app.metrics else {
        let detail = "this process exports no figures: another exporter was installed first";
        return Err(Failed(Problem::new(&codes::NOT_READY, detail)));
    };
    block_in_place(|| measure(&app));
    let text = handle.render();
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, media_type)], text).into_response())
}

// Figures are floating point by the format's own rule; a count beyond 2^53 loses its last digits.
#[allow(clippy::cast_precision_loss)]
fn measure(app: &App) {
    let host = app.host();
    let figures = app.dispatcher.figures();
    for (phase, count) in app.read_model.counts_by_phase().unwrap_or_default() {
        gauge!(JOBS, "state" => phase.name()).set(count as f64);
    }
    gauge!(RUNNING).set(figures.running as f64);
    gauge!(WAITING).set(figures.waiting as f64);
    gauge!(CPU_USED).set(figures.used.cpu_milli as f64 / 1000.0);
    gauge!(CPU).set(figures.machine.cpu_milli as f64 / 1000.0);
    gauge!(MEMORY_USED).set(figures.used.memory_bytes as f64);
    gauge!(MEMORY).set(figures.machine.memory_bytes as f64);
    let log = host.log_figures();
    counter!(LOG_RECORDS).absolute(log.records);
    counter!(LOG_FLUSHES).absolute(log.flushes);
    counter!(LOG_BYTES).absolute(log.bytes);
    gauge!(LOG_DURABLE).set(log.durable_lsn as f64);
    gauge!(LOG_SEGMENTS).set(log.segments as f64);
    let flag = |is: bool| if is { 1.0 } else { 0.0 };
    gauge!(LOG_FAILED).set(flag(log.poisoned.is_some()));
    gauge!(READ_MODEL_LAG).set(log.durable_lsn.saturating_sub(app.feed.fed()) as f64);
    gauge!(ACCEPTING).set(flag(figures.mode == Mode::Open && app.dispatcher.failure().is_none()));
    gauge!(STARTED).set(host.started_ns() as f64 / 1e9);
}
