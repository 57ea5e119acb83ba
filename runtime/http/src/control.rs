//! Changes to jobs that are there: cancel, hold, release, and whether jobs are started at all.
//!
//! Owns: what each answers. Knows nothing of how they are done.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hb_api::{
    job::{HoldRequest, JobView},
    status::HostStatus,
};
use hb_edge::{
    extract::{Json, Path},
    trace::AuditSubject,
};
use tokio::task::block_in_place;

use crate::{error::Failed, jobs::durable, state::App, status::status_of};

async fn changed(app: &App, name: &str) -> Result<Response, Failed> {
    let job = app.job(name)?;
    durable(app, job.last, None).await?;
    let live = app.host().live().progress(job.number);
    let subject = axum::Extension(AuditSubject(job.job_id.clone()));
    let view = Json(JobView::of(&job, live.as_ref()));
    Ok((StatusCode::ACCEPTED, subject, view).into_response())
}

/// Cancel a job. One that runs ends within moments.
#[utoipa::path(post, path = "/v1/jobs/{job}/cancel", tag = "jobs",
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 202, body = JobView), (status = 404, description = "job-not-found"),
        (status = 409, description = "already-ended")))]
pub(crate) async fn cancel(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let number = app.number(&name)?;
    block_in_place(|| app.dispatcher.cancel(number))?;
    changed(&app, &name).await
}

/// Put a job on hold: it is not started until it is released. One that runs stops at its next
/// checkpoint.
#[utoipa::path(post, path = "/v1/jobs/{job}/hold", tag = "jobs", request_body = HoldRequest,
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 202, body = JobView), (status = 404, description = "job-not-found"),
        (status = 409, description = "already-ended, already-so")))]
pub(crate) async fn hold(
    State(app): State<App>,
    Path(name): Path<String>,
    Json(asked): Json<HoldRequest>,
) -> Result<Response, Failed> {
    let number = app.number(&name)?;
    block_in_place(|| app.dispatcher.hold(number, asked.now))?;
    changed(&app, &name).await
}

/// Let a job that is on hold go on.
#[utoipa::path(post, path = "/v1/jobs/{job}/release", tag = "jobs",
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 202, body = JobView), (status = 404, description = "job-not-found"),
        (status = 409, description = "already-ended, already-so")))]
pub(crate) async fn release(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let number = app.number(&name)?;
    block_in_place(|| app.dispatcher.release(number))?;
    changed(&app, &name).await
}

/// Start no more jobs until resumed; those that run go on. Jobs are accepted all the same.
#[utoipa::path(post, path = "/v1/starts/pause", tag = "host",
    responses((status = 200, body = HostStatus)))]
pub(crate) async fn pause(State(app): State<App>) -> Result<Json<HostStatus>, Failed> {
    block_in_place(|| app.dispatcher.pause_starts(true))?;
    Ok(Json(status_of(&app)))
}

/// Start jobs again.
#[utoipa::path(post, path = "/v1/starts/resume", tag = "host",
    responses((status = 200, body = HostStatus)))]
pub(crate) async fn resume(State(app): State<App>) -> Result<Json<HostStatus>, Failed> {
    block_in_place(|| app.dispatcher.pause_starts(false))?;
    Ok(Json(status_of(&app)))
}
