//! The host's key on disk: one PKCS#8 PEM file that only its owner may read.
//!
//! This does not go through the storage trait of the log and the blobs: it needs a file mode and a
//! link that never replaces, and a key is written once in a ledger's life.

use std::io::{self, Read, Write};

use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};

use crate::{HostKey, KeyError};

/// More than any PEM of an Ed25519 key has.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// Reads the key from `name` in `dir`; makes one there when there is none.
///
/// A new key is complete, flushed and readable by its owner only before it gets its name, and it
/// never replaces one: of two processes that make a key at once, both use the first.
pub fn load_or_create(dir: &Dir, name: &str) -> Result<HostKey, KeyError> {
    match load(dir, name)? {
        Some(key) => Ok(key),
        None => create(dir, name),
    }
}

/// Reads the key from `name` in `dir`; `None` when there is no such file.
pub fn load(dir: &Dir, name: &str) -> Result<Option<HostKey>, KeyError> {
    let mut file = match dir.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", name)(error)),
    };
    let mode = file.metadata().map_err(failed("inspect", name))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { name: name.to_owned(), mode });
    }
    let mut pem = String::new();
    let read = Read::by_ref(&mut file).take(MAX_KEY_FILE_BYTES).read_to_string(&mut pem);
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => pem.clear(),
        read => _ = read.map_err(failed("read", name))?,
    }
    HostKey::from_pem(&format!("key file {name}"), &pem).map(Some)
}

fn create(dir: &Dir, name: &str) -> Result<HostKey, KeyError> {
    let key = HostKey::generate()?;
    let temp = format!("{name}.{}.tmp", key.public().id().short());
    let written = write_new(dir, &temp, key.to_pem().as_bytes())
        .and_then(|()| dir.hard_link(&temp, dir, name));
    let removed = dir.remove_file(&temp);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Somebody else was first; theirs is complete, or it would not have the name.
            return load(dir, name)?.ok_or_else(|| failed("open", name)(error));
        }
        written => written.map_err(failed("create", name))?,
    }
    removed.map_err(failed("remove the temporary copy of", name))?;
    dir.open(".").and_then(|dir| dir.sync_all()).map_err(failed("make durable", name))?;
    Ok(key)
}

fn write_new(dir: &Dir, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        dir.open_with(name, OpenOptions::new().write(true).create_new(true).mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> KeyError + use<> {
    let name = name.to_owned();
    move |source| KeyError::Io { doing, name, source }
}
