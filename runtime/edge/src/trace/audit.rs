//! One structured event for every change that somebody asked for: who, what, outcome.
//!
//! The edge writes it for each changing request; what changes without one (a token made on the command line) calls
//! [`audit`] itself. Knows nothing of: where the events go. They have the target `hb::audit`.

use crate::names;

/// One line of audit.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    /// Whose request it was: the token's name, `local` where no token is needed, `-` when unknown.
    pub who: &'a str,
    /// Where it came from.
    pub peer: &'a str,
    /// What was asked for: method and route.
    pub what: &'a str,
    /// What it was about: the job, the blob, or the path.
    pub subject: &'a str,
    /// `done`, `refused`, `failed`, or `abandoned` when the client went away first.
    pub outcome: &'a str,
    /// The problem's code, where there was one.
    pub code: Option<&'a str>,
}

/// What a changing request was about, for the audit: a handler puts it into the extensions of its answer.
/// Without it, the request's path stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSubject(pub String);

/// Writes one line.
pub fn audit(line: &Audit<'_>) {
    tracing::info!(
        target: names::AUDIT_TARGET,
        who = line.who,
        peer = line.peer,
        what = line.what,
        subject = line.subject,
        outcome = line.outcome,
        code = line.code,
        "audit"
    );
}
