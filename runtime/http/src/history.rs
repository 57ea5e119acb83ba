//! What happened: to one job as a list, and to all jobs as a list and as a stream.
//!
//! Owns: the global stream. It comes from the read model's feed, which runs behind the log by some
//! milliseconds. Knows nothing of output.
//!
//! Invariant: every event is sent once and in the order of the log.

use axum::{extract::State, http::HeaderMap, response::Response};
use futures_util::stream;
use hb_api::event::EventView;
use hb_edge::{
    Shutdown,
    extract::{Json, Path, Query},
};
use hb_types::Lsn;
use serde::Deserialize;
use tokio::task::block_in_place;

use crate::{
    error::Failed,
    sse::{self, Position, last_position},
    state::App,
};

/// Events of one look.
const LINES: usize = 500;

/// Which part of a history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    #[serde(default)]
    after: Lsn,
    limit: Option<usize>,
}

/// Everything that happened to a job, in order.
#[utoipa::path(get, path = "/v1/jobs/{job}/history", tag = "events", params(
        ("job" = String, Path, description = "a job id, or a job's number"),
        ("after" = Option<u64>, Query, description = "only events after this position"),
        ("limit" = Option<u32>, Query, description = "at most so many, up to 10000 [default: 1000]"),
    ), responses((status = 200, body = Vec<EventView>), (status = 404, description = "job-not-found")))]
pub(crate) async fn of_job(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(range): Query<Range>,
) -> Result<Json<Vec<EventView>>, Failed> {
    let job = app.durable_job(&name).await?;
    let events = job.events_after(range.after, range.limit.unwrap_or(1000).min(10_000));
    Ok(Json(events.iter().map(|event| EventView::of(job.number, &job.job_id, event)).collect()))
}

/// How a global stream begins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    last_event_id: Option<String>,
}

/// Follow all jobs.
///
/// Every transition of every job as server-sent events, without output. Begins now; with
/// `Last-Event-ID` (0 for the beginning) where it broke off, without gap or repetition.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(
        ("last_event_id" = Option<String>, Query, description = "for clients that cannot send Last-Event-ID"),
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that was received"),
    ), responses((status = 200, content_type = "text/event-stream", body = EventView)))]
pub(crate) async fn follow_all(
    State(app): State<App>,
    Query(from): Query<From>,
    shutdown: axum::Extension<Shutdown>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let from = last_position(&headers, from.last_event_id.as_deref())?;
    let after = from.map_or_else(|| app.feed.fed(), |position| position.lsn);
    let fed = app.feed.subscribe();
    let shutdown = shutdown.0;
    let batches = stream::unfold(
        (app, after, fed, shutdown),
        |(app, mut after, mut fed, shutdown)| async move {
            loop {
                fed.mark_unchanged();
                let lines = match block_in_place(|| app.feed.lines_after(after, LINES)) {
                    Ok(lines) => lines,
                    Err(error) => {
                        tracing::warn!(%error, "an event stream broke off");
                        return None;
                    }
                };
                if let Some(last) = lines.last() {
                    after = last.lsn;
                    let event = |line: &crate::feed::Line| {
                        let position = Position { lsn: line.lsn, output: None };
                        sse::event(&line.kind, position, &line.json)
                    };
                    let batch = lines.iter().map(event).collect();
                    return Some((batch, (app, after, fed, shutdown)));
                }
                tokio::select! {
                    changed = fed.changed() => changed.ok()?,
                    () = shutdown.requested() => return None,
                }
            }
        },
    );
    Ok(sse::answer(batches))
}
