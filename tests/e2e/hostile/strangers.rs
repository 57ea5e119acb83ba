//! Texts, numbers and bytes that programs stumble over.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::select,
    strategy::BoxedStrategy,
};
use serde_json::{Value, json};

const TEXTS: &[&str] = &[
    "",
    " ",
    ".",
    "..",
    "../../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "keys/host-ed25519.pem",
    "%2e%2e%2f",
    "%",
    "%zz",
    "%00",
    "%c0%af",
    "\0",
    "a\0b",
    "\r\nX-Injected: yes\r\n\r\n",
    "\u{1b}[2J\u{1b}]0;owned\u{7}",
    "\u{202e}gpj.exe",
    "\u{feff}",
    "e\u{301}\u{301}\u{301}",
    "\u{1f4a5}",
    "\u{10ffff}",
    "' OR 1=1 --",
    "\"};DROP TABLE jobs;--",
    "*",
    "%_%",
    "<script>alert(1)</script>",
    "${jndi:ldap://x}",
    "null",
    "true",
    "-1",
    "0",
    "1",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "NaN",
    "0x10",
    "9999-12-31T23:59:59Z",
    "1969-12-31T23:59:59Z",
    "2026-02-30T00:00:00Z",
    "999999999999h",
    "1EiB",
    "* * * * *",
    "@reboot",
    "0:0:0",
    "bytes=0-0",
    "bytes=18446744073709551615-",
    "bytes=-18446744073709551615",
    "bytes=5-1",
    "success",
    "SEALED",
    "name=value",
];

/// A text that something may stumble over.
pub fn text() -> BoxedStrategy<String> {
    prop_oneof![
        8 => select(TEXTS).prop_map(str::to_owned),
        2 => vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect()),
        1 => (select(vec!['a', '0', '.', '/', '\u{e9}']), select(vec![127_usize, 129, 300, 5000, 20_000]))
            .prop_map(|(letter, count)| letter.to_string().repeat(count)),
    ]
    .boxed()
}

/// A number at some edge.
pub fn number() -> BoxedStrategy<Value> {
    prop_oneof![
        select(vec![0, 1, 2, 1000, u64::from(u32::MAX), 1 << 53, 1 << 63, u64::MAX])
            .prop_map(Value::from),
        select(vec![-1, i64::from(i32::MIN) - 1, i64::MIN]).prop_map(Value::from),
        select(vec![0.5, -0.0, 1e-320, 1e308, 1.000_000_1]).prop_map(Value::from),
    ]
    .boxed()
}

/// Any JSON.
pub fn value() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        text().prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        (1_usize..200).prop_map(|depth| (0..depth).fold(json!(1), |inner, _| json!([inner]))),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((text(), inner), 0..5).prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Any bytes.
pub fn bytes() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..2000),
        text().prop_map(String::into_bytes),
        Just(b"\0asm\x0d\0\x01\0".to_vec()),
        Just(b"[".repeat(5000)),
    ]
    .boxed()
}
