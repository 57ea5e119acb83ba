//! Looking after a host: removing what is not wanted any more.
//!
//! Owns: the route. What may be removed is decided by the host.

use std::collections::BTreeSet;

use axum::extract::State;
use hb_api::status::{PruneReport, PruneRequest, PrunedJob};
use hb_edge::{
    extract::Json,
    tokens::{Principal, Scope},
};
use hb_host::{DecideError, PruneReason, RetentionPolicy};
use tokio::task::block_in_place;

use crate::{
    error::{Failed, fault},
    state::App,
};

/// Jobs that an answer names.
const LISTED: usize = 1000;

impl From<DecideError> for Failed {
    fn from(error: DecideError) -> Self {
        Self(fault(&error))
    }
}

/// Remove jobs that are over, oldest end first, until the rest satisfies every bound that is given.
///
/// Unfinished jobs, jobs with the label `keep=true` and jobs that others go on from stay. Needs the
/// scope `admin`, unless nothing is removed.
#[utoipa::path(post, path = "/v1/prune", tag = "host", request_body = PruneRequest,
    responses((status = 200, body = PruneReport), (status = 403, description = "forbidden")))]
pub(crate) async fn prune(
    State(app): State<App>,
    principal: Principal,
    Json(asked): Json<PruneRequest>,
) -> Result<Json<PruneReport>, Failed> {
    if !asked.dry_run {
        principal.needs(Scope::Admin)?;
    }
    let policy = RetentionPolicy {
        max_age_ms: asked.max_age.map(|age| age.milliseconds("max_age")).transpose()?,
        max_jobs: asked.max_jobs,
        max_bytes: asked.max_bytes.map(|bytes| bytes.bytes("max_bytes")).transpose()?,
    };
    let mut report = PruneReport { dry_run: asked.dry_run, ..PruneReport::default() };
    loop {
        let plan = block_in_place(|| app.host().prune_plan(&policy, hb_host::now_ns()));
        let numbers: Vec<u64> = plan.jobs.iter().map(|job| job.job).collect();
        let forgotten: BTreeSet<u64> = if asked.dry_run {
            numbers.into_iter().collect()
        } else {
            block_in_place(|| app.host().forget(&numbers))?.forgotten.into_iter().collect()
        };
        for job in plan.jobs.into_iter().filter(|job| forgotten.contains(&job.job)) {
            report.count += 1;
            report.bytes += job.bytes;
            if report.jobs.len() < LISTED {
                report.jobs.push(PrunedJob {
                    job_id: job.job_id,
                    number: job.job,
                    why: name_of(job.why).to_owned(),
                    bytes: job.bytes,
                });
            }
        }
        // What could not be removed would be planned again for ever.
        if !plan.more || asked.dry_run || forgotten.is_empty() {
            return Ok(Json(report));
        }
    }
}

const fn name_of(why: PruneReason) -> &'static str {
    match why {
        PruneReason::Age => "age",
        PruneReason::Count => "count",
        PruneReason::Bytes => "bytes",
    }
}
