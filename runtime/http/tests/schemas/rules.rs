//! Each rule of compatibility, by an example that breaks it and one that does not.

use serde_json::{Value, json};

use crate::{
    compatible::{Direction, Schema, breaks},
    document,
};

fn found(direction: Direction, old: &Value, new: &Value) -> String {
    let released = Schema { document: old, schema: old };
    breaks(released, Schema { document: new, schema: new }, direction, "it").join("; ")
}

/// Demands that a change breaks those who send, those who read, both, or nobody.
#[track_caller]
fn change(old: &Value, new: &Value, sending: &str, reading: &str) {
    for (direction, why) in [(Direction::Request, sending), (Direction::Answer, reading)] {
        let found = found(direction, old, new);
        let is_right = if why.is_empty() { found.is_empty() } else { found.contains(why) };
        assert!(is_right, "{direction:?}, {old} to {new}: {why:?} expected, {found:?} found");
    }
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

#[test]
fn nothing_breaks_nobody() {
    let same = object(
        &json!({"a": {"type": "string"}, "b": {"oneOf": [{"type": "null"}, {"enum": [1]}]}}),
        &["a"],
    );
    change(&same, &same, "", "");
}

#[test]
fn members_stay() {
    let one = object(&json!({"a": {"type": "string"}}), &[]);
    let two = object(&json!({"a": {"type": "string"}, "b": {"type": "string"}}), &[]);
    change(&one, &two, "", "");
    change(&two, &one, "it.b: it is gone", "it.b: it is gone");
}

#[test]
fn what_may_be_left_out_stays_so_and_what_is_always_there_stays() {
    let free = object(&json!({"a": {"type": "string"}}), &[]);
    let bound = object(&json!({"a": {"type": "string"}}), &["a"]);
    change(&free, &bound, "it.a: it is required", "");
    change(&bound, &free, "", "it.a: it is optional");
}

#[test]
fn types_grow_for_those_who_send_and_stay_for_those_who_read() {
    let (text, maybe) = (json!({"type": "string"}), json!({"type": ["string", "null"]}));
    change(&text, &maybe, "", "its type");
    change(&maybe, &text, "its type", "");
    change(&text, &json!({"type": "integer"}), "its type", "its type");
    change(&json!({"type": "integer"}), &json!({"type": "number"}), "", "its type");
    change(&json!({}), &text, "its type", "");
    let nested = |inner: &Value| object(&json!({"a": {"type": "array", "items": inner}}), &[]);
    change(&nested(&text), &nested(&maybe), "", "it.a[]: its type");
}

#[test]
fn values_of_an_enum_stay() {
    let (one, two) = (json!({"enum": ["a"]}), json!({"enum": ["a", "b"]}));
    change(&one, &two, "", "");
    change(&two, &one, "\"b\" is gone", "\"b\" is gone");
    change(&json!({"type": "string"}), &json!({"type": "string", "enum": ["a"]}), "only", "");
}

#[test]
fn numbers_keep_their_room() {
    let of = |format: &str, minimum: i64| json!({"type": "integer", "format": format, "minimum": minimum});
    change(&of("int64", 0), &of("int32", 0), "its format", "");
    change(&of("int32", 0), &of("int64", 0), "", "its format");
    change(&of("int64", 0), &of("int64", 1), "its minimum", "");
    change(&of("int64", 1), &of("int64", 0), "", "");
}

#[test]
fn other_members_stay_welcome() {
    let of = |rest: Value| json!({"type": "object", "additionalProperties": rest});
    let text = json!({"type": "string"});
    change(&json!({"type": "object"}), &of(json!(false)), "other members", "");
    change(&of(json!(true)), &of(text.clone()), "other members", "");
    change(&of(text.clone()), &of(json!(false)), "other members", "");
    change(&of(json!(false)), &of(json!(true)), "", "");
    change(&of(text), &of(json!({"type": "integer"})), "it.*: its type", "it.*: its type");
}

#[test]
fn alternatives_stay_and_new_ones_may_come() {
    let kind = |name: &str| object(&json!({"event": {"enum": [name]}}), &["event"]);
    let one = json!({"oneOf": [kind("a")]});
    let two = json!({"oneOf": [kind("b"), kind("a")]});
    change(&one, &two, "", "");
    change(&two, &one, "no successor", "no successor");
    let with_text = json!({"oneOf": [kind("a"), {"type": "string"}]});
    change(&one, &with_text, "", "its type");
    change(&kind("a"), &one, "", "");
}

#[test]
fn what_is_behind_references_is_compared_and_what_is_not_known_is_named() {
    let of = |ty: &str| json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": ty}}});
    change(&of("string"), &of("integer"), "its type", "its type");
    let all = |ty: &str| json!({"allOf": [{"type": "object", "properties": {"a": {"type": ty}}}]});
    change(&all("string"), &all("integer"), "it.a: its type", "it.a: its type");
    change(&all("string"), &json!({"allOf": []}), "parts", "parts");
    change(&json!({}), &json!({"maxLength": 3}), "maxLength", "maxLength");
    // One that contains itself has an end.
    let tree = json!({"type": "object", "properties": {"inner": {"$ref": "#"}}});
    change(&tree, &tree, "", "");
}

#[test]
fn operations_parameters_bodies_and_answers_stay() {
    let whole = json!({"paths": {"/a": {"get": {
        "parameters": [{"name": "q", "in": "query", "required": false, "schema": {"type": "string"}}],
        "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
        "responses": {"200": {"content": {"application/json": {"schema": object(&json!({"a": {}}), &["a"])}}}, "404": {}},
    }}}});
    assert!(document::breaks(&whole, &whole).is_empty());
    let changed = |pointer: &str, value: Value| {
        let mut new = whole.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        document::breaks(&whole, &new).join("; ")
    };
    let get = "/paths/~1a/get";
    for (pointer, value, why) in [
        ("/paths/~1a", json!({}), "get /a: it is gone"),
        ("/paths/~1a/get/parameters", json!([]), "\"q\": it is gone"),
        ("/paths/~1a/get/parameters/0/required", json!(true), "it is required"),
        ("/paths/~1a/get/parameters/0/in", json!("header"), "it is gone"),
        ("/paths/~1a/get/parameters/0/schema/type", json!("integer"), "its type"),
        (
            "/paths/~1a/get/requestBody/content",
            json!({"text/plain": {}}),
            "application/json is gone",
        ),
        ("/paths/~1a/get/responses/404", Value::Null, ""),
        ("/paths/~1a/get/responses/200/content", json!({}), "application/json is gone"),
        (
            "/paths/~1a/get/responses",
            json!({"200": whole.pointer(get).unwrap()["responses"]["200"]}),
            "404: it is gone",
        ),
    ] {
        let found = changed(pointer, value);
        let is_right = if why.is_empty() { found.is_empty() } else { found.contains(why) };
        assert!(is_right, "{pointer}: {found}");
    }
    let mut new = whole.clone();
    new["paths"]["/a"]["get"]["requestBody"]["required"] = json!(true);
    assert!(document::breaks(&whole, &new).join("").contains("the body is required"));
    new = whole.clone();
    let answer =
        &mut new["paths"]["/a"]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    answer["required"] = json!([]);
    assert_eq!(
        document::breaks(&whole, &new),
        ["get /a 200.a: it is optional, and was always there"]
    );
}
