//! Requests made from the host's own document: right ones, nearly right ones, and wrong ones.
//!
//! Owns: how a schema becomes values, and an operation requests. Knows nothing of answers.

use std::fmt::Write;

use proptest::{
    collection::vec,
    option::weighted,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::select,
    strategy::{BoxedStrategy, Union},
};
use serde_json::{Map, Value};

use super::{client::Request, schema::resolve, strangers};

/// Depth at which schemas that contain themselves are cut.
const DEPTH: u32 = 8;

/// Things that exist on the host, by the names under which the document speaks of them.
#[derive(Clone, Debug, Default)]
pub struct Known(Vec<(&'static str, Vec<String>)>);

impl Known {
    pub fn add(&mut self, names: &[&'static str], words: &[&str]) {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        self.0.extend(names.iter().map(|&name| (name, words.clone())));
    }

    fn words(&self, name: &str) -> Option<&Vec<String>> {
        self.0.iter().find(|(one, _)| *one == name).map(|(_, words)| words)
    }
}

/// How often out of a hundred something is wrong on purpose.
type Mistakes = u32;

/// Makes values of schemas.
#[derive(Clone, Copy)]
struct Maker<'a> {
    document: &'a Value,
    known: &'a Known,
    mistakes: Mistakes,
}

impl Maker<'_> {
    /// A value for this schema, which is about what `name` says.
    fn value(&self, schema: &Value, name: &str, depth: u32) -> BoxedStrategy<Value> {
        let right = self.right(schema, name, depth);
        match self.mistakes {
            0 => right,
            mistakes => {
                prop_oneof![100 - mistakes => right, mistakes => strangers::value()].boxed()
            }
        }
    }

    fn right(&self, schema: &Value, name: &str, depth: u32) -> BoxedStrategy<Value> {
        let schema = resolve(self.document, schema);
        if let Some(alternatives) = schema["oneOf"].as_array() {
            return Union::new(alternatives.iter().map(|one| self.value(one, name, depth))).boxed();
        }
        if let Some(choices) = schema["enum"].as_array() {
            return select(choices.clone()).boxed();
        }
        match &schema["type"] {
            Value::Array(types) => {
                Union::new(types.iter().map(|one| self.of_type(one, schema, name, depth))).boxed()
            }
            one => self.of_type(one, schema, name, depth),
        }
    }

    fn of_type(&self, ty: &Value, schema: &Value, name: &str, depth: u32) -> BoxedStrategy<Value> {
        match ty.as_str() {
            Some("null") => Just(Value::Null).boxed(),
            Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
            Some("integer") => {
                let most = if schema["format"] == "int32" { u64::from(u32::MAX) } else { u64::MAX };
                prop_oneof![(0_u64..20), Just(most)].prop_map(Value::from).boxed()
            }
            Some("number") => {
                prop_oneof![(0_u64..9).prop_map(Value::from), strangers::number()].boxed()
            }
            Some("string") => self.text(name).prop_map(Value::from).boxed(),
            Some("array") if depth < DEPTH => {
                let item = self.value(&schema["items"], name, depth + 1);
                vec(item, 0..4).prop_map(Value::from).boxed()
            }
            Some("object") if depth < DEPTH => self.object(schema, name, depth),
            _ => strangers::value(),
        }
    }

    fn text(&self, name: &str) -> BoxedStrategy<String> {
        match self.known.words(name) {
            Some(words) => prop_oneof![12 => select(words.clone()), 1 => strangers::text()].boxed(),
            None => prop_oneof![
                select(vec!["a", "b-1", "c.d"]).prop_map(str::to_owned),
                strangers::text()
            ]
            .boxed(),
        }
    }

    fn object(&self, schema: &Value, name: &str, depth: u32) -> BoxedStrategy<Value> {
        let required = schema["required"].as_array();
        let is_required =
            |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
        let members = schema["properties"].as_object().into_iter().flatten();
        let members: Vec<BoxedStrategy<Option<(String, Value)>>> = members
            .map(|(name, one)| {
                // Where the host knows words for a member, it matters most.
                let often = if self.known.words(name).is_some() { 0.7 } else { 0.15 };
                let missing = f64::from(self.mistakes) / 200.0;
                let share = if is_required(name) { 1.0 - missing } else { often };
                let named = (Just(name.clone()), self.value(one, name, depth + 1));
                if share < 1.0 {
                    weighted(share, named).boxed()
                } else {
                    named.prop_map(Some).boxed()
                }
            })
            .collect();
        let more = match &schema["additionalProperties"] {
            one @ Value::Object(_) => {
                vec((self.text("name"), self.value(one, name, depth + 1)), 0..3).boxed()
            }
            _ if self.mistakes > 0 => weighted(0.1, (strangers::text(), strangers::value()))
                .prop_map(|one| one.into_iter().collect())
                .boxed(),
            _ => Just(Vec::new()).boxed(),
        };
        (members, more)
            .prop_map(|(members, more)| {
                Value::Object(members.into_iter().flatten().chain(more).collect())
            })
            .boxed()
    }
}

/// A way to ask for one operation, and whether it certainly reaches that operation.
#[derive(Clone, Debug)]
pub struct Asked {
    pub request: Request,
    pub reaches: bool,
}

/// Percent-encodes all but what needs no encoding anywhere (RFC 3986, section 2.3), or all but what
/// cannot stand in a request line.
fn encoded(text: &str, is_strict: bool) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || b"-_.~".contains(&byte)
            || !is_strict && byte.is_ascii_graphic() && !b"#?&<>\"{}|\\^`".contains(&byte)
    };
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

/// A text in a path or a query: mostly encoded as it should be.
fn in_target(text: BoxedStrategy<String>) -> BoxedStrategy<(String, bool)> {
    (text, weighted(0.9, Just(())))
        .prop_map(|(text, strict)| {
            let is_strict = strict.is_some();
            let is_plain = is_strict && !text.is_empty() && text.len() < 2000;
            (encoded(&text, is_strict), is_plain)
        })
        .boxed()
}

/// What may be asked of one operation.
pub fn requests(document: &Value, path: &str, method: &str, known: &Known) -> BoxedStrategy<Asked> {
    let operation = &document["paths"][path][method];
    let maker = |mistakes| Maker { document, known, mistakes };
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let of = |place: &str| -> Vec<(String, BoxedStrategy<String>)> {
        let here = parameters.iter().filter(|one| one["in"] == place);
        here.map(|one| {
            let name = one["name"].as_str().unwrap();
            (name.to_owned(), parameter(maker(15), &one["schema"], name))
        })
        .collect()
    };
    let in_path = of("path").into_iter();
    let in_path: Vec<_> = in_path.map(|(name, text)| (Just(name), in_target(text))).collect();
    let query = of("query").into_iter();
    let query: Vec<_> =
        query.map(|(name, text)| weighted(0.15, (Just(name), in_target(text)))).collect();
    let headers = of("header").into_iter();
    let headers: Vec<_> = headers.map(|(name, text)| weighted(0.3, (Just(name), text))).collect();
    let body = body(maker(0), maker(12), &operation["requestBody"]["content"]);
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
    let others = methods.map(str::to_owned).to_vec();
    let right = method.to_uppercase();
    let used = prop_oneof![12 => Just(right.clone()), 1 => select(others)];
    let template = path.to_owned();
    (used, in_path, query, headers, body)
        .prop_map(move |(used, in_path, query, headers, body)| {
            let mut reaches = used == right;
            let mut target = template.clone();
            for (name, (text, is_plain)) in in_path {
                target = target.replace(&format!("{{{name}}}"), &text);
                reaches &= is_plain;
            }
            for (index, (name, (text, _))) in query.into_iter().flatten().enumerate() {
                let before = if index == 0 { '?' } else { '&' };
                let _ = write!(target, "{before}{name}={text}");
            }
            let mut request = Request::new(&used, &target);
            for (name, text) in headers.into_iter().flatten() {
                request = request.header(&name, in_header(&text));
            }
            if let Some((media_type, bytes)) = body {
                request = request.body(media_type, &bytes);
            }
            Asked { request, reaches }
        })
        .boxed()
}

/// What can stand in a header: no line ends, no zero.
fn in_header(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| *byte >= 0x20 && *byte != 0x7f).take(9000).collect()
}

fn parameter(maker: Maker<'_>, schema: &Value, name: &str) -> BoxedStrategy<String> {
    let as_text = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(items) => items.first().map_or_else(String::new, ToString::to_string),
        other => other.to_string(),
    };
    match maker.known.words(name) {
        Some(_) => maker.text(name),
        None => maker.value(schema, name, 0).prop_map(as_text).boxed(),
    }
}

type Body = Option<(&'static str, Vec<u8>)>;

const JSON: &str = "application/json";
const OTHER_TYPES: &[&str] = &[
    "text/plain",
    "",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-16",
    "*/*",
    "\u{ff}",
];

fn body(right: Maker<'_>, wrong: Maker<'_>, content: &Value) -> BoxedStrategy<Body> {
    let Some(described) = content.as_object().and_then(|all: &Map<_, _>| all.iter().next()) else {
        return weighted(0.05, (Just(JSON), strangers::bytes())).boxed();
    };
    let (media_type, described) = described;
    if media_type != JSON {
        return weighted(0.95, (Just("application/octet-stream"), strangers::bytes())).boxed();
    }
    let text = |value: Value| serde_json::to_vec(&value).unwrap();
    let well = right.value(&described["schema"], "", 0).prop_map(text).boxed();
    let ill = wrong.value(&described["schema"], "", 0).prop_map(text).boxed();
    let cut = (well.clone(), any::<proptest::sample::Index>()).prop_map(|(mut bytes, end)| {
        bytes.truncate(end.index(bytes.len()));
        bytes
    });
    prop_oneof![
        8 => well.clone().prop_map(|bytes| Some((JSON, bytes))),
        6 => ill.prop_map(|bytes| Some((JSON, bytes))),
        1 => cut.prop_map(|bytes| Some((JSON, bytes))),
        1 => strangers::bytes().prop_map(|bytes| Some((JSON, bytes))),
        1 => (select(OTHER_TYPES), well).prop_map(Some),
        1 => Just(None),
    ]
    .boxed()
}
