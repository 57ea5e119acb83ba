//! What can go wrong between a client and a host.

use std::{io, path::PathBuf};

use hb_types::Digest;

use crate::Problem;

/// A client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The address.
    #[error("{url:?} is no address of a host: {why}, for example http://127.0.0.1:4005")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token.
    #[error("the token holds characters that no token has: give it as it was printed")]
    Token,
    /// The file with certificates.
    #[error("cannot read the certificates in {}", path.display())]
    CaFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in it.
    #[error("{} holds no certificate: a PEM file is expected", path.display())]
    CaContent {
        /// Which.
        path: PathBuf,
    },
    /// This machine's own certificates.
    #[error("this machine trusts no certificate authority: give the host's with --ca FILE")]
    NoAuthorities,
}

/// A call that did not come to an answer, or to another than was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There was no connection.
    #[error("cannot reach the host at {server}")]
    Unreachable {
        /// Its address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// It is not the host that it claims to be, as far as this machine knows.
    #[error(
        "{server} shows a certificate that is not trusted: name the authority's with --ca FILE"
    )]
    Untrusted {
        /// Its address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The connection broke.
    #[error(
        "the connection to {server} broke before the answer, so what became of it is not known"
    )]
    Broken {
        /// The host's address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// A stream of events broke off.
    #[error(
        "the stream of events from {server} broke off; asked for again, it goes on where it was"
    )]
    Interrupted {
        /// The host's address.
        server: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The host refused.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// The answer makes no sense.
    #[error("{server} does not answer as a HackBrain host does: {why}")]
    Garbage {
        /// Its address.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// The host did not come back.
    #[error("the host at {server} did not come back within {patience_s} s")]
    GaveUp {
        /// Its address.
        server: String,
        /// How long was waited.
        patience_s: u64,
        /// What happened last.
        source: Box<ClientError>,
    },
    /// A file that is sent cannot be read.
    #[error("cannot read what is to be sent")]
    Source(#[source] io::Error),
    /// What was received cannot be written.
    #[error("cannot write what the host sent")]
    Sink(#[source] io::Error),
    /// What was received is not what was announced.
    #[error("{what} arrived damaged: BLAKE3 {expected} expected, {found} found; get it again")]
    Damaged {
        /// Which.
        what: String,
        /// Its digest.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
}

impl ClientError {
    /// What the host said, if it is the host that refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Refused(problem) => Some(problem),
            Self::GaveUp { source, .. } => source.problem(),
            _ => None,
        }
    }

    /// Whether the host refused with this code.
    pub fn is(&self, code: &str) -> bool {
        self.problem().is_some_and(|problem| problem.code == code)
    }
}
