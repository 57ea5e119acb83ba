//! Calls about jobs.
//!
//! Owns: one function for each route below `/v1/jobs`. Knows nothing of how they are sent.

use hb_api::{
    event::EventView,
    job::{
        Accepted, ArtifactView, ForkRequest, HoldRequest, JobPage, JobView, RetryRequest, WhyView,
    },
    manifest::Manifest,
};
use serde::Serialize;
use ureq::http::{HeaderName, Method};

use crate::{
    Client, ClientError,
    exchange::Call,
    url::{Query, escape, escape_path},
};

/// Which jobs are listed. What is absent does not narrow the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Where they are in their life.
    pub state: Option<String>,
    /// Labels that they have, as `NAME=VALUE`.
    pub labels: Vec<String>,
    /// How their names begin.
    pub id_prefix: Option<String>,
    /// The program's own name.
    pub program: Option<String>,
    /// Their queue.
    pub queue: Option<String>,
    /// Their hash.
    pub hash: Option<String>,
    /// Their seal.
    pub seal: Option<String>,
    /// Accepted at this time or later, as RFC 3339.
    pub received_after: Option<String>,
    /// Accepted before this time, as RFC 3339.
    pub received_before: Option<String>,
    /// Ended at this time or later, as RFC 3339.
    pub ended_after: Option<String>,
    /// Ended before this time, as RFC 3339.
    pub ended_before: Option<String>,
    /// At most this many.
    pub limit: Option<usize>,
    /// Go on behind the page that gave this.
    pub cursor: Option<String>,
}

impl JobQuery {
    fn path(&self) -> String {
        let mut query = Query::default();
        query.maybe("state", self.state.as_ref());
        for label in &self.labels {
            query.add("label", label);
        }
        query.maybe("q", self.id_prefix.as_ref());
        query.maybe("program", self.program.as_ref());
        query.maybe("queue", self.queue.as_ref());
        query.maybe("hash", self.hash.as_ref());
        query.maybe("seal", self.seal.as_ref());
        query.maybe("received_after", self.received_after.as_ref());
        query.maybe("received_before", self.received_before.as_ref());
        query.maybe("ended_after", self.ended_after.as_ref());
        query.maybe("ended_before", self.ended_before.as_ref());
        query.maybe("limit", self.limit.map(|limit| limit.to_string()).as_ref());
        query.maybe("cursor", self.cursor.as_ref());
        query.behind("/v1/jobs")
    }
}

/// What a job prints to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// Its name in routes and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The path of a job, which is named by its id or its number.
pub(crate) fn job_path(job: &str, rest: &str) -> String {
    format!("/v1/jobs/{}{rest}", escape(job))
}

/// Numbers in a request are finite, names are text: it is always JSON.
pub(crate) fn to_json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("the shapes of the interface are JSON")
}

/// A name that no other request has.
fn fresh_key() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    hex::encode(bytes)
}

impl Client {
    /// Submits a job. Whatever breaks in between, it is there once: a manifest without a job id
    /// goes with a key that the host knows it by.
    pub fn submit(&self, manifest: &Manifest) -> Result<Accepted, ClientError> {
        let body = to_json(manifest);
        let mut call = Call::new(Method::POST, "/v1/jobs").json(&body);
        if manifest.job_id.is_none() {
            call = call.header(HeaderName::from_static("idempotency-key"), fresh_key());
        }
        self.fetch(&call)
    }

    /// A page of jobs, newest first.
    pub fn jobs(&self, query: &JobQuery) -> Result<JobPage, ClientError> {
        self.fetch(&Call::get(query.path()))
    }

    /// Everything that is known of a job.
    pub fn job(&self, job: &str) -> Result<JobView, ClientError> {
        self.fetch(&Call::get(job_path(job, "")))
    }

    /// What happened to a job after a position of the log, at most `limit` events.
    pub fn history(
        &self,
        job: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<EventView>, ClientError> {
        let mut query = Query::default();
        query.add("after", after.to_string());
        query.add("limit", limit.to_string());
        self.fetch(&Call::get(query.behind(&job_path(job, "/history"))))
    }

    /// Why a job is not running.
    pub fn why(&self, job: &str) -> Result<WhyView, ClientError> {
        self.fetch(&Call::get(job_path(job, "/why")))
    }

    /// What a job left below `/out`.
    pub fn artifacts(&self, job: &str) -> Result<Vec<ArtifactView>, ClientError> {
        self.fetch(&Call::get(job_path(job, "/artifacts")))
    }

    /// A job's signed seal: a DSSE envelope.
    pub fn seal(&self, job: &str) -> Result<Vec<u8>, ClientError> {
        self.fetch_bytes(&Call::get(job_path(job, "/seal")))
    }

    /// Cancels a job.
    pub fn cancel(&self, job: &str) -> Result<JobView, ClientError> {
        self.change(job, "/cancel", b"{}")
    }

    /// Puts a job on hold.
    pub fn hold(&self, job: &str, request: &HoldRequest) -> Result<JobView, ClientError> {
        self.change(job, "/hold", &to_json(request))
    }

    /// Lets a job that is on hold go on.
    pub fn release(&self, job: &str) -> Result<JobView, ClientError> {
        self.change(job, "/release", b"{}")
    }

    fn change(&self, job: &str, what: &str, body: &[u8]) -> Result<JobView, ClientError> {
        self.fetch(&Call::new(Method::POST, job_path(job, what)).json(body))
    }

    /// Runs a job that is over once more, as a new job.
    pub fn retry(&self, job: &str, request: &RetryRequest) -> Result<Accepted, ClientError> {
        // The host makes the new job's name: a request that went through must not go twice.
        let body = to_json(request);
        self.fetch(&Call::new(Method::POST, job_path(job, "/retry")).json(&body).once())
    }

    /// Starts a new job from a checkpoint of another.
    pub fn fork(&self, job: &str, request: &ForkRequest) -> Result<Accepted, ClientError> {
        let body = to_json(request);
        let call = Call::new(Method::POST, job_path(job, "/fork")).json(&body);
        self.fetch(&if request.job_id.is_some() { call } else { call.once() })
    }
}

/// The path of an artifact.
pub(crate) fn artifact_path(job: &str, name: &str) -> String {
    job_path(job, &format!("/artifacts/{}", escape_path(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_holds_only_what_narrows_the_list() {
        let query = JobQuery {
            labels: vec!["a=1".to_owned(), "b=2".to_owned()],
            id_prefix: Some("km".to_owned()),
            limit: Some(10),
            ..JobQuery::default()
        };
        assert_eq!(query.path(), "/v1/jobs?label=a%3D1&label=b%3D2&q=km&limit=10");
        assert_eq!(JobQuery::default().path(), "/v1/jobs");
    }

    #[test]
    fn no_name_of_a_job_or_artifact_leads_elsewhere() {
        assert_eq!(job_path("../status", "/why"), "/v1/jobs/..%2Fstatus/why");
        assert_eq!(artifact_path("j", "../../x/y z"), "/v1/jobs/j/artifacts/%2E%2E/%2E%2E/x/y%20z");
    }

    #[test]
    fn no_two_submissions_have_the_same_key() {
        assert_ne!(fresh_key(), fresh_key());
        assert_eq!(fresh_key().len(), 32);
    }
}
