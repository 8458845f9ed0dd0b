//! A site's own rules: headers to set, add and remove; path rewrites; redirects.

use http::{HeaderName, HeaderValue, StatusCode};

/// `sites[].headers.{request,response}`: removed first, then set, then added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderRules {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// `sites[].rewrites[]`: the first match of `from` in the path is replaced by `to` (`$1` …); the query stays.
#[derive(Debug, Clone)]
pub struct Rewrite {
    pub from: regex::Regex,
    pub to: String,
}

/// `sites[].redirects[]`
#[derive(Debug, Clone)]
pub struct Redirect {
    pub from: regex::Regex,
    /// A path or an absolute URL; `$1` … refer to `from`.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}
