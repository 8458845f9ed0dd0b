//! Rules that change where a request goes: rewrites within the site, redirects by the client.
//!
//! Both work on the normalised path and give a normalised one back: no `..`, no control characters, bounded. A redirect's
//! host stands literally in the rule: what a client sends can never become a part of it.

use crate::http::key::{normalise_host, normalise_path, normalise_path_and_query};
use http::StatusCode;
use regex::Regex;

/// Longest path or Location a rule may produce, in bytes.
pub const RULE_BYTES_MAX: usize = 8 * 1024;

/// `sites[].rewrites[]`: the first match of `from` in the path is replaced by `to` (`$1` …); the query stays.
#[derive(Debug, Clone)]
pub struct Rewrite {
    pub from: Regex,
    pub to: String,
}

/// `sites[].redirects[]`
#[derive(Debug, Clone)]
pub struct Redirect {
    pub from: Regex,
    /// A path or an absolute URL; `$1` … refer to `from`.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// Why a rule cannot be built, or what it makes of a path is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleError {
    /// `to` names a group `from` does not have.
    Group(String),
    /// `to` of a rewrite holds `?` or `#`.
    Query,
    /// `to` holds a control character, a space or a backslash.
    Character,
    /// `to` of a redirect is neither a path nor an absolute URL with a literal host.
    Target,
    /// Not a status that redirects.
    Status(StatusCode),
    /// The result does not start with `/`, or is longer than [`RULE_BYTES_MAX`].
    Result,
}

impl std::fmt::Display for RuleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(name) => {
                write!(f, "`to` refers to `${name}`, which `from` does not capture; write `${{1}}x` where text follows")
            }
            Self::Query => f.write_str("`to` of a rewrite is a path: leave out `?` and `#`; the query stays as it is"),
            Self::Character => f.write_str("`to` holds a space, a backslash or a control character; percent-encode it"),
            Self::Target => f.write_str(
                "`to` must start with a single `/`, or be `https://host/…` with the host written out before the first `$`",
            ),
            Self::Status(status) => write!(f, "{} does not redirect; use 301, 302, 303, 307 or 308", status.as_u16()),
            Self::Result => write!(f, "the result is no path of at most {RULE_BYTES_MAX} bytes that starts with `/`"),
        }
    }
}

impl std::error::Error for RuleError {}

impl Rewrite {
    /// Checks `to` against `from`.
    pub fn new(from: Regex, to: String) -> Result<Self, RuleError> {
        check_template(&from, &to)?;
        if to.contains(['?', '#']) {
            return Err(RuleError::Query);
        }
        Ok(Self { from, to })
    }

    /// The new path, or None where `from` does not match. An error is answered with 400: only an odd path leads there.
    pub fn apply(&self, path: &str) -> Result<Option<String>, RuleError> {
        let Some(found) = self.from.captures(path) else { return Ok(None) };
        let matched = found.get_match();
        let mut result = path[..matched.start()].to_owned();
        found.expand(&self.to, &mut result);
        result.push_str(&path[matched.end()..]);
        if !result.starts_with('/') || result.contains('?') || result.len() > RULE_BYTES_MAX {
            return Err(RuleError::Result);
        }
        let result = normalise_path(&result);
        if result.len() > RULE_BYTES_MAX { Err(RuleError::Result) } else { Ok(Some(result)) }
    }
}

/// Applies the first rule that matches; the query stays. None: no rule matches.
pub fn rewrite_first(rules: &[Rewrite], path_and_query: &str) -> Result<Option<String>, RuleError> {
    let (path, query) = path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()));
    for rule in rules {
        if let Some(path) = rule.apply(path)? {
            return Ok(Some(path + query));
        }
    }
    Ok(None)
}

impl Redirect {
    /// Checks `to` against `from`, and that no request can choose the host.
    pub fn new(from: Regex, to: String, status: StatusCode) -> Result<Self, RuleError> {
        check_template(&from, &to)?;
        if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Err(RuleError::Status(status));
        }
        match split_absolute(&to) {
            Some((host, rest)) => {
                // `https://host$1` would let `$1` go on with the host.
                let literal = !host.contains('$') && !rest.starts_with('$');
                if !literal || normalise_host(host).is_err() {
                    return Err(RuleError::Target);
                }
            }
            None if !to.starts_with('/') || to.starts_with("//") => return Err(RuleError::Target),
            None => {}
        }
        Ok(Self { from, to, status })
    }

    /// The Location for a path, or None where `from` does not match. The request's query goes along unless `to` has one.
    pub fn apply(&self, path: &str, query: Option<&str>) -> Option<String> {
        let found = self.from.captures(path)?;
        let (base, rest) = match split_absolute(&self.to) {
            Some((_, rest)) => self.to.split_at(self.to.len() - rest.len()),
            None => ("", self.to.as_str()),
        };
        let (rest, fragment) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
        let mut target = String::new();
        found.expand(rest, &mut target);
        if let (Some(query), false) = (query, rest.contains('?')) {
            target.push('?');
            target.push_str(query);
        }
        // Normalising encodes what could end the header line, and turns `\` into no `/`.
        let target = normalise_path_and_query(&target).ok()?;
        // `//other` would be a host to the client.
        let target = if base.is_empty() { format!("/{}", target.trim_start_matches('/')) } else { target.into_owned() };
        let mut end = String::new();
        found.expand(fragment, &mut end);
        let end = end.strip_prefix('#').map(|end| Some(format!("#{}", &normalise_path_and_query(end).ok()?[1..])));
        Some(format!("{base}{target}{}", end.flatten().unwrap_or_default()))
    }
}

/// The Location of a request in clear that belongs on TLS: same host, same path and query. None where the host or the
/// path is none.
pub fn https_location(host: &str, port: u16, path_and_query: &str) -> Option<String> {
    let host = normalise_host(host).ok()?;
    let path = normalise_path_and_query(path_and_query).ok()?;
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    Some(format!("https://{host}{port}{path}"))
}

/// `https://host`, and what follows: empty or from the first `/`, `?`, `#` or `$`.
fn split_absolute(to: &str) -> Option<(&str, &str)> {
    let lower = to.get(..8).unwrap_or(to).to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme))?;
    let rest = &to[scheme.len()..];
    Some(rest.split_at(rest.find(['/', '?', '#', '$']).unwrap_or(rest.len())))
}

/// Every `$name` and `${name}` of `to` is a group of `from`; `$$` is a dollar sign.
fn check_template(from: &Regex, to: &str) -> Result<(), RuleError> {
    if to.chars().any(|character| character.is_control() || matches!(character, ' ' | '\\')) {
        return Err(RuleError::Character);
    }
    let mut rest = to;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        let known = match name.parse::<usize>() {
            Ok(number) => number < from.captures_len(),
            Err(_) => from.capture_names().flatten().any(|known| known == name),
        };
        if !known {
            return Err(RuleError::Group(name.to_owned()));
        }
    }
    Ok(())
}
