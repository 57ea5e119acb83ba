//! `/errors/CODE`: what a problem's `type` refers to.

use axum::{
    Router,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    codes::{self, Code},
    extract::Path,
    problem::Problem,
};

/// The template of the route.
pub(crate) const ERROR_PAGE: &str = "/errors/{code}";

pub(crate) fn error_pages() -> Router {
    Router::new().route(ERROR_PAGE, get(page))
}

async fn page(Path(name): Path<String>) -> Response {
    let Some(code) = Code::named(&name) else {
        let detail = format!("no problem has the code {name}");
        return Problem::new(&codes::NOT_FOUND, detail).into_response();
    };
    // Markdown reads well as it is, and browsers show plain text rather than saving it.
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], code.page).into_response()
}
