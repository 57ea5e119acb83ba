//! Calls about the host as a whole: status, limits, starts, schedules, retention.
//!
//! Owns: one function for each of these routes. Knows nothing of how they are sent.

use hb_api::status::{
    HostStatus, LimitView, PruneReport, PruneRequest, ScheduleRequest, ScheduleView,
};
use serde::de::DeserializeOwned;
use ureq::http::Method;

use crate::{Client, ClientError, exchange::Call, jobs::to_json, url::escape};

impl Client {
    /// How the host is.
    pub fn status(&self) -> Result<HostStatus, ClientError> {
        self.fetch(&Call::get("/v1/status"))
    }

    /// What jobs may ask for.
    pub fn limits(&self) -> Result<Vec<LimitView>, ClientError> {
        self.fetch(&Call::get("/v1/limits"))
    }

    /// Whether the host is ready to accept a job and run it.
    pub fn is_ready(&self) -> Result<bool, ClientError> {
        match self.send(&Call::get("/readyz")) {
            Ok(_) => Ok(true),
            Err(ClientError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts no more jobs.
    pub fn pause_starts(&self) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, "/v1/starts/pause")).map(drop)
    }

    /// Starts jobs again.
    pub fn resume_starts(&self) -> Result<(), ClientError> {
        self.send(&Call::new(Method::POST, "/v1/starts/resume")).map(drop)
    }

    /// All schedules.
    pub fn schedules(&self) -> Result<Vec<ScheduleView>, ClientError> {
        self.fetch(&Call::get("/v1/schedules"))
    }

    /// One schedule.
    pub fn schedule(&self, name: &str) -> Result<ScheduleView, ClientError> {
        self.fetch(&Call::get(schedule_path(name)))
    }

    /// Makes a schedule, or replaces it.
    pub fn set_schedule(
        &self,
        name: &str,
        request: &ScheduleRequest,
    ) -> Result<ScheduleView, ClientError> {
        let body = to_json(request);
        self.fetch(&Call::new(Method::PUT, schedule_path(name)).json(&body))
    }

    /// Removes a schedule; jobs that it made stay.
    pub fn remove_schedule(&self, name: &str) -> Result<(), ClientError> {
        self.send(&Call::new(Method::DELETE, schedule_path(name))).map(drop)
    }

    /// Removes what the policy in the request does not keep, or says what would be removed.
    pub fn prune(&self, request: &PruneRequest) -> Result<PruneReport, ClientError> {
        let body = to_json(request);
        self.fetch(&Call::new(Method::POST, "/v1/prune").json(&body))
    }

    /// Whatever a route that is not listed here gives.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.fetch(&Call::get(path))
    }
}

fn schedule_path(name: &str) -> String {
    format!("/v1/schedules/{}", escape(name))
}
