//! The whole examination, of this machine.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;
use crate::check::Status;

/// An examination of an empty home; nothing can be compiled.
fn examination(home: &Path) -> Examination {
    let mut around = Surroundings::of_process();
    around.environment.retain(|name, _| !name.starts_with("HB_") && !name.starts_with("XDG_"));
    around.environment.insert("HOME".to_owned(), home.into());
    around.directory = home.to_owned();
    let flags =
        vec![Flag { key: "data", flag: "--data".to_owned(), value: home.join("data").into() }];
    let compiler = Compiler { program: "/no/such/program".into(), arguments: Vec::new() };
    Examination { around, file: None, flags, compiler }
}

fn status(checks: &[Check], id: &str) -> Status {
    checks.iter().find(|check| check.id == id).unwrap().status
}

#[test]
fn every_check_is_made_once_says_why_and_how_to_mend_what_is_wrong() {
    let home = tempfile::tempdir().unwrap();
    let mut examination = examination(home.path());
    // Other tests may bind the real one.
    examination.around.environment.insert("HB_SERVE_LISTEN".to_owned(), "127.0.0.1:0".into());
    let checks = examine(&examination);
    let ids: BTreeSet<_> = checks.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), checks.len());
    assert_eq!(checks[0].id, "config");
    for check in &checks {
        assert!(!check.found.is_empty() && !check.why.is_empty(), "{check:?}");
        let wrong = matches!(check.status, Status::Warn | Status::Fail);
        assert_eq!(check.fix.is_some(), wrong, "{check:?}");
    }
    assert_eq!(status(&checks, "data-directory"), Status::Ok);
    assert_eq!(status(&checks, "listen"), Status::Ok);
    assert_eq!(status(&checks, "compiler"), Status::Fail);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_configuration_with_a_mistake_is_told_and_the_rest_looked_at_with_defaults() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("hb.toml"), "[serve]\nlisten = [\"nowhere\"]\n").unwrap();
    let checks = examine(&examination(home.path()));
    assert_eq!(checks[0].status, Status::Fail);
    let fix = checks[0].fix.as_deref().unwrap();
    assert!(fix.starts_with("hb config check ") && fix.ends_with("/hb.toml"), "{fix}");
    assert_eq!(status(&checks, "data-directory"), Status::Ok);
}

#[test]
fn certificates_are_looked_at_where_they_are_configured() {
    let home = tempfile::tempdir().unwrap();
    let text = "[serve]\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n";
    std::fs::write(home.path().join("hb.toml"), text).unwrap();
    let checks = examine(&examination(home.path()));
    assert_eq!(status(&checks, "tls-certificate"), Status::Fail);
    assert_eq!(status(&checks, "tls-key"), Status::Fail);
}
