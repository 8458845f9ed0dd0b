//! `sites`: which requests belong together, where they go and what is done to them.

use super::{Compression, Origin};
use crate::http::cors::Cors;
use crate::http::freshness::SiteTtl;
use crate::http::key_rules::KeyRules;
use crate::http::rules::{HeaderRules, Redirect, Rewrite};
use regex::Regex;
use std::sync::Arc;
use std::time::Duration;

/// One entry of `sites`.
#[derive(Debug, Clone)]
pub struct Site {
    /// `name`, else the first host and path, else `default`; unique; a metric label.
    pub name: String,
    pub origin: Arc<Origin>,
    /// Lower case; empty: any host. `*.example.org` matches any depth below.
    pub hosts: Vec<String>,
    /// Path prefixes; empty: any path.
    pub paths: Vec<String>,
    /// Hosts are part of the cache key only where a site lists several or none.
    pub host_in_key: bool,
    pub cors: Option<Cors>,
    pub request_headers: HeaderRules,
    pub response_headers: HeaderRules,
    pub rewrites: Vec<Rewrite>,
    pub redirects: Vec<Redirect>,
    /// Some: requests in clear are answered with a redirect to HTTPS on this port.
    pub https_port: Option<u16>,
    /// Empty: everyone not denied.
    pub allow: Vec<ipnet::IpNet>,
    pub deny: Vec<ipnet::IpNet>,
    pub rate: Option<Rate>,
    pub cache: SiteCache,
    /// One for all sites that change nothing of it.
    pub compression: Arc<Compression>,
}

/// `sites[].rate`: requests per client address (per /64 for IPv6) → 429.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub burst: u32,
}

/// `sites[].cache`
#[derive(Debug, Clone)]
pub struct SiteCache {
    pub enabled: bool,
    /// Store answers that carry `Set-Cookie`, without it.
    pub strip_set_cookie: bool,
    /// Whether clients' `Cache-Control` and `Pragma` count.
    pub honor_request_directives: bool,
    /// How long a stale answer stands in for an origin that cannot be reached, where it does not say itself.
    pub stale_if_unreachable: Duration,
    pub ttl: Vec<TtlRule>,
    pub key: KeyRules,
}

impl SiteCache {
    /// The operator's lifetime for an answer: that of the first rule that fits.
    pub fn site_ttl(&self, path: &str, status: u16) -> Option<SiteTtl> {
        let fits = |rule: &&TtlRule| {
            rule.pattern.as_ref().is_none_or(|pattern| pattern.is_match(path))
                && (rule.statuses.is_empty() && status == 200 || rule.statuses.contains(&status))
        };
        self.ttl.iter().find(fits).map(|rule| rule.ttl)
    }
}

/// One entry of `sites[].cache.ttl`.
#[derive(Debug, Clone)]
pub struct TtlRule {
    /// On the path; None: every path.
    pub pattern: Option<Regex>,
    /// Empty: 200.
    pub statuses: Vec<u16>,
    pub ttl: SiteTtl,
}
