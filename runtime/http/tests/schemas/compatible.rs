//! Whether a schema still takes, or still gives, what its released form did.
//!
//! Owns: the rules. What clients send must stay welcome, so what requests may be only grows. What
//! clients read must stay there, so answers keep their members; new members, new enum values and new
//! kinds of events are allowed, and clients pass over what they do not know.
//! Knows nothing of: which schemas there are.
//!
//! A keyword that is not known here is a break: a comparison that passes it over would miss changes.

use std::collections::BTreeSet;

use serde_json::Value;

/// Which way the described values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Clients send them.
    Request,
    /// Clients read them.
    Answer,
}

/// A schema and the document that its references lead into.
#[derive(Clone, Copy)]
pub struct Schema<'a> {
    pub document: &'a Value,
    pub schema: &'a Value,
}

const KNOWN: &[&str] = &[
    "$ref",
    "$schema",
    "$id",
    "$defs",
    "additionalProperties",
    "allOf",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "minimum",
    "oneOf",
    "properties",
    "propertyNames",
    "required",
    "type",
];

impl<'a> Schema<'a> {
    fn at(self, schema: &'a Value) -> Self {
        Self { schema, ..self }
    }

    fn resolved(mut self) -> Self {
        while let Some(reference) = self.schema.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("references stay in their document");
            self.schema = self.document.pointer(pointer).expect("references lead somewhere");
        }
        self
    }

    fn list(self, keyword: &str) -> Vec<Self> {
        let all = self.schema[keyword].as_array();
        all.into_iter().flatten().map(|one| self.at(one)).collect()
    }

    /// Its alternatives, itself where it has none.
    fn alternatives(self) -> Vec<Self> {
        let all: Vec<_> = self.list("oneOf").into_iter().map(Self::resolved).collect();
        if all.is_empty() { vec![self] } else { all }
    }

    /// The types of JSON that it admits.
    fn types(self) -> BTreeSet<String> {
        let all = ["array", "boolean", "integer", "null", "number", "object", "string"];
        let here = self.resolved();
        let mut types: BTreeSet<String> = match &here.schema["type"] {
            Value::String(one) => [one.clone()].into(),
            Value::Array(some) => some.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
            _ if here.schema.get("oneOf").is_some() => {
                here.alternatives().into_iter().flat_map(Self::types).collect()
            }
            _ => all.map(str::to_owned).into(),
        };
        if types.contains("number") {
            types.insert("integer".to_owned());
        }
        types
    }
}

/// What breaks clients of `released` when the host speaks `current`; each with where it is.
pub fn breaks(
    released: Schema<'_>,
    current: Schema<'_>,
    direction: Direction,
    at: &str,
) -> Vec<String> {
    let mut found = Vec::new();
    let comparison = Comparison { direction, depth: 0 };
    comparison.compare(released, current, at, &mut found);
    found
}

/// Depth at which schemas that contain themselves are cut: what is below was compared above.
const DEPTH: u32 = 12;

#[derive(Clone, Copy)]
struct Comparison {
    direction: Direction,
    depth: u32,
}

impl Comparison {
    fn compare(self, released: Schema<'_>, current: Schema<'_>, at: &str, found: &mut Vec<String>) {
        if self.depth == DEPTH {
            return;
        }
        let this = Self { depth: self.depth + 1, ..self };
        let (released, current) = (released.resolved(), current.resolved());
        for keyword in current.schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword)
        {
            if !KNOWN.contains(&keyword.as_str()) {
                found.push(format!("{at}: the comparison does not know {keyword}"));
            }
        }
        this.compare_types(released, current, at, found);
        if released.schema.get("oneOf").is_some() || current.schema.get("oneOf").is_some() {
            this.compare_alternatives(&released.alternatives(), &current.alternatives(), at, found);
            return;
        }
        this.compare_values(released, current, at, found);
        this.compare_members(released, current, at, found);
        this.compare_rest(released, current, at, found);
        if let (Some(old), Some(new)) = (released.schema.get("items"), current.schema.get("items"))
        {
            this.compare(released.at(old), current.at(new), &format!("{at}[]"), found);
        }
        let (old, new) = (released.list("allOf"), current.list("allOf"));
        if old.len() != new.len() {
            found.push(format!("{at}: it is made of {} parts, {} before", new.len(), old.len()));
        }
        for (old, new) in old.into_iter().zip(new) {
            this.compare(old, new, at, found);
        }
    }

    fn compare_types(
        self,
        released: Schema<'_>,
        current: Schema<'_>,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let (old, new) = (released.types(), current.types());
        let is_good = match self.direction {
            Direction::Request => old.is_subset(&new),
            Direction::Answer => new.is_subset(&old),
        };
        if !is_good {
            found.push(format!("{at}: its type is {new:?}, {old:?} before"));
        }
    }

    /// Every alternative that there was has one that takes its place.
    fn compare_alternatives(
        self,
        released: &[Schema<'_>],
        current: &[Schema<'_>],
        at: &str,
        found: &mut Vec<String>,
    ) {
        for (index, old) in released.iter().enumerate() {
            let tries = current.iter().map(|new| {
                let mut breaks = Vec::new();
                self.compare(*old, *new, at, &mut breaks);
                breaks
            });
            if let Some(breaks) = tries.min_by_key(Vec::len).filter(|breaks| !breaks.is_empty()) {
                found.push(format!("{at}: alternative {index} has no successor"));
                found.extend(breaks);
            }
        }
    }

    fn compare_values(
        self,
        released: Schema<'_>,
        current: Schema<'_>,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let is_request = self.direction == Direction::Request;
        match (released.schema["enum"].as_array(), current.schema["enum"].as_array()) {
            (Some(old), Some(new)) => {
                let gone = old.iter().filter(|value| !new.contains(value));
                found.extend(gone.map(|value| format!("{at}: the value {value} is gone")));
            }
            (None, Some(new)) if is_request => {
                found.push(format!("{at}: only {new:?} are taken, anything before"));
            }
            _ => {}
        }
        let (old, new) = (released.schema["format"].as_str(), current.schema["format"].as_str());
        let is_wider =
            is_request && (new.is_none() || old == Some("int32") && new == Some("int64"));
        let is_narrower =
            !is_request && (old.is_none() || old == Some("int64") && new == Some("int32"));
        if old != new && !is_wider && !is_narrower {
            found.push(format!("{at}: its format is {new:?}, {old:?} before"));
        }
        let minimum = |one: Schema<'_>| one.schema["minimum"].as_f64().unwrap_or(f64::MIN);
        if is_request && minimum(current) > minimum(released) {
            found.push(format!("{at}: its minimum rose"));
        }
    }

    fn compare_members(
        self,
        released: Schema<'_>,
        current: Schema<'_>,
        at: &str,
        found: &mut Vec<String>,
    ) {
        for (name, old) in released.schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            match current.schema["properties"].get(name) {
                None => found.push(format!("{at}: it is gone")),
                Some(new) => self.compare(released.at(old), current.at(new), &at, found),
            }
        }
        let required = |one: Schema<'_>| -> BTreeSet<String> {
            let all = one.schema["required"].as_array().into_iter().flatten();
            all.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let (old, new) = (required(released), required(current));
        let (changed, how) = match self.direction {
            Direction::Request => (new.difference(&old), "required, and was not"),
            Direction::Answer => (old.difference(&new), "optional, and was always there"),
        };
        found.extend(changed.map(|name| format!("{at}.{name}: it is {how}")));
    }

    /// What is said of members that have no name in the schema.
    fn compare_rest(
        self,
        released: Schema<'_>,
        current: Schema<'_>,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let (old, new) = (
            released.schema.get("additionalProperties"),
            current.schema.get("additionalProperties"),
        );
        match (old, new) {
            (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
                self.compare(released.at(old), current.at(new), &format!("{at}.*"), found);
            }
            (_, None | Some(Value::Bool(true))) | (Some(Value::Bool(false)), _) => {}
            _ if self.direction == Direction::Request => {
                found.push(format!("{at}: other members are not taken any more"));
            }
            _ => {}
        }
    }
}
