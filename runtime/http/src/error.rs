//! Which problem each error of the host is.
//!
//! Owns the one mapping from errors to codes. Knows nothing of routes.

use std::error::Error;

use hb_api::manifest::ManifestError;
use hb_edge::{Problem, codes, extract::Json};
use hb_host::{
    ChangeError, DecideError, EngineError, LoadError, LogFailure, OriginError, ReadOutputError,
    RunError, ScheduleError, StoreError, SubmitError, is_disk_full, log_failure,
};
use hb_read_model::ReadModelError;
use hb_types::{Digest, job::InvalidSpec};

/// Seconds after which to try again what is full.
const RETRY_AFTER_S: u32 = 1;

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// A full disk is a full disk wherever it is noticed; anything else is the host's own fault.
pub(crate) fn fault(error: &(dyn Error + 'static)) -> Problem {
    if is_disk_full(error) {
        return Problem::new(&codes::DISK_FULL, chain(error)).because(error);
    }
    let code = match log_failure(error) {
        Some(LogFailure::Refused) => &codes::NOT_READY,
        Some(LogFailure::Unknown) => &codes::OUTCOME_UNKNOWN,
        None => return Problem::internal(error),
    };
    Problem::new(code, chain(error)).retry_after(RETRY_AFTER_S).because(error)
}

fn missing(detail: String, digests: &[Digest]) -> Problem {
    let digests: Vec<String> = digests.iter().map(Digest::to_string).collect();
    Problem::new(&codes::BLOB_MISSING, detail).with("missing", digests)
}

fn invalid(error: &InvalidSpec) -> Problem {
    match error {
        InvalidSpec::AboveCeiling(above) => {
            Problem::new(&codes::LIMIT_ABOVE_CEILING, above.to_string())
                .with("limit", above.limit.spec().name)
                .with("ceiling", above.ceiling)
        }
        _ => Problem::new(&codes::INVALID_MANIFEST, error.to_string()),
    }
}

/// A body that has to be a manifest, or a part of one: what does not have its shape is named as such.
pub(crate) fn manifest_in<T>(body: Result<Json<T>, Problem>) -> Result<T, Problem> {
    body.map(|Json(value)| value).map_err(|problem| {
        let is_shape = problem.detail().starts_with("the body cannot be read");
        if problem.code() == &codes::BAD_REQUEST && is_shape {
            return Problem::new(&codes::INVALID_MANIFEST, problem.detail());
        }
        problem
    })
}

/// What is wrong with where a fork begins.
pub(crate) fn origin_problem(error: &OriginError) -> Problem {
    match error {
        OriginError::Invalid(error) => invalid(error),
        OriginError::Store(_) => fault(error),
        _ => Problem::new(&codes::INVALID_MANIFEST, error.to_string()),
    }
}

/// What a handler fails with.
pub(crate) struct Failed(pub Problem);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        self.0.into_response()
    }
}

impl From<ManifestError> for Failed {
    fn from(error: ManifestError) -> Self {
        Self(match &error {
            ManifestError::Field { field, .. } => {
                Problem::new(&codes::INVALID_MANIFEST, error.to_string()).with("field", field)
            }
            ManifestError::Missing { missing: digests } => missing(error.to_string(), digests),
            ManifestError::Unpinned { .. } => {
                Problem::new(&codes::INVALID_MANIFEST, error.to_string()).with("field", "image")
            }
            ManifestError::Invalid(error) => invalid(error),
        })
    }
}

impl From<InvalidSpec> for Failed {
    fn from(error: InvalidSpec) -> Self {
        Self(invalid(&error))
    }
}

impl From<SubmitError> for Failed {
    fn from(error: SubmitError) -> Self {
        Self(match &error {
            SubmitError::Invalid(error) => invalid(error),
            SubmitError::NotAllowed(_) => {
                Problem::new(&codes::INVALID_MANIFEST, error.to_string()).with("field", "image")
            }
            SubmitError::Conflict { existing, asked, .. } => {
                Problem::new(&codes::JOB_ID_CONFLICT, error.to_string())
                    .with("existing_hash", existing)
                    .with("asked_hash", asked)
            }
            SubmitError::Ended { .. } => Problem::new(&codes::ALREADY_ENDED, error.to_string()),
            SubmitError::Missing { missing: digests } => missing(error.to_string(), digests),
            SubmitError::TooLarge { .. } => {
                Problem::new(&codes::LIMIT_ABOVE_CEILING, error.to_string())
            }
            SubmitError::QueueFull { .. } => {
                Problem::new(&codes::QUEUE_FULL, error.to_string()).retry_after(RETRY_AFTER_S)
            }
            SubmitError::Origin(origin) => origin_problem(origin),
            SubmitError::Blob(_) | SubmitError::Journal(_) => fault(&error),
        })
    }
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self(match &error {
            EngineError::Absent { .. } | EngineError::Refused { .. } => {
                Problem::new(&codes::INVALID_MANIFEST, format!("image: {error}"))
                    .with("field", "image")
            }
            EngineError::None { .. } | EngineError::Broken { .. } | EngineError::Threads(_) => {
                Problem::new(&codes::NEEDS_CONTAINER_EXECUTOR, chain(&error))
            }
        })
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(match &error {
            StoreError::Missing { digest } => {
                Problem::new(&codes::BLOB_NOT_FOUND, format!("blob {digest} is not on this host"))
            }
            StoreError::Full { .. } => Problem::new(&codes::DISK_FULL, error.to_string()),
            _ => fault(&error),
        })
    }
}

impl From<ChangeError> for Failed {
    fn from(error: ChangeError) -> Self {
        Self(match &error {
            ChangeError::NoSuchJob { .. } => Problem::new(&codes::JOB_NOT_FOUND, error.to_string()),
            ChangeError::Ended { .. } => Problem::new(&codes::ALREADY_ENDED, error.to_string()),
            ChangeError::Already { .. } => Problem::new(&codes::ALREADY_SO, error.to_string()),
            ChangeError::NoSuchSchedule { .. } => {
                Problem::new(&codes::SCHEDULE_NOT_FOUND, error.to_string())
            }
            // Another decision about the job came first: what was asked for may not fit any more.
            ChangeError::Decide(DecideError::Apply(_)) => {
                Problem::new(&codes::ALREADY_SO, chain(&error))
            }
            ChangeError::Decide(_) | ChangeError::Journal(_) | ChangeError::Run(_) => fault(&error),
        })
    }
}

impl From<ScheduleError> for Failed {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Invalid(error) => error.into(),
            ScheduleError::Submit(error) => error.into(),
            ScheduleError::Change(error) => error.into(),
            ScheduleError::Cron { .. }
            | ScheduleError::Never { .. }
            | ScheduleError::NameTooLong { .. }
            | ScheduleError::TooMany => {
                Self(Problem::new(&codes::INVALID_MANIFEST, error.to_string()))
            }
        }
    }
}

impl From<LoadError> for Failed {
    fn from(error: LoadError) -> Self {
        Self(fault(&error))
    }
}

impl From<RunError> for Failed {
    fn from(error: RunError) -> Self {
        Self(fault(&error))
    }
}

impl From<ReadOutputError> for Failed {
    fn from(error: ReadOutputError) -> Self {
        Self(match &error {
            ReadOutputError::NoSuchJob { .. } => {
                Problem::new(&codes::JOB_NOT_FOUND, error.to_string())
            }
            ReadOutputError::Load(_) | ReadOutputError::Read(_) => fault(&error),
        })
    }
}

impl From<ReadModelError> for Failed {
    fn from(error: ReadModelError) -> Self {
        Self(match &error {
            ReadModelError::Filter(filter) => Problem::new(&codes::BAD_REQUEST, filter.to_string()),
            ReadModelError::TooSlow { .. } => {
                Problem::new(&codes::NOT_READY, error.to_string()).retry_after(RETRY_AFTER_S)
            }
            _ => fault(&error),
        })
    }
}
