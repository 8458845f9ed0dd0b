//! Schema, examples and conf/README.md say the same: every key is described, stands in conf/edge.yaml and in the README's
//! tables with its type and default.

use super::super::{schema, tree};
use super::read;
use crate::config::Diagnostics;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")
}

/// The example files: name and text.
pub fn examples() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect::<Vec<_>>();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

/// One key of the file: its path (`listen[].address`, `origins.*.kind`) and its schema.
fn keys(schema: &Value, path: &str, out: &mut Vec<(String, Value)>) {
    for nested in ["anyOf", "oneOf", "allOf"] {
        for shape in schema[nested].as_array().into_iter().flatten() {
            keys(shape, path, out);
        }
    }
    if schema["items"].is_object() {
        // `tls` and `disk` take one or a list; their keys are written once, as of one.
        let list =
            if path.ends_with(".tls") || path.ends_with(".disk") { path.to_owned() } else { format!("{path}[]") };
        keys(&schema["items"], &list, out);
    }
    if schema["additionalProperties"].is_object() && schema["additionalProperties"]["properties"].is_object() {
        keys(&schema["additionalProperties"], &format!("{path}.*"), out);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if !out.iter().any(|(known, _)| *known == at) {
            out.push((at.clone(), property.clone()));
            keys(property, &at, out);
        }
    }
}

fn all_keys() -> Vec<(String, Value)> {
    let mut out = Vec::new();
    keys(&schema(), "", &mut out);
    assert!(out.len() > 100, "the schema lost its keys: {}", out.len());
    out
}

/// The type column of the README.
fn type_words(schema: &Value) -> String {
    let shapes = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[*key].as_array());
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    if let Some(shapes) = shapes {
        let mut words = shapes.iter().filter(|shape| shape["type"] != "null").map(type_words).collect::<Vec<_>>();
        words.dedup();
        return words.join(", ");
    }
    let named = match schema["format"].as_str().unwrap_or_default() {
        "byte-size" => Some("size"),
        "write-budget" => Some("size or rate"),
        "time-span" | "positive-time-span" => Some("duration"),
        "network" => Some("network"),
        "server-url" | "https-server" => Some("URL"),
        "path-regex" => Some("regular expression"),
        "listen-address" | "socket-address" => Some("address"),
        _ => None,
    };
    if let Some(named) = named {
        return named.to_owned();
    }
    let kind = schema["type"].as_array().and_then(|list| list.first()).unwrap_or(&schema["type"]);
    match kind.as_str() {
        Some("array") => format!("list of {}", type_words(&schema["items"])),
        Some("object") if schema["properties"].is_object() => "block".to_owned(),
        Some("object") => "mapping".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

/// The default column: what the schema says, unless it is a block, whose keys say it themselves.
fn default_words(key: &str, property: &Value, required: bool) -> String {
    if required {
        return "required".to_owned();
    }
    match &property["default"] {
        Value::Null | Value::Object(_) => "–".to_owned(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(shown).collect::<Vec<_>>().join(", "),
        Value::String(text) if text.is_empty() => unreachable!("{key} is required or has a default"),
        Value::String(text) => text.clone(),
        // `0.5` and `2` as people write them.
        other => other.to_string().trim_end_matches(".0").to_owned(),
    }
}

/// A star would be markup.
fn shown(text: &str) -> String {
    if text.contains('*') { format!("`{text}`") } else { text.to_owned() }
}

/// Keys whose change takes effect only after a restart, as `restart_differences` has them.
fn needs_restart(key: &str) -> bool {
    let alone = [
        "cache.hold_timeout",
        "cache.memory",
        "cache.object_max",
        "admin.address",
        "admin.token",
        "log.level",
        "workers",
    ];
    let blocks = ["listen", "cache.disk", "transcode"];
    // The library's own: it is built anew.
    let codecs = "transcode.codecs";
    blocks.iter().any(|block| key.starts_with(block)) && key != codecs || alone.contains(&key)
}

fn rows() -> Vec<String> {
    let (root, keys) = (schema(), all_keys());
    let required = |key: &str| {
        let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
        let holder = if parent.is_empty() { root.clone() } else { holder_of(&keys, parent) };
        find_required(&holder, name)
    };
    let row = |(key, property): &(String, Value)| {
        let description = property["description"].as_str().unwrap_or_default().replace(['\n', '|'], " ");
        let effect = if needs_restart(key) { "restart" } else { "reload" };
        let default = default_words(key, property, required(key));
        format!("| `{key}` | {} | {default} | {effect} | {description} |", type_words(property))
    };
    keys.iter().map(row).collect()
}

fn holder_of(keys: &[(String, Value)], parent: &str) -> Value {
    let bare = parent.trim_end_matches("[]").trim_end_matches(".*");
    keys.iter().find(|(key, _)| key == bare).map(|(_, schema)| schema.clone()).unwrap_or_default()
}

/// Whether a mapping in this schema requires `name`.
fn find_required(schema: &Value, name: &str) -> bool {
    match schema {
        Value::Object(map) => {
            let owns = map.get("properties").is_some_and(|properties| properties.get(name).is_some());
            let here = map.get("required").and_then(Value::as_array);
            if owns {
                return here.is_some_and(|list| list.iter().any(|required| required == name));
            }
            map.iter()
                .filter(|(key, _)| ["anyOf", "oneOf", "allOf", "items", "additionalProperties"].contains(&key.as_str()))
                .any(|(_, nested)| find_required(nested, name))
        }
        Value::Array(list) => list.iter().any(|nested| find_required(nested, name)),
        _ => false,
    }
}

#[test]
fn every_key_has_a_description_in_the_schema() {
    for (key, property) in all_keys() {
        assert!(property["description"].as_str().is_some_and(|text| text.len() > 10), "{key}: {property}");
    }
}

#[test]
fn every_key_stands_in_the_readme_with_its_type_and_default() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let rows = rows();
    let missing = rows.iter().filter(|row| !readme.contains(*row)).map(String::as_str).collect::<Vec<_>>();
    assert!(missing.is_empty(), "conf/README.md lacks these rows:\n{}", missing.join("\n"));
    for line in readme.lines().filter(|line| line.starts_with("| `")) {
        assert!(rows.iter().any(|row| row == line), "conf/README.md has a key that is no more: {line}");
    }
}

#[test]
fn every_key_stands_in_the_edge_example() {
    let (_, text) = examples().into_iter().find(|(name, _)| name == "edge.yaml").unwrap();
    let root = tree::parse(&text, Path::new("edge.yaml"), &mut Diagnostics::new(Path::new("edge.yaml"))).unwrap();
    for (key, _) in all_keys() {
        let steps = key.split('.').flat_map(|step| step.strip_suffix("[]").map_or(vec![step], |name| vec![name, "[]"]));
        assert!(stands(&root, &steps.collect::<Vec<_>>()), "conf/edge.yaml does not use `{key}`");
    }
}

/// Whether some branch of the tree has these steps; lists are looked through wherever they stand.
fn stands(node: &tree::Node, steps: &[&str]) -> bool {
    if let tree::NodeValue::List(items) = &node.value {
        let steps = steps.strip_prefix(&["[]"]).unwrap_or(steps);
        return items.iter().any(|item| stands(item, steps));
    }
    match (steps, &node.value) {
        ([], _) => true,
        (["*", rest @ ..], tree::NodeValue::Map(entries)) => entries.iter().any(|(_, child)| stands(child, rest)),
        ([name, rest @ ..], _) => node.get(name).is_some_and(|child| stands(child, rest)),
    }
}

#[test]
fn every_example_loads_and_warns_only_of_what_is_not_built_yet() {
    for (name, text) in examples() {
        let loaded = read(&text).unwrap_or_else(|found| panic!("{name}: {found}"));
        for warning in &loaded.warnings.list {
            assert!(warning.message.contains("not built yet"), "{name}: {}", warning.message);
        }
    }
}
