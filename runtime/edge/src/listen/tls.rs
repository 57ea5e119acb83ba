//! TLS with a certificate that may be renewed while the host runs.
//!
//! Owns: reading the PEM files, when to read them again, and the protocols offered. Knows nothing of:
//! connections. A pair of files that does not fit (the certificate is new and the key is not yet) leaves the one
//! before in use.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use serde::{Deserialize, Serialize};

use crate::{
    problem::chain,
    watched::{Source, Watched},
};

/// The certificates in one chain; more is a bundle of roots by mistake.
const MAX_CERTIFICATES: usize = 16;

/// Where certificate and key stand, as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to a root.
    pub certificate: PathBuf,
    /// Its secret key.
    pub key: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing, unreadable, or no PEM.
    #[error("could not read {what} from {}: expected PEM", path.display())]
    Read {
        /// Which of the two.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: pem::Error,
    },
    /// The file has none, or far too many.
    #[error(
        "{} has {found} certificates, expected 1 to {MAX_CERTIFICATES}: put the host's own certificate first",
        path.display()
    )]
    Count {
        /// Where.
        path: PathBuf,
        /// How many.
        found: usize,
    },
    /// The key is of an unknown kind, or of another certificate.
    #[error(
        "the certificate in {} and the key in {} cannot be used together: check that they belong to each other",
        files.certificate.display(), files.key.display()
    )]
    Unusable {
        /// Which.
        files: TlsFiles,
        /// What the library said.
        #[source]
        source: rustls::Error,
    },
}

/// The configuration of TLS as it is now.
#[derive(Debug)]
pub(crate) struct Tls(Watched<TlsFiles>);

impl Tls {
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Watched::new(files.clone(), read).map(Self)
    }

    /// For the next handshake.
    pub(crate) async fn config(&self) -> Arc<ServerConfig> {
        self.0.current().await
    }
}

impl Source for TlsFiles {
    type Value = ServerConfig;

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.certificate.clone(), self.key.clone()]
    }

    fn reload(&self) -> Option<ServerConfig> {
        match read(self) {
            Ok(config) => {
                tracing::info!(certificate = %self.certificate.display(), "certificate was read again");
                Some(config)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the certificate before stays in use");
                None
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let unusable = |source| TlsError::Unusable { files: files.clone(), source };
    let certificates = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Read {
        what: "the secret key",
        path: files.key.clone(),
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Read { what: "the certificate", path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .take(MAX_CERTIFICATES + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    match certificates.len() {
        1..=MAX_CERTIFICATES => Ok(certificates),
        found => Err(TlsError::Count { path: path.to_owned(), found }),
    }
}
