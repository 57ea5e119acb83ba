//! What manifests mean, and which make no sense.
#![allow(clippy::unwrap_used)]
use super::*;

fn resolve(json: &str) -> Result<Resolved, ManifestError> {
    let manifest: Manifest =
        serde_json::from_str(json).map_err(|error| wrong("manifest", error.to_string()))?;
    manifest.resolve(|digest| Ok((digest != Digest::of(b"absent")).then_some(7)))
}

fn with(extra: &str) -> String {
    format!(r#"{{"component": "{}"{extra}}}"#, Digest::of(b"component"))
}

fn image_id() -> String {
    format!("sha256:{}", "7f".repeat(32))
}

fn native(extra: &str) -> String {
    let id = image_id();
    format!(r#"{{"image": "python:3", "image_id": "{id}", "program": "python3"{extra}}}"#)
}

#[test]
fn an_image_becomes_a_container_whose_description_is_the_component() {
    let extra = r#", "arguments": ["-c", "1"], "grants": ["pids=9", "network", "network"]"#;
    let resolved = resolve(&native(extra)).unwrap();
    let container = resolved.spec.container.clone().unwrap();
    assert_eq!(resolved.spec.component, container.blob());
    assert_eq!(container.grants.len(), 2);
    assert_eq!(resolved.spec.arguments, ["python3", "-c", "1"]);
    resolved.spec.check(&Limits::ceilings()).unwrap();
}

#[test]
fn the_older_form_means_the_same_as_the_present_one() {
    let id = image_id();
    let older = format!(
        r#"{{"job_id": "o", "image_hash": "{id}", "command": ["python3", "-c", "1"],
            "mount_spec": "/srv/a:/a, /srv/b:/b:rw", "required_cpu": 0.5}}"#
    );
    let mut manifest = Manifest::read(older.as_bytes()).unwrap();
    assert_eq!(manifest.unpinned(), Some(&*id));
    manifest.image_id = Some(id);
    let resolved = manifest.resolve(|_| Ok::<_, ManifestError>(None)).unwrap();
    assert_eq!(resolved.job_id.as_deref(), Some("o"));
    assert_eq!(resolved.spec.arguments, ["python3", "-c", "1"]);
    assert_eq!(resolved.terms.resources.cpu_milli, 500);
    let mounts = resolved.spec.container.unwrap().mounts;
    assert_eq!(
        mounts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["/srv/a:/a:ro", "/srv/b:/b:rw"]
    );
    assert!(Manifest::read(br#"{"job_id": "o", "image_hash": "x", "command": []}"#).is_err());
}

#[test]
fn a_manifest_with_nothing_but_a_component_has_the_defaults_of_everything() {
    let resolved = resolve(&with("")).unwrap();
    assert_eq!(resolved.spec.arguments, ["job"]);
    assert_eq!(resolved.spec.limits, Limits::default());
    assert_eq!(resolved.terms, Terms::default());
    assert_eq!(resolved.name_hint, "job");
}

#[test]
fn amounts_are_numbers_or_text_with_units_and_mean_the_same() {
    let text = r#", "limits": {"memory_bytes": "64MiB", "deadline_ms": "90s"},
        "retry": {"max_retries": 3, "backoff": "2s", "on": ["deadline"]},
        "resources": {"cpu": 0.5, "memory": "1GiB"}, "checkpoints": {"every": "1m"}"#;
    let numbers = r#", "limits": {"memory_bytes": 67108864, "deadline_ms": 90000},
        "retry": {"max_retries": 3, "backoff": 2000, "on": ["deadline"]},
        "resources": {"cpu": 0.5, "memory": 1073741824}, "checkpoints": {"every": 60000}"#;
    let (text, numbers) = (resolve(&with(text)).unwrap(), resolve(&with(numbers)).unwrap());
    assert_eq!(text, numbers);
    assert_eq!(text.terms.resources, Resources { cpu_milli: 500, memory_bytes: 1 << 30 });
    assert_eq!(text.spec.checkpoints, CheckpointPolicy::EveryMs(60_000));
}

#[test]
fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
    let cases = [
        (r#"{"component": "abc"}"#.to_owned(), "component"),
        ("{}".to_owned(), "component"),
        (with(r#", "surprise": 1"#), "surprise"),
        (with(r#", "limits": {"memory": 1}"#), "limits.memory"),
        (with(r#", "limits": {"memory_bytes": "a lot"}"#), "limits.memory_bytes"),
        (with(r#", "start_time": "yesterday""#), "start_time"),
        (with(r#", "resources": {"cpu": 0}"#), "resources.cpu"),
        (with(r#", "resources": {"cpu": 1e300}"#), "resources.cpu"),
        (with(r#", "priority": 5000"#), "priority"),
        (with(r#", "version": 2"#), "version"),
        (with(r#", "image": "python:3""#), "image"),
        (with(r#", "mounts": ["/a:/b"]"#), "mounts"),
        (native(r#", "grants": ["everything"]"#), "grants"),
        (native(r#", "mounts": ["/a"]"#), "mounts"),
        (native(r#", "component": "00""#), "component"),
        (format!(r#"{{"image": "x", "image_id": "{}"}}"#, image_id()), "program"),
        (r#"{"image": "python:3", "program": "x"}"#.to_owned(), "python:3"),
        (with(r#", "queue": "../x""#), "queue"),
    ];
    for (json, named) in cases {
        let error = resolve(&json).unwrap_err().to_string();
        assert!(error.contains(named), "{json}: {error}");
    }
}

#[test]
fn everything_that_is_not_here_is_named_at_once() {
    let absent = Digest::of(b"absent");
    let json = format!(r#"{{"component": "{absent}", "inputs": {{"a": "{absent}"}}}}"#);
    match resolve(&json).unwrap_err() {
        ManifestError::Missing { missing } => assert_eq!(missing, [absent]),
        other => panic!("{other}"),
    }
}

#[test]
fn a_manifest_survives_its_json() {
    let manifest = Manifest {
        component: Some(Digest::of(b"x").to_string()),
        checkpoints: Some(Checkpoints::Never),
        priority: -3,
        ..Manifest::default()
    };
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    assert!(json.len() < 140, "what is as by default is left out: {json}");
}
