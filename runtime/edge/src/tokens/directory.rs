//! Tokens on disk: one small JSON file each, in a directory of their own.
//!
//! Owns: making, listing and removing them, for the command line, and reading them again for the host. A token that
//! is revoked is refused from the next look at the directory on, at most a second later; nothing needs a restart.
//! Knows nothing of: requests.
//!
//! This does not go through the storage trait of the log and the blobs: tokens belong to no job, and need a file mode.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use hb_types::text;

use super::{
    Scope, Token, TokenInfo,
    record::{Record, VERSION, to_ms},
    secret::Kind,
};
use crate::{
    problem::chain,
    watched::{Source, Watched},
};

/// Tokens in one directory. All are compared with at each request.
const MAX_TOKENS: usize = 1000;
/// More than any token's file has.
const MAX_FILE_BYTES: u64 = 4096;
/// Characters of a name.
const MAX_NAME_CHARS: usize = 128;

/// Why a token could not be made, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The name is empty, long, or would not show as it is.
    #[error(
        "{name:?} cannot be a token's name: expected 1 to {MAX_NAME_CHARS} characters without control characters"
    )]
    Name {
        /// The name, made printable.
        name: String,
    },
    /// There is one with this name.
    #[error("there is a token called {name:?}: revoke it first, or choose another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There are as many as there may be.
    #[error("there are {MAX_TOKENS} tokens, which is as many as are kept: revoke some first")]
    TooMany,
    /// Nothing has this name or id.
    #[error("there is no token {name:?}: `hb token list` shows those that there are")]
    Unknown {
        /// What was asked for, made printable.
        name: String,
    },
    /// Others on this machine could make tokens.
    #[error(
        "the tokens' directory {} may be written by others (mode {mode:03o}): whoever writes there can use this host; run `chmod 700` on it, and look at which tokens it holds",
        path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The disk failed.
    #[error("could not {doing} {}: check its permissions and the space on its disk", path.display())]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no randomness to make a token from.
    #[error("the operating system gave no random bytes for a new token: {reason}")]
    NoRandom {
        /// What the system said.
        reason: String,
    },
}

/// A token that was just made. This is the only time that it can be seen.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The token itself.
    pub token: Token,
    /// What is kept of it.
    pub info: TokenInfo,
}

/// Makes a token, durably. A host that reads `directory` accepts it at once.
pub fn create(
    directory: &Path,
    name: &str,
    scope: Scope,
    expires: Option<SystemTime>,
) -> Result<NewToken, TokenError> {
    let shown = text::printable(name, MAX_NAME_CHARS * 4);
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || shown != name {
        return Err(TokenError::Name { name: shown });
    }
    prepare(directory)?;
    let present = read_all(directory)?;
    if present.iter().any(|one| one.name == name) {
        return Err(TokenError::NameTaken { name: shown });
    }
    if present.len() >= MAX_TOKENS {
        return Err(TokenError::TooMany);
    }
    let token = Token::generate(Kind::Token)?;
    let record = Record {
        version: VERSION,
        name: name.to_owned(),
        scope,
        hash: token.hash(Kind::Token),
        created_ms: to_ms(SystemTime::now()),
        expires_ms: expires.map(to_ms),
    };
    write(directory, &record)?;
    Ok(NewToken { token, info: record.info() })
}

/// The tokens, by name. Without the directory there are none.
pub fn list(directory: &Path) -> Result<Vec<TokenInfo>, TokenError> {
    let mut tokens: Vec<_> = read_all(directory)?.iter().map(Record::info).collect();
    tokens.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(tokens)
}

/// Removes the tokens that have this name or id, durably, and says which they were.
pub fn revoke(directory: &Path, name_or_id: &str) -> Result<Vec<TokenInfo>, TokenError> {
    let mut removed = Vec::new();
    for record in read_all(directory)? {
        if record.name == name_or_id || record.id() == name_or_id {
            let path = directory.join(file_name(&record));
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            removed.push(record.info());
        }
    }
    if removed.is_empty() {
        return Err(TokenError::Unknown { name: text::printable(name_or_id, 200) });
    }
    sync(directory)?;
    Ok(removed)
}

/// Creates the directory where there is none, for its owner only.
fn prepare(directory: &Path) -> Result<(), TokenError> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed("create", directory))?;
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or(Path::new(".")))
}

fn write(directory: &Path, record: &Record) -> Result<(), TokenError> {
    let path = directory.join(file_name(record));
    let temp = path.with_extension("tmp");
    let bytes = serde_json::to_vec_pretty(record).expect("a record is plain JSON");
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temp)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temp, &path));
    if let Err(error) = written {
        // A half-written file has no meaning to anybody, and its name will never come up again.
        let _ = fs::remove_file(&temp);
        return Err(failed("write", &path)(error));
    }
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), TokenError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("make durable", directory))
}

fn file_name(record: &Record) -> String {
    format!("{}.json", record.id())
}

fn read_all(directory: &Path) -> Result<Vec<Record>, TokenError> {
    let metadata = match fs::metadata(directory) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(TokenError::Exposed { path: directory.to_owned(), mode });
    }
    let mut records = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed("read", directory))? {
        let path = entry.map_err(failed("read", directory))?.path();
        if path.extension() != Some(OsStr::new("json")) {
            continue;
        }
        match read(&path) {
            Ok(record) if records.len() < MAX_TOKENS => records.push(record),
            Ok(_) => {
                tracing::error!(directory = %directory.display(), "more than {MAX_TOKENS} tokens: the rest is not read");
                break;
            }
            // Revoked between the listing and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // One bad file must not lock everybody out.
            Err(error) => {
                tracing::warn!(file = %path.display(), error = chain(&error), "no token; it is passed over");
            }
        }
    }
    Ok(records)
}

fn read(path: &Path) -> io::Result<Record> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    let record: Record = serde_json::from_slice(&bytes)?;
    let is_known =
        record.version == VERSION && path.file_name() == Some(OsStr::new(&file_name(&record)));
    if is_known { Ok(record) } else { Err(io::Error::other("its version or its name is another")) }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TokenError + use<> {
    let path = path.to_owned();
    move |source| TokenError::Io { doing, path, source }
}

/// The tokens as a host knows them.
#[derive(Debug)]
pub(super) enum Known {
    /// These.
    Tokens(Vec<Record>),
    /// The directory could not be read: nobody can be let in, and nobody can be told that a token is wrong.
    Unreadable,
}

/// The directory, as a source that is looked at again.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn watch(path: &Path) -> Result<Watched<Self>, TokenError> {
        prepare(path)?;
        Watched::new(Self(path.to_owned()), |one| read_all(&one.0).map(Known::Tokens))
    }
}

impl Source for Directory {
    type Value = Known;

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    fn reload(&self) -> Option<Known> {
        Some(match read_all(&self.0) {
            Ok(records) => Known::Tokens(records),
            Err(error) => {
                tracing::error!(error = chain(&error), "tokens cannot be read: nobody is let in");
                Known::Unreadable
            }
        })
    }
}

impl Known {
    pub(super) fn is_unknown(&self, hash: &blake3::Hash) -> bool {
        matches!(self, Self::Tokens(_)) && self.find(hash).is_none()
    }

    /// The token with this hash, expired or not. Takes the same time wherever it stands.
    pub(super) fn find(&self, hash: &blake3::Hash) -> Option<&Record> {
        let Self::Tokens(records) = self else { return None };
        let mut found = None;
        for record in records {
            // Equality of BLAKE3 hashes is in constant time.
            if record.hash == *hash {
                found = Some(record);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use super::*;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("tokens");
        (temp, path)
    }

    fn known(path: &Path) -> Known {
        Known::Tokens(read_all(path).unwrap())
    }

    #[test]
    fn a_token_is_kept_as_a_hash_in_a_file_of_its_owner() {
        let (_temp, path) = directory();
        let made = create(&path, "ci", Scope::Submit, None).unwrap();
        let file = path.join(format!("{}.json", made.info.id));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&file).unwrap().contains(&made.token.expose()[4..]));
        let hash = made.token.hash(Kind::Token);
        assert_eq!(known(&path).find(&hash).unwrap().name, "ci");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_token_expires_and_is_still_listed() {
        let (_temp, path) = directory();
        let now = SystemTime::now();
        let made = create(&path, "old", Scope::Read, Some(now)).unwrap();
        let hash = made.token.hash(Kind::Token);
        let known = known(&path);
        let record = known.find(&hash).unwrap();
        assert!(record.is_expired(now) && record.is_expired(now + Duration::from_secs(1)));
        assert!(!record.is_expired(now.checked_sub(Duration::from_secs(1)).unwrap()));
        assert_eq!(list(&path).unwrap(), [made.info]);
    }

    #[test]
    fn a_token_is_revoked_by_its_name_or_its_id() {
        let (_temp, path) = directory();
        let first = create(&path, "a", Scope::Read, None).unwrap();
        let second = create(&path, "b", Scope::Read, None).unwrap();
        assert_eq!(revoke(&path, "a").unwrap(), [first.info]);
        assert_eq!(revoke(&path, &second.info.id).unwrap(), [second.info]);
        assert!(matches!(revoke(&path, "a"), Err(TokenError::Unknown { .. })));
        assert!(list(&path).unwrap().is_empty());
    }

    #[test]
    fn names_are_unique_and_show_as_they_are() {
        let (_temp, path) = directory();
        create(&path, "ci", Scope::Read, None).unwrap();
        let again = create(&path, "ci", Scope::Read, None);
        assert!(matches!(again, Err(TokenError::NameTaken { .. })));
        for bad in ["", "a\nb", "\u{202e}evil", &"x".repeat(129)] {
            let refused = create(&path, bad, Scope::Read, None);
            assert!(matches!(refused, Err(TokenError::Name { .. })), "{bad:?}");
        }
    }

    #[test]
    fn files_that_are_no_tokens_lock_nobody_out() {
        let (_temp, path) = directory();
        let made = create(&path, "ci", Scope::Read, None).unwrap();
        fs::write(path.join("garbage.json"), "{").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        // A copy under another name would be revoked by halves.
        let file = path.join(format!("{}.json", made.info.id));
        fs::copy(file, path.join("copy.json")).unwrap();
        assert_eq!(list(&path).unwrap().len(), 1);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let (_temp, path) = directory();
        create(&path, "ci", Scope::Read, None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(list(&path), Err(TokenError::Exposed { mode: 0o770, .. })));
    }
}
