//! Envelopes and statements that somebody made or changed to deceive.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{job, key, sealed};
use crate::{
    Envelope, HostKey, MAX_ENVELOPE_BYTES, MAX_SIGNATURES, PAYLOAD_TYPE, PublicKey, SealError,
    SealedJob, Statement, envelope::pae,
};

/// An envelope with a genuine signature over any payload and type.
fn signed(payload: &[u8], payload_type: &str) -> Envelope {
    let signature = key().sign(&pae(payload_type, payload));
    let json = json!({
        "payload": STANDARD.encode(payload),
        "payloadType": payload_type,
        "signatures": [{ "keyid": key().public().id(), "sig": STANDARD.encode(signature) }],
    });
    Envelope::from_json(json.to_string().as_bytes()).unwrap()
}

fn read(json: &[u8], trusted: &[PublicKey]) -> Result<SealedJob, SealError> {
    Envelope::from_json(json)?.verify(trusted)?.read()
}

#[test]
fn no_byte_of_an_envelope_can_be_changed_unnoticed() {
    let (envelope, trusted) = sealed();
    let json = envelope.to_json();
    assert_eq!(read(&json, &trusted).unwrap(), job());
    for at in 0..json.len() {
        let mut changed = json.clone();
        changed[at] ^= 1 << (at % 7);
        assert!(read(&changed, &trusted).is_err(), "byte {at}");
    }
    for len in 0..json.len() {
        assert!(read(&json[..len], &trusted).is_err(), "cut at {len}");
    }
    let longer = [&json[..], b"x"].concat();
    assert!(read(&longer, &trusted).is_err());
}

#[test]
fn a_signature_over_another_type_is_not_one_over_a_statement() {
    let payload = Statement::of(&job()).unwrap().to_json();
    let envelope = signed(&payload, "application/json");
    assert!(matches!(
        envelope.verify(&[key().public()]).unwrap_err(),
        SealError::Unexpected { what: "payload type of the envelope", .. }
    ));
    // The same signature under the right type.
    let json = String::from_utf8(envelope.to_json()).unwrap();
    let json = json.replace("application/json", PAYLOAD_TYPE);
    let error = read(json.as_bytes(), &[key().public()]).unwrap_err();
    assert!(matches!(error, SealError::BadSignature { .. }), "{error}");
}

#[test]
fn only_trusted_keys_count_and_one_that_signs_wrongly_spoils_the_rest() {
    let (envelope, trusted) = sealed();
    let stranger = HostKey::from_seed(&[8; 32]);
    let error = envelope.verify(&[stranger.public()]).unwrap_err();
    assert!(matches!(error, SealError::UnknownSigner { trusted: 1, .. }), "{error}");
    assert!(matches!(envelope.verify(&[]).unwrap_err(), SealError::UnknownSigner { .. }));

    let mut value: Value = serde_json::from_slice(&envelope.to_json()).unwrap();
    let first = value["signatures"][0].clone();
    let add = |value: &mut Value, keyid: &PublicKey, sig: &Value| {
        let signature = json!({ "keyid": keyid.id(), "sig": sig });
        value["signatures"].as_array_mut().unwrap().push(signature);
    };
    // By a stranger: passed over, whatever it holds.
    add(&mut value, &stranger.public(), &json!("not base64"));
    assert!(read(value.to_string().as_bytes(), &trusted).is_ok());
    // By somebody trusted, but it does not fit.
    let both = [trusted[0], stranger.public()];
    value["signatures"].as_array_mut().unwrap().pop();
    add(&mut value, &stranger.public(), &first["sig"]);
    let error = read(value.to_string().as_bytes(), &both).unwrap_err();
    assert!(matches!(error, SealError::BadSignature { .. }), "{error}");

    for count in [0, MAX_SIGNATURES + 1] {
        value["signatures"] = Value::Array(vec![first.clone(); count]);
        let error = read(value.to_string().as_bytes(), &trusted).unwrap_err();
        assert!(matches!(error, SealError::SignatureCount { found, .. } if found == count));
    }
}

/// Ed25519 without strictness accepts S and S + L alike: two different envelopes for one statement.
#[test]
fn the_other_form_of_a_signature_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut signature = key().sign(b"message");
    assert!(key().public().verifies(b"message", &signature));
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert!(!key().public().verifies(b"message", &signature));
}

#[test]
fn a_key_for_which_anybody_can_sign_is_refused() {
    // The neutral element, and a point of order eight.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let eight =
        hex::decode("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05").unwrap();
    for weak in [neutral, eight.try_into().unwrap()] {
        assert!(PublicKey::from_bytes(&weak).is_err());
    }
    assert!(PublicKey::from_pem("x", "-----BEGIN PUBLIC KEY-----\n").is_err());
    let error = HostKey::from_pem("key file host.pem", "secret stuff").unwrap_err();
    assert!(error.to_string().contains("host.pem") && !error.to_string().contains("secret stuff"));
}

#[test]
fn a_key_that_stands_twice_is_refused_in_the_envelope_and_in_the_statement() {
    let (envelope, trusted) = sealed();
    let json = String::from_utf8(envelope.to_json()).unwrap();
    let twice = json.replacen('{', r#"{"payloadType":"x","#, 1);
    let error = read(twice.as_bytes(), &trusted).unwrap_err();
    assert!(matches!(error, SealError::Malformed { what: "envelope", .. }), "{error}");

    let payload = String::from_utf8(Statement::of(&job()).unwrap().to_json()).unwrap();
    for (from, to) in [
        (r#""fuel":"#, r#""fuel":1,"fuel":"#),
        (r#""name":"seal""#, r#""name":"other","name":"seal""#),
        (r#""blake3":"#, r#""blake3":"","blake3":"#),
        // The same key spelt with an escape.
        (r#""fuel":"#, r#""\u0066uel":1,"fuel":"#),
    ] {
        let payload = payload.replacen(from, to, 1);
        let error = signed(payload.as_bytes(), PAYLOAD_TYPE).verify(&trusted).unwrap_err();
        assert!(matches!(error, SealError::Malformed { what: "statement", .. }), "{from}: {error}");
    }
}

#[test]
fn size_and_depth_are_bounded_before_anything_is_built() {
    let huge = vec![b' '; MAX_ENVELOPE_BYTES + 1];
    let error = Envelope::from_json(&huge).unwrap_err();
    assert!(matches!(error, SealError::TooLarge { what: "envelope", .. }), "{error}");
    let deep = "[".repeat(1_000_000);
    assert!(matches!(
        Envelope::from_json(deep.as_bytes()).unwrap_err(),
        SealError::Malformed { .. }
    ));

    let mut job = job();
    job.manifest = Value::String("x".repeat(MAX_ENVELOPE_BYTES));
    let statement = Statement::of(&job).unwrap();
    let error = Envelope::sign(&statement, &key()).unwrap_err();
    assert!(matches!(error, SealError::TooLarge { what: "statement", .. }), "{error}");
}

#[test]
fn the_largest_statement_that_is_signed_can_be_read_again() {
    let mut job = job();
    let room = MAX_ENVELOPE_BYTES / 4 * 3 - 64 * 1024;
    job.manifest = Value::String(String::new());
    let rest = Statement::of(&job).unwrap().to_json().len();
    job.manifest = Value::String("x".repeat(room - rest));
    let envelope = Envelope::sign(&Statement::of(&job).unwrap(), &key()).unwrap();
    assert_eq!(read(&envelope.to_json(), &[key().public()]).unwrap(), job);
}

#[test]
fn other_spellings_of_base64_are_refused() {
    let (envelope, trusted) = sealed();
    let mut value: Value = serde_json::from_slice(&envelope.to_json()).unwrap();
    let signature = value["signatures"][0]["sig"].as_str().unwrap().to_owned();
    let payload = value["payload"].as_str().unwrap().to_owned();
    assert!(signature.ends_with("=="));
    // Bits that decoding drops, missing padding, white space.
    let last = signature.len() - 3;
    let dropped_bits = format!("{}{}==", &signature[..last], next_base64(&signature[last..=last]));
    for sig in [dropped_bits, signature.trim_end_matches('=').to_owned(), format!("{signature}\n")]
    {
        value["signatures"][0]["sig"] = sig.into();
        let error = read(value.to_string().as_bytes(), &trusted).unwrap_err();
        assert!(matches!(error, SealError::Base64 { what: "signature", .. }), "{error}");
    }
    value["payload"] = format!("{payload} ").into();
    let error = read(value.to_string().as_bytes(), &trusted).unwrap_err();
    assert!(matches!(error, SealError::Base64 { what: "payload", .. }), "{error}");
}

/// The digit after this one, which differs from it in the lowest bit or more.
fn next_base64(digit: &str) -> char {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let at = digits.iter().position(|one| one == &digit.as_bytes()[0]).unwrap();
    digits[at ^ 1].into()
}

/// A host that is trusted but wrong, or whose key was stolen by somebody careless.
#[test]
fn a_statement_that_contradicts_itself_is_refused_although_it_is_signed() {
    let genuine: Value = serde_json::from_slice(&Statement::of(&job()).unwrap().to_json()).unwrap();
    let other = json!("00".repeat(32));
    let metadata = "/predicate/runDetails/metadata";
    let definition = "/predicate/buildDefinition";
    let changes = [
        ("/_type".to_owned(), json!("https://in-toto.io/Statement/v0.1")),
        ("/predicateType".to_owned(), json!("https://slsa.dev/provenance/v0.2")),
        ("/subject/0/digest/blake3".to_owned(), other.clone()),
        ("/subject/1/digest/blake3".to_owned(), other.clone()),
        ("/subject/4/digest/blake3".to_owned(), other.clone()),
        ("/subject/4/name".to_owned(), json!("out/other")),
        ("/subject/4/name".to_owned(), json!("stdout")),
        ("/subject/4/name".to_owned(), json!("elsewhere/spectrum.txt")),
        ("/subject/1/name".to_owned(), json!("out/stdout")),
        ("/subject/1/digest".to_owned(), json!({ "sha256": "00" })),
        (format!("{definition}/buildType"), json!("https://example.com")),
        (format!("{definition}/internalParameters/jobHash"), other.clone()),
        (format!("{definition}/internalParameters/semanticsVersion"), json!(2)),
        (format!("{definition}/resolvedDependencies/0/name"), json!("in/component")),
        (format!("{metadata}/invocationId"), json!("another")),
        (format!("{metadata}/startedOn"), json!("yesterday")),
        (format!("{metadata}/startedOn"), json!("1960-01-01T00:00:00Z")),
        (format!("{metadata}/hackbrain_seal/outcome_canonical"), json!("exit 1")),
        (format!("{metadata}/hackbrain_seal/outcome"), json!({ "kind": "cancelled" })),
        (format!("{metadata}/hackbrain_seal/reproducible"), json!(false)),
        (format!("{metadata}/hackbrain_circumstances/hermetic"), json!(false)),
        (format!("{metadata}/hackbrain_circumstances/grants"), json!(["network"])),
        ("/predicate/runDetails/builder/id".to_owned(), json!("https://example.com")),
        ("/predicate/runDetails/builder/version/hb".to_owned(), json!("9.9.9")),
        ("/predicate/runDetails/byproducts/0/name".to_owned(), json!("checkpoint/x")),
        ("/predicate/runDetails/byproducts/0/annotations/step".to_owned(), json!(-1)),
    ];
    for (pointer, value) in changes {
        let mut statement = genuine.clone();
        let place = statement.pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert_ne!(*place, value, "{pointer} is not changed");
        *place = value.clone();
        let envelope = signed(statement.to_string().as_bytes(), PAYLOAD_TYPE);
        let error = envelope.verify(&[key().public()]).unwrap_err();
        assert!(
            matches!(error, SealError::Unexpected { .. } | SealError::Inconsistent { .. }),
            "{pointer} = {value}: {error}"
        );
    }
}

#[test]
fn the_message_names_the_field_that_does_not_fit() {
    let mut statement: Value =
        serde_json::from_slice(&Statement::of(&job()).unwrap().to_json()).unwrap();
    statement["predicate"]["runDetails"]["builder"]["version"]["hb"] = json!("9.9.9");
    let envelope = signed(statement.to_string().as_bytes(), PAYLOAD_TYPE);
    let message = envelope.verify(&[key().public()]).unwrap_err().to_string();
    assert!(message.contains("/predicate/runDetails/builder/version/hb"), "{message}");
    assert!(message.contains("9.9.9") && message.contains("0.1.0"), "{message}");
}

/// The protocols let others add fields; what is unknown is passed over.
#[test]
fn fields_of_later_versions_are_passed_over() {
    let mut statement: Value =
        serde_json::from_slice(&Statement::of(&job()).unwrap().to_json()).unwrap();
    statement["predicate"]["runDetails"]["metadata"]["hackbrain_later"] =
        json!([1, null, 2.5, true]);
    let envelope = signed(statement.to_string().as_bytes(), PAYLOAD_TYPE);
    let mut value: Value = serde_json::from_slice(&envelope.to_json()).unwrap();
    value["later"] = json!({ "a": -1 });
    assert_eq!(read(value.to_string().as_bytes(), &[key().public()]).unwrap(), job());
}
