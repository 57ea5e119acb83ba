//! Jobs: submitted, looked at, listed, asked why they wait.
//!
//! Owns: what a submission answers and when. Knows nothing of how jobs are found in history
//! (`list.rs`) or followed (`events.rs`).
//!
//! Invariant: `202` is answered after the record of the job is durable.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
};
use hb_api::{
    job::{Accepted, JobView, WhyView},
    manifest::{LegacyManifest, Manifest, Resolved},
};
use hb_edge::{
    Problem, codes,
    extract::{Json, Path},
    tokens::Principal,
    trace::{AuditSubject, TraceContext},
};
use hb_host::{Decided, NotRunning, Submission, Submitted, Waiting};
use hb_types::{
    Digest,
    job::check_name,
    ledger::{Job, Stop},
    state::Phase,
    text::printable,
    units::show_time,
};
use tokio::task::block_in_place;

use crate::{
    error::{Failed, fault, manifest_in},
    state::App,
};

/// The longest idempotency key, in bytes.
const KEY_BYTES: usize = 255;

/// Submit a job.
///
/// The answer comes when the job is durable: from then on it survives whatever happens to the host.
/// The same `job_id`, or the same `Idempotency-Key`, with the same job answers the job that is there.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = Manifest,
    params(("Idempotency-Key" = Option<String>, Header, description = "stands for a job id where the manifest has none")),
    responses(
        (status = 202, body = Accepted, description = "the job is durable"),
        (status = 200, body = Accepted, description = "the job was there"),
        (status = 400, description = "invalid-manifest"),
        (status = 409, description = "job-id-conflict"),
        (status = 422, description = "blob-missing, limit-above-ceiling, idempotency-key-reused"),
        (status = 429, description = "queue-full"),
        (status = 501, description = "needs-container-executor"),
        (status = 503, description = "draining, not-ready, outcome-unknown"),
        (status = 507, description = "disk-full"),
    ))]
pub(crate) async fn submit(
    State(app): State<App>,
    principal: Principal,
    trace: Option<axum::Extension<TraceContext>>,
    headers: HeaderMap,
    body: Result<Json<Manifest>, Problem>,
) -> Result<Response, Failed> {
    let manifest = manifest_in(body)?;
    let mut submission = submission(&app, manifest, &principal, trace)?;
    let key = idempotency_key(&headers)?;
    let keyed = key.is_some() && submission.job_id.is_none();
    if let (Some(key), None) = (&key, &submission.job_id) {
        submission.job_id = Some(key_job_id(key));
        // The key names one run, whatever ran before it.
        submission.rerun = false;
    }
    accept(&app, &submission).await.map_err(|failed| {
        if keyed && failed.0.code() == &codes::JOB_ID_CONFLICT {
            let detail = "the Idempotency-Key was used before, for another job: use a new key";
            return Failed(Problem::new(&codes::IDEMPOTENCY_KEY_REUSED, detail));
        }
        failed
    })
}

/// What a manifest comes to here: images are what they are on this host now.
fn submission(
    app: &App,
    mut manifest: Manifest,
    principal: &Principal,
    trace: Option<axum::Extension<TraceContext>>,
) -> Result<Submission, Failed> {
    let resolved = resolve(app, &mut manifest)?;
    let mut submission = Submission {
        job_id: resolved.job_id,
        name_hint: resolved.name_hint,
        spec: resolved.spec,
        terms: resolved.terms,
        rerun: resolved.rerun,
    };
    submission.terms.submitted_by = Some(principal.name.to_string());
    submission.terms.traceparent = trace.map(|context| context.0.to_traceparent());
    Ok(submission)
}

/// Resolves a manifest with what this host has.
pub(crate) fn resolve(app: &App, manifest: &mut Manifest) -> Result<Resolved, Failed> {
    block_in_place(|| {
        if manifest.image.is_some() {
            // Without an engine nothing is promised.
            app.host().containers().ping()?;
        }
        if let Some(image) = manifest.unpinned() {
            manifest.image_id = Some(app.host().containers().pin(image)?);
        }
        manifest.resolve(|digest| Ok::<_, Failed>(app.host().blob_len(digest)?))
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let wrong = |why: &str| Problem::new(&codes::BAD_REQUEST, format!("Idempotency-Key: {why}"));
    let text = value.to_str().map_err(|_| wrong("visible ASCII expected"))?;
    // The draft standard has it as a quoted string; many clients send it bare.
    let text = text.trim().trim_matches('"');
    if text.is_empty() || text.len() > KEY_BYTES {
        return Err(wrong("1 to 255 characters expected"));
    }
    Ok(Some(text.to_owned()))
}

/// The job id that an idempotency key stands for: so the key is as durable as the job.
fn key_job_id(key: &str) -> String {
    let mut id = String::from("idem-");
    id.push_str(&Digest::of(key.as_bytes()).to_string()[..32]);
    id
}

/// Accepts a job and answers when it is durable.
pub(crate) async fn accept(app: &App, submission: &Submission) -> Result<Response, Failed> {
    if let Some(job_id) = &submission.job_id {
        refuse_number(job_id)?;
    }
    app.check_open()?;
    let (submitted, decided) = block_in_place(|| app.dispatcher.submit(submission))?;
    durable(app, submitted.number(), decided).await?;
    let job = block_in_place(|| app.host().load(submitted.number()))?;
    let job = job.ok_or_else(|| crate::state::no_such_job(&submitted.number().to_string()))?;
    let created = matches!(submitted, Submitted::New(_));
    Ok(accepted(&job, created))
}

/// A path names a job by its id or by its number. An id that reads as a number would hide the job that
/// has this number.
fn refuse_number(job_id: &str) -> Result<(), Problem> {
    if job_id.is_empty() || !job_id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    let shown = printable(job_id, 128);
    let detail = format!("job_id: {shown:?} would be taken for a job's number: add a letter to it");
    Err(Problem::new(&codes::INVALID_MANIFEST, detail).with("field", "job_id"))
}

/// Waits until what was decided is durable, or, where nothing was, until the record is that founds
/// the job.
pub(crate) async fn durable(
    app: &App,
    number: u64,
    decided: Option<Decided>,
) -> Result<(), Failed> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Whoever asked may be gone; the decision stands all the same.
    let tell = move |result| drop(sender.send(result));
    match decided {
        Some(decided) => app.host().when_durable(decided, tell),
        None => app.host().when_durable_at(number, tell),
    }
    match receiver.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failed(fault(&error))),
        Err(_) => Err(Failed(Problem::new(&codes::INTERNAL, "the log was closed"))),
    }
}

fn accepted(job: &Job, created: bool) -> Response {
    let url = format!("/v1/jobs/{}", job.job_id);
    let location = HeaderValue::from_str(&url).expect("a job id is visible ASCII");
    let body = Accepted {
        job_id: job.job_id.clone(),
        number: job.number,
        job_hash: job.job_hash.to_string(),
        // A job that runs already was accepted first.
        state: job.state.phase.name().to_owned(),
        created,
        url,
    };
    let status = if created { StatusCode::ACCEPTED } else { StatusCode::OK };
    let subject = axum::Extension(AuditSubject(job.job_id.clone()));
    (status, [(LOCATION, location)], subject, Json(body)).into_response()
}

/// Submit a job in the older form, for a container.
///
/// It means the same as a manifest with an image; the answer is the same too.
#[utoipa::path(post, path = "/api/submit_job", tag = "jobs", request_body = LegacyManifest,
    responses(
        (status = 202, body = Accepted, description = "the job is durable"),
        (status = 200, body = Accepted, description = "the job was there"),
        (status = 400, description = "invalid-manifest"),
        (status = 409, description = "job-id-conflict"),
        (status = 429, description = "queue-full"),
        (status = 501, description = "needs-container-executor"),
        (status = 503, description = "draining, not-ready, outcome-unknown"),
        (status = 507, description = "disk-full"),
    ))]
pub(crate) async fn submit_legacy(
    State(app): State<App>,
    principal: Principal,
    trace: Option<axum::Extension<TraceContext>>,
    body: Result<Json<LegacyManifest>, Problem>,
) -> Result<Response, Failed> {
    let manifest = manifest_in(body)?;
    check_name("job id", &manifest.job_id)?;
    let submission = submission(&app, manifest.manifest()?, &principal, trace)?;
    accept(&app, &submission).await
}

/// Look at a job.
#[utoipa::path(get, path = "/v1/jobs/{job}", tag = "jobs",
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 200, body = JobView), (status = 404, description = "job-not-found")))]
pub(crate) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<JobView>, Failed> {
    let job = app.durable_job(&name).await?;
    let live = app.host().live().progress(job.number);
    Ok(Json(JobView::of(&job, live.as_ref())))
}

/// Why is it not running?
#[utoipa::path(get, path = "/v1/jobs/{job}/why", tag = "jobs",
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 200, body = WhyView), (status = 404, description = "job-not-found")))]
pub(crate) async fn why(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<WhyView>, Failed> {
    let job = app.durable_job(&name).await?;
    let why = app.dispatcher.why(job.number)?;
    let (reason, detail) = in_words(&why, &job);
    Ok(Json(WhyView {
        job_id: job.job_id.clone(),
        state: job.state.phase.name().to_owned(),
        reason: reason.to_owned(),
        detail,
        since: Some(show_time(since_ns(&job))),
    }))
}

/// When the job came to where it is.
fn since_ns(job: &Job) -> u64 {
    if let Some(conclusion) = &job.conclusion {
        return conclusion.at_ns;
    }
    let held = job.holds.last().filter(|_| job.state.held).map(|mark| mark.at_ns);
    let attempt = job.attempts.last();
    let stopped = attempt.and_then(|attempt| attempt.stopped.as_ref()).map(|stop| stop.at_ns);
    let running = attempt.filter(|_| job.state.phase == Phase::Running).map(|one| one.started_ns);
    held.or(running).or(stopped).unwrap_or(job.received_ns)
}

fn in_words(why: &NotRunning, job: &Job) -> (&'static str, String) {
    match why {
        NotRunning::Runs => ("running", "it runs".to_owned()),
        NotRunning::Ended => ("ended", format!("it is over: {}", job.state.phase.name())),
        NotRunning::Held => {
            ("held", format!("it is on hold: `hb release {}` lets it go on", job.job_id))
        }
        NotRunning::StartsPaused => {
            ("starts-paused", "this host starts no jobs: `hb resume` lets it".to_owned())
        }
        NotRunning::Draining => ("draining", "the host is about to stop".to_owned()),
        NotRunning::Between => ("moving", "it is about to be put into the queue".to_owned()),
        NotRunning::Waiting(waiting) => in_queue(waiting, job),
    }
}

fn in_queue(waiting: &Waiting, job: &Job) -> (&'static str, String) {
    match waiting {
        Waiting::Until { not_before_ns } => {
            let retried = job.attempts.last().and_then(|one| one.stopped.as_ref());
            let because = match retried.map(|stopped| &stopped.why) {
                Some(Stop::Retried(_)) => "after a failure it is tried again",
                Some(Stop::Interrupted(_)) => "after a fault of the host it is tried again",
                None => "it does not start",
            };
            ("not-before", format!("{because} at {}, not before", show_time(*not_before_ns)))
        }
        Waiting::Concurrency { key, running, limit } => (
            "concurrency",
            format!("{running} jobs with concurrency key {key:?} run, its limit is {limit}"),
        ),
        Waiting::Resources { needs, free } => (
            "resources",
            format!(
                "it needs {} thousandths of a processor and {} bytes of memory; free are {} and {}",
                needs.cpu_milli, needs.memory_bytes, free.cpu_milli, free.memory_bytes
            ),
        ),
        Waiting::Turn { ahead } => (
            "turn",
            format!(
                "others go first: {ahead} jobs in its own queue, and the turns of other queues"
            ),
        ),
    }
}
