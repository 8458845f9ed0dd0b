//! Between the request and the store: whether the cache is asked, under which key and variant, and what may be kept.

use super::Edge;
use super::admit::target_of;
use super::context::Context;
use crate::cache::{Held, collapse, follows_fill};
use crate::http::byte_range::{self, Selection};
use crate::http::cache_status::Fwd;
use crate::http::{answer, freshness, key};
use http::header::{ACCEPT, AGE, AUTHORIZATION, CONTENT_LENGTH, DATE, IF_RANGE, LOCATION, RANGE};
use http::{HeaderMap, Method, StatusCode};
use pingora_cache::RespCacheable::{self, Cacheable, Uncacheable};
use pingora_cache::key::{CacheHashKey, CompactCacheKey, HashBinary};
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, NoCacheReason, VarianceBuilder};
use pingora_error::{Error, ErrorSource, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::time::SystemTime;

/// A stale object may be served when the origin failed, never merely to save a request; the response's own
/// `stale-if-error` and `must-revalidate` (RFC 5861 §4, RFC 9111 §5.2.2.2) have been applied by the metadata.
pub(super) fn may_serve_stale(error: Option<&Error>) -> bool {
    error.is_some_and(|error| error.esource() == &ErrorSource::Upstream)
}

/// A range that begins this far beyond what a running fill has is fetched by itself: about what arrives while a connection
/// to the origin would be made.
const FILL_AHEAD_BYTES: u64 = 1 << 20;

impl Edge {
    /// Decides whether the cache is asked at all.
    pub(super) fn open_cache(&self, session: &mut Session, ctx: &mut Context) {
        let Some(site) = ctx.site.clone() else { return };
        let request = session.req_header();
        let refuse = |ctx: &mut Context, fwd, detail| {
            ctx.cache.bypass = Some(fwd);
            ctx.cache.detail = detail;
        };
        if !site.cache.enabled {
            return refuse(ctx, Fwd::Bypass, None);
        }
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return refuse(ctx, Fwd::Method, None);
        }
        if ctx.long_lived {
            return refuse(ctx, Fwd::Bypass, Some("long-lived"));
        }
        // An origin may answer by it, and the key does not know it (RFC 9110 §9.3.1: "might enable request smuggling").
        if !session.is_body_empty() {
            return refuse(ctx, Fwd::Bypass, Some("request-body"));
        }
        let request = session.req_header();
        if freshness::request_policy(&request.headers).no_store {
            return refuse(ctx, Fwd::Request, Some("no-store"));
        }
        let Ok(key) = self.cache_key(session, ctx) else { return refuse(ctx, Fwd::Bypass, Some("key-too-long")) };
        let compact = key.to_compact();
        if self.store.is_too_large(&compact) {
            return refuse(ctx, Fwd::Bypass, Some("too-large"));
        }
        if request.headers.contains_key(RANGE) && self.is_far(&request.headers, &compact) {
            return refuse(ctx, Fwd::Partial, Some("range"));
        }
        ctx.cache.key = Some(key);
        let waiting = collapse::overrides(ctx.generation.config.cache.collapse_timeout);
        session.cache.enable(self.store, None, None, Some(self.lock), Some(waiting));
    }

    /// Whether a range is better fetched by itself. Pingora fills the whole object to serve a part of it: right where the
    /// range is the whole (browsers ask for films by `bytes=0-`) or the fill is nearly there, else a seek would wait for
    /// all that lies before it. Slices, a later step, take this over.
    fn is_far(&self, headers: &HeaderMap, key: &CompactCacheKey) -> bool {
        const LENGTH_UNKNOWN: u64 = u64::MAX;
        let asked = headers.get(RANGE).map(|range| byte_range::parse(range.as_bytes(), LENGTH_UNKNOWN));
        let Some(Selection::Part(asked)) = asked else { return self.store.held(key).is_none() };
        match self.store.held(key) {
            Some(Held::Whole) => false,
            Some(Held::Filling { body_bytes }) => asked.first > body_bytes.saturating_add(FILL_AHEAD_BYTES),
            None => asked.first > 0 || asked.last < LENGTH_UNKNOWN - 1 || headers.contains_key(IF_RANGE),
        }
    }

    /// Site, path and query; the host only where a site lists several or none.
    pub(super) fn cache_key(&self, session: &Session, ctx: &Context) -> Result<CacheKey> {
        let site = ctx.site.as_ref();
        let host = ctx.host.as_deref().filter(|_| site.is_some_and(|site| site.host_in_key));
        let name = site.map_or("", |site| site.name.as_str());
        let key = key::content_key(name, host, target_of(session.req_header()));
        let mut key = CacheKey::new(key.or_err(ErrorType::InternalError, "a cache key")?, "");
        // Pingora would hash the text again at every use.
        key.set_primary_bin_override(key.primary_bin());
        self.note_begin(&mut key);
        Ok(key)
    }

    /// The variant a request selects (RFC 9111 §4.1): a hash of the fields the stored response named.
    pub(super) fn variance(&self, meta: &CacheMeta, ctx: &mut Context, request: &RequestHeader) -> Option<HashBinary> {
        let names = freshness::vary_names(meta.headers()).unwrap_or_default();
        let mut builder = VarianceBuilder::new();
        for name in names {
            let value = combined(&request.headers, &name);
            builder.add_owned_name_value(name, value);
        }
        let variance = builder.finalize();
        // Pingora asks once with what is stored under the key, and once more with what it is about to store.
        ctx.cache.vary_miss |= meta.variance().is_some_and(|stored| Some(stored) != variance);
        variance
    }

    /// Notes what was found, for `Cache-Status`.
    pub(super) fn found(&self, meta: &CacheMeta, hit: &HitHandler, ctx: &mut Context) -> Option<ForcedFreshness> {
        ctx.cache.ttl_s = Some(seconds_until(meta.fresh_until()));
        ctx.cache.collapsed = follows_fill(hit);
        if let (true, Some(connection)) = (ctx.cache.collapsed, &ctx.connection) {
            connection.answer_may_pause();
        }
        self.purged_for_url(hit, ctx)
    }

    /// Whether the origin's answer is kept, and for how long.
    pub(super) fn storable(&self, session: &Session, response: &ResponseHeader, ctx: &mut Context) -> RespCacheable {
        let Some(site) = ctx.site.clone() else { return Uncacheable(NoCacheReason::NeverEnabled) };
        let object_bytes_max = ctx.generation.config.cache.object_bytes_max;
        if content_length(&response.headers).is_some_and(|bytes| bytes > object_bytes_max) {
            ctx.cache.detail = Some("too-large");
            return Uncacheable(NoCacheReason::ResponseTooLarge);
        }
        // A validated answer is as old as the 304 says, not as the one stored before (RFC 9111 §4.3.4).
        let mut renewed = None;
        if response.status != StatusCode::NOT_MODIFIED
            && let Some(values) = ctx.origin.validated.take()
        {
            let renewed = renewed.insert(response.clone());
            for (name, value) in [DATE, AGE].into_iter().zip(values) {
                renewed.remove_header(&name);
                if let Some(value) = value
                    && renewed.insert_header(name, value).is_err()
                {
                    return Uncacheable(NoCacheReason::InternalError);
                }
            }
        }
        let response = renewed.as_ref().unwrap_or(response);
        let now = SystemTime::now();
        let request = session.req_header();
        let location = response.headers.get(LOCATION).and_then(|location| location.to_str().ok());
        let port = ctx.connection.as_ref().and_then(|connection| connection.local_port());
        let unkeyed = |target| {
            let asked = answer::Asked { authority: ctx.authority.as_deref(), target, port };
            location.is_some_and(|location| answer::redirect_is_unkeyed(location, asked))
        };
        let as_asked = key::normalise_path_and_query(&ctx.target).unwrap_or_default();
        if unkeyed(&as_asked) || unkeyed(target_of(request)) {
            ctx.cache.detail = Some("redirect-to-itself");
            return Uncacheable(NoCacheReason::OriginNotCache);
        }
        let exchange = freshness::Exchange {
            method: &request.method,
            request_authorized: request.headers.contains_key(AUTHORIZATION),
            request_no_store: false, // such a request never opened the cache
            status: response.status,
            headers: &response.headers,
            strip_set_cookie: site.cache.strip_set_cookie,
            response_delay: ctx.origin.elapsed.unwrap_or_default(),
            now,
        };
        match freshness::decide(&exchange) {
            Ok(kept) => {
                ctx.cache.stored = true;
                ctx.cache.ttl_s = Some(kept.fresh_for.as_secs_f64().round() as i64);
                let created = now.checked_sub(kept.age_at_receipt).unwrap_or(now);
                let stale_if_error_s = u32::try_from(kept.stale_if_error.as_secs()).unwrap_or(u32::MAX);
                let mut meta =
                    CacheMeta::new(now + kept.fresh_for, created, 0, stale_if_error_s, without_case(response));
                self.stamp(&mut meta, ctx);
                Cacheable(meta)
            }
            Err(reason) => {
                ctx.cache.detail = Some(reason.as_str());
                Uncacheable(NoCacheReason::OriginNotCache)
            }
        }
    }
}

/// All values of a field as one, as RFC 9110 §5.3 allows; `Accept` without its spaces, so that alike requests share.
fn combined(headers: &HeaderMap, name: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        if !all.is_empty() {
            all.push(b',');
        }
        all.extend(value.as_bytes().iter().filter(|byte| name != ACCEPT.as_str() || **byte != b' '));
    }
    all
}

/// A copy without the letter case of the field names, which mean the same in any (RFC 9110 §5.1). Pingora keeps the case in a
/// second map, that every hit would copy and change beside the first.
fn without_case(response: &ResponseHeader) -> ResponseHeader {
    http::response::Parts::from(response.clone()).into()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// To the nearest second; negative once it has passed.
fn seconds_until(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead.as_secs_f64().round() as i64,
        Err(behind) => -(behind.duration().as_secs_f64().round() as i64),
    }
}
