//! What every answer of a host has to be, whatever was asked.
//!
//! Knows nothing of how requests are made.

use std::path::Path;

use serde_json::Value;

use super::{client::Answer, schema};

/// Whether an answer is one that a host may give; otherwise why not.
pub fn check(method: &str, answer: &Answer) -> Result<(), String> {
    let status = answer.status;
    if status >= 500 && status != 501 && status != 503 {
        return Err("a fault of the host".to_owned());
    }
    // A head that is larger than what is read at all never becomes a request.
    let is_unread = status == 431 && answer.body.is_empty();
    if status >= 400 && method != "HEAD" && !is_unread {
        check_problem(answer)?;
    }
    Ok(())
}

fn check_problem(answer: &Answer) -> Result<(), String> {
    if answer.header("content-type") != Some("application/problem+json") {
        return Err("an error that is no problem".to_owned());
    }
    let problem: Value =
        serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    if problem["status"] != answer.status {
        return Err(format!("the problem says {}", problem["status"]));
    }
    let code = problem["code"].as_str().ok_or("a problem without code")?;
    let page =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors").join(format!("{code}.md"));
    if !page.is_file() || problem["type"] != format!("/errors/{code}") {
        return Err(format!("the code {code} has no page"));
    }
    let texts = ["title", "detail", "instance"].map(|name| problem[name].as_str());
    if texts.iter().any(|text| text.is_none_or(|text| text.chars().any(char::is_control))) {
        return Err("title, detail or instance is missing or no plain text".to_owned());
    }
    Ok(())
}

/// Whether a good answer is what the document says of this operation.
pub fn check_success(document: &Value, operation: &Value, answer: &Answer) -> Result<(), String> {
    if !(200..300).contains(&answer.status) {
        return Ok(());
    }
    let response = &operation["responses"][answer.status.to_string()];
    if response.is_null() {
        return Err(format!("{} is not in the document", answer.status));
    }
    let found = answer.header("content-type").unwrap_or_default();
    let media_type = found.split(';').next().unwrap_or_default();
    let Some(content) = response.get("content") else { return Ok(()) };
    let described =
        content.get(media_type).ok_or_else(|| format!("{found:?} is not in the document"))?;
    match described.get("schema") {
        Some(wanted) if media_type == "application/json" => {
            let value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            schema::check(document, wanted, &value, "the answer")
        }
        _ => Ok(()),
    }
}
