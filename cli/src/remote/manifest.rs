//! The manifest that is submitted: made of flags, or read from a file.
//!
//! Owns: what flags become in a manifest, and which texts in a manifest file are paths. Knows nothing
//! of where files go.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context;
use hb_api::manifest::{
    Amount, Checkpoints, ConcurrencyBound, DEFAULT_MAX_CRASHES, Manifest, ResourceRequest,
    RetryPolicy,
};
use hb_types::{
    Digest,
    container::Container,
    job::{CheckpointPolicy, DEFAULT_START_NS, JobSpec},
    limits::{Limit, Limits},
};

use super::args::TermArgs;
use crate::{
    failure::Failure,
    job_flags::{Intake, LimitArgs, open},
};

/// The largest manifest.
const MANIFEST_BYTES: u64 = 1024 * 1024;

/// The manifest of a specification: what is as by default is left out.
pub fn of_spec(spec: &JobSpec) -> Manifest {
    let (program, arguments) = match spec.arguments.split_first() {
        Some((program, rest)) => (Some(program.clone()), rest.to_vec()),
        None => (None, Vec::new()),
    };
    let inputs = spec.inputs.iter();
    let container = spec.container.as_ref();
    let image = |container: &Container| match container.name.as_str() {
        "" => container.image.clone(),
        name => name.to_owned(),
    };
    Manifest {
        component: container.is_none().then(|| spec.component.digest.to_string()),
        image: container.map(image),
        image_id: container.map(|container| container.image.clone()),
        mounts: texts(container.map_or(&[][..], |container| &container.mounts)),
        grants: texts(container.map_or(&[][..], |container| &container.grants)),
        preflight: container.and_then(|container| container.preflight.clone()),
        program,
        arguments,
        environment: spec.environment.iter().cloned().collect(),
        stdin: spec.stdin.as_ref().map(|blob| blob.digest.to_string()),
        inputs: inputs.map(|(name, blob)| (name.clone(), blob.digest.to_string())).collect(),
        limits: limits(&spec.limits),
        seed: spec.seed,
        start_time: (spec.start_ns != DEFAULT_START_NS).then(|| exact_time(spec.start_ns)),
        checkpoints: checkpoints(spec.checkpoints),
        max_crashes: (spec.max_crashes != DEFAULT_MAX_CRASHES).then_some(spec.max_crashes),
        labels: spec.labels.clone(),
        ..Manifest::default()
    }
}

fn texts(things: &[impl ToString]) -> Vec<String> {
    things.iter().map(ToString::to_string).collect()
}

fn limits(limits: &Limits) -> BTreeMap<String, Amount> {
    let default = Limits::default();
    let changed = Limit::ALL.iter().filter(|limit| limits.get(**limit) != default.get(**limit));
    changed
        .map(|limit| (limit.spec().name.to_owned(), Amount::Number(limits.get(*limit))))
        .collect()
}

/// Limits that were typed, for requests that change some.
pub fn changed_limits(limits: &LimitArgs) -> BTreeMap<String, Amount> {
    let typed = limits.0.iter();
    typed.map(|(limit, value)| (limit.spec().name.to_owned(), Amount::Number(*value))).collect()
}

fn checkpoints(policy: CheckpointPolicy) -> Option<Checkpoints> {
    if policy == CheckpointPolicy::default() {
        return None;
    }
    Some(match policy {
        CheckpointPolicy::EveryMs(ms) => Checkpoints::Every(Amount::Number(ms)),
        CheckpointPolicy::EverySteps(steps) => Checkpoints::EverySteps(steps),
        CheckpointPolicy::Never => Checkpoints::Never,
    })
}

/// A time to the nanosecond.
fn exact_time(ns: u64) -> String {
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(ns)).to_string()
}

/// The digest of what a manifest says about the result.
pub fn digest(manifest: &Manifest) -> Digest {
    let content = Manifest {
        version: None,
        job_id: None,
        checkpoints: None,
        max_crashes: None,
        labels: BTreeMap::new(),
        priority: 0,
        queue: None,
        concurrency: None,
        retry: None,
        resources: None,
        not_before: None,
        finish_by: None,
        rerun: false,
        ..manifest.clone()
    };
    // Maps are sorted, so the text is the same for the same content.
    Digest::of(&serde_json::to_vec(&content).expect("a manifest is JSON"))
}

impl TermArgs {
    /// Puts what was typed into a manifest.
    pub fn apply(&self, manifest: &mut Manifest) {
        if let Some(priority) = self.priority {
            manifest.priority = priority;
        }
        if let Some(queue) = &self.queue {
            manifest.queue = Some(queue.clone());
        }
        if let Some((key, limit)) = &self.concurrency {
            manifest.concurrency = Some(ConcurrencyBound { key: key.clone(), limit: *limit });
        }
        if self.retries.is_some() || self.retry_backoff.is_some() {
            let retry = manifest.retry.get_or_insert_with(RetryPolicy::default);
            retry.max_retries = self.retries.unwrap_or(retry.max_retries);
            retry.backoff = self.retry_backoff.map(Amount::Number).or(retry.backoff.take());
        }
        if self.cpu.is_some() || self.memory.is_some() {
            let resources = manifest.resources.get_or_insert_with(ResourceRequest::default);
            resources.cpu = self.cpu.or(resources.cpu);
            resources.memory = self.memory.map(Amount::Number).or(resources.memory.take());
        }
        manifest.not_before = self.not_before.map(exact_time).or(manifest.not_before.take());
        manifest.finish_by = self.finish_by.map(exact_time).or(manifest.finish_by.take());
    }
}

/// Whether a path is a manifest's, and not a component's.
pub fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

/// Reads a manifest from a file, or from standard input where it is named `-`. Files that it
/// names go to `intake`.
pub fn read(path: &Path, intake: &mut dyn Intake) -> anyhow::Result<Manifest> {
    let mut text = Vec::new();
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let read = if is_stdin {
        std::io::stdin().lock().take(MANIFEST_BYTES + 1).read_to_end(&mut text)
    } else {
        open(path, "the manifest")?.take(MANIFEST_BYTES + 1).read_to_end(&mut text)
    };
    read.with_context(|| format!("cannot read the manifest {name}"))?;
    if text.len() as u64 > MANIFEST_BYTES {
        let why = format!("the manifest {name} is larger than {MANIFEST_BYTES} bytes");
        return Err(Failure::Usage(why).into());
    }
    let mut manifest = Manifest::read(&text)
        .map_err(|error| Failure::Usage(format!("{name} is no manifest: {error}")))?;
    let directory = if is_stdin { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
    let fields = manifest.component.iter_mut().chain(&mut manifest.stdin);
    for field in fields.chain(manifest.inputs.values_mut()) {
        if is_path(field) {
            let path = directory.join(PathBuf::from(&*field));
            let file = open(&path, "the manifest's file")?;
            let taken = intake.file(field, file);
            let blob = taken.with_context(|| format!("cannot take in {}", path.display()))?;
            *field = blob.digest.to_string();
        }
    }
    Ok(manifest)
}

/// Whether a text in a manifest names a file rather than a digest.
fn is_path(text: &str) -> bool {
    ["./", "../", "/"].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use hb_types::job::BlobRef;

    use super::*;

    /// Takes files by their digests and keeps nothing.
    struct Count(Vec<String>);

    impl Intake for Count {
        fn file(&mut self, name: &str, mut file: File) -> anyhow::Result<BlobRef> {
            self.0.push(name.to_owned());
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(BlobRef { digest: Digest::of(&bytes), len_bytes: bytes.len() as u64 })
        }

        fn stream(&mut self, _: &str, _: &mut dyn Read) -> anyhow::Result<BlobRef> {
            panic!("a manifest names no stream")
        }
    }

    fn blob(text: &str) -> BlobRef {
        BlobRef { digest: Digest::of(text.as_bytes()), len_bytes: text.len() as u64 }
    }

    fn spec() -> JobSpec {
        let mut limits = Limits::default();
        limits.set(Limit::Fuel, 77);
        JobSpec {
            component: blob("component"),
            container: None,
            arguments: vec!["k.wasm".to_owned(), "-k".to_owned(), "21".to_owned()],
            environment: vec![("A".to_owned(), "1".to_owned())],
            stdin: Some(blob("stdin")),
            inputs: [("genome".to_owned(), blob("genome"))].into(),
            limits,
            seed: 4,
            start_ns: DEFAULT_START_NS + 1,
            origin: None,
            checkpoints: CheckpointPolicy::EverySteps(3),
            max_crashes: DEFAULT_MAX_CRASHES,
            labels: [("project".to_owned(), "x".to_owned())].into(),
        }
    }

    #[test]
    fn flags_and_the_manifest_made_of_them_mean_the_same_job() {
        let spec = spec();
        let lengths = [blob("component"), blob("stdin"), blob("genome")];
        let length = |digest| lengths.iter().find(|blob| blob.digest == digest);
        let resolved = of_spec(&spec)
            .resolve(|digest| anyhow::Ok(length(digest).map(|blob| blob.len_bytes)))
            .unwrap();
        assert_eq!(resolved.spec, spec);
        assert_eq!(resolved.spec.hash(), spec.hash());
    }

    #[test]
    fn terms_that_were_typed_win_over_those_in_a_manifest_and_leave_the_others() {
        let mut manifest = Manifest {
            priority: 3,
            retry: Some(RetryPolicy { max_retries: 2, jitter: Some(false), ..Default::default() }),
            ..Manifest::default()
        };
        let terms = TermArgs { retry_backoff: Some(5), cpu: Some(0.5), ..TermArgs::default() };
        terms.apply(&mut manifest);
        let retry = manifest.retry.unwrap();
        assert_eq!((manifest.priority, retry.max_retries, retry.jitter), (3, 2, Some(false)));
        assert_eq!(retry.backoff, Some(Amount::Number(5)));
        assert_eq!(manifest.resources.unwrap().cpu, Some(0.5));
    }

    #[test]
    fn a_manifest_is_known_by_what_it_says_about_the_result() {
        let manifest = of_spec(&spec());
        let labels = [("other".to_owned(), "label".to_owned())].into();
        let same = Manifest { priority: 9, labels, rerun: true, ..manifest.clone() };
        let other = Manifest { seed: 5, ..manifest.clone() };
        assert_eq!(digest(&same), digest(&manifest));
        assert_ne!(digest(&other), digest(&manifest));
    }

    #[test]
    fn files_of_a_manifest_lie_beside_it_and_are_replaced_by_their_digests() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"elsewhere").to_string();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("m.wasm"), "module").unwrap();
        std::fs::write(dir.path().join("sub/g"), "genome").unwrap();
        let text = format!(
            r#"{{"component": "./m.wasm", "inputs": {{"g": "./sub/g", "h": "{digest}"}}}}"#
        );
        let path = dir.path().join("job.json");
        std::fs::write(&path, text).unwrap();
        let mut taken = Count(Vec::new());
        let manifest = read(&path, &mut taken).unwrap();
        assert_eq!(taken.0, ["./m.wasm", "./sub/g"]);
        assert_eq!(manifest.component, Some(Digest::of(b"module").to_string()));
        assert_eq!(manifest.inputs["g"], Digest::of(b"genome").to_string());
        assert_eq!(manifest.inputs["h"], digest);
    }

    #[test]
    fn what_is_no_manifest_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.json");
        let mut taken = Count(Vec::new());
        for (text, words) in [
            ("{", "no manifest"),
            (r#"{"surprise": 1}"#, "surprise"),
            (r#"{"component": "./absent"}"#, "does not exist"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path, &mut taken).unwrap_err();
            assert!(crate::failure::line(&error).contains(words), "{error:?}");
        }
    }
}
