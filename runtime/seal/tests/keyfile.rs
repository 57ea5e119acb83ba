//! The key file: made once, for its owner's eyes only.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Barrier,
    thread,
};

use cap_std::{ambient_authority, fs::Dir};
use hb_seal::{KeyError, keyfile};

fn open(path: &Path) -> Dir {
    Dir::open_ambient_dir(path, ambient_authority()).unwrap()
}

#[test]
fn a_key_is_made_at_first_use_and_found_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = open(root.path());
    assert!(keyfile::load(&dir, "host.pem").unwrap().is_none());
    let key = keyfile::load_or_create(&dir, "host.pem").unwrap();
    let again = keyfile::load_or_create(&dir, "host.pem").unwrap();
    assert_eq!(key.public(), again.public());
    let mode = fs::metadata(root.path().join("host.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "a temporary copy stayed");
    let other = tempfile::tempdir().unwrap();
    let other = keyfile::load_or_create(&open(other.path()), "host.pem").unwrap();
    assert_ne!(key.public(), other.public());
}

#[test]
fn many_who_make_a_key_at_once_get_the_same() {
    let root = tempfile::tempdir().unwrap();
    let start = Barrier::new(8);
    let keys: Vec<_> = thread::scope(|scope| {
        let make = || {
            let dir = open(root.path());
            start.wait();
            keyfile::load_or_create(&dir, "host.pem").unwrap().public()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_way_out() {
    let root = tempfile::tempdir().unwrap();
    let dir = open(root.path());
    keyfile::load_or_create(&dir, "host.pem").unwrap();
    for mode in [0o640, 0o604, 0o620] {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.path().join("host.pem"), permissions).unwrap();
        let error = keyfile::load_or_create(&dir, "host.pem").unwrap_err();
        assert!(matches!(error, KeyError::Exposed { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let dir = open(root.path());
    let key = keyfile::load_or_create(&dir, "host.pem").unwrap();
    let pem = key.to_pem().as_bytes().to_vec();
    let path = root.path().join("host.pem");
    for content in
        [b"".to_vec(), pem[..pem.len() / 2].to_vec(), vec![0xff; 100], vec![b'x'; 1 << 20]]
    {
        fs::write(&path, &content).unwrap();
        let error = keyfile::load_or_create(&dir, "host.pem").unwrap_err();
        assert!(matches!(error, KeyError::Malformed { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_link_out_of_the_directory_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let inside = root.path().join("inside");
    fs::create_dir(&inside).unwrap();
    keyfile::load_or_create(&open(root.path()), "host.pem").unwrap();
    symlink("../host.pem", inside.join("host.pem")).unwrap();
    let error = keyfile::load_or_create(&open(&inside), "host.pem").unwrap_err();
    assert!(matches!(error, KeyError::Io { .. }), "{error}");
}
