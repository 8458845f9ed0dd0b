//! Why a URL is answered as it is: the same pure rules the edge runs, without a request.

use crate::cache::{self, MemoryStore, ObjectInfo, PartsKept, Verdict};
use crate::config::{Config, Site};
use crate::http::freshness::{self, SiteTtl, TtlSource};
use crate::http::key::NormalisedUrl;
use crate::http::slicing::ContentRange;
use crate::http::{key, rules, tags};
use crate::media::class;
use futures_util::FutureExt;
use http::Method;
use pingora_cache::key::CompactCacheKey;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// What the edge would do with a GET of `url`.
///
/// # Errors
/// The URL is not absolute or cannot be read.
pub fn explain(config: &Config, url: &str) -> Result<Value, String> {
    explain_with(config, None, url).now_or_never().expect("without a store there is nothing to wait for")
}

/// As [`explain`], with what the store of the running process has of it.
///
/// # Errors
/// As there.
pub(super) async fn explain_with(
    config: &Config,
    store: Option<&'static MemoryStore>,
    url: &str,
) -> Result<Value, String> {
    let asked = key::normalise_url(url).map_err(|error| error.to_string())?;
    let Some(index) = config.routes.find(Some(&asked.host), &asked.path) else {
        return Ok(json!({
            "url": url,
            "site": null,
            "answer": "421: no site has that host and path",
        }));
    };
    let site = &config.sites[index];
    let redirect = site.redirects.iter().find_map(|rule| rule.apply(&asked.path, asked.query.as_deref()));
    let (rewritten, content_key) = named(site, &asked)?;
    let cache_key = cache::key(content_key.clone());
    let found = match store {
        Some(store) => match held(store, &cache_key.to_compact()).await {
            Some(found) => Some(found),
            None => held(store, &cache::head_key(&cache_key).to_compact()).await,
        },
        None => None,
    };
    let parts = match (store, &found) {
        (Some(store), Some(head)) => store.parts_kept(&cache_key, &head.headers).await,
        _ => None,
    };
    let path = rewritten.split('?').next().unwrap_or("/");
    Ok(json!({
        "url": url,
        "site": site.name,
        "origin": site.origin.name,
        "class": class::classify(path, None).as_str(),
        "redirect": redirect,
        "rewritten": rewritten,
        "key": content_key,
        "cache": {
            "enabled": site.cache.enabled,
            "rule": "RFC 9111: answers to GET with a lifetime (CDN-Cache-Control, s-maxage, max-age, Expires, cache.ttl, \
                     Last-Modified) or a validator are kept",
        },
        "tier": found.as_ref().filter(|object| object.verdict != Verdict::Gone).map(|object| tier(object, parts)),
        "object": found.as_ref().map(|object| describe(object, parts, site, path)),
        "prefetch": [],
    }))
}

/// Whether the store would answer a GET of `url`, or will when what fills it is done. Also where nothing would ever be stored.
pub(super) async fn is_held(config: &Config, store: &'static MemoryStore, url: &str) -> bool {
    let Ok(asked) = key::normalise_url(url) else { return true };
    let Some(site) = config.routes.find(Some(&asked.host), &asked.path).map(|index| &config.sites[index]) else {
        return true;
    };
    let Ok((_, content_key)) = named(site, &asked) else { return true };
    let found = held(store, &cache::key(content_key).to_compact()).await;
    let holds = |object: ObjectInfo| {
        object.filling || (object.verdict == Verdict::Clear && object.fresh_until > SystemTime::now())
    };
    !site.cache.enabled || found.is_some_and(holds)
}

/// The path and query after the site's rewrites, and the content key.
fn named(site: &Site, asked: &NormalisedUrl) -> Result<(String, String), String> {
    let target = asked.path_and_query();
    let rewritten = match rules::rewrite_first(&site.rewrites, &target) {
        Ok(rewritten) => rewritten.unwrap_or(target),
        Err(error) => return Err(format!("the site's rewrite of this path fails: {error}")),
    };
    let host = site.host_in_key.then_some(asked.host.as_str());
    let content_key = key::content_key(&site.name, host, &site.cache.key.apply(&rewritten));
    Ok((rewritten, content_key.map_err(|error| error.to_string())?))
}

/// In RAM or below it.
async fn held(store: &'static MemoryStore, key: &CompactCacheKey) -> Option<ObjectInfo> {
    match store.contains(key) {
        Some(found) => Some(found),
        None => store.contains_below(key).await,
    }
}

/// Where the bytes are. Of a sliced object: those of its parts that are kept, not those of its head.
fn tier(object: &ObjectInfo, parts: Option<PartsKept>) -> &'static str {
    match parts {
        Some(PartsKept { memory_bytes: 1.., disk_bytes: 0 }) => "memory",
        Some(PartsKept { memory_bytes: 0, disk_bytes: 1.. }) => "disk",
        Some(PartsKept { memory_bytes: 1.., disk_bytes: 1.. }) => "memory and disk",
        Some(PartsKept { memory_bytes: 0, disk_bytes: 0 }) | None => object.tier,
    }
}

/// A stored object: its lifetime, and where that came from.
fn describe(object: &ObjectInfo, parts: Option<PartsKept>, site: &Site, path: &str) -> Value {
    let now = SystemTime::now();
    let ttl_s = match object.fresh_until.duration_since(now) {
        Ok(ahead) => ahead.as_secs() as i64,
        Err(behind) => -(behind.duration().as_secs() as i64),
    };
    // What is kept of a sliced object's head is no answer: the whole's is.
    let sliced = match ContentRange::of(&object.headers) {
        Some(ContentRange::Unsatisfied { complete }) => Some(complete),
        _ => None,
    };
    json!({
        "status": if sliced.is_some() { 200 } else { object.status },
        "bytes": sliced.unwrap_or(object.body_bytes),
        "sliced": sliced.is_some(),
        "kept_bytes": parts.map(|parts| json!({ "memory": parts.memory_bytes, "disk": parts.disk_bytes })),
        "ttl_s": ttl_s,
        "ttl_source": source(object, site.cache.site_ttl(path, object.status), now).map(TtlSource::as_str),
        "age_s": now.duration_since(object.stored_at).unwrap_or_default().as_secs(),
        "stale_if_error_s": object.stale_if_error_s,
        "filling": object.filling,
        "tags": tags::of(&object.headers).list.iter().map(|tag| String::from_utf8_lossy(tag)).collect::<Vec<_>>(),
        "purged": match object.verdict {
            Verdict::Clear => None,
            Verdict::Stale(_) => Some("soft: stale until revalidated"),
            Verdict::Gone => Some("hard: no request gets it, and it is about to be removed"),
        },
    })
}

fn source(object: &ObjectInfo, site_ttl: Option<SiteTtl>, now: SystemTime) -> Option<TtlSource> {
    let exchange = freshness::Exchange {
        method: &Method::GET,
        request_authorized: false,
        request_has_cookie: false,
        request_no_store: false,
        // 206 is a sliced object's head; nothing else is kept so.
        status: http::StatusCode::from_u16(object.status).ok().map(|status| match status {
            http::StatusCode::PARTIAL_CONTENT => http::StatusCode::OK,
            status => status,
        })?,
        headers: &object.headers,
        strip_set_cookie: true,
        site_ttl,
        response_delay: Duration::ZERO,
        // As when it came: by now it may be stale.
        now: object.stored_at.min(now),
    };
    freshness::decide(&exchange).ok().map(|kept| kept.source)
}
