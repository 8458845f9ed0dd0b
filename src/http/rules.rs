//! A site's own rules: headers to set, add and remove; path rewrites; redirects.
//!
//! What would break framing, connections or loop detection is refused when a rule is built, so applying cannot fail. No
//! rule can send a client to a host its operator did not write down.

mod target;

pub use target::{RULE_BYTES_MAX, Redirect, Rewrite, RuleError, https_location, rewrite_first};

use http::{HeaderMap, HeaderName, HeaderValue};

/// `sites[].headers.{request,response}`: removed first, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderRules {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Where header rules are applied: the edge's own header type.
pub trait HeaderSink {
    fn remove(&mut self, name: &HeaderName);
    /// Replaces every value of `name`.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue);
    /// Keeps the values there are.
    fn add(&mut self, name: &HeaderName, value: &HeaderValue);
}

impl HeaderSink for HeaderMap {
    fn remove(&mut self, name: &HeaderName) {
        HeaderMap::remove(self, name);
    }

    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.insert(name.clone(), value.clone());
    }

    fn add(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name.clone(), value.clone());
    }
}

/// A header rule names a field that is not a site's to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderRuleError {
    pub name: HeaderName,
    /// What to do instead.
    pub advice: &'static str,
}

impl std::fmt::Display for HeaderRuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` cannot be set, added or removed: {}", self.name, self.advice)
    }
}

impl std::error::Error for HeaderRuleError {}

impl HeaderRules {
    /// Refuses fields that frame the message, belong to one connection or guard against loops.
    pub fn new(
        remove: Vec<HeaderName>,
        set: Vec<(HeaderName, HeaderValue)>,
        add: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<Self, HeaderRuleError> {
        let names = remove.iter().chain(set.iter().chain(&add).map(|(name, _)| name));
        for name in names {
            if let Some(advice) = refusal(name) {
                return Err(HeaderRuleError { name: name.clone(), advice });
            }
        }
        Ok(Self { remove, set, add })
    }

    /// Applies the rules in their order.
    pub fn apply(&self, sink: &mut impl HeaderSink) {
        for name in &self.remove {
            sink.remove(name);
        }
        for (name, value) in &self.set {
            sink.set(name, value);
        }
        for (name, value) in &self.add {
            sink.add(name, value);
        }
    }
}

fn refusal(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("use `host` of the origin"),
        "content-length" | "transfer-encoding" | "trailer" => Some("it frames the message; drop this rule"),
        "cdn-loop" => Some("it stops loops (RFC 8586); drop this rule"),
        other if super::headers::HOP_BY_HOP.contains(&other) => {
            Some("it belongs to one connection (RFC 9110 §7.6.1); drop this rule")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
