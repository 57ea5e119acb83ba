//! Schedules: jobs that are submitted again and again.
//!
//! Owns: the routes. Knows nothing of calendars.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use hb_api::status::{ScheduleRequest, ScheduleView};
use hb_edge::{
    Problem, codes,
    extract::{Json, Path},
    tokens::Principal,
    trace::AuditSubject,
};
use hb_host::{next_moment_ns, now_ns};
use hb_types::{
    schedule::{Missed, Schedule},
    text::printable,
    units::show_time,
};
use tokio::task::block_in_place;

use crate::{
    error::{Failed, manifest_in},
    jobs::resolve,
    state::App,
};

fn view(name: &str, schedule: &Schedule) -> ScheduleView {
    let after_ns = schedule.fired_ns.max(schedule.since_ns).max(now_ns());
    ScheduleView {
        name: name.to_owned(),
        cron: schedule.cron.clone(),
        missed: missed_name(schedule.missed).to_owned(),
        since: show_time(schedule.since_ns),
        last: (schedule.fired_ns > 0).then(|| show_time(schedule.fired_ns)),
        next: next_moment_ns(&schedule.cron, after_ns).map(show_time),
        component: schedule.spec.component.digest.to_string(),
        arguments: schedule.spec.arguments.iter().map(|text| printable(text, 1000)).collect(),
    }
}

const fn missed_name(missed: Missed) -> &'static str {
    match missed {
        Missed::Latest => "latest",
        Missed::Skip => "skip",
    }
}

/// List schedules.
#[utoipa::path(get, path = "/v1/schedules", tag = "schedules", responses((status = 200, body = Vec<ScheduleView>)))]
pub(crate) async fn list(State(app): State<App>) -> Json<Vec<ScheduleView>> {
    let all = app.host().with_ledger(|ledger| ledger.schedules.clone());
    Json(all.iter().map(|(name, schedule)| view(name, schedule)).collect())
}

fn find(app: &App, name: &str) -> Result<ScheduleView, Failed> {
    let found = app.host().with_ledger(|ledger| ledger.schedules.get(name).cloned());
    let found = found.ok_or_else(|| {
        let detail = format!("there is no schedule {:?}", printable(name, 100));
        Problem::new(&codes::SCHEDULE_NOT_FOUND, detail)
    })?;
    Ok(view(name, &found))
}

/// Look at a schedule.
#[utoipa::path(get, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = ScheduleView), (status = 404, description = "schedule-not-found")))]
pub(crate) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleView>, Failed> {
    Ok(Json(find(&app, &name)?))
}

/// Make a schedule, or replace the one of that name. Each moment gives one job, named after schedule
/// and moment, also when the host crashes at that moment.
#[utoipa::path(put, path = "/v1/schedules/{name}", tag = "schedules", request_body = ScheduleRequest,
    params(("name" = String, Path, description = "its name")),
    responses((status = 200, body = ScheduleView), (status = 400, description = "invalid-manifest"),
        (status = 422, description = "blob-missing, limit-above-ceiling")))]
pub(crate) async fn set(
    State(app): State<App>,
    principal: Principal,
    Path(name): Path<String>,
    body: Result<Json<ScheduleRequest>, Problem>,
) -> Result<Response, Failed> {
    let mut asked = manifest_in(body)?;
    let wrong = |detail: &str| Failed(Problem::new(&codes::INVALID_MANIFEST, detail));
    if asked.manifest.job_id.is_some() {
        return Err(wrong("manifest.job_id: leave it out, each moment's job has an id of its own"));
    }
    let missed = match asked.missed.as_deref() {
        None | Some("latest") => Missed::Latest,
        Some("skip") => Missed::Skip,
        Some(_) => return Err(wrong("missed: `latest` or `skip` expected")),
    };
    let resolved = resolve(&app, &mut asked.manifest)?;
    let mut terms = resolved.terms;
    terms.submitted_by = Some(principal.name.to_string());
    let (cron, since_ns) = (asked.cron, now_ns());
    let schedule = Schedule { cron, missed, spec: resolved.spec, terms, since_ns, fired_ns: 0 };
    block_in_place(|| app.host().set_schedule(&name, schedule))?;
    let subject = axum::Extension(AuditSubject(name.clone()));
    Ok((StatusCode::OK, subject, Json(find(&app, &name)?)).into_response())
}

/// Remove a schedule. Jobs that it made stay.
#[utoipa::path(delete, path = "/v1/schedules/{name}", tag = "schedules",
    params(("name" = String, Path, description = "its name")),
    responses((status = 204), (status = 404, description = "schedule-not-found")))]
pub(crate) async fn remove(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failed> {
    block_in_place(|| app.host().remove_schedule(&name))?;
    Ok(StatusCode::NO_CONTENT)
}
