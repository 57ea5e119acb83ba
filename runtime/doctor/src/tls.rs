//! The certificate of the host, where one is configured.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hb_config::Config;
use x509_cert::{Certificate, der::Error};

use crate::check::{Check, Topic, causes, shell_word};

const CERTIFICATE: Topic = Topic {
    id: "tls-certificate",
    title: "certificate",
    why: "clients refuse a host whose certificate has expired, all at once",
};

const KEY: Topic = Topic {
    id: "tls-key",
    title: "key of the certificate",
    why: "whoever can read it can speak for this host",
};

const DAY: Duration = Duration::from_hours(24);
/// Time in which somebody can still act.
const EARLY: Duration = Duration::from_hours(24 * 21);

pub(crate) fn check(config: &Config) -> Vec<Check> {
    let certificate = config.serve.tls_cert.as_deref().map(certificate);
    let key = config.serve.tls_key.as_deref().map(key);
    certificate.into_iter().chain(key).collect()
}

/// When a certificate holds.
#[derive(Clone, Copy)]
struct Validity {
    from: SystemTime,
    until: SystemTime,
}

fn certificate(path: &Path) -> Check {
    let name = path.display();
    let look = format!("ls -l {}", shell_word(&path.to_string_lossy()));
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => return CERTIFICATE.fail(format!("{name}: {}", causes(&error)), look),
    };
    match validities(&text) {
        Ok(validities) if validities.is_empty() => {
            CERTIFICATE.fail(format!("{name} holds no certificate"), look)
        }
        Ok(validities) => judge(&name.to_string(), &validities, SystemTime::now()),
        Err(error) => CERTIFICATE.fail(format!("{name} is no PEM certificate: {error}"), look),
    }
}

/// Of every certificate in a PEM file.
fn validities(pem: &[u8]) -> Result<Vec<Validity>, Error> {
    let chain = Certificate::load_pem_chain(pem)?;
    let time = |time: &x509_cert::time::Time| UNIX_EPOCH + time.to_unix_duration();
    let validity = |one: &Certificate| {
        let validity = one.tbs_certificate().validity();
        Validity { from: time(&validity.not_before), until: time(&validity.not_after) }
    };
    Ok(chain.iter().map(validity).collect())
}

/// The first to expire decides, whoever's it is.
fn judge(name: &str, validities: &[Validity], now: SystemTime) -> Check {
    const RENEW: &str = "renew it with whoever issued it (certbot renew), then restart the host";
    let Some(first) = validities.iter().min_by_key(|one| one.until) else {
        return CERTIFICATE.skip("there is none");
    };
    let date = |time| humantime::format_rfc3339_seconds(time).to_string();
    if let Some(early) = validities.iter().find(|one| one.from > now) {
        let found = format!("{name} holds only from {} on", date(early.from));
        return CERTIFICATE.fail(found, "sudo timedatectl set-ntp true   # if that has passed");
    }
    let until = date(first.until);
    let Ok(left) = first.until.duration_since(now) else {
        return CERTIFICATE.fail(format!("{name} expired at {until}"), RENEW);
    };
    let days = left.as_secs() / DAY.as_secs();
    let found = format!("{name} holds until {until}, {days} days");
    // One that lives for a few days only is renewed by a machine.
    let lifetime = first.until.duration_since(first.from).unwrap_or_default();
    if left < EARLY.min(lifetime / 3) {
        return CERTIFICATE.warn(found, RENEW);
    }
    CERTIFICATE.ok(found)
}

fn key(path: &Path) -> Check {
    let name = path.display();
    let word = shell_word(&path.to_string_lossy());
    let text = fs::read_to_string(path);
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o777);
    match text {
        Err(error) => KEY.fail(format!("{name}: {}", causes(&error)), format!("ls -l {word}")),
        Ok(text) if !text.contains("PRIVATE KEY-----") => {
            KEY.fail(format!("{name} holds no private key"), format!("ls -l {word}"))
        }
        Ok(_) if mode & 0o077 != 0 => KEY.warn(
            format!("{name} can be read by others (mode {mode:03o})"),
            format!("chmod 600 {word}"),
        ),
        Ok(_) => KEY.ok(format!("{name} can be read by its owner alone")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::check::Status;

    /// Self-signed for the tests with OpenSSL, P-256, for ten years.
    const PEM: &str = include_str!("../tests/data/example.pem");

    fn status(from_days: u64, until_days: u64, now_days: u64) -> Status {
        let at = |days| UNIX_EPOCH + DAY * u32::try_from(days).unwrap();
        let validity = Validity { from: at(from_days), until: at(until_days) };
        judge("x", &[validity], at(now_days)).status
    }

    #[test]
    fn a_certificate_is_judged_by_the_days_that_are_left() {
        assert_eq!(status(10, 375, 20), Status::Ok);
        assert_eq!(status(10, 375, 360), Status::Warn);
        assert_eq!(status(10, 375, 376), Status::Fail);
        assert_eq!(status(10, 375, 5), Status::Fail);
        assert_eq!(status(10, 16, 12), Status::Ok);
        assert_eq!(status(10, 16, 15), Status::Warn);
    }

    #[test]
    fn a_real_certificate_is_read() {
        let validities = validities(PEM.as_bytes()).unwrap();
        let date = |time| humantime::format_rfc3339_seconds(time).to_string();
        assert_eq!(validities.len(), 1);
        assert_eq!(date(validities[0].from), "2026-11-24T06:40:56Z");
        assert_eq!(date(validities[0].until), "2036-11-21T06:40:56Z");
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pem");
        assert_eq!(certificate(&path).status, Status::Fail);
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(certificate(&path).status, Status::Fail, "{text}");
            assert_eq!(key(&path).status, Status::Fail, "{text}");
        }
        let begin = concat!("-----BEGIN PRIV", "ATE KEY-----\n");
        fs::write(&path, begin).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(key(&path).status, Status::Warn);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(key(&path).status, Status::Ok);
    }
}
