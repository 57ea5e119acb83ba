//! New jobs out of old ones: run again, or go on from a checkpoint with something changed.
//!
//! Owns: what may be changed, and what the new job is called. Knows nothing of how a checkpoint is
//! brought back.

use axum::{extract::State, response::Response};
use hb_api::{
    job::{Accepted, ForkRequest, RetryRequest},
    manifest::read_limits,
};
use hb_edge::{
    Problem, codes,
    extract::{Json, Path},
    tokens::Principal,
};
use hb_host::{ForkError, RetryError, RetryFrom, Submission};
use hb_types::{
    Digest,
    job::{BlobRef, JobSpec},
    ledger::Job,
    limits::Limits,
    terms::Terms,
};
use tokio::task::block_in_place;

use crate::{
    error::{Failed, fault, manifest_in, origin_problem},
    jobs::accept,
    state::App,
};

impl From<ForkError> for Failed {
    fn from(error: ForkError) -> Self {
        Self(match &error {
            ForkError::NoSuchJob { .. } => Problem::new(&codes::JOB_NOT_FOUND, error.to_string()),
            ForkError::NoCheckpoints { .. }
            | ForkError::NoSuchCheckpoint { .. }
            | ForkError::NeverRestores { .. } => {
                Problem::new(&codes::CHECKPOINT_NOT_FOUND, error.to_string())
            }
            ForkError::Origin(origin) => origin_problem(origin),
            ForkError::Load(_) => fault(&error),
        })
    }
}

impl From<RetryError> for Failed {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Fork(error) => error.into(),
            RetryError::Load(error) => error.into(),
            RetryError::NoSuchJob { .. } => {
                Self(Problem::new(&codes::JOB_NOT_FOUND, error.to_string()))
            }
            RetryError::NotOver { .. } => {
                Self(Problem::new(&codes::NOT_ENDED_YET, error.to_string()))
            }
            RetryError::Succeeded { .. } => {
                Self(Problem::new(&codes::ALREADY_SO, error.to_string()))
            }
        }
    }
}

/// Run a job that failed or was cancelled again, as a new job.
#[utoipa::path(post, path = "/v1/jobs/{job}/retry", tag = "jobs", request_body = RetryRequest,
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 202, body = Accepted), (status = 404, description = "job-not-found, checkpoint-not-found"),
        (status = 409, description = "not-ended-yet, already-so")))]
pub(crate) async fn retry(
    State(app): State<App>,
    principal: Principal,
    Path(name): Path<String>,
    body: Result<Json<RetryRequest>, Problem>,
) -> Result<Response, Failed> {
    let asked = manifest_in(body)?;
    let job = app.durable_job(&name).await?;
    let from =
        if asked.from_checkpoint { RetryFrom::NewestCheckpoint } else { RetryFrom::Beginning };
    let mut submission = block_in_place(|| app.host().retry_submission(job.number, from))?;
    submission.spec.limits = read_limits(&job.spec.limits, &asked.limits)?;
    submission.terms.submitted_by = Some(principal.name.to_string());
    // Two who retry at once would be given the same name, and are then one.
    submission.rerun = false;
    accept(&app, &submission).await
}

/// Go on from a checkpoint of a job, with other arguments, environment, limits, or another component,
/// as a new job.
#[utoipa::path(post, path = "/v1/jobs/{job}/fork", tag = "jobs", request_body = ForkRequest,
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 202, body = Accepted), (status = 404, description = "job-not-found, checkpoint-not-found"),
        (status = 409, description = "job-id-conflict"), (status = 422, description = "blob-missing, limit-above-ceiling")))]
pub(crate) async fn fork(
    State(app): State<App>,
    principal: Principal,
    Path(name): Path<String>,
    body: Result<Json<ForkRequest>, Problem>,
) -> Result<Response, Failed> {
    let asked = manifest_in(body)?;
    let job = app.durable_job(&name).await?;
    let changes = Changes::read(&app, &asked, &job.spec.limits)?;
    let spec =
        block_in_place(|| app.host().fork_spec(job.number, asked.at, |spec| changes.apply(spec)))?;
    let job_id = asked.job_id.clone();
    accept(&app, &successor(&app, &job, job_id, spec, &principal)).await
}

/// What a fork changes, read and looked up.
struct Changes {
    arguments: Option<Vec<String>>,
    environment: Option<Vec<(String, String)>>,
    component: Option<BlobRef>,
    limits: Limits,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

impl Changes {
    fn read(app: &App, asked: &ForkRequest, limits: &Limits) -> Result<Self, Failed> {
        let component = asked.component.as_ref().map(|text| {
            let digest: Digest = text.parse().map_err(|error| {
                Problem::new(&codes::INVALID_MANIFEST, format!("component: {error}"))
            })?;
            let len_bytes = block_in_place(|| app.host().blob_len(digest))?;
            let len_bytes =
                len_bytes.ok_or(hb_host::SubmitError::Missing { missing: vec![digest] })?;
            Ok::<_, Failed>(BlobRef { digest, len_bytes })
        });
        Ok(Self {
            arguments: asked.arguments.clone(),
            environment: asked.environment.clone().map(|all| all.into_iter().collect()),
            component: component.transpose()?,
            limits: read_limits(limits, &asked.limits)?,
            labels: asked.labels.clone(),
        })
    }

    fn apply(self, spec: &mut JobSpec) {
        if let Some(arguments) = self.arguments {
            // The program's own name stays.
            spec.arguments.truncate(1);
            spec.arguments.extend(arguments);
        }
        if let Some(environment) = self.environment {
            spec.environment = environment;
        }
        if let Some(component) = self.component {
            spec.component = component;
            spec.container = None;
        }
        if let Some(labels) = self.labels {
            spec.labels = labels;
        }
        spec.limits = self.limits;
    }
}

/// The submission of a job that follows another one.
fn successor(
    app: &App,
    job: &Job,
    job_id: Option<String>,
    spec: JobSpec,
    principal: &Principal,
) -> Submission {
    let stem: String = job.job_id.chars().take(100).collect();
    let free = || {
        let names = (1u64..).map(|number| format!("{stem}-fork-{number}"));
        app.host().with_ledger(|ledger| {
            let mut names = names;
            names
                .find(|name| ledger.by_id(name).is_none())
                .expect("there are more numbers than jobs")
        })
    };
    let terms = Terms {
        not_before_ns: 0,
        finish_by_ns: 0,
        submitted_by: Some(principal.name.to_string()),
        successor_of: Some(job.number),
        ..job.terms.clone()
    };
    Submission {
        job_id: Some(job_id.unwrap_or_else(free)),
        name_hint: stem.clone(),
        spec,
        terms,
        rerun: false,
    }
}
