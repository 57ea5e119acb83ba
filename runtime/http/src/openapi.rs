//! The interface as `OpenAPI` 3.1, made from the handlers themselves, and a page to browse it.
//!
//! Owns: the list of all routes. A handler that is not in the list is not served, so the document is
//! complete. The page needs nothing from elsewhere and runs no script.

use std::fmt::Write as _;

use axum::{
    Router,
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use hb_edge::{body::at_most, extract::Json};
use utoipa::{
    OpenApi,
    openapi::{RefOr, path::Operation},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    blobs, control, events, fork, history, jobs, list, metrics, operations, output, schedules,
    state::App, status,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "HackBrain",
        description = "Jobs that cannot be lost and can be proven. Errors are problem details (RFC 9457); each code has a page at /errors/CODE.",
    ),
    tags(
        (name = "jobs", description = "Submit, look, list, change"),
        (name = "events", description = "Follow what happens, as server-sent events"),
        (name = "output", description = "What a job printed and left, and its seal"),
        (name = "blobs", description = "Components and inputs, by digest"),
        (name = "schedules", description = "Jobs again and again"),
        (name = "host", description = "The host itself"),
    ),
    components(schemas(
        hb_api::event::EventView,
        hb_api::event::OutputView,
        hb_api::job::ProgressView,
        hb_api::manifest::Manifest,
    ))
)]
struct Document;

/// Bytes of a manifest.
const MANIFEST_BYTES: u64 = 1024 * 1024;

pub(crate) fn routes(blob_bytes: u64) -> (Router<App>, utoipa::openapi::OpenApi) {
    let uploads = OpenApiRouter::new()
        .routes(routes!(blobs::post))
        .routes(routes!(blobs::put, blobs::get, blobs::head, blobs::patch))
        .layer(at_most(blob_bytes));
    let rest = OpenApiRouter::new()
        .routes(routes!(jobs::submit, list::list))
        .routes(routes!(jobs::submit_legacy))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::why))
        .routes(routes!(control::cancel))
        .routes(routes!(control::hold))
        .routes(routes!(control::release))
        .routes(routes!(fork::retry))
        .routes(routes!(fork::fork))
        .routes(routes!(events::follow))
        .routes(routes!(history::of_job))
        .routes(routes!(history::follow_all))
        .routes(routes!(output::stdout))
        .routes(routes!(output::stderr))
        .routes(routes!(output::artifacts))
        .routes(routes!(output::artifact))
        .routes(routes!(output::seal))
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::show, schedules::set, schedules::remove))
        .routes(routes!(control::pause))
        .routes(routes!(control::resume))
        .routes(routes!(operations::prune))
        .routes(routes!(status::status))
        .routes(routes!(status::limits))
        .routes(routes!(status::livez))
        .routes(routes!(status::readyz))
        .routes(routes!(metrics::metrics))
        .layer(at_most(MANIFEST_BYTES));
    OpenApiRouter::with_openapi(Document::openapi()).merge(uploads).merge(rest).split_for_parts()
}

/// The document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes(u64::MAX).1
}

/// The routes that show the document.
pub(crate) fn pages(document: &utoipa::openapi::OpenApi) -> Router<App> {
    let value = serde_json::to_value(document).expect("the document is plain data");
    let page = page(document);
    Router::new()
        .route("/openapi.json", get(move || async move { Json(value) }))
        .route("/docs", get(move || async move { html(page) }))
}

fn html(page: String) -> Response {
    // The page has one style sheet, of its own, and nothing that runs.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
    ];
    (headers, page).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    code{background:#8882;padding:.1em .3em;border-radius:.2em}details{margin:.3rem 0}\
    summary{cursor:pointer}table{border-collapse:collapse}td,th{text-align:left;padding:.1rem .8rem .1rem 0;vertical-align:top}\
    .method{display:inline-block;min-width:4.5em;font-weight:600}pre{overflow:auto;background:#8882;padding:.7rem}\
    @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}";

/// The document as one page, by tag.
fn page(document: &utoipa::openapi::OpenApi) -> String {
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>HackBrain API</title><style>{STYLE}</style><h1>HackBrain API</h1><p>{}</p>\
         <p>The same for programs: <a href=/openapi.json>/openapi.json</a></p>",
        escape(document.info.description.as_deref().unwrap_or_default())
    );
    for tag in document.tags.iter().flatten() {
        let description = tag.description.as_deref().unwrap_or_default();
        let _ = write!(page, "<h2>{}</h2><p>{}</p>", escape(&tag.name), escape(description));
        for (path, item) in &document.paths.paths {
            let operations = [
                ("GET", &item.get),
                ("HEAD", &item.head),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            for (method, operation) in operations {
                let of_tag = |operation: &&Operation| {
                    operation.tags.iter().flatten().any(|name| *name == tag.name)
                };
                if let Some(operation) = operation.as_ref().filter(of_tag) {
                    show_operation(&mut page, method, path, operation);
                }
            }
        }
    }
    page.push_str("<h2>Shapes</h2>");
    for (name, schema) in document.components.iter().flat_map(|all| &all.schemas) {
        let json = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = write!(
            page,
            "<details id='shape-{0}'><summary><code>{0}</code></summary><pre>{1}</pre></details>",
            escape(name),
            escape(&json)
        );
    }
    page
}

fn show_operation(page: &mut String, method: &str, path: &str, operation: &Operation) {
    let summary = operation.summary.as_deref().unwrap_or_default();
    let _ = write!(
        page,
        "<details><summary><span class=method>{method}</span> <code>{}</code> {}</summary>",
        escape(path),
        escape(summary)
    );
    if let Some(description) = &operation.description {
        let _ = write!(page, "<p>{}</p>", escape(description));
    }
    let parameters = operation.parameters.iter().flatten();
    let parameters: Vec<_> = parameters
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) => Some(parameter),
            RefOr::Ref(_) => None,
        })
        .collect();
    if !parameters.is_empty() {
        page.push_str("<table>");
        for parameter in parameters {
            let description = parameter.description.as_deref().unwrap_or_default();
            let _ = write!(
                page,
                "<tr><td><code>{}</code><td>{}",
                escape(&parameter.name),
                escape(description)
            );
        }
        page.push_str("</table>");
    }
    page.push_str("<table>");
    for (status, response) in &operation.responses.responses {
        let description = match response {
            RefOr::T(response) => response.description.as_str(),
            RefOr::Ref(_) => "",
        };
        let _ = write!(page, "<tr><td><code>{}</code><td>{}", escape(status), escape(description));
    }
    page.push_str("</table></details>");
}
