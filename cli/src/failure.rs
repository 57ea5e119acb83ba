//! From an error to one line and an exit code.

use hb_client::{ClientError, OptionsError};
use hb_host::{AddError, OpenHostError, RunError, SubmitError, VerifyError, care::CareError};
use hb_sandbox::PrepareError;
use hb_types::{exit, text::printable};

use crate::format;

/// An error whose exit code is decided where it arises.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file, a job or a blob that is not there.
    #[error("{0}")]
    NotFound(String),
    /// A component that cannot be run.
    #[error("{0}")]
    NotRunnable(String),
    /// A comparison that could not be made.
    #[error("could not be checked")]
    Unchecked(#[source] anyhow::Error),
}

/// Tells an error on standard error, in one line.
pub fn tell(error: &anyhow::Error, json: bool) {
    let text = line(error);
    if json {
        let mut problem = serde_json::json!({
            "title": "hb failed", "detail": text, "exit_code": exit_code(error),
        });
        // What the host said of it, in its own words.
        let said = error.chain().find_map(|cause| cause.downcast_ref::<ClientError>());
        if let Some(said) = said.and_then(ClientError::problem) {
            problem["code"] = said.code.as_str().into();
            problem["status"] = said.status.into();
        }
        format::tell(&problem.to_string());
    } else {
        format::tell(&format!("hb: error: {text}"));
    }
}

/// An error and its causes.
pub fn line(error: &anyhow::Error) -> String {
    line_of(error.as_ref())
}

/// An error and its causes; a cause that its effect already quotes is not said twice.
pub fn line_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error| error.source()) {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    if hb_host::is_disk_full(error) && !text.contains("free some space") {
        text.push_str("; the disk is full: free some space and run it again");
    }
    printable(&text.replace('\n', " "), LINE_MAX_BYTES)
}

/// The longest line of error.
const LINE_MAX_BYTES: usize = 8 * 1024;

/// What is wrong with a component, where an error is about that.
fn prepare_error<'e>(cause: &'e (dyn std::error::Error + 'static)) -> Option<&'e PrepareError> {
    // These show what they wrap as their own, so the chain of causes does not hold it.
    if let Some(AddError::NotRunnable(error)) = cause.downcast_ref() {
        return Some(error);
    }
    if let Some(RunError::NotRunnable(error)) = cause.downcast_ref() {
        return Some(error);
    }
    cause.downcast_ref()
}

/// The exit code for an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return match failure {
                Failure::Usage(_) | Failure::Unchecked(_) => exit::USAGE,
                Failure::NotFound(_) => exit::NOT_FOUND,
                Failure::NotRunnable(_) => exit::NOT_RUNNABLE,
            };
        }
        if let Some(problem) = cause.downcast_ref().and_then(ClientError::problem) {
            return match (problem.code.as_str(), problem.status) {
                ("component-refused", _) => exit::NOT_RUNNABLE,
                (_, 404) => exit::NOT_FOUND,
                (_, 400 | 409 | 422) => exit::USAGE,
                _ => exit::HOST_FAILED,
            };
        }
        if cause.is::<OptionsError>() {
            return exit::USAGE;
        }
        if cause.is::<VerifyError>() || cause.is::<hb_config::ConfigError>() {
            return exit::USAGE;
        }
        if let Some(error) = prepare_error(cause) {
            return match error {
                PrepareError::Rejected(_)
                | PrepareError::TooLarge(_)
                | PrepareError::CompilerMemory(_)
                | PrepareError::CompilerTime(_)
                | PrepareError::CompilerDied { .. } => exit::NOT_RUNNABLE,
                PrepareError::CompilerMissing { .. }
                | PrepareError::Cache { .. }
                | PrepareError::Engine { .. } => exit::HOST_FAILED,
            };
        }
        if let Some(
            SubmitError::Invalid(_) | SubmitError::Conflict { .. } | SubmitError::Ended { .. },
        ) = cause.downcast_ref::<SubmitError>()
        {
            return exit::USAGE;
        }
        if let Some(OpenHostError::NoLedger { .. }) = cause.downcast_ref::<OpenHostError>() {
            return exit::NOT_FOUND;
        }
        if let Some(CareError::Open(OpenHostError::NoLedger { .. })) = cause.downcast_ref() {
            return exit::NOT_FOUND;
        }
        if let Some(RunError::NoSuchJob { .. }) = cause.downcast_ref::<RunError>() {
            return exit::NOT_FOUND;
        }
    }
    exit::HOST_FAILED
}
