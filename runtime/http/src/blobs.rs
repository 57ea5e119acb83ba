//! Blobs: components and inputs, uploaded once and named by their digest.
//!
//! Owns: the routes, and how a body becomes a blob without being held in memory. Knows nothing of
//! what the bytes are: a component is looked at when a job runs it.

use std::io::{self, Write as _};

use axum::{
    body::{Body, BodyDataStream},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use hb_api::job::BlobView;
use hb_edge::{
    Problem, codes,
    extract::{Json, Path, refuse_encodings},
};
use hb_types::{Digest, job::BlobRef};
use tokio::{sync::mpsc, task::block_in_place};

use crate::{
    bytes::{self, Named},
    error::{Failed, fault},
    state::App,
    uploads::UploadError,
};

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");

/// Pieces of a body that wait for the disk.
const PIECES: usize = 8;

fn parse(digest: &str) -> Result<Digest, Problem> {
    digest.parse().map_err(|error| Problem::new(&codes::BAD_REQUEST, format!("{error}")))
}

/// Writes a body to the store; the digest and length of what came.
async fn write(app: &App, body: Body) -> Result<BlobRef, Failed> {
    let (sender, mut receiver) = mpsc::channel::<axum::body::Bytes>(PIECES);
    let host = std::sync::Arc::clone(app.host());
    let writer = tokio::task::spawn_blocking(move || {
        let mut writer = host.blob_writer()?;
        let mut complete = false;
        while let Some(piece) = receiver.blocking_recv() {
            // An empty piece says that the body came to its end.
            complete = piece.is_empty();
            writer.write(&piece)?;
        }
        if !complete {
            return Ok(None);
        }
        let (digest, len_bytes) = writer.finish()?;
        Ok::<_, hb_host::StoreError>(Some(BlobRef { digest, len_bytes }))
    });
    let mut stream: BodyDataStream = body.into_data_stream();
    let mut broken: Option<axum::Error> = None;
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) if piece.is_empty() => {}
            Ok(piece) => {
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    if broken.is_none() {
        // A writer that failed says why itself.
        let _ = sender.send(axum::body::Bytes::new()).await;
    }
    drop(sender);
    let written = writer.await.map_err(|error| Problem::internal(&error))??;
    if let (Some(blob), None) = (written, broken) {
        return Ok(blob);
    }
    // Where the body was too large or too slow, the edge says so instead.
    let detail = "the body broke off before its end: send it again";
    Err(Failed(Problem::new(&codes::BAD_REQUEST, detail)))
}

fn created(blob: BlobRef) -> Response {
    (StatusCode::CREATED, Json(BlobView::from(&blob))).into_response()
}

/// Upload bytes; the answer names their digest.
#[utoipa::path(post, path = "/v1/blobs", tag = "blobs", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = BlobView), (status = 413, description = "too-large"), (status = 507, description = "disk-full")))]
pub(crate) async fn post(
    State(app): State<App>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failed> {
    refuse_encodings(&headers)?;
    app.check_open()?;
    write(&app, body).await.map(created)
}

/// Upload bytes whose digest is known. What is here already is not read.
#[utoipa::path(put, path = "/v1/blobs/{digest}", tag = "blobs", request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    params(("digest" = String, Path, description = "BLAKE3, 64 hexadecimal digits")),
    responses((status = 201, body = BlobView), (status = 200, body = BlobView, description = "it was here"),
        (status = 413, description = "too-large"), (status = 422, description = "digest-mismatch"),
        (status = 507, description = "disk-full")))]
pub(crate) async fn put(
    State(app): State<App>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failed> {
    refuse_encodings(&headers)?;
    let expected = parse(&digest)?;
    if let Some(len_bytes) = block_in_place(|| app.host().blob_len(expected))? {
        return Ok(Json(BlobView::from(&BlobRef { digest: expected, len_bytes })).into_response());
    }
    app.check_open()?;
    same(expected, write(&app, body).await?).map(created)
}

/// Whether bytes are here.
#[utoipa::path(head, path = "/v1/blobs/{digest}", tag = "blobs",
    params(("digest" = String, Path, description = "BLAKE3, 64 hexadecimal digits")),
    responses((status = 200, description = "they are here; Content-Length tells how many"),
        (status = 404, description = "blob-not-found; Upload-Offset tells how many are")))]
pub(crate) async fn head(
    State(app): State<App>,
    Path(digest): Path<String>,
) -> Result<Response, Failed> {
    let digest = parse(&digest)?;
    match block_in_place(|| app.host().blob_len(digest))? {
        Some(len_bytes) => {
            Ok((StatusCode::OK, [(CONTENT_LENGTH, HeaderValue::from(len_bytes))]).into_response())
        }
        None => {
            Err(Failed(not_here(digest).header(UPLOAD_OFFSET, app.uploads.offset(digest).into())))
        }
    }
}

/// What a piece of an upload says of itself.
struct Part {
    offset: u64,
    is_last: bool,
}

impl Part {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let wrong = |detail: &str| Problem::new(&codes::BAD_REQUEST, detail);
        let offset = text(&UPLOAD_OFFSET).and_then(|text| text.trim().parse().ok());
        let offset = offset.ok_or_else(|| wrong("Upload-Offset: a number of bytes expected"))?;
        let is_last = match text(&UPLOAD_COMPLETE).map(str::trim) {
            Some("?1") => true,
            Some("?0") => false,
            _ => return Err(wrong("Upload-Complete: ?0 or ?1 expected")),
        };
        Ok(Self { offset, is_last })
    }
}

fn upload_problem(error: &UploadError) -> Problem {
    match error {
        UploadError::Busy => Problem::new(&codes::UPLOAD_OFFSET_MISMATCH, error.to_string()),
        UploadError::TooMany => {
            Problem::new(&codes::TOO_MANY_REQUESTS, error.to_string()).retry_after(5)
        }
        UploadError::Io(_) => fault(error),
    }
}

/// Upload bytes in pieces. Whatever arrived of a piece stays, also after a new start of the host;
/// `HEAD` tells how far the upload is.
#[utoipa::path(patch, path = "/v1/blobs/{digest}", tag = "blobs", request_body(content = Vec<u8>, content_type = "application/partial-upload"),
    params(("digest" = String, Path, description = "BLAKE3, 64 hexadecimal digits"),
        ("Upload-Offset" = u64, Header, description = "where the piece begins"),
        ("Upload-Complete" = String, Header, description = "`?1` for the last piece, else `?0`")),
    responses((status = 204, description = "Upload-Offset tells how far it is"), (status = 201, body = BlobView),
        (status = 200, body = BlobView, description = "it was here"),
        (status = 409, description = "upload-offset-mismatch"), (status = 413, description = "too-large"),
        (status = 422, description = "digest-mismatch"), (status = 507, description = "disk-full")))]
pub(crate) async fn patch(
    State(app): State<App>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failed> {
    refuse_encodings(&headers)?;
    let (digest, part) = (parse(&digest)?, Part::read(&headers)?);
    if let Some(len_bytes) = block_in_place(|| app.host().blob_len(digest))? {
        return Ok(Json(BlobView::from(&BlobRef { digest, len_bytes })).into_response());
    }
    app.check_open()?;
    let turn = app.uploads.turn(digest).map_err(|error| upload_problem(&error))?;
    let on_disk = |error: io::Error| Failed(fault(&error));
    let file = block_in_place(|| turn.append_at(part.offset)).map_err(on_disk)?;
    let mut file = file.map_err(|offset| {
        let detail = format!("the upload is at byte {offset}, the piece begins at {}", part.offset);
        Problem::new(&codes::UPLOAD_OFFSET_MISMATCH, detail).with("offset", offset)
    })?;
    let mut offset = part.offset;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else {
            let detail = "the piece broke off before its end: what came of it is kept, go on there";
            return Err(Failed(Problem::new(&codes::BAD_REQUEST, detail).with("offset", offset)));
        };
        offset += piece.len() as u64;
        if offset > app.options.blob_bytes {
            let _ = turn.discard();
            let most = app.options.blob_bytes;
            let detail = format!("the upload has more than {most} bytes, which is the most");
            return Err(Failed(Problem::new(&codes::TOO_LARGE, detail)));
        }
        block_in_place(|| file.write_all(&piece)).map_err(on_disk)?;
    }
    if !part.is_last {
        return Ok(
            (StatusCode::NO_CONTENT, [(UPLOAD_OFFSET, HeaderValue::from(offset))]).into_response()
        );
    }
    let found = block_in_place(|| -> Result<BlobRef, Failed> {
        let mut reader = turn.read().map_err(on_disk)?;
        let blob = app.host().add_blob(&mut reader)?;
        turn.discard().map_err(on_disk)?;
        Ok(blob)
    })?;
    same(digest, found).map(created)
}

/// Refuses bytes that are not those that were announced.
fn same(announced: Digest, found: BlobRef) -> Result<BlobRef, Failed> {
    if found.digest == announced {
        return Ok(found);
    }
    let detail = format!(
        "the bytes hash to {}, {announced} was announced: send the right bytes, or their right digest",
        found.digest
    );
    Err(Failed(Problem::new(&codes::DIGEST_MISMATCH, detail).with("found", found.digest)))
}

fn not_here(digest: Digest) -> Problem {
    Problem::new(&codes::BLOB_NOT_FOUND, format!("blob {digest} is not on this host"))
}

/// Download bytes.
#[utoipa::path(get, path = "/v1/blobs/{digest}", tag = "blobs", params(
        ("digest" = String, Path, description = "BLAKE3, 64 hexadecimal digits"),
        ("Range" = Option<String>, Header, description = "one range of bytes"),
    ), responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
        (status = 404, description = "blob-not-found"), (status = 416, description = "range-not-satisfiable")))]
pub(crate) async fn get(
    State(app): State<App>,
    Path(digest): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    use std::os::unix::fs::FileExt as _;

    let digest = parse(&digest)?;
    let len_bytes = block_in_place(|| app.host().blob_len(digest))?;
    let len_bytes = len_bytes.ok_or_else(|| not_here(digest))?;
    let file = block_in_place(|| app.host().blob_file(BlobRef { digest, len_bytes }))?;
    let text = digest.to_string();
    let named = Named { digest: &text, file_name: &text, media_type: "application/octet-stream" };
    let read = move |offset| {
        let mut bytes = vec![0; 64 * 1024];
        let count = file.read_at(&mut bytes, offset).map_err(|error| Problem::internal(&error))?;
        bytes.truncate(count);
        Ok(bytes)
    };
    Ok(bytes::answer(&headers, &named, len_bytes, read)?)
}
