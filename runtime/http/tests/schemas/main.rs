//! The committed schemas are those of the code, and do not break clients of the released ones.
//!
//! `HB_UPDATE_SCHEMAS=1` writes `docs/schemas/*.json` anew. What is below `docs/schemas/released` is
//! written by nobody but the person who releases.
#![allow(clippy::unwrap_used)]

mod compatible;
mod document;
mod rules;

use std::{collections::BTreeSet, fs, path::PathBuf};

use compatible::{Direction, Schema, breaks};
use serde_json::{Map, Value, json};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas")
}

fn read(name: &str) -> Value {
    let path = directory().join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn openapi() -> Value {
    serde_json::to_value(hb_http::openapi()).unwrap()
}

/// The names of the components that a schema refers to, directly or not.
fn referred(document: &Value, schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for (keyword, value) in members {
                let name = value.as_str().filter(|_| keyword == "$ref");
                if let Some(name) = name.and_then(|text| text.strip_prefix("#/components/schemas/"))
                    && names.insert(name.to_owned())
                {
                    referred(document, &document["components"]["schemas"][name], names);
                }
                referred(document, value, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| referred(document, item, names)),
        _ => {}
    }
}

/// References into components become references into `$defs`.
fn moved(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(keyword, value)| match value.as_str() {
                    Some(text) if keyword == "$ref" => {
                        (keyword.clone(), json!(text.replace("#/components/schemas/", "#/$defs/")))
                    }
                    _ => (keyword.clone(), moved(value)),
                })
                .collect(),
        ),
        Value::Array(items) => items.iter().map(moved).collect(),
        other => other.clone(),
    }
}

/// A schema that stands alone: of one component, with all that it and `others` refer to.
fn extracted(document: &Value, id: &str, root: &str, others: &[&str]) -> Value {
    let mut names = BTreeSet::new();
    for name in [root].iter().chain(others) {
        referred(document, &json!({"$ref": format!("#/components/schemas/{name}")}), &mut names);
    }
    let definition =
        |name: &String| (name.clone(), moved(&document["components"]["schemas"][name]));
    let definitions: Map<String, Value> = names.iter().map(definition).collect();
    json!({"$schema": DIALECT, "$id": id, "$ref": format!("#/$defs/{root}"), "$defs": definitions})
}

/// Every committed schema as the code has it.
fn current() -> [(&'static str, Value); 3] {
    let document = openapi();
    let manifest = extracted(&document, "https://hackbrain.dev/manifest/v1", "Manifest", &[]);
    let others = ["OutputView", "ProgressView"];
    let event = extracted(&document, "https://hackbrain.dev/event/v1", "EventView", &others);
    [("openapi-v1.json", document), ("manifest-v1.json", manifest), ("event-v1.json", event)]
}

#[test]
fn the_committed_schemas_are_those_of_the_code() {
    let update = std::env::var_os("HB_UPDATE_SCHEMAS").is_some();
    for (name, schema) in current() {
        if update {
            let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
            fs::write(directory().join(name), text).unwrap();
        }
        // No difference is shown: the documents are long, and version control shows it better.
        assert!(
            read(name) == schema,
            "docs/schemas/{name} is old: run this test with HB_UPDATE_SCHEMAS=1"
        );
    }
}

#[test]
fn a_schema_that_stands_alone_refers_to_nothing_outside() {
    for (name, schema) in current().into_iter().skip(1) {
        let text = schema.to_string();
        assert!(!text.contains("#/components"), "{name}");
        let whole = Schema { document: &schema, schema: &schema };
        // Every reference is followed on the way.
        assert_eq!(breaks(whole, whole, Direction::Request, name), [""; 0]);
    }
}

#[test]
fn clients_of_the_released_manifests_and_events_are_not_broken() {
    let [_, manifest, event] = current();
    let directed = [(manifest, Direction::Request), (event, Direction::Answer)];
    for ((name, schema), direction) in directed {
        let old = read(&format!("released/v1/{name}"));
        let released = Schema { document: &old, schema: &old };
        let now = Schema { document: &schema, schema: &schema };
        let mut found = breaks(released, now, direction, name);
        // What streams carry beside events hangs on no root.
        for (part, old_part) in old["$defs"].as_object().unwrap() {
            match schema["$defs"].get(part) {
                Some(new) => found.extend(breaks(
                    Schema { document: &old, schema: old_part },
                    Schema { document: &schema, schema: new },
                    direction,
                    part,
                )),
                None => found.push(format!("{part}: it is gone")),
            }
        }
        assert!(found.is_empty(), "{name}:\n  {}", found.join("\n  "));
    }
}

#[test]
fn clients_of_the_released_interface_are_not_broken() {
    let found = document::breaks(&read("released/v1/openapi-v1.json"), &openapi());
    assert!(found.is_empty(), "{}", found.join("\n"));
}
