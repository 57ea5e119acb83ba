//! Lists of jobs, from the read model.
//!
//! Owns: what a list can be asked for. Knows nothing of how it is found.

use axum::{extract::State, http::Uri};
use hb_api::job::{JobPage, JobRow};
use hb_edge::{Problem, codes, extract::Json};
use hb_read_model::{Filter, HexPrefix, IdMatch, LabelMatch};
use hb_types::{
    state::Phase,
    text::printable,
    units::{parse_time_ns, show_time},
};
use tokio::task::block_in_place;

use crate::{error::Failed, state::App};

/// Jobs on a page where the question names no number.
const PAGE: usize = 100;

/// List jobs, newest first.
///
/// All conditions must hold. Pages follow each other by `cursor`; jobs that come meanwhile neither
/// repeat nor push out a row.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(
        ("state" = Option<Vec<String>>, Query, description = "one of these states; repeatable"),
        ("q" = Option<String>, Query, description = "the job id begins with this; with a leading *, contains it"),
        ("program" = Option<String>, Query, description = "the program's own name"),
        ("queue" = Option<String>, Query, description = "the queue"),
        ("outcome" = Option<String>, Query, description = "the outcome, short: `success`, `exit 3`, `limit fuel`"),
        ("hash" = Option<String>, Query, description = "the job hash begins with these hexadecimal digits"),
        ("seal" = Option<String>, Query, description = "the seal begins with these hexadecimal digits"),
        ("label" = Option<Vec<String>>, Query, description = "`NAME=VALUE`, or `NAME`; repeatable"),
        ("received_after" = Option<String>, Query, description = "accepted at or after this time (RFC 3339)"),
        ("received_before" = Option<String>, Query, description = "accepted before this time"),
        ("ended_after" = Option<String>, Query, description = "ended at or after this time"),
        ("ended_before" = Option<String>, Query, description = "ended before this time"),
        ("limit" = Option<u32>, Query, description = "at most so many, up to 1000"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ), responses((status = 200, body = JobPage), (status = 400, description = "bad-request")))]
pub(crate) async fn list(State(app): State<App>, uri: Uri) -> Result<Json<JobPage>, Failed> {
    let asked = Asked::read(uri.query().unwrap_or_default())?;
    let as_of = app.feed.fed();
    let page =
        block_in_place(|| app.read_model.query(&asked.filter, asked.cursor.as_ref(), asked.limit))?;
    Ok(Json(JobPage {
        jobs: page.jobs.into_iter().map(row).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        as_of,
    }))
}

fn row(job: hb_read_model::JobRow) -> JobRow {
    JobRow {
        job_id: job.job_id,
        number: job.number,
        job_hash: job.job_hash.to_string(),
        state: job.phase.name().to_owned(),
        outcome: job.outcome,
        exit_code: job.exit_code,
        seal: job.seal.map(|seal| seal.to_string()),
        program: printable(&job.program, 300),
        queue: job.queue,
        labels: job.labels,
        received_at: show_time(job.received_ns),
        started_at: job.started_ns.map(show_time),
        ended_at: job.ended_ns.map(show_time),
        attempts: job.attempts,
        crashes: job.crashes,
        checkpoints: job.checkpoints,
        bytes: job.bytes,
    }
}

struct Asked {
    filter: Filter,
    cursor: Option<hb_read_model::Cursor>,
    limit: usize,
}

impl Asked {
    /// Repeatable parameters are why this is read by hand.
    fn read(query: &str) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query)
            .map_err(|error| wrong("the query", &error.to_string()))?;
        let mut asked = Self { filter: Filter::default(), cursor: None, limit: PAGE };
        for (name, value) in &pairs {
            asked.add(name, value)?;
        }
        Ok(asked)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let filter = &mut self.filter;
        let time = || parse_time_ns(value).map_err(|why| wrong(name, &why));
        let hex = || value.parse::<HexPrefix>().map_err(|error| wrong(name, &error.to_string()));
        match name {
            "state" => {
                let phase = Phase::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(value));
                let names = Phase::ALL.map(Phase::name).join(", ");
                let phase =
                    phase.ok_or_else(|| wrong(name, &format!("one of {names} expected")))?;
                filter.phases.insert(phase);
            }
            "q" => {
                filter.id = Some(match value.strip_prefix('*') {
                    Some(part) => IdMatch::Contains(part.to_owned()),
                    None => IdMatch::Prefix(value.to_owned()),
                });
            }
            "program" => filter.program = Some(value.to_owned()),
            "queue" => filter.queue = Some(value.to_owned()),
            "outcome" => filter.outcome = Some(value.to_owned()),
            "hash" => filter.job_hash = Some(hex()?),
            "seal" => filter.seal = Some(hex()?),
            "label" => filter.labels.push(match value.split_once('=') {
                Some((name, value)) => {
                    LabelMatch { name: name.to_owned(), value: Some(value.to_owned()) }
                }
                None => LabelMatch { name: value.to_owned(), value: None },
            }),
            "received_after" => filter.received.from_ns = Some(time()?),
            "received_before" => filter.received.before_ns = Some(time()?),
            "ended_after" => filter.ended.from_ns = Some(time()?),
            "ended_before" => filter.ended.before_ns = Some(time()?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=1000).contains(limit));
                self.limit =
                    limit.ok_or_else(|| wrong(name, "a number from 1 to 1000 expected"))?;
            }
            "cursor" => {
                let cursor = value.parse();
                self.cursor = Some(cursor.map_err(|error: hb_read_model::InvalidCursor| {
                    wrong(name, &error.to_string())
                })?);
            }
            _ => return Err(wrong(name, "there is no such parameter here")),
        }
        Ok(())
    }
}

fn wrong(name: &str, why: &str) -> Problem {
    Problem::new(&codes::BAD_REQUEST, format!("{}: {why}", printable(name, 100)))
}
