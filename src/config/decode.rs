//! The tree against the schema: every unknown key, wrong type, unit, choice and missing key is reported at its own place,
//! and what is good is kept as a JSON value, so that later checks still see the rest of the file.
//!
//! Invariants: the schema (generated from the raw types) is the only description of the file; a value that was reported is
//! absent from the result, as if it had not been written; `places` knows exactly the values of the result.

use super::diagnose::{Diagnostics, Place, Severity};
use super::formats;
use super::interpolate;
use super::tree::{Key, Node, NodeValue};
use super::units::excerpt;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Where each value of the result stands, by its path: `sites[0].headers.request.remove[1]`.
#[derive(Debug, Default)]
pub struct Places {
    kept: HashMap<String, Place>,
    /// Written, but reported and left out, wholly or in part.
    reported: HashSet<String>,
}

impl Places {
    /// Whether the file gives a (good) value at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.kept.contains_key(path)
    }

    /// Whether nothing was written at `path`, neither good nor bad.
    pub fn is_absent(&self, path: &str) -> bool {
        !self.has(path) && !self.was_reported(path)
    }

    /// Whether something was written at `path` that is already reported.
    pub fn was_reported(&self, path: &str) -> bool {
        self.reported.contains(path)
    }

    /// The place of `path`, or of the nearest value around it.
    pub fn find(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.kept.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Place { line: 1, column: 1, length: 1 },
            }
        }
    }
}

/// Reads variables; `None`: not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Decodes by the schema, and collects what is wrong.
pub struct Decoder<'a> {
    pub source: &'a str,
    pub lookup: &'a Lookup<'a>,
    pub found: &'a mut Diagnostics,
    pub places: Places,
}

impl Decoder<'_> {
    /// Decodes the value at `path`; `None`: it was reported, or nothing was written.
    pub fn decode(&mut self, node: &Node, schema: &Value, path: &str) -> Option<Value> {
        if node.is_null() {
            if shapes(schema).iter().all(|shape| is_scalar(shape)) && !accepts(schema, "null") {
                self.error(node.place, "no value is given".into(), Some("give one, or remove the key".into()));
            }
            return None;
        }
        let value = match &node.value {
            NodeValue::Map(entries) => self.decode_map(node, entries, schema, path),
            NodeValue::List(items) => self.decode_list(node, items, schema, path),
            NodeValue::Scalar { text, plain } => self.decode_scalar(node, text, *plain, schema),
        }?;
        self.places.kept.insert(path.to_owned(), node.place);
        Some(value)
    }

    fn decode_map(&mut self, node: &Node, entries: &[(Key, Node)], schema: &Value, path: &str) -> Option<Value> {
        let Some(shape) = shapes(schema).into_iter().find(|shape| accepts(shape, "object")) else {
            return self.wrong_type(node, schema, "a mapping");
        };
        let none = Map::new();
        let properties = shape["properties"].as_object().unwrap_or(&none);
        let others = &shape["additionalProperties"];
        let mut out = Map::new();
        for (key, child) in entries {
            let at = if path.is_empty() { key.name.clone() } else { format!("{path}.{}", key.name) };
            let child_schema = match properties.get(&key.name) {
                Some(known) => known,
                None if others == &Value::Bool(false) => {
                    self.unknown_key(key, properties);
                    continue;
                }
                None => others,
            };
            if let Some(format) = shape["propertyNames"]["format"].as_str()
                && let Err(reason) = formats::check(format, &key.name)
            {
                self.malformed(key.place, &reason);
                continue;
            }
            if let Some(value) = self.decode(child, child_schema, &at) {
                out.insert(key.name.clone(), value);
            } else if !child.is_null() {
                self.places.reported.insert(at.clone());
            }
            // Checks of a whole mapping or list point at its key, which is where a reader looks.
            if !matches!(child.value, NodeValue::Scalar { .. })
                && let Some(place) = self.places.kept.get_mut(&at)
            {
                *place = key.place;
            }
        }
        for required in shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !entries.iter().any(|(key, child)| key.name == required && !child.is_null()) {
                let advice = properties.get(required).and_then(|schema| schema["description"].as_str());
                let advice = advice.map(|text| format!("{required}: {}", text.lines().next().unwrap_or_default()));
                let place = Place { length: 1, ..node.place };
                self.error(place, format!("`{required}` is missing here"), advice);
            }
        }
        Some(Value::Object(out))
    }

    fn unknown_key(&mut self, key: &Key, properties: &Map<String, Value>) {
        let nearest = nearest(&key.name, properties.keys());
        let advice = match nearest {
            Some(name) => format!("did you mean `{name}`?"),
            None if key.name == "<<" => {
                "merge keys are not supported; repeat the keys, or use an alias for a whole value".into()
            }
            None => format!("known here: {}", properties.keys().cloned().collect::<Vec<_>>().join(", ")),
        };
        self.error(key.place, format!("unknown key `{}`", excerpt(&key.name)), Some(advice));
    }

    fn decode_list(&mut self, node: &Node, items: &[Node], schema: &Value, path: &str) -> Option<Value> {
        let Some(shape) = shapes(schema).into_iter().find(|shape| accepts(shape, "array")) else {
            return self.wrong_type(node, schema, "a list");
        };
        if let Some(least) = shape["minItems"].as_u64()
            && (items.len() as u64) < least
        {
            self.error(node.place, format!("needs at least {least} entry"), None);
            return None;
        }
        let mut out = Vec::new();
        for item in items {
            // Indexes count what is kept, so that they agree with the decoded value.
            if item.is_null() {
                self.error(item.place, "an empty entry".into(), Some("give a value, or remove the `-`".into()));
            } else if let Some(value) = self.decode(item, &shape["items"], &format!("{path}[{}]", out.len())) {
                out.push(value);
            }
        }
        if out.len() < items.len() {
            // The list is there, but not whole: nothing may be concluded from what it lacks.
            self.places.reported.insert(path.to_owned());
        }
        Some(Value::Array(out))
    }

    fn decode_scalar(&mut self, node: &Node, text: &str, plain: bool, schema: &Value) -> Option<Value> {
        let expanded = match interpolate::expand(text, self.lookup) {
            Ok(expanded) => expanded,
            Err(reason) => {
                let place = self.place_within(node.place, &reason.reference);
                self.error(place, reason.message, Some(reason.advice));
                return None;
            }
        };
        let text = expanded.as_str();
        let mut shapes = shapes(schema);
        shapes.retain(|shape| is_scalar(shape));
        // Of several shapes the one that fits the text, so that `true` is a boolean where both are allowed.
        let fits = |shape: &Value| plain && !accepts(shape, "string") && typed(shape, text).is_some();
        let shape =
            shapes.iter().find(|shape| fits(shape)).or_else(|| shapes.iter().find(|shape| accepts(shape, "string")));
        let Some(shape) = shape.or(shapes.first()).copied() else {
            return self.wrong_type(node, schema, "a single value");
        };
        if let Some(choices) = choices(shape) {
            if choices.contains(&text) {
                return Some(Value::String(text.to_owned()));
            }
            let advice = match nearest(text, choices.iter().copied()) {
                Some(name) => format!("did you mean `{name}`? Allowed: {}", choices.join(", ")),
                None => format!("allowed: {}", choices.join(", ")),
            };
            let advice = keys_of(schema).map_or_else(|| advice.clone(), |keys| format!("{advice}, or {keys}"));
            self.error(node.place, "not an allowed value".into(), Some(advice));
            return None;
        }
        if accepts(shape, "string") {
            let format = shape["format"].as_str().unwrap_or_default();
            if let Err(reason) = formats::check(format, text) {
                self.malformed(node.place, &reason);
                return None;
            }
            return Some(Value::String(text.to_owned()));
        }
        match typed(shape, text).filter(|_| plain) {
            Some(value) => self.in_range(node, value, shape),
            None => {
                let advice = if !plain && typed(shape, text).is_some() {
                    Some("remove the quotes".to_owned())
                } else {
                    accepts(shape, "boolean").then(|| yes_or_no(text)).flatten()
                };
                self.error(node.place, format!("expected {}", expected(schema)), advice);
                None
            }
        }
    }

    fn in_range(&mut self, node: &Node, value: Value, shape: &Value) -> Option<Value> {
        let number = value.as_f64();
        let beyond = |key: &str, wrong: fn(f64, f64) -> bool| matches!((number, shape[key].as_f64()), (Some(number), Some(bound)) if wrong(number, bound));
        let low =
            beyond("minimum", |number, bound| number < bound) || beyond("exclusiveMinimum", |n, bound| n <= bound);
        let high = beyond("maximum", |number, bound| number > bound);
        if !low && !high {
            return Some(value);
        }
        let advice = match (&shape["minimum"], &shape["exclusiveMinimum"], &shape["maximum"]) {
            (Value::Null, Value::Null, most) => format!("the most is {most}"),
            (Value::Null, above, Value::Null) => format!("it must be more than {above}"),
            (least, _, Value::Null) => format!("the least is {least}"),
            (Value::Null, above, most) => format!("it must be more than {above} and at most {most}"),
            (least, _, most) => format!("allowed: {least} to {most}"),
        };
        self.error(node.place, "this number is out of range".into(), Some(advice));
        None
    }

    fn wrong_type(&mut self, node: &Node, schema: &Value, got: &str) -> Option<Value> {
        let advice = how_to_write(schema).filter(|_| matches!(node.value, NodeValue::Scalar { .. }));
        self.error(node.place, format!("expected {}, found {got}", expected(schema)), advice);
        None
    }

    /// A format's reason is "what is wrong; what to do".
    fn malformed(&mut self, place: Place, reason: &str) {
        let (message, advice) = reason.split_once("; ").map_or((reason, None), |(what, how)| (what, Some(how)));
        self.error(place, message.to_owned(), advice.map(str::to_owned));
    }

    fn error(&mut self, place: Place, message: String, advice: Option<String>) {
        self.found.push(Severity::Error, place, self.source, message, advice);
    }

    /// The place of `part` inside a scalar that begins at `place`, where its source line shows it.
    fn place_within(&self, place: Place, part: &str) -> Place {
        let line = self.source.lines().nth(place.line - 1).unwrap_or_default();
        let tail = line.chars().skip(place.column - 1).collect::<String>();
        match tail.find(part) {
            Some(at) => Place {
                column: place.column + tail[..at].chars().count(),
                length: part.chars().count().max(1),
                ..place
            },
            None => place,
        }
    }
}

/// The alternatives of a schema, nested `anyOf`, `oneOf` and `allOf` flattened; never empty.
fn shapes(schema: &Value) -> Vec<&Value> {
    let nested = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[*key].as_array());
    match nested {
        Some(nested) if nested.iter().all(|shape| !shape["const"].is_null()) => vec![schema],
        Some(nested) => nested.iter().flat_map(shapes).filter(|shape| shape["type"] != "null").collect(),
        None => vec![schema],
    }
}

/// How a mapping or a list is written, where a single value is not enough.
fn how_to_write(schema: &Value) -> Option<String> {
    if let Some(keys) = keys_of(schema) {
        return Some(format!("write {keys}"));
    }
    if shapes(schema).iter().any(|shape| accepts(shape, "object")) {
        return Some("its keys stand below it, indented, each as `key: value`; is a colon missing?".to_owned());
    }
    Some("a list stands in brackets, [one, two], or on lines of its own that begin with `- `".to_owned())
}

/// A mapping with the keys that a schema cannot do without.
fn keys_of(schema: &Value) -> Option<String> {
    let shapes = shapes(schema);
    let mapping = shapes.iter().find(|shape| shape["type"] == "object")?;
    let keys: Vec<String> =
        mapping["required"].as_array()?.iter().filter_map(Value::as_str).map(|key| format!("{key}: …")).collect();
    (!keys.is_empty()).then(|| format!("{{ {} }}", keys.join(", ")))
}

/// Whether a shape allows a JSON type; one without a type allows all.
fn accepts(shape: &Value, name: &str) -> bool {
    match &shape["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => choices(shape).is_none() || name == "string",
    }
}

fn is_scalar(shape: &Value) -> bool {
    ["string", "integer", "number", "boolean"].iter().any(|name| accepts(shape, name))
}

/// The words a shape allows, where it is a choice: `enum`, or `const`s with a description each.
fn choices(shape: &Value) -> Option<Vec<&str>> {
    if let Some(words) = shape["enum"].as_array() {
        return Some(words.iter().filter_map(Value::as_str).collect());
    }
    if let Some(word) = shape["const"].as_str() {
        return Some(vec![word]);
    }
    let nested = shape["oneOf"].as_array()?;
    nested.iter().map(|shape| shape["const"].as_str()).collect()
}

/// `text` as the boolean or number a shape wants.
fn typed(shape: &Value, text: &str) -> Option<Value> {
    if accepts(shape, "boolean") {
        match text {
            "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
            "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
            _ => {}
        }
    }
    if accepts(shape, "integer") {
        return text.parse::<i64>().ok().map(Value::from);
    }
    if accepts(shape, "number") {
        return text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    }
    None
}

/// YAML 1.1 had more words for booleans; people still write them.
fn yes_or_no(text: &str) -> Option<String> {
    let word = match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" => "true",
        "no" | "off" | "n" => "false",
        _ => return None,
    };
    Some(format!("write {word}"))
}

/// What a schema wants, in words.
fn expected(schema: &Value) -> String {
    let mut words: Vec<&str> = Vec::new();
    for shape in shapes(schema) {
        for (name, word) in [
            ("boolean", "true or false"),
            ("integer", "a whole number"),
            ("number", "a number"),
            ("string", "text"),
            ("array", "a list"),
            ("object", "a mapping"),
        ] {
            let sized = name == "integer" && accepts(shape, "string");
            if accepts(shape, name) && !sized && !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words.join(" or ")
}

/// The known word a person may have meant.
pub fn nearest<T: AsRef<str>>(text: &str, known: impl Iterator<Item = T>) -> Option<String> {
    if text.len() > 64 {
        return None;
    }
    let folded = text.to_ascii_lowercase().replace('-', "_");
    known
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.as_ref().replace('-', "_")), name))
        .filter(|(distance, name)| *distance <= 1 + name.as_ref().len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.as_ref().to_owned())
}
