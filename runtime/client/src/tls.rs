//! Which certificates of a host are believed.
//!
//! Owns: the file that the user names, or else what this machine trusts. Knows nothing of requests.

use std::{path::Path, sync::Arc};

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::OptionsError;

/// Certificates that a file may hold.
const MAX_CERTIFICATES: usize = 1000;

/// TLS as it is used with hosts; with `ca`, its certificates are believed and no others.
pub(crate) fn config(ca: Option<&Path>) -> Result<TlsConfig, OptionsError> {
    let certificates = match ca {
        Some(path) => of_file(path)?,
        None => of_machine()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn of_file(path: &Path) -> Result<Vec<Certificate<'static>>, OptionsError> {
    let pem = std::fs::read(path)
        .map_err(|source| OptionsError::CaFile { path: path.to_owned(), source })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .take(MAX_CERTIFICATES)
        .collect();
    if certificates.is_empty() {
        return Err(OptionsError::CaContent { path: path.to_owned() });
    }
    Ok(certificates)
}

fn of_machine() -> Result<Vec<Certificate<'static>>, OptionsError> {
    let found = rustls_native_certs::load_native_certs();
    let certificates: Vec<_> =
        found.certs.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    if certificates.is_empty() { Err(OptionsError::NoAuthorities) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let error = config(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("cannot read") && error.contains("ca.pem"), "{error}");
        for content in ["", "junk", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, content).unwrap();
            let refused = config(Some(&path));
            // An empty certificate is still one; it is refused when a host shows another.
            assert!(refused.is_err() || content.contains("BEGIN"), "{content}");
        }
    }
}
