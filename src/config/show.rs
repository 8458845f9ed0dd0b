//! `config show`: the configuration in effect as YAML that loads again, secrets aside.

use super::build::keys_of_other_kinds;
use super::interpolate;
use super::raw::{RawConfig, RawHeaderValue};
use serde_yaml::Value;

/// What stands where a secret is.
pub const MASK: &str = "***";

/// Parts of names (in lower case) whose values are credentials.
pub const CREDENTIAL_WORDS: [&str; 8] =
    ["token", "authorization", "api-key", "apikey", "secret", "password", "cookie", "auth-key"];

/// Whether a header of this name (in any case) carries a credential.
pub fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    CREDENTIAL_WORDS.iter().any(|word| name.contains(word))
}

/// The effective configuration as YAML.
pub fn yaml(raw: &RawConfig) -> String {
    let mut raw = raw.clone();
    for site in &mut raw.sites {
        for rules in [&mut site.headers.request, &mut site.headers.response] {
            let set = rules.set.iter_mut().map(|(name, value)| (name, std::slice::from_mut(value)));
            let add = rules.add.iter_mut().map(|(name, values)| (name, values.0.as_mut_slice()));
            for (_, values) in set.chain(add).filter(|(name, _)| is_credential(name)) {
                values.fill(RawHeaderValue(MASK.to_owned()));
            }
        }
    }
    // These types hold no map with other keys than text, so neither step can fail.
    let mut tree = serde_yaml::to_value(&raw).unwrap_or_default();
    for (name, origin) in &raw.origins {
        if let Some(Value::Mapping(keys)) = tree.get_mut("origins").and_then(|origins| origins.get_mut(name)) {
            keys.retain(|key, _| !keys_of_other_kinds(origin.kind).iter().any(|other| key == other));
        }
    }
    escape(&mut tree);
    serde_yaml::to_string(&tree).unwrap_or_default()
}

/// Dollar signs are written so that reading them again expands nothing.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) => *text = interpolate::escape(text),
        Value::Sequence(items) => items.iter_mut().for_each(escape),
        Value::Mapping(entries) => entries.iter_mut().for_each(|(_, value)| escape(value)),
        _ => {}
    }
}
