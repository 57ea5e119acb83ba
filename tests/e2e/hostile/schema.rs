//! Whether a value is what a JSON Schema says (draft 2020-12, the keywords that the host's document uses).
//!
//! A keyword that is not known here is an error: a check that passes it over would check nothing.

use serde_json::{Map, Value};

/// What a `$ref` of the document points to.
pub fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    while let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = reference.strip_prefix('#').unwrap();
        schema = document.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"));
    }
    schema
}

/// Whether `value` fits `schema`; otherwise where it does not, and why.
pub fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolve(document, schema);
    let Value::Object(keywords) = schema else { return Err(format!("{at}: no schema")) };
    for (keyword, wanted) in keywords {
        check_keyword(document, keywords, (keyword, wanted), value, at)?;
    }
    Ok(())
}

fn check_keyword(
    document: &Value,
    keywords: &Map<String, Value>,
    (keyword, wanted): (&str, &Value),
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let fits = |schema: &Value| check(document, schema, value, at);
    let demand = |is: bool| {
        if is { Ok(()) } else { Err(format!("{at}: {keyword} {wanted} expected, {value} found")) }
    };
    match keyword {
        "description" | "default" => Ok(()),
        "type" => demand(is_of(wanted, value)),
        "enum" => demand(wanted.as_array().unwrap().contains(value)),
        "minimum" => demand(value.as_f64().is_none_or(|one| one >= wanted.as_f64().unwrap())),
        "format" => check_format(wanted.as_str().unwrap(), value, at),
        "required" => demand(value.as_object().is_none_or(|object| {
            wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|name| object.contains_key(name.as_str().unwrap()))
        })),
        "properties" => value.as_object().into_iter().flatten().try_for_each(|(name, one)| {
            let known = wanted.get(name);
            known.map_or(Ok(()), |schema| check(document, schema, one, &format!("{at}.{name}")))
        }),
        "additionalProperties" => {
            let properties = keywords.get("properties");
            let is_known = |name: &str| properties.is_some_and(|all| all.get(name).is_some());
            let others = value.as_object().into_iter().flatten();
            others.filter(|(name, _)| !is_known(name)).try_for_each(|(name, one)| match wanted {
                Value::Bool(true) => Ok(()),
                Value::Bool(false) => Err(format!("{at}.{name}: no such member")),
                schema => check(document, schema, one, &format!("{at}.{name}")),
            })
        }
        "propertyNames" => value.as_object().into_iter().flatten().try_for_each(|(name, _)| {
            check(document, wanted, &Value::String(name.clone()), &format!("{at}.{name}"))
        }),
        "items" => {
            value.as_array().into_iter().flatten().enumerate().try_for_each(|(index, one)| {
                check(document, wanted, one, &format!("{at}[{index}]"))
            })
        }
        "allOf" => wanted.as_array().unwrap().iter().try_for_each(fits),
        "oneOf" => {
            let tries: Vec<_> = wanted.as_array().unwrap().iter().map(fits).collect();
            match tries.iter().filter(|one| one.is_ok()).count() {
                1 => Ok(()),
                count => Err(format!("{at}: {count} of the alternatives fit {value}: {tries:?}")),
            }
        }
        _ => Err(format!("{at}: the keyword {keyword} is not known to this check")),
    }
}

fn is_of(wanted: &Value, value: &Value) -> bool {
    match wanted {
        Value::Array(any) => any.iter().any(|one| is_of(one, value)),
        one => match one.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("the type {other} is not known to this check"),
        },
    }
}

fn check_format(format: &str, value: &Value, at: &str) -> Result<(), String> {
    let fits = match format {
        // Signed or not: the document knows one name for both.
        "int32" => value
            .as_i64()
            .is_none_or(|one| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&one)),
        "int64" | "double" => true,
        other => return Err(format!("{at}: the format {other} is not known to this check")),
    };
    if fits { Ok(()) } else { Err(format!("{at}: {value} is no {format}")) }
}

#[test]
fn the_check_of_schemas_can_fail() {
    let document = serde_json::json!({"components": {"schemas": {
        "Name": {"type": "string", "enum": ["a", "b"]},
        "Thing": {"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
            "name": {"$ref": "#/components/schemas/Name"},
            "count": {"type": ["integer", "null"], "format": "int32", "minimum": 0},
            "some": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "number"}]}},
            "free": {"type": "object", "additionalProperties": {"type": "boolean"}},
        }},
    }}});
    let schema = serde_json::json!({"$ref": "#/components/schemas/Thing"});
    let fits = |json: &str| check(&document, &schema, &serde_json::from_str(json).unwrap(), "it");
    fits(r#"{"name": "a", "count": 3, "some": ["x", 2.5], "free": {"y": true}}"#).unwrap();
    fits(r#"{"name": "b", "count": null}"#).unwrap();
    for (bad, why) in [
        ("[]", "type"),
        ("{}", "required"),
        (r#"{"name": "c"}"#, "it.name: enum"),
        (r#"{"name": "a", "count": -1}"#, "minimum"),
        (r#"{"name": "a", "count": 1.5}"#, "it.count: type"),
        (r#"{"name": "a", "count": 4294967296}"#, "int32"),
        (r#"{"name": "a", "some": [null]}"#, "it.some[0]: 0 of"),
        (r#"{"name": "a", "free": {"y": 1}}"#, "it.free.y: type"),
        (r#"{"name": "a", "more": 1}"#, "no such member"),
    ] {
        let error = fits(bad).unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
}
