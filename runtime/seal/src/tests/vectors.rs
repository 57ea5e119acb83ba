//! Published test vectors, and answers that other programs computed.

use std::collections::BTreeMap;

use hb_types::Digest;

use super::{job, key, sealed};
use crate::{
    CheckpointMark, Checkpoints, Envelope, HostKey, PublicKey, SealError, envelope::pae,
    seal_digest,
};

/// Computed with the reference implementation's Python binding from the table in `docs/seal.md`.
#[test]
fn the_seal_is_the_digest_of_the_documented_bytes() {
    let expected = "687a1f08555b014d5042c764a9ac72e565b55b1dba9f5694d93dcd4bf250f413";
    assert_eq!(job().seal().to_string(), expected);
    let zero = Digest::default();
    let empty = seal_digest(zero, "", zero, zero, &BTreeMap::new(), 0);
    assert_eq!(
        empty.to_string(),
        "efb815cc9ffb573d502cf7a51f933efd72630f653126b4df4e776ed5b873578b"
    );
}

/// Likewise.
#[test]
fn the_digest_of_all_checkpoints_is_over_the_documented_bytes() {
    let mark = |sequence, step, text: &str| CheckpointMark {
        sequence,
        step,
        digest: Digest::of(text.as_bytes()),
    };
    let checkpoints = Checkpoints::of([mark(1, 10, "one"), mark(2, 20, "two")]);
    assert_eq!(
        checkpoints.digest.to_string(),
        "22c7b2c7b4136c5ab1cb3d8686faf3199991ba6344ea87c0be655e34a95763da"
    );
}

/// DSSE protocol 1.0.2, "Test Vectors".
#[test]
fn the_signed_bytes_are_those_of_the_dsse_specification() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    // Lengths count bytes, not characters.
    assert_eq!(pae("\u{e9}", "\u{1f512}".as_bytes()), "DSSEv1 2 \u{e9} 4 \u{1f512}".as_bytes());
}

/// The envelope printed beside that vector has another payload type and a key of another kind.
#[test]
fn the_envelope_of_the_dsse_specification_is_read_and_its_type_refused() {
    let json = br#"{"payload": "aGVsbG8gd29ybGQ=",
        "payloadType": "http://example.com/HelloWorld",
        "signatures": [{"keyid": "", "sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"#;
    let envelope = Envelope::from_json(json).unwrap();
    let error = envelope.verify(&[key().public()]).unwrap_err();
    assert!(error.to_string().contains("http://example.com/HelloWorld"), "{error}");
    assert!(matches!(error, SealError::Unexpected { .. }));
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// RFC 8032, 7.1, tests 1 to 3.
#[test]
fn signatures_are_those_of_rfc_8032() {
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    for (seed, public, message, signature) in vectors {
        let key = HostKey::from_seed(&bytes(seed));
        let message = hex::decode(message).unwrap();
        assert_eq!(key.public().to_bytes(), bytes::<32>(public));
        assert_eq!(key.sign(&message), bytes::<64>(signature));
        assert!(key.public().verifies(&message, &bytes(signature)));
    }
}

/// RFC 8410, 10.1 and 10.3.
#[test]
fn key_files_are_those_of_rfc_8410() {
    let public = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";
    let secret = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let key = HostKey::from_pem("the key of the RFC", secret).unwrap();
    assert_eq!(key.public().to_pem(), public);
    assert_eq!(*key.to_pem(), secret);
    assert_eq!(PublicKey::from_pem("the key of the RFC", public).unwrap(), key.public());
    let again = HostKey::from_pem("our own", &key.to_pem()).unwrap();
    assert_eq!(again.public(), key.public());
    assert_eq!(PublicKey::from_bytes(&key.public().to_bytes()).unwrap(), key.public());
}

/// Written by the first version. Whatever becomes of the code, this must verify for ever.
#[test]
fn a_seal_of_the_first_version_is_still_believed() {
    let file = include_bytes!("../../tests/fixtures/seal-1.json");
    let statement = Envelope::from_json(file).unwrap().verify(&[key().public()]).unwrap();
    assert_eq!(statement.read().unwrap(), job());
    assert_eq!(sealed().0.to_json(), file);
}
