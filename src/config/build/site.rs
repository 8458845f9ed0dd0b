//! `sites`: names and routes taken once, origins that exist, and the rules of each site.

use super::super::built::*;
use super::super::decode::nearest;
use super::super::formats;
use super::super::raw::*;
use super::super::show;
use super::{Builder, networks};
use crate::http::cors::Cors;
use crate::http::freshness::SiteTtl;
use crate::http::key_rules::{KeyRules, Query};
use crate::http::rules::{HeaderRules, Redirect, Rewrite};
use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;
use std::collections::HashMap;
use std::sync::Arc;

/// Fields of the connection, not of the message (RFC 9110, 7.6.1), and those that frame a message.
const CONNECTION_FIELDS: [&str; 8] =
    ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

impl Builder<'_> {
    pub(super) fn sites(&mut self, origins: &[Arc<Origin>], listen: &[Listen]) -> Vec<Site> {
        let raw = self.raw;
        let compression = Arc::new(self.compression());
        let mut names: HashMap<&str, usize> = HashMap::new();
        let mut routes: HashMap<(Option<String>, &str), usize> = HashMap::new();
        let mut out = Vec::new();
        for (index, site) in raw.sites.iter().enumerate() {
            let name = site.name.as_deref().unwrap_or_default();
            self.routes(index, site, &mut routes);
            // Two unnamed sites with the same first host and path are reported as one route above.
            let given = self.places.has(&format!("sites[{index}].name"));
            if let Some(first) = names.insert(name, index)
                && (given || self.places.has(&format!("sites[{first}].name")))
            {
                let line = self.places.find(&format!("sites[{first}]")).line;
                let advice = format!("the site in line {line} has it already; give each its own `name`");
                let at = if given { format!("sites[{index}].name") } else { format!("sites[{index}]") };
                self.error(&at, format!("the site name `{name}` is given twice"), Some(&advice));
            }
            let compression = self.site_compression(index, &site.compression, &compression);
            out.extend(self.site(index, site, origins, listen, compression));
        }
        // A site's misspelt origin would make this a second message about the same mistake.
        let complete = !self.found.has_errors();
        for name in self.origin_names {
            if complete && !raw.sites.iter().any(|site| site.origin == *name) {
                self.warning(&format!("origins.{name}"), format!("no site uses the origin `{name}`"), None);
            }
        }
        out
    }

    /// Two sites never claim the same host and path.
    fn routes<'raw>(
        &mut self,
        index: usize,
        site: &'raw RawSite,
        routes: &mut HashMap<(Option<String>, &'raw str), usize>,
    ) {
        if ["hosts", "paths"].iter().any(|key| self.places.was_reported(&format!("sites[{index}].{key}"))) {
            return;
        }
        let hosts = hosts(site).into_iter().map(Some).collect::<Vec<_>>();
        let paths = site.paths.iter().map(String::as_str).collect::<Vec<_>>();
        for host in if hosts.is_empty() { vec![None] } else { hosts } {
            for path in if paths.is_empty() { vec!["/"] } else { paths.clone() } {
                let Some(first) = routes.insert((host.clone(), path), index) else { continue };
                let what = format!("{} with path `{path}`", host.as_deref().unwrap_or("every host"));
                if first == index {
                    self.warning(&format!("sites[{index}]"), format!("{what} is given twice here"), None);
                    continue;
                }
                let line = self.places.find(&format!("sites[{first}]")).line;
                let advice =
                    format!("the site in line {line} has them already; give one of them other `hosts` or `paths`");
                self.error(&format!("sites[{index}]"), format!("two sites answer for {what}"), Some(&advice));
            }
        }
    }

    fn site(
        &mut self,
        index: usize,
        raw: &RawSite,
        origins: &[Arc<Origin>],
        listen: &[Listen],
        compression: Arc<Compression>,
    ) -> Option<Site> {
        let at = |key: &str| format!("sites[{index}].{key}");
        if self.places.has(&at("origin")) && !self.origin_names.contains(&raw.origin) {
            let message = format!("there is no origin `{}`", super::super::units::excerpt(&raw.origin));
            let advice = match nearest(&raw.origin, self.origin_names.iter()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("known origins: {}", self.origin_names.join(", ")),
            };
            self.error(&at("origin"), message, Some(&advice));
        }
        let hosts = hosts(raw);
        let request_headers = self.header_rules(&at("headers.request"), &raw.headers.request);
        let response_headers = self.header_rules(&at("headers.response"), &raw.headers.response);
        let rewrites = self.rewrites(index, raw);
        let redirects = self.redirects(index, raw);
        let cors = raw.cors.as_ref().map(|cors| self.cors(&at("cors"), cors));
        let origin = origins.iter().find(|origin| origin.name == raw.origin)?;
        Some(Site {
            name: raw.name.clone().unwrap_or_default(),
            origin: origin.clone(),
            // One host (no wildcard) is the same in every key, so it can be left out.
            host_in_key: match raw.cache.key.host {
                RawKeyHost::Always => true,
                RawKeyHost::Never => false,
                RawKeyHost::Auto => !matches!(hosts.as_slice(), [only] if !only.starts_with("*.")),
            },
            hosts,
            paths: raw.paths.clone(),
            cors,
            request_headers,
            response_headers,
            rewrites,
            redirects,
            https_port: match raw.redirect_https {
                RawRedirectHttps::Switch(false) => None,
                RawRedirectHttps::Switch(true) => Some(public_https_port(listen)),
                RawRedirectHttps::Port(port) => Some(port),
            },
            allow: networks(&raw.allow),
            deny: networks(&raw.deny),
            rate: raw
                .rate
                .as_ref()
                .map(|rate| Rate { per_second: rate.requests_per_second, burst: rate.burst.unwrap_or(1) }),
            cache: site_cache(&raw.cache),
            compression,
        })
    }

    fn header_rules(&mut self, at: &str, raw: &RawHeaderRules) -> HeaderRules {
        let mut rules = HeaderRules::default();
        for (index, name) in raw.remove.iter().enumerate() {
            rules.remove.extend(self.header_name(&format!("{at}.remove[{index}]"), name));
        }
        for (name, value) in &raw.set {
            let name_at = format!("{at}.set.{name}");
            rules.set.extend(self.header_name(&name_at, name).and_then(|name| header_value(name, value)));
        }
        for (name, values) in &raw.add {
            let Some(name) = self.header_name(&format!("{at}.add.{name}"), name) else { continue };
            rules.add.extend(values.0.iter().filter_map(|value| header_value(name.clone(), value)));
        }
        rules
    }

    fn header_name(&mut self, at: &str, text: &str) -> Option<HeaderName> {
        let name = HeaderName::try_from(text).ok()?;
        if CONNECTION_FIELDS.contains(&name.as_str()) {
            let advice = if name == "host" {
                "to change the Host an origin sees, set the origin's `host`"
            } else {
                "it belongs to a connection or frames a message, and is set as each needs it"
            };
            self.error(at, format!("`{text}` cannot be changed by a rule"), Some(advice));
            return None;
        }
        Some(name)
    }

    fn rewrites(&mut self, index: usize, raw: &RawSite) -> Vec<Rewrite> {
        let mut out = Vec::new();
        for (number, rule) in raw.rewrites.iter().enumerate() {
            let at = format!("sites[{index}].rewrites[{number}]");
            let Some(from) = self.pattern(&at, &rule.from, &rule.to) else { continue };
            out.push(Rewrite { from, to: rule.to.clone() });
        }
        out
    }

    fn redirects(&mut self, index: usize, raw: &RawSite) -> Vec<Redirect> {
        let mut out = Vec::new();
        for (number, rule) in raw.redirects.iter().enumerate() {
            let at = format!("sites[{index}].redirects[{number}]");
            let given = self.places.has(&format!("{at}.to"));
            let target = ["/", "http://", "https://", "$"].iter().any(|start| rule.to.starts_with(start));
            if given && !target {
                self.error(&format!("{at}.to"), "not a redirect's target", Some("a path (/…) or a URL (https://…)"));
            }
            if !matches!(rule.status, 301 | 302 | 303 | 307 | 308) {
                self.error(
                    &format!("{at}.status"),
                    "not a redirect's status",
                    Some("allowed: 301, 302, 303, 307, 308"),
                );
            }
            let Some(from) = self.pattern(&at, &rule.from, &rule.to) else { continue };
            let Ok(status) = StatusCode::from_u16(rule.status) else { continue };
            out.push(Redirect { from, to: rule.to.clone(), status });
        }
        out
    }

    /// The pattern of a rule, whose replacement names only groups that exist.
    fn pattern(&mut self, at: &str, from: &str, to: &str) -> Option<Regex> {
        if !self.places.has(&format!("{at}.from")) {
            return None;
        }
        let from = Regex::new(from).ok()?;
        for name in group_references(to) {
            let known = match name.parse::<usize>() {
                Ok(number) => number < from.captures_len(),
                Err(_) => from.capture_names().flatten().any(|known| known == name),
            };
            if !known {
                let digits = name.chars().take_while(char::is_ascii_digit).collect::<String>();
                let advice = if digits.is_empty() || digits == name {
                    format!("`from` has {} group(s)", from.captures_len() - 1)
                } else {
                    // Regex reads the longest name; braces end it, and `$$` keeps them from being a variable.
                    format!("to end the number, write $${{{digits}}}")
                };
                self.error(&format!("{at}.to"), format!("`from` has no group `{name}`"), Some(&advice));
            }
        }
        Some(from)
    }

    fn cors(&mut self, at: &str, raw: &RawCors) -> Cors {
        let any = raw.origins.iter().any(|origin| origin == "*");
        if any && raw.origins.len() > 1 {
            self.error(&format!("{at}.origins"), "`*` stands alone", Some("it already allows every origin"));
        }
        if any && raw.credentials {
            let advice = "browsers refuse the pair; name the origins that may send credentials";
            self.error(&format!("{at}.credentials"), "credentials do not go with `*`", Some(advice));
        }
        let names = |list: &[String]| list.iter().filter_map(|name| HeaderName::try_from(name).ok()).collect();
        Cors {
            origins: raw.origins.clone(),
            methods: raw.methods.iter().filter_map(|name| http::Method::try_from(name.as_str()).ok()).collect(),
            request_headers: names(&raw.request_headers),
            expose_headers: names(&raw.expose_headers),
            max_age: raw.max_age.0,
            credentials: raw.credentials,
        }
    }
}

fn site_cache(raw: &RawSiteCache) -> SiteCache {
    let rule = |rule: &RawTtlRule| TtlRule {
        // What is no expression has been reported by its format.
        pattern: rule.pattern.as_deref().and_then(|pattern| Regex::new(pattern).ok()),
        statuses: rule.status.clone(),
        ttl: SiteTtl { ttl: rule.ttl.0, overrides: rule.overrides },
    };
    SiteCache {
        enabled: raw.enabled,
        strip_set_cookie: raw.set_cookie == RawSetCookie::Strip,
        honor_request_directives: raw.request_directives == RawRequestDirectives::Honor,
        stale_if_unreachable: raw.stale_if_unreachable.0,
        ttl: raw.ttl.iter().map(rule).collect(),
        key: KeyRules {
            query: match raw.key.query {
                RawKeyQuery::All => Query::All,
                RawKeyQuery::Sorted => Query::Sorted,
                RawKeyQuery::None => Query::None,
            },
            ignore: raw.key.ignore.clone(),
        },
    }
}

fn hosts(raw: &RawSite) -> Vec<String> {
    raw.hosts.iter().filter_map(|host| formats::host_pattern(host).ok()).collect()
}

fn header_value(name: HeaderName, raw: &RawHeaderValue) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(&raw.0).ok()?;
    // Debug output of the configuration then shows no credential.
    value.set_sensitive(show::is_credential(name.as_str()));
    Some((name, value))
}

/// Where `redirect_https: true` leads: the port clients use for the first TLS listener.
fn public_https_port(listen: &[Listen]) -> u16 {
    let first = listen.iter().find(|listen| !listen.tls.is_empty());
    first.map_or(443, |listen| match (&listen.address, listen.alt_svc_port) {
        (_, Some(port)) => port,
        (ListenAddress::Tcp(address), None) => address.port(),
        (ListenAddress::Unix(_), None) => 443,
    })
}

/// The groups a replacement refers to, read as `regex` reads them: `$name` takes the longest name, `${name}` is exact.
fn group_references(to: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = to;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            rest = tail;
        } else if let Some(braced) = rest.strip_prefix('{') {
            let Some(end) = braced.find('}') else { break };
            out.push(&braced[..end]);
            rest = &braced[end..];
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.extend(Some(&rest[..end]).filter(|name| !name.is_empty()));
            rest = &rest[end..];
        }
    }
    out
}
