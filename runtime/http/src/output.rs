//! What a job printed and left, as bytes; its seal.
//!
//! Owns: the routes. Knows nothing of ranges (`bytes.rs`) or of where the bytes are.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use hb_api::job::ArtifactView;
use hb_edge::{
    Problem, Shutdown, codes,
    extract::{Json, Path, Query},
};
use hb_host::{Piece, Stream, content_of};
use hb_types::{
    Digest,
    ledger::{Conclusion, Job},
    text::printable,
};
use serde::Deserialize;
use tokio::task::block_in_place;

use crate::{
    bytes::{self, Named},
    error::Failed,
    hub::Waiter,
    state::App,
};

const OCTETS: &str = "application/octet-stream";
/// What a program prints is text to whoever looks at it, and never a page.
const TEXT: &str = "text/plain; charset=utf-8";
const PIECE_BYTES: usize = 64 * 1024;

/// Whether to wait for more.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Following {
    #[serde(default)]
    follow: bool,
}

/// What a job printed on standard output: so far, or with `follow` until it is over.
#[utoipa::path(get, path = "/v1/jobs/{job}/stdout", tag = "output", params(
        ("job" = String, Path, description = "a job id, or a job's number"),
        ("follow" = Option<bool>, Query, description = "wait for more until the job is over"),
        ("Range" = Option<String>, Header, description = "one range of bytes"),
    ), responses((status = 200, content_type = "text/plain"), (status = 206, content_type = "text/plain"),
        (status = 404, description = "job-not-found"), (status = 416, description = "range-not-satisfiable")))]
pub(crate) async fn stdout(
    state: State<App>,
    path: Path<String>,
    query: Query<Following>,
    shutdown: axum::Extension<Shutdown>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    printed(state.0, &path.0, Stream::Stdout, query.0.follow, shutdown.0, &headers).await
}

/// The same for standard error.
#[utoipa::path(get, path = "/v1/jobs/{job}/stderr", tag = "output", params(
        ("job" = String, Path, description = "a job id, or a job's number"),
        ("follow" = Option<bool>, Query, description = "wait for more until the job is over"),
        ("Range" = Option<String>, Header, description = "one range of bytes"),
    ), responses((status = 200, content_type = "text/plain"), (status = 206, content_type = "text/plain"),
        (status = 404, description = "job-not-found"), (status = 416, description = "range-not-satisfiable")))]
pub(crate) async fn stderr(
    state: State<App>,
    path: Path<String>,
    query: Query<Following>,
    shutdown: axum::Extension<Shutdown>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    printed(state.0, &path.0, Stream::Stderr, query.0.follow, shutdown.0, &headers).await
}

async fn printed(
    app: App,
    name: &str,
    stream: Stream,
    follow: bool,
    shutdown: Shutdown,
    headers: &HeaderMap,
) -> Result<Response, Failed> {
    let job = app.durable_job(name).await?;
    if follow && job.is_unfinished() {
        return Ok(followed(app, &job, stream, shutdown));
    }
    let len_bytes = job.len_bytes(content_of(stream));
    let digest = match (&job.conclusion, stream) {
        (Some(conclusion), Stream::Stdout) => conclusion.stdout.digest.to_string(),
        (Some(conclusion), Stream::Stderr) => conclusion.stderr.digest.to_string(),
        // It grows: the name of what there is now.
        (None, _) => format!("{}-{len_bytes}", job.last),
    };
    let file_name = match stream {
        Stream::Stdout => format!("{}.stdout", job.job_id),
        Stream::Stderr => format!("{}.stderr", job.job_id),
    };
    let named = Named { digest: &digest, file_name: &file_name, media_type: TEXT };
    let host = Arc::clone(app.host());
    let read = move |offset| match host.read_output(job.number, stream, offset, PIECE_BYTES, false)
    {
        Ok(Piece::Bytes { bytes, .. }) => Ok(bytes),
        Ok(Piece::NotYet | Piece::End) => Ok(Vec::new()),
        Err(error) => Err(Failed::from(error).0),
    };
    Ok(bytes::answer(headers, &named, len_bytes, read)?)
}

struct Follower {
    app: App,
    waiter: Waiter,
    job: u64,
    stream: Stream,
    offset: u64,
    shutdown: Shutdown,
}

fn followed(app: App, job: &Job, stream: Stream, shutdown: Shutdown) -> Response {
    let waiter = app.hub.wait_for(job.number);
    let follower = Follower { app, waiter, job: job.number, stream, offset: 0, shutdown };
    let pieces = stream::unfold(follower, |mut follower| async move {
        loop {
            let Follower { app, job, stream, offset, .. } = &follower;
            let piece = block_in_place(|| {
                app.host().read_output(*job, *stream, *offset, PIECE_BYTES, false)
            });
            match piece {
                Ok(Piece::Bytes { bytes, .. }) => {
                    follower.offset += bytes.len() as u64;
                    return Some((Ok(bytes), follower));
                }
                Ok(Piece::End) => return None,
                Ok(Piece::NotYet) => tokio::select! {
                    () = follower.waiter.changed() => {}
                    () = follower.shutdown.requested() => {
                        // Not an end: the connection is cut, so that nobody takes it for one.
                        let cut = std::io::Error::other("the host stops");
                        return Some((Err(cut), follower));
                    }
                },
                Err(error) => return Some((Err(std::io::Error::other(error)), follower)),
            }
        }
    });
    let mut response = Body::from_stream(pieces).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}

fn conclusion(job: &Job) -> Result<&Conclusion, Problem> {
    job.conclusion.as_ref().ok_or_else(|| {
        let detail =
            format!("job {} is {}: it has no outcome yet", job.job_id, job.state.phase.name());
        Problem::new(&codes::NOT_ENDED_YET, detail)
    })
}

/// What a job left below `/out`.
#[utoipa::path(get, path = "/v1/jobs/{job}/artifacts", tag = "output",
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 200, body = Vec<ArtifactView>), (status = 404, description = "job-not-found"),
        (status = 409, description = "not-ended-yet")))]
pub(crate) async fn artifacts(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ArtifactView>>, Failed> {
    let job = app.durable_job(&name).await?;
    let artifacts = conclusion(&job)?.artifacts.iter().map(|(name, artifact)| ArtifactView {
        name: name.clone(),
        digest: artifact.blob.digest.to_string(),
        bytes: artifact.blob.len_bytes,
    });
    Ok(Json(artifacts.collect()))
}

/// One of the files that a job left.
#[utoipa::path(get, path = "/v1/jobs/{job}/artifacts/{name}", tag = "output", params(
        ("job" = String, Path, description = "a job id, or a job's number"),
        ("name" = String, Path, description = "its path below /out"),
        ("Range" = Option<String>, Header, description = "one range of bytes"),
    ), responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 404, description = "job-not-found, artifact-not-found"), (status = 409, description = "not-ended-yet"),
        (status = 416, description = "range-not-satisfiable")))]
pub(crate) async fn artifact(
    State(app): State<App>,
    Path((job, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let job = app.durable_job(&job).await?;
    let artifact = conclusion(&job)?.artifacts.get(&name).cloned().ok_or_else(|| {
        let shown = printable(&name, 200);
        let detail = format!("job {} left no file {shown:?} below /out", job.job_id);
        Problem::new(&codes::ARTIFACT_NOT_FOUND, detail)
    })?;
    let digest = artifact.blob.digest.to_string();
    let file_name = name.rsplit('/').next().unwrap_or_default();
    let named = Named { digest: &digest, file_name, media_type: OCTETS };
    let host = Arc::clone(app.host());
    let read = move |offset| {
        let piece = host.read_artifact(&job, artifact.content, offset);
        piece.map_err(|error| Failed::from(error).0)
    };
    Ok(bytes::answer(&headers, &named, artifact.blob.len_bytes, read)?)
}

/// The signed seal: a DSSE envelope around an in-toto statement.
#[utoipa::path(get, path = "/v1/jobs/{job}/seal", tag = "output",
    params(("job" = String, Path, description = "a job id, or a job's number")),
    responses((status = 200, content_type = "application/json"), (status = 404, description = "job-not-found"),
        (status = 409, description = "not-ended-yet")))]
pub(crate) async fn seal(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    let job = app.durable_job(&name).await?;
    conclusion(&job)?;
    let kept = job.seal.as_ref().ok_or_else(|| {
        Problem::new(&codes::NOT_ENDED_YET, format!("job {} has no seal yet", job.job_id))
    })?;
    let envelope = block_in_place(|| app.host().envelope(kept))?;
    let etag = Digest::of(&envelope).to_string();
    let etag = HeaderValue::from_str(&format!("\"{etag}\"")).expect("a digest is visible ASCII");
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (axum::http::header::ETAG, etag),
    ];
    Ok((headers, envelope).into_response())
}
