//! `sites` as typed.

use super::super::units::TimeSpan;
use super::{OneOrMany, RawSiteCompression, items};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One entry of `sites`
#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["origin"]))]
pub struct RawSite {
    /// Name of one of `origins`.
    pub origin: String,
    /// Name in metrics and logs; default: the first host and path, else `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "label"))]
    pub name: Option<String>,
    /// Hosts it answers for: names, `*.example.org` (any depth), addresses. Without it: every host no other site has.
    #[schemars(transform = items("host-pattern"))]
    pub hosts: Vec<String>,
    /// Path prefixes it answers for; the longest of all sites wins. Without it: every path.
    #[schemars(transform = items("path-prefix"))]
    pub paths: Vec<String>,
    /// Lets players on other origins read answers (CORS). Without this block the origin's own headers pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<RawCors>,
    /// Header rules: first `remove`, then `set`, then `add`.
    pub headers: RawHeaders,
    /// Changes to the path before the origin sees it; only the first rule that matches.
    pub rewrites: Vec<RawRewrite>,
    /// Answers with a redirect; the first match wins. After `deny`, `allow`, `rate` and `redirect_https`.
    pub redirects: Vec<RawRedirect>,
    /// Redirects requests in clear to HTTPS: `true` (to the port of the first TLS listener, 443 if there is none) or a port.
    pub redirect_https: RawRedirectHttps,
    /// Networks (CIDR) or addresses that may ask; everyone else gets 403. Without it: everyone not denied.
    #[schemars(transform = items("network"))]
    pub allow: Vec<String>,
    /// Networks (CIDR) or addresses that get 403; stronger than `allow`.
    #[schemars(transform = items("network"))]
    pub deny: Vec<String>,
    /// Bounds the requests of one client address (of one /64 for IPv6). Beyond it: 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RawRate>,
    /// What of this site is kept.
    pub cache: RawSiteCache,
    /// Where this site differs from `compression`.
    pub compression: RawSiteCompression,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["origins"]))]
pub struct RawCors {
    /// Origins that may read, like `https://app.example.org`; `"*"`: any.
    #[schemars(length(min = 1), transform = items("cors-origin"))]
    pub origins: Vec<String>,
    /// Methods they may use.
    #[schemars(transform = items("http-method"))]
    pub methods: Vec<String>,
    /// Request headers they may send.
    #[schemars(transform = items("header-name"))]
    pub request_headers: Vec<String>,
    /// Answer headers they may read.
    #[schemars(transform = items("header-name"))]
    pub expose_headers: Vec<String>,
    /// How long a browser may keep the answer to a preflight request.
    pub max_age: TimeSpan,
    /// Whether cookies and `Authorization` may be sent; not with `"*"`.
    pub credentials: bool,
}

impl Default for RawCors {
    fn default() -> Self {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Self {
            origins: Vec::new(),
            methods: texts(&["GET", "HEAD"]),
            // What hls.js, Shaka, dash.js and Media3 send: ranges, and CMCD in its header form (CTA-5004).
            request_headers: texts(&["Range", "CMCD-Object", "CMCD-Request", "CMCD-Session", "CMCD-Status"]),
            expose_headers: texts(&["Accept-Ranges", "Cache-Status", "Content-Length", "Content-Range", "Date"]),
            max_age: TimeSpan::secs(7200),
            credentials: false,
        }
    }
}

#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawHeaders {
    /// Of requests, towards the origin.
    pub request: RawHeaderRules,
    /// Of answers, towards the client.
    pub response: RawHeaderRules,
}

#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawHeaderRules {
    /// Header names to remove.
    #[schemars(transform = items("header-name"))]
    pub remove: Vec<String>,
    /// Name and value; replaces what was there.
    #[schemars(extend("propertyNames" = { "format": "header-name" }))]
    pub set: BTreeMap<String, RawHeaderValue>,
    /// Name and value, or a list of values; added to what is there.
    #[schemars(extend("propertyNames" = { "format": "header-name" }))]
    pub add: BTreeMap<String, OneOrMany<RawHeaderValue>>,
}

/// A header's value; text.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RawHeaderValue(#[schemars(extend("format" = "header-value"))] pub String);

#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["from", "to"]))]
pub struct RawRewrite {
    /// Regular expression on the path, without the query.
    #[schemars(extend("format" = "path-regex"))]
    pub from: String,
    /// Replaces the first match; `$1` … refer to groups of `from`. The query stays.
    pub to: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["from", "to"]))]
pub struct RawRedirect {
    /// Regular expression on the path, without the query.
    #[schemars(extend("format" = "path-regex"))]
    pub from: String,
    /// A path or an absolute URL; `$1` … refer to groups of `from`.
    #[schemars(extend("format" = "non-empty"))]
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

impl Default for RawRedirect {
    fn default() -> Self {
        Self { from: String::new(), to: String::new(), status: 302 }
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawRedirectHttps {
    Switch(bool),
    Port(#[schemars(range(min = 1))] u16),
}

impl Default for RawRedirectHttps {
    fn default() -> Self {
        Self::Switch(false)
    }
}

#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["requests_per_second"]))]
pub struct RawRate {
    /// Requests a second over time; may be below 1.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub requests_per_second: f64,
    /// Requests at once beyond the first; default: `requests_per_second`, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawSiteCache {
    /// Whether anything is kept.
    pub enabled: bool,
    /// What becomes of an answer with `Set-Cookie`: `reject` passes it on and keeps nothing, `strip` keeps it without the cookie.
    pub set_cookie: RawSetCookie,
    /// Clients' `Cache-Control` and `Pragma`: `honor` obeys them (RFC 9111 §5.2.1), `ignore` lets no client ask past the cache.
    pub request_directives: RawRequestDirectives,
    /// How long a stale answer stands in for an origin that cannot be reached, where the answer names no `stale-if-error`
    /// itself; never for what must be revalidated. 0s: not at all.
    pub stale_if_unreachable: TimeSpan,
    /// How long answers are fresh that do not say so themselves; the first rule that fits counts.
    pub ttl: Vec<RawTtlRule>,
    /// What tells objects of this site apart.
    pub key: RawKey,
}

impl Default for RawSiteCache {
    fn default() -> Self {
        Self {
            enabled: true,
            set_cookie: RawSetCookie::Reject,
            request_directives: RawRequestDirectives::Honor,
            stale_if_unreachable: TimeSpan::secs(86_400),
            ttl: Vec::new(),
            key: RawKey::default(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawRequestDirectives {
    Honor,
    Ignore,
}

#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["ttl"]))]
pub struct RawTtlRule {
    /// Regular expression on the path, without the query. Without it: every path.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "path-regex"))]
    pub pattern: Option<String>,
    /// Statuses it is for. Without it: 200.
    #[schemars(inner(range(min = 200, max = 599)))]
    pub status: Vec<u16>,
    /// How long such an answer is fresh, counted from its arrival; 0s: it is validated at every request.
    pub ttl: TimeSpan,
    /// Also where the answer names a lifetime of its own; `no-store`, `private` and `no-cache` still count.
    #[serde(rename = "override")]
    pub overrides: bool,
}

impl Default for RawTtlRule {
    fn default() -> Self {
        Self { pattern: None, status: Vec::new(), ttl: TimeSpan::secs(0), overrides: false }
    }
}

#[derive(Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawKey {
    /// The query: `all` of it, its parameters `sorted`, or `none`. The origin sees it as sent.
    pub query: RawKeyQuery,
    /// Query parameters left out; `utm_*` stands for all that begin so.
    #[schemars(transform = items("non-empty"))]
    pub ignore: Vec<String>,
    /// Whether hosts have objects of their own: `auto` where the site lists several hosts or none, `always`, `never`.
    pub host: RawKeyHost,
}

#[derive(Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawKeyQuery {
    #[default]
    All,
    Sorted,
    None,
}

#[derive(Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawKeyHost {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawSetCookie {
    Reject,
    Strip,
}
