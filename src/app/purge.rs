//! A purge as operators write it → bans as the cache keeps them, through the same routes, rewrites and keys as requests.

use crate::admin::{Purge, PurgeSelector};
use crate::cache::{Ban, Selector};
use crate::config::{Config, Site};
use crate::http::{key, rules, tags};
use std::time::SystemTime;

/// A character that stands in no normalised path.
const NO_PATH: char = '\u{7f}';

/// What a purge reaches.
///
/// # Errors
/// It can reach nothing: a URL that is none, or of no site; a tag that no answer can carry.
pub(super) fn ban(config: &Config, purge: &Purge, at: SystemTime) -> Result<Ban, String> {
    let selector = match &purge.selector {
        PurgeSelector::All => Selector::All,
        PurgeSelector::Tag(tag) => Selector::Tag(tags::parse(tag).map_err(|error| error.to_string())?.to_owned()),
        PurgeSelector::Url(url) => Selector::Key(content_key(config, url)?),
        PurgeSelector::Prefix(prefix) => Selector::Prefixes(prefixes(config, prefix)?),
    };
    Ok(Ban { selector, soft: purge.soft, at })
}

/// The key of a URL, as the edge builds it.
fn content_key(config: &Config, url: &str) -> Result<String, String> {
    let asked = key::normalise_url(url).map_err(|error| error.to_string())?;
    let Some(index) = config.routes.find(Some(&asked.host), &asked.path) else { return Err(no_site()) };
    let site = &config.sites[index];
    let target = asked.path_and_query();
    let rewritten = rules::rewrite_first(&site.rewrites, &target);
    let target =
        rewritten.map_err(|error| format!("the site's rewrite of this path fails: {error}"))?.unwrap_or(target);
    key::content_key(&site.name, host_in_key(site, &asked.host), &site.cache.key.apply(&target))
        .map_err(|error| error.to_string())
}

/// The beginnings of keys before rewriting, one for each site that may serve a URL that begins so.
fn prefixes(config: &Config, prefix: &str) -> Result<Vec<String>, String> {
    let asked = key::normalise_url_prefix(prefix).map_err(|error| error.to_string())?;
    let path = asked.path_and_query();
    let mut sites: Vec<usize> =
        places(config, &asked).iter().filter_map(|place| config.routes.find(Some(&asked.host), place)).collect();
    sites.sort_unstable();
    sites.dedup();
    if sites.is_empty() {
        return Err(no_site());
    }
    let key = |site: &Site| {
        let host = host_in_key(site, &asked.host).unwrap_or_default();
        format!("{} {host} {}", site.name, site.cache.key.apply(&path))
    };
    Ok(sites.into_iter().map(|index| key(&config.sites[index])).collect())
}

/// Paths that begin with the prefix, at least one in each site that has any: which site serves a path changes only where a
/// site's own path begins.
fn places(config: &Config, asked: &key::NormalisedUrl) -> Vec<String> {
    let mut places = vec![asked.path.clone()];
    if asked.query.is_none() {
        let borders = config.sites.iter().flat_map(|site| &site.paths).filter(|path| path.starts_with(&asked.path));
        for path in borders.chain([&asked.path]) {
            places.extend([path.clone(), format!("{path}{NO_PATH}"), format!("{path}/")]);
        }
    }
    places
}

fn host_in_key<'a>(site: &Site, host: &'a str) -> Option<&'a str> {
    site.host_in_key.then_some(host)
}

fn no_site() -> String {
    "no site has that host and path; give the URL as clients ask for it".to_owned()
}
