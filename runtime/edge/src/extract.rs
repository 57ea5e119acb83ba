//! Extractors of axum, whose rejections are problems.
//!
//! Knows nothing of: what is extracted. Rejections say where the mistake is; what they quote of the request is
//! made printable and cut by [`Problem`].

use std::error::Error;

use axum::{
    extract::{
        FromRequest, FromRequestParts, Request,
        path::ErrorKind,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::{
        HeaderMap,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{codes, problem::Problem};

/// A body of JSON, read up to the route's bound; also an answer of JSON.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        refuse_encodings(request.headers())?;
        let sent = media_type(request.headers());
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Problem::new(
                &codes::UNSUPPORTED_MEDIA_TYPE,
                format!("the body is {sent}: this route reads application/json"),
            )),
            Err(JsonRejection::BytesRejection(_)) => Err(Problem::new(
                &codes::BAD_REQUEST,
                "the body broke off before its end: send it again",
            )),
            Err(rejection) => Err(Problem::new(
                &codes::BAD_REQUEST,
                format!("the body cannot be read: {}", innermost(&rejection)),
            )),
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

/// The parameters of the query.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(rejection)) => Err(Problem::new(
                &codes::BAD_REQUEST,
                format!("the query cannot be read: {}", innermost(&rejection)),
            )),
            Err(rejection) => Err(Problem::internal(&rejection)),
        }
    }
}

/// The parameters of the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(rejection)) => {
                match rejection.kind() {
                    ErrorKind::WrongNumberOfParameters { .. }
                    | ErrorKind::UnsupportedType { .. } => Err(Problem::internal(&rejection)),
                    mistake => Err(Problem::new(
                        &codes::BAD_REQUEST,
                        format!("the path cannot be read: {mistake}"),
                    )),
                }
            }
            Err(rejection) => Err(Problem::internal(&rejection)),
        }
    }
}

/// Refuses a body that is compressed: what it unpacks to would have no bound.
pub fn refuse_encodings(headers: &HeaderMap) -> Result<(), Problem> {
    let is_plain = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_plain {
        return Ok(());
    }
    Err(Problem::new(
        &codes::UNSUPPORTED_MEDIA_TYPE,
        "the body has a Content-Encoding: send it without",
    ))
}

fn media_type(headers: &HeaderMap) -> String {
    headers.get(CONTENT_TYPE).map_or_else(
        || "without Content-Type".to_owned(),
        |value| hb_types::text::printable_bytes(value.as_bytes(), 100),
    )
}

/// The error at the end of the chain: the ones before it only say which extractor failed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
