//! The job killed after each call of its host, and what it leaves behind.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use ginzburg_landau::{Settings, bytes, field::Parameters, run};
use hackbrain::Rehearsal;
use tempfile::TempDir;

fn settings() -> Settings {
    let default = Settings::default();
    let parameters = Parameters { size: 16, length: 16.0, ..default.parameters };
    Settings { parameters, steps: 23, every: 4 }
}

const ARTIFACTS: [&str; 3] = ["field.bin", "metrics.csv", "phase.png"];

#[test]
fn a_job_killed_after_each_call_of_its_host_ends_as_if_undisturbed() {
    let (directory, settings) = (TempDir::new().unwrap(), settings());
    let mut undisturbed = Rehearsal::new(directory.path(), 1).unwrap();
    let out = undisturbed.out();
    let measures = undisturbed.attempt(None, |host| run(host, &out, &settings)).unwrap().unwrap();
    let calls = undisturbed.calls();
    for every in [1, 3] {
        for kill_at in 1..=calls {
            let directory = TempDir::new().unwrap();
            let mut host = Rehearsal::new(directory.path(), every).unwrap();
            let killed_out = host.out();
            if host.attempt(Some(kill_at), |host| run(host, &killed_out, &settings)).is_ok() {
                continue;
            }
            let ended = host.attempt(None, |host| run(host, &killed_out, &settings));
            assert_eq!(ended.unwrap().unwrap(), measures, "killed at {kill_at}");
            for name in ARTIFACTS {
                assert!(
                    fs::read(killed_out.join(name)).unwrap() == fs::read(out.join(name)).unwrap(),
                    "{name} differs, killed at {kill_at}"
                );
            }
            assert_eq!(host.metrics, undisturbed.metrics, "killed at {kill_at}");
            assert_eq!(host.progress, undisturbed.progress, "killed at {kill_at}");
        }
    }
}

#[test]
fn the_artifacts_are_what_the_documentation_says() {
    let (directory, settings) = (TempDir::new().unwrap(), settings());
    let mut host = Rehearsal::new(directory.path(), u64::MAX).unwrap();
    let out = host.out();
    let measures = host.attempt(None, |host| run(host, &out, &settings)).unwrap().unwrap();
    let field = fs::read(out.join("field.bin")).unwrap();
    assert_eq!(field.len(), 64 + 16 * 16 * 16);
    let (decoded, steps) = bytes::decode(&field, settings.parameters).unwrap();
    assert_eq!((steps, decoded.measure()), (23, measures));
    let table = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows[0], "step,time,energy,phase_coherence");
    let steps: Vec<&str> = rows[1..].iter().filter_map(|row| row.split(',').next()).collect();
    assert_eq!(steps, ["0", "4", "8", "12", "16", "20", "23"]);
    assert!(rows[7].ends_with(&format!(",{},{}", measures.energy, measures.phase_coherence)));
}

#[test]
fn a_field_that_is_not_this_jobs_is_refused() {
    let parameters = settings().parameters;
    let field = ginzburg_landau::field::Field::noise(parameters);
    let encoded = bytes::encode(&field, 5);
    for length in 0..encoded.len() {
        bytes::decode(&encoded[..length], parameters).unwrap_err();
    }
    let error = bytes::decode(&encoded, Parameters { c: 2.0, ..parameters }).unwrap_err();
    assert!(error.to_string().contains("c: 1.0"), "{error}");
}

#[test]
fn settings_that_no_field_can_have_are_refused_by_name() {
    let good = settings();
    let with = |change: fn(&mut Settings)| {
        let mut settings = good;
        change(&mut settings);
        let directory = TempDir::new().unwrap();
        let mut host = Rehearsal::new(directory.path(), 1).unwrap();
        host.attempt(None, |host| run(host, Path::new("/nowhere"), &settings))
            .unwrap()
            .unwrap_err()
            .to_string()
    };
    for (message, expected) in [
        (with(|s| s.parameters.size = 100), "--size is 100, but must be a power of two"),
        (with(|s| s.parameters.size = 4096), "--size is 4096"),
        (with(|s| s.parameters.length = f64::NAN), "--length is NaN"),
        (with(|s| s.parameters.dt = 0.0), "--dt is 0"),
        (with(|s| s.parameters.b = f64::INFINITY), "--b is inf"),
        (with(|s| s.every = 0), "--every is 0"),
        (with(|_| {}), "cannot write /nowhere/metrics.csv"),
    ] {
        assert!(message.contains(expected), "{expected:?} is not in {message:?}");
    }
}
