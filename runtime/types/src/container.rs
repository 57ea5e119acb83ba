//! What a native program runs in: an image, what of the machine it sees, and what it may do more
//! than others.
//!
//! Owns: the canonical description, whose digest stands in a job's specification where a component's
//! would; the vocabulary of grants. Knows nothing of engines, and of what an operator allows.
//!
//! Invariant: two containers that could behave differently have different descriptions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    Digest,
    job::{BlobRef, InvalidSpec},
    text::printable,
    units::{parse_count, parse_size},
};

/// The longest text of an image's name, of a path, and of a pre-flight script, in bytes.
const TEXT_BYTES: usize = 4096;
/// The most mounts, and the most grants, of one container.
const ENTRIES: usize = 32;
/// Directories of a container that a mount must not cover: the host puts something there.
const RESERVED: [&str; 8] = ["/job", "/out", "/in", "/hackbrain", "/proc", "/sys", "/dev", "/tmp"];

/// A container that a job runs in.
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
pub struct Container {
    /// The image by its content: `sha256:` and 64 hexadecimal digits.
    pub image: String,
    /// What the image was called by whoever asked for it; a host that lacks it pulls it by this
    /// name. Not part of the job hash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Directories of the machine that it sees, in order of target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What it may do more than others, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// A shell script that runs before the program and ends the job where it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<String>,
}

/// A directory of the machine that a container sees.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where the container sees it.
    pub target: String,
    /// Which directory of the machine.
    pub source: String,
    /// Whether it may be changed from inside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable: bool,
}

/// One bound of a container that is wider than usual. Written as text: `network`, `pids=1024`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub enum Grant {
    /// The engine's default network instead of none.
    Network,
    /// A root file system that can be written to, for as long as an attempt lasts.
    WritableRoot,
    /// The user 0 instead of one without rights.
    RootUser,
    /// One of the kernel's capabilities.
    Capability(String),
    /// Programs may gain rights, as by set-user-id.
    NewPrivileges,
    /// No filter of system calls.
    AnySystemCall,
    /// This many processes and threads.
    Processes(u64),
    /// This many bytes below `/tmp`.
    Temporary(u64),
    /// This many bytes below `/dev/shm`.
    SharedMemory(u64),
}

impl Grant {
    /// The names of all kinds, as an operator allows them.
    pub const NAMES: [&str; 9] = [
        "network",
        "writable-root",
        "root-user",
        "capability",
        "new-privileges",
        "any-system-call",
        "pids",
        "tmp",
        "shm",
    ];

    /// The name of its kind.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Network => Self::NAMES[0],
            Self::WritableRoot => Self::NAMES[1],
            Self::RootUser => Self::NAMES[2],
            Self::Capability(_) => Self::NAMES[3],
            Self::NewPrivileges => Self::NAMES[4],
            Self::AnySystemCall => Self::NAMES[5],
            Self::Processes(_) => Self::NAMES[6],
            Self::Temporary(_) => Self::NAMES[7],
            Self::SharedMemory(_) => Self::NAMES[8],
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Capability(name) => write!(f, "={name}"),
            Self::Processes(value) | Self::Temporary(value) | Self::SharedMemory(value) => {
                write!(f, "={value}")
            }
            Self::Network
            | Self::WritableRoot
            | Self::RootUser
            | Self::NewPrivileges
            | Self::AnySystemCall => Ok(()),
        }
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || {
            format!(
                "{:?} is no grant: expected network, writable-root, root-user, capability=NAME, \
                 new-privileges, any-system-call, pids=COUNT, tmp=SIZE or shm=SIZE",
                printable(text, 80)
            )
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        Ok(match (name, value) {
            ("network", None) => Self::Network,
            ("writable-root", None) => Self::WritableRoot,
            ("root-user", None) => Self::RootUser,
            ("new-privileges", None) => Self::NewPrivileges,
            ("any-system-call", None) => Self::AnySystemCall,
            ("capability", Some(value)) => Self::Capability(capability(value)?),
            ("pids", Some(value)) => Self::Processes(parse_count(value)?),
            ("tmp", Some(value)) => Self::Temporary(parse_size(value)?),
            ("shm", Some(value)) => Self::SharedMemory(parse_size(value)?),
            _ => return Err(unknown()),
        })
    }
}

/// A capability's name without its prefix, in capitals. `ALL` would be more than one grant.
fn capability(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if !is_name || name == "ALL" || name.len() > 40 {
        return Err(format!(
            "{:?} is no capability: expected one name such as SYS_PTRACE",
            printable(text, 80)
        ));
    }
    Ok(name.to_owned())
}

impl Serialize for Grant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.writable { "rw" } else { "ro" };
        write!(f, "{}:{}:{mode}", self.source, self.target)
    }
}

impl FromStr for Mount {
    type Err = String;

    /// `SOURCE:TARGET`, with `:ro` or `:rw` behind it; read-only where neither is said.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (source, target, mode) = (parts.next(), parts.next(), parts.next());
        let writable = match mode {
            None | Some("ro") => Some(false),
            Some("rw") => Some(true),
            Some(_) => None,
        };
        match (source, target, writable, parts.next()) {
            (Some(source), Some(target), Some(writable), None)
                if !source.is_empty() && !target.is_empty() =>
            {
                Ok(Self { target: target.to_owned(), source: source.to_owned(), writable })
            }
            _ => Err(format!(
                "{:?} is no mount: expected SOURCE:TARGET, SOURCE:TARGET:ro or SOURCE:TARGET:rw",
                printable(text, 200)
            )),
        }
    }
}

/// What decides how a container behaves, in the order in which it is written down.
#[derive(Serialize)]
struct Description<'a> {
    image: &'a str,
    mounts: &'a [Mount],
    grants: &'a [Grant],
    preflight: &'a Option<String>,
}

impl Container {
    /// A container of an image and nothing else.
    pub fn of_image(image: String, name: String) -> Self {
        Self { image, name, mounts: Vec::new(), grants: Vec::new(), preflight: None }
    }

    /// Puts mounts and grants in their order, each once.
    pub fn normalise(&mut self) {
        self.mounts.sort();
        self.mounts.dedup();
        self.grants.sort();
        self.grants.dedup();
    }

    /// The text that stands where a component's bytes would: compact JSON of everything but the
    /// image's name.
    pub fn description(&self) -> Vec<u8> {
        let Self { image, name: _, mounts, grants, preflight } = self;
        serde_json::to_vec(&Description { image, mounts, grants, preflight })
            .expect("a description holds only texts")
    }

    /// The description as a blob.
    pub fn blob(&self) -> BlobRef {
        let description = self.description();
        BlobRef { digest: Digest::of(&description), len_bytes: description.len() as u64 }
    }

    /// Checks texts, order and numbers.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        let wrong = |what, why: String| Err(InvalidSpec::Container { what, why });
        if !is_image_id(&self.image) {
            let found = printable(&self.image, 80);
            return wrong("image", format!("expected sha256: and 64 digits, found {found:?}"));
        }
        if self.mounts.len() > ENTRIES || self.grants.len() > ENTRIES {
            return wrong(
                "grants",
                format!("at most {ENTRIES} of them, and as many mounts, are possible"),
            );
        }
        let mut ordered = self.clone();
        ordered.normalise();
        if ordered != *self {
            return wrong("grants", "mounts and grants must be in order, each once".to_owned());
        }
        let texts = self.mounts.iter().flat_map(|mount| [&mount.source, &mount.target]);
        for text in texts.chain([&self.name]).chain(&self.preflight) {
            if text.len() > TEXT_BYTES || text.contains('\0') {
                let why = format!("a text with a zero byte, or with more than {TEXT_BYTES} bytes");
                return wrong("text", why);
            }
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            if let Err(why) = check_mount(mount) {
                return wrong("mount", format!("{}: {why}", printable(&mount.to_string(), 200)));
            }
            if self.mounts[..index].iter().any(|other| other.target == mount.target) {
                let target = printable(&mount.target, 200);
                return wrong("mount", format!("two directories at {target}"));
            }
        }
        Ok(())
    }
}

/// Whether a text names an image by its content.
pub fn is_image_id(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Both ends are absolute, without `.` and `..`, and the target covers nothing of the host's.
fn check_mount(mount: &Mount) -> Result<(), &'static str> {
    for path in [&mount.source, &mount.target] {
        let mut parts = path.split('/');
        if parts.next() != Some("") {
            return Err("both paths must be absolute");
        }
        if !parts.all(|part| !part.is_empty() && part != "." && part != "..") {
            return Err("a path must not have empty parts, '.' or '..'");
        }
        if path.chars().any(|c| c.is_control() || c == ':' || c == ',') {
            return Err("a path must not have control characters, ':' or ','");
        }
    }
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let target = mount.target.as_str();
    if RESERVED.iter().any(|taken| within(target, taken) || within(taken, target)) {
        return Err(
            "the target must not be /job, /out, /in, /hackbrain, /proc, /sys, /dev or /tmp",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn image() -> String {
        format!("sha256:{}", "0a".repeat(32))
    }

    fn with_mount(text: &str) -> Container {
        let mut container = Container::of_image(image(), String::new());
        container.mounts.push(text.parse().unwrap());
        container
    }

    #[test]
    fn grants_are_read_as_they_are_shown() {
        for text in [
            "network",
            "writable-root",
            "root-user",
            "capability=SYS_PTRACE",
            "new-privileges",
            "any-system-call",
            "pids=1024",
            "tmp=4096",
            "shm=65536",
        ] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
        }
        assert_eq!("capability=cap_sys_ptrace".parse(), Ok(Grant::Capability("SYS_PTRACE".into())));
        assert_eq!("tmp=4KiB".parse(), Ok(Grant::Temporary(4096)));
        for bad in ["", "everything", "network=host", "capability=ALL", "capability", "pids=x"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_is_read_only_unless_it_says_otherwise() {
        let mount: Mount = "/srv/data:/data".parse().unwrap();
        assert!(!mount.writable);
        assert!("/srv/data:/data:rw".parse::<Mount>().unwrap().writable);
        for bad in ["", "/a", "/a:", ":/b", "/a:/b:rx", "/a:/b:ro:x"] {
            assert!(bad.parse::<Mount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_that_climbs_or_covers_what_is_the_hosts_is_refused() {
        with_mount("/srv/data:/data").check().unwrap();
        for bad in [
            "srv:/data",
            "/srv/../etc:/data",
            "/srv/./x:/data",
            "/srv//x:/data",
            "/srv:data",
            "/srv:/job",
            "/srv:/job/x",
            "/srv:/",
            "/srv:/dev/shm",
            "/srv:/hackbrain/socket",
        ] {
            assert!(with_mount(bad).check().is_err(), "{bad}");
        }
        with_mount("/srv:/jobs").check().unwrap();
    }

    #[test]
    fn the_description_has_everything_but_the_name() {
        let plain = Container::of_image(image(), "python:3".to_owned());
        let renamed = Container { name: String::new(), ..plain.clone() };
        assert_eq!(plain.description(), renamed.description());
        let changes: [fn(&mut Container); 4] = [
            |c| c.image = format!("sha256:{}", "0b".repeat(32)),
            |c| c.mounts.push("/a:/b".parse().unwrap()),
            |c| c.grants.push(Grant::Network),
            |c| c.preflight = Some("true".to_owned()),
        ];
        for change in changes {
            let mut other = plain.clone();
            change(&mut other);
            assert_ne!(other.blob(), plain.blob());
        }
    }
}
