//! What a job is: its specification, and the hash that names it.
//!
//! Invariant: [`JobSpec::hash`] covers everything that may change the result and nothing else. It
//! is computed once, by the host that accepts the job, and stored; nothing recomputes it from a
//! clock or a salt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Digest,
    container::Container,
    limits::{AboveCeiling, Limit, Limits},
    text::printable,
};

/// Version of the execution semantics: what a guest sees and how fuel is counted. It changes
/// whenever the same component with the same inputs could behave differently, and is part of
/// every job hash and every seal. See `docs/execution-semantics.md`.
pub const EXECUTION_SEMANTICS: u32 = 1;

/// The longest name of a job, an input or a label, in bytes.
pub const NAME_MAX_BYTES: usize = 128;

/// The label that keeps a job from being removed by any policy, if it says `true`.
pub const KEEP_LABEL: &str = "keep";

/// Where the virtual clock starts unless the manifest says otherwise: 2000-01-01T00:00:00Z, in
/// nanoseconds since the Unix epoch.
pub const DEFAULT_START_NS: u64 = 946_684_800 * 1_000_000_000;

/// A blob and its length.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct BlobRef {
    /// Its BLAKE3 digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub len_bytes: u64,
}

/// When the host tells a guest that a checkpoint is due.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointPolicy {
    /// When this many milliseconds of real time have passed since the last one.
    EveryMs(u64),
    /// When the step has grown by this much since the last one.
    EverySteps(u64),
    /// Never; a guest that saves without asking still does.
    Never,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self::EveryMs(10_000)
    }
}

/// Where a job that goes on from another one's checkpoint begins.
///
/// The other job is named by what it is made of, not by where it ran: whoever has the blobs can
/// compute the checkpoint again and compare its digest.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The specification of the other job, as a blob with its JSON.
    pub spec: BlobRef,
    /// Its job hash.
    pub job_hash: Digest,
    /// The step of the checkpoint to go on from.
    pub step: u64,
    /// The checkpoint's digest.
    pub checkpoint: Digest,
    /// Every blob that the other job needs in order to run.
    pub needs: Vec<BlobRef>,
}

/// Everything that was asked for, with every file resolved to a blob.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// What runs: the component, or the description of the container.
    pub component: BlobRef,
    /// The container that a native program runs in; none for a component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The program's arguments, its own name first.
    pub arguments: Vec<String>,
    /// The program's environment, in order.
    pub environment: Vec<(String, String)>,
    /// What it reads from standard input; nothing where absent.
    pub stdin: Option<BlobRef>,
    /// Read-only files below `/in`, by name.
    pub inputs: BTreeMap<String, BlobRef>,
    /// The bounds it runs under.
    pub limits: Limits,
    /// Where its random streams start.
    pub seed: u64,
    /// Where its clocks start, in nanoseconds since the Unix epoch.
    pub start_ns: u64,
    /// The checkpoint of another job that it goes on from, if it does not start from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// When checkpoints fall due. Not part of the hash.
    pub checkpoints: CheckpointPolicy,
    /// Crashes without a new checkpoint in between after which the job is set aside as poisoned.
    /// Not part of the hash.
    pub max_crashes: u32,
    /// Free remarks. Not part of the hash.
    pub labels: BTreeMap<String, String>,
}

/// A specification that cannot be accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A name outside of the rules.
    #[error("{what} {name:?} is not a valid name: {why}")]
    Name {
        /// What was named.
        what: &'static str,
        /// The name, printable.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A text with a zero byte, which no program can receive.
    #[error("{what} contains a zero byte, which cannot be handed to a program: remove it")]
    ZeroByte {
        /// Which text.
        what: &'static str,
    },
    /// More arguments or environment than fits.
    #[error("{what} take {bytes} bytes, at most {max} are possible: pass long data as an input")]
    TooLong {
        /// Which texts.
        what: &'static str,
        /// Their length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// More labels than a job may have.
    #[error(
        "{count} labels with {bytes} bytes were given, at most {LABELS_MAX} with {LABEL_MAX_BYTES} bytes are kept: pass long data as an input"
    )]
    Labels {
        /// How many.
        count: usize,
        /// Their length, names and values together.
        bytes: usize,
    },
    /// A number outside of its range.
    #[error("{what} of {value} is not possible: choose a number from {min} to {max}")]
    OutOfRange {
        /// What was given.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A priority outside of its range.
    #[error("priority {value} is not possible: choose a number from -{max} to {max}")]
    Priority {
        /// Its value.
        value: i64,
        /// The most.
        max: i32,
    },
    /// A container that cannot be.
    #[error("the container's {what} is not possible: {why}")]
    Container {
        /// Which part of it.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A limit above the operator's ceiling.
    #[error(transparent)]
    AboveCeiling(#[from] AboveCeiling),
}

/// The most bytes that arguments, and that the environment, may take.
pub const TEXT_MAX_BYTES: usize = 128 * 1024;

/// The most labels of a job. They are found by an index and shown in every list.
pub const LABELS_MAX: usize = 64;

/// The most bytes that the labels of a job may take.
pub const LABEL_MAX_BYTES: usize = 16 * 1024;

impl JobSpec {
    /// Checks names, texts and limits.
    pub fn check(&self, ceilings: &Limits) -> Result<(), InvalidSpec> {
        for name in self.inputs.keys() {
            check_name("input", name)?;
        }
        for name in self.labels.keys() {
            check_name("label", name)?;
        }
        let count = self.labels.len();
        let bytes = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        if count > LABELS_MAX || bytes > LABEL_MAX_BYTES {
            return Err(InvalidSpec::Labels { count, bytes });
        }
        check_texts("arguments", self.arguments.iter().map(String::as_str))?;
        let pairs = self.environment.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]);
        check_texts("environment variables", pairs)?;
        if let Some(container) = &self.container {
            container.check()?;
            let wrong = |what, why: &str| InvalidSpec::Container { what, why: why.to_owned() };
            if container.blob() != self.component {
                return Err(wrong("description", "it is not the component that is named"));
            }
            if self.arguments.first().is_none_or(String::is_empty) {
                return Err(wrong("command", "it is missing: name a program of the image"));
            }
        }
        Ok(self.limits.check(ceilings)?)
    }

    /// The job hash: BLAKE3 over the canonical encoding below.
    ///
    /// Every text and every list is preceded by its length as a little-endian `u64`; numbers are
    /// little-endian `u64`; digests are their 32 bytes. In order: the domain text
    /// `hackbrain job hash v1`, the version of the execution semantics, the component, the
    /// arguments, the environment, stdin (count 0 or 1), the inputs by name, those limits that may
    /// change a result by name, the seed and the start time. Of a job that goes on from another
    /// one's checkpoint follow: the text `origin`, the other job's hash, the checkpoint's
    /// step and its digest. Of a native program the component is the description of its container,
    /// and the text `container` follows at the end.
    pub fn hash(&self) -> Digest {
        let mut encoder = Encoder(blake3::Hasher::new());
        encoder.text("hackbrain job hash v1");
        encoder.number(u64::from(EXECUTION_SEMANTICS));
        encoder.blob(&self.component);
        encoder.count(self.arguments.len());
        self.arguments.iter().for_each(|text| encoder.text(text));
        encoder.count(self.environment.len());
        for (name, value) in &self.environment {
            encoder.text(name);
            encoder.text(value);
        }
        encoder.count(usize::from(self.stdin.is_some()));
        self.stdin.iter().for_each(|blob| encoder.blob(blob));
        encoder.count(self.inputs.len());
        for (name, blob) in &self.inputs {
            encoder.text(name);
            encoder.blob(blob);
        }
        let hashed = Limit::ALL.iter().filter(|limit| limit.spec().hashed);
        encoder.count(hashed.clone().count());
        for limit in hashed {
            encoder.text(limit.spec().name);
            encoder.number(self.limits.get(*limit));
        }
        encoder.number(self.seed);
        encoder.number(self.start_ns);
        if let Some(origin) = &self.origin {
            encoder.text("origin");
            encoder.0.update(&origin.job_hash.0);
            encoder.number(origin.step);
            encoder.0.update(&origin.checkpoint.0);
        }
        if self.container.is_some() {
            encoder.text("container");
        }
        Digest::from(encoder.0.finalize())
    }

    /// The 32 bytes that seed the random streams.
    pub fn seed_bytes(&self) -> [u8; 32] {
        let mut encoder = Encoder(blake3::Hasher::new());
        encoder.text("hackbrain random seed v1");
        encoder.number(self.seed);
        *encoder.0.finalize().as_bytes()
    }

    /// Whether its labels say that no policy may remove it.
    pub fn is_kept(&self) -> bool {
        self.labels.get(KEEP_LABEL).is_some_and(|value| value == "true")
    }

    /// Every blob that the job needs in order to run.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> + '_ {
        let origin = self.origin.iter();
        let origin = origin.flat_map(|origin| origin.needs.iter().copied().chain([origin.spec]));
        let own = [self.component].into_iter().chain(self.stdin);
        own.chain(self.inputs.values().copied()).chain(origin)
    }
}

/// A job's or an input's name: letters, digits, `-`, `_`, `.`, not starting with `.` or `-`, at
/// most 128 bytes. It can then stand in a path, a URL and a shell command as it is.
pub fn check_name(what: &'static str, name: &str) -> Result<(), InvalidSpec> {
    let refuse = |why| Err(InvalidSpec::Name { what, name: printable(name, 80), why });
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_MAX_BYTES {
        return refuse("it is longer than 128 bytes");
    }
    if name.starts_with(['.', '-']) {
        return refuse("it must not start with '.' or '-'");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return refuse("only letters, digits, '-', '_' and '.' are allowed");
    }
    Ok(())
}

fn check_texts<'a>(
    what: &'static str,
    texts: impl Iterator<Item = &'a str>,
) -> Result<(), InvalidSpec> {
    let mut bytes = 0;
    for text in texts {
        if text.contains('\0') {
            return Err(InvalidSpec::ZeroByte { what });
        }
        bytes += text.len() + 1;
    }
    if bytes > TEXT_MAX_BYTES {
        return Err(InvalidSpec::TooLong { what, bytes, max: TEXT_MAX_BYTES });
    }
    Ok(())
}

/// Writes the canonical encoding into a hash.
struct Encoder(blake3::Hasher);

impl Encoder {
    fn number(&mut self, value: u64) {
        self.0.update(&value.to_le_bytes());
    }

    fn count(&mut self, value: usize) {
        self.number(value as u64);
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn blob(&mut self, blob: &BlobRef) {
        self.0.update(&blob.digest.0);
        self.number(blob.len_bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec() -> JobSpec {
        JobSpec {
            component: BlobRef { digest: Digest::of(b"component"), len_bytes: 9 },
            container: None,
            arguments: vec!["kmer.wasm".into(), "-k".into(), "21".into()],
            environment: vec![("LANG".into(), "C".into())],
            stdin: None,
            inputs: [("genome".into(), BlobRef { digest: Digest::of(b"acgt"), len_bytes: 4 })]
                .into(),
            limits: Limits::default(),
            seed: 7,
            start_ns: DEFAULT_START_NS,
            origin: None,
            checkpoints: CheckpointPolicy::default(),
            max_crashes: 200,
            labels: BTreeMap::new(),
        }
    }

    /// A known answer: whoever changes the encoding must give it another domain text.
    #[test]
    fn the_hash_of_a_specification_never_changes() {
        insta::assert_snapshot!(spec().hash().to_string());
    }

    #[test]
    fn the_hash_covers_what_may_change_the_result() {
        let origin = |step| Origin {
            spec: BlobRef { digest: Digest::of(b"spec"), len_bytes: 4 },
            job_hash: Digest::of(b"other"),
            step,
            checkpoint: Digest::of(b"checkpoint"),
            needs: vec![],
        };
        let (first, second) = (origin(1), origin(2));
        let native = Container::of_image(format!("sha256:{}", "0".repeat(64)), String::new());
        let changes: [&dyn Fn(&mut JobSpec); 13] = [
            &|s| s.container = Some(native.clone()),
            &|s| s.component.digest = Digest::of(b"other"),
            &|s| s.arguments.push(String::new()),
            &|s| s.arguments = vec!["kmer.wasm".into(), "-k21".into()],
            &|s| s.environment[0].1 = "D".into(),
            &|s| s.stdin = Some(BlobRef { digest: Digest::of(b""), len_bytes: 0 }),
            &|s| s.inputs.clear(),
            &|s| s.limits.fuel -= 1,
            &|s| s.limits.memory_bytes -= 1,
            &|s| s.seed += 1,
            &|s| s.start_ns += 1,
            &|s| s.origin = Some(first.clone()),
            &|s| s.origin = Some(second.clone()),
        ];
        let mut hashes = vec![spec().hash()];
        for change in changes {
            let mut other = spec();
            change(&mut other);
            hashes.push(other.hash());
        }
        let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn the_hash_leaves_out_what_cannot_change_the_result() {
        let changes: [fn(&mut JobSpec); 5] = [
            |s| s.labels = [("who".to_owned(), "me".to_owned())].into(),
            |s| s.checkpoints = CheckpointPolicy::Never,
            |s| s.max_crashes = 1,
            |s| s.limits.deadline_ms = 5,
            |s| s.limits.compile_ms = 5,
        ];
        for change in changes {
            let mut other = spec();
            change(&mut other);
            assert_eq!(other.hash(), spec().hash());
        }
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in ["", ".", "..", "a/b", "-x", "a b", "ü", "a\n", &"x".repeat(129)] {
            assert!(check_name("input", bad).is_err(), "{bad:?}");
        }
        for good in ["genome", "a.b-c_D9", &"x".repeat(128)] {
            check_name("input", good).unwrap();
        }
    }

    #[test]
    fn a_limit_above_its_ceiling_is_refused_by_name() {
        let mut greedy = spec();
        greedy.limits.memory_bytes = u64::MAX;
        let error = greedy.check(&Limits::ceilings()).unwrap_err().to_string();
        assert!(error.contains("--max-memory"), "{error}");
    }
}
