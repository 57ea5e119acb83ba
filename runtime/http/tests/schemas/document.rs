//! Whether a whole document of an interface breaks clients of its released form.
//!
//! Owns: what operations, parameters, bodies and answers are to each other. Knows nothing of the rules
//! for schemas.

use serde_json::Value;

use crate::compatible::{self, Direction, Schema};

/// What breaks clients of `released` when the host speaks `current`.
pub fn breaks(released: &Value, current: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, operations) in members(&released["paths"]) {
        for (method, old) in members(operations) {
            let at = format!("{method} {path}");
            match current["paths"][path].get(method) {
                None => found.push(format!("{at}: it is gone")),
                Some(new) => {
                    Comparison { released, current }.operation((old, new), &at, &mut found);
                }
            }
        }
    }
    found
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

struct Comparison<'a> {
    released: &'a Value,
    current: &'a Value,
}

impl Comparison<'_> {
    fn operation(&self, (old, new): (&Value, &Value), at: &str, found: &mut Vec<String>) {
        self.parameters((old, new), at, found);
        let body = |one: &Value| one["requestBody"]["required"] == true;
        if body(new) && !body(old) {
            found.push(format!("{at}: the body is required, and was not"));
        }
        let contents = (&old["requestBody"]["content"], &new["requestBody"]["content"]);
        self.contents(contents, Direction::Request, &format!("{at} body"), found);
        for (status, old) in members(&old["responses"]) {
            let at = format!("{at} {status}");
            match new["responses"].get(status) {
                None => found.push(format!("{at}: it is gone")),
                Some(new) => {
                    self.contents(
                        (&old["content"], &new["content"]),
                        Direction::Answer,
                        &at,
                        found,
                    );
                }
            }
        }
    }

    fn parameters(&self, (old, new): (&Value, &Value), at: &str, found: &mut Vec<String>) {
        let all = |one: &Value| one["parameters"].as_array().cloned().unwrap_or_default();
        let same =
            |one: &Value, other: &Value| one["name"] == other["name"] && one["in"] == other["in"];
        let (old, new) = (all(old), all(new));
        for one in &old {
            let at = format!("{at} parameter {}", one["name"]);
            match new.iter().find(|other| same(one, other)) {
                None => found.push(format!("{at}: it is gone")),
                Some(other) => {
                    self.schema((&one["schema"], &other["schema"]), Direction::Request, &at, found);
                }
            }
        }
        let needed = new.iter().filter(|one| one["required"] == true);
        let newly = needed
            .filter(|one| !old.iter().any(|other| same(one, other) && other["required"] == true));
        found.extend(
            newly.map(|one| format!("{at} parameter {}: it is required, and was not", one["name"])),
        );
    }

    fn contents(
        &self,
        (old, new): (&Value, &Value),
        direction: Direction,
        at: &str,
        found: &mut Vec<String>,
    ) {
        for (media_type, old) in members(old) {
            match new.get(media_type) {
                None => found.push(format!("{at}: {media_type} is gone")),
                Some(new) => self.schema((&old["schema"], &new["schema"]), direction, at, found),
            }
        }
    }

    fn schema(
        &self,
        (old, new): (&Value, &Value),
        direction: Direction,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let released = Schema { document: self.released, schema: old };
        let current = Schema { document: self.current, schema: new };
        found.extend(compatible::breaks(released, current, direction, at));
    }
}
