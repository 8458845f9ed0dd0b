//! What of the origin's answers is kept, brought up to date and thrown away. The rules are `http`'s; a [`Storable`] goes into
//! the extensions of every `CacheMeta`, so that later requests parse nothing.

use super::Edge;
use super::admit::target_of;
use super::context::Context;
use crate::cache::disk::Ticket;
use crate::http::freshness::{self, Storable};
use crate::http::{answer, invalidation, key, negotiation, reuse, rules, update};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LOCATION, RANGE,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use pingora_cache::RespCacheable::{self, Cacheable, Uncacheable};
use pingora_cache::{CacheMeta, CachePhase, NoCacheReason};
use pingora_error::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long an answer waits until what it made untrue is noted on the disks.
const REMOVAL_WAIT: Duration = Duration::from_secs(1);

/// What was decided when this answer was stored.
pub(super) fn kept(meta: &CacheMeta) -> Option<Arc<Storable>> {
    meta.extensions().get::<Arc<Storable>>().cloned()
}

/// A 304 to a request of ours, until Pingora asks whether the answer it validates may still be kept.
pub enum Validation {
    Fields(HeaderMap),
    /// It names another version than the stored one.
    OfAnother,
}

impl Edge {
    /// Whether the origin's answer is kept, and for how long.
    pub(super) fn storable(
        &self,
        session: &Session,
        response: &ResponseHeader,
        ctx: &mut Context,
    ) -> Result<RespCacheable> {
        let Some(site) = ctx.site.clone() else { return Ok(Uncacheable(NoCacheReason::NeverEnabled)) };
        let stored = session.cache.maybe_cache_meta();
        let validation = ctx.cache.validation.take();
        let validated = stored.filter(|_| matches!(validation, Some(Validation::Fields(_))));
        let mut header = match (validation, stored) {
            (Some(Validation::OfAnother), _) => {
                ctx.cache.detail = Some("304-of-another-version");
                return Ok(Uncacheable(NoCacheReason::OriginNotCache));
            }
            // Pingora has merged only some of the fields.
            (Some(Validation::Fields(fresh)), Some(meta)) => merged(meta, &fresh)?,
            _ => without_case(response),
        };
        let object_bytes_max = ctx.generation.config.cache.object_bytes_max;
        if content_length(&header.headers).is_some_and(|bytes| bytes > object_bytes_max) {
            ctx.cache.detail = Some("too-large");
            self.note_large(session, &header);
            return Ok(Uncacheable(NoCacheReason::ResponseTooLarge));
        }
        let now = SystemTime::now();
        let request = session.req_header();
        // Who makes it may choose otherwise than it says: then the text of `Accept` tells variants apart, as ever.
        let chosen = negotiation::selected(&header.headers, &request.headers);
        if chosen.is_some_and(|chosen| !is_of_type(&header.headers, &chosen)) {
            header.remove_header(negotiation::AVAIL_FORMAT);
        }
        if is_redirect_to_itself(session, &header, ctx) {
            ctx.cache.detail = Some("redirect-to-itself");
            return Ok(Uncacheable(NoCacheReason::OriginNotCache));
        }
        let decided = freshness::decide(&freshness::Exchange {
            method: &request.method,
            request_authorized: request.headers.contains_key(AUTHORIZATION),
            request_has_cookie: request.headers.contains_key(COOKIE),
            request_no_store: false, // such a request fills nothing
            status: header.status,
            headers: &header.headers,
            strip_set_cookie: site.cache.strip_set_cookie,
            site_ttl: site.cache.site_ttl(request.uri.path(), header.status.as_u16()),
            response_delay: ctx.origin.elapsed.unwrap_or_default(),
            now,
        });
        match decided {
            Ok(mut kept) => {
                validated.iter().for_each(|old| keep_date(&mut kept, old));
                ctx.cache.stored = true;
                self.note_codable(&header, &mut kept, ctx);
                ctx.cache.ttl_s = Some(kept.fresh_for.as_secs_f64().round() as i64);
                for name in &kept.withheld {
                    withhold(&mut header, name, ctx);
                }
                let mut meta = meta_of(kept, header, site.cache.stale_if_unreachable, now);
                self.stamp(&mut meta, ctx);
                if let Some(rest) = self.owners_rest(ctx, meta.headers()) {
                    meta.extensions_mut().insert(rest);
                }
                Ok(Cacheable(meta))
            }
            Err(reason) => {
                ctx.cache.detail = Some(reason.as_str());
                // The origin has something else there now, or nothing: the old answer is of no more use.
                let replaced = header.status.is_success() || matches!(header.status.as_u16(), 300..400 | 404 | 410);
                if session.cache.phase() == CachePhase::Stale && replaced {
                    self.store.remove(&session.cache.cache_key().to_compact());
                }
                Ok(Uncacheable(NoCacheReason::OriginNotCache))
            }
        }
    }

    /// The answer to a POST that is good for later GETs (RFC 9110 §9.3.3), which is rare: only then is the cache asked to fill,
    /// and never to answer. Called after what the POST changed was thrown away.
    pub(super) fn keep_post(&self, session: &mut Session, response: &ResponseHeader, ctx: &mut Context) {
        let (Some(site), Some(authority)) = (&ctx.site, &ctx.authority) else { return };
        let request = session.req_header();
        if request.method != Method::POST || !site.cache.enabled || ctx.long_lived || session.cache.enabled() {
            return;
        }
        let target = invalidation::Target { secure: ctx.client.secure, authority, path_and_query: &ctx.target };
        // Conditions and ranges would be taken for those of a GET.
        let plain = ![IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE]
            .iter()
            .any(|name| request.headers.contains_key(name));
        let refused = site.cache.honor_request_directives && reuse::request_directives(&request.headers).no_store;
        if !plain || refused || !invalidation::is_representation(response.status, &response.headers, target) {
            return;
        }
        let Ok(key) = self.cache_key(session, ctx) else { return };
        session.cache.enable(self.store, None, None, None, None);
        session.cache.set_cache_key(key);
        session.cache.cache_miss();
    }

    /// A 304 to a request of the cache's own, before Pingora merges it.
    pub(super) fn receive_validation(&self, session: &Session, response: &mut ResponseHeader, ctx: &mut Context) {
        let Some(meta) = session.cache.maybe_cache_meta() else { return };
        if response.status != StatusCode::NOT_MODIFIED || session.cache.phase() != CachePhase::Stale {
            return;
        }
        if update::is_of(meta.headers(), &response.headers) {
            ctx.cache.validation = Some(Validation::Fields(response.headers.clone()));
            return;
        }
        for name in response.headers.keys().cloned().collect::<Vec<_>>() {
            response.remove_header(&name);
        }
        ctx.cache.validation = Some(Validation::OfAnother);
    }

    /// After an unsafe request that did something (RFC 9111 §4.4), what it changed is thrown away.
    pub(super) fn invalidate(&self, session: &Session, response: &ResponseHeader, ctx: &mut Context) {
        let Some(authority) = &ctx.authority else { return };
        let target = invalidation::Target { secure: ctx.client.secure, authority, path_and_query: &ctx.target };
        let changed = invalidation::changed(&session.req_header().method, response.status, &response.headers, target);
        if changed.is_empty() {
            return;
        }
        if let Ok(key) = self.cache_key(session, ctx) {
            ctx.cache.removals.extend(self.store.remove(&key.to_compact()));
            ctx.cache.removals.extend(self.slices.forget(&key));
        }
        for path in &changed {
            let Some(index) = ctx.generation.route(ctx.host.as_deref(), path.split('?').next().unwrap_or("/")) else {
                continue;
            };
            let (site, _) = ctx.generation.site(index);
            let rewritten = rules::rewrite_first(&site.rewrites, path).ok().flatten();
            let kept_as = site.cache.key.apply(rewritten.as_deref().unwrap_or(path));
            let host = ctx.host.as_deref().filter(|_| site.host_in_key);
            if let Ok(key) = key::content_key(&site.name, host, &kept_as) {
                let key = crate::cache::key(key);
                ctx.cache.removals.extend(self.store.remove(&key.to_compact()));
                ctx.cache.removals.extend(self.slices.forget(&key));
            }
        }
    }
}

impl Edge {
    /// Before a client hears that its request did something, what that made untrue is noted where it would survive us. A disk that fails
    /// or is slow holds nobody back for long.
    pub(super) async fn note_removals(&self, ctx: &mut Context) {
        let written = ctx.cache.removals.drain(..).map(Ticket::written);
        if tokio::time::timeout(REMOVAL_WAIT, futures_util::future::join_all(written)).await.is_err() {
            tracing::warn!("what a request made untrue is not noted on the disk yet");
        }
    }
}

/// A head as it is stored, with what was decided about it.
pub(super) fn meta_of(
    kept: Storable,
    header: ResponseHeader,
    stale_if_unreachable: Duration,
    now: SystemTime,
) -> CacheMeta {
    // Pingora asks whether it may stand in at all; `reuse` knows for how long, and for what.
    let stands_in = if kept.no_stale { Duration::ZERO } else { kept.stale_if_error.unwrap_or(stale_if_unreachable) };
    let stands_in_s = u32::try_from(stands_in.as_secs()).unwrap_or(u32::MAX);
    // Stale answers are refreshed by `refresh.rs`: Pingora's own way fails over HTTP/2.
    let mut meta = CacheMeta::new(kept.fresh_until(now), now, 0, stands_in_s, header);
    // Not the time of creation: by that Pingora tells variants of an older family.
    meta.set_epoch_override(now.checked_sub(kept.age_at_receipt).unwrap_or(now));
    meta.extensions_mut().insert(Arc::new(kept));
    meta
}

/// What is decided anew of a head that a 304 validated: when its bytes came is as before.
pub(super) fn keep_date(decided: &mut Storable, old: &CacheMeta) {
    decided.strong_date &= kept(old).is_some_and(|old| old.strong_date);
}

/// The stored head with the fields of a 304.
pub(super) fn merged(meta: &CacheMeta, fresh: &HeaderMap) -> Result<ResponseHeader> {
    let fields = update::merge(meta.headers(), fresh);
    let mut header = ResponseHeader::build_no_case(meta.response_header().status, Some(fields.len()))?;
    for (name, value) in &fields {
        header.append_header(name.clone(), value.clone())?;
    }
    // Of the same version, but perhaps weak because of what was done to the bytes.
    if let Some(tag) = meta.headers().get(ETAG) {
        header.insert_header(ETAG, tag.clone())?;
    }
    Ok(header)
}

/// A copy without the letter case of the field names, which mean the same in any (RFC 9110 §5.1). Pingora keeps the case in a
/// second map, that every hit would copy and change beside the first.
pub(super) fn without_case(response: &ResponseHeader) -> ResponseHeader {
    http::response::Parts::from(response.clone()).into()
}

/// Whether the answer is a redirect by what the key does not know: see [`answer::redirect_is_unkeyed`].
fn is_redirect_to_itself(session: &Session, header: &ResponseHeader, ctx: &Context) -> bool {
    let Some(location) = header.headers.get(LOCATION).and_then(|location| location.to_str().ok()) else { return false };
    let port = ctx.connection.as_ref().and_then(|connection| connection.local_port());
    let unkeyed = |target| {
        let asked = answer::Asked { authority: ctx.authority.as_deref(), target, port };
        answer::redirect_is_unkeyed(location, asked)
    };
    let as_asked = key::normalise_path_and_query(&ctx.target).unwrap_or_default();
    unkeyed(&as_asked) || unkeyed(target_of(session.req_header()))
}

/// Leaves a field out of what is stored, for this client's answer to have it all the same.
fn withhold(header: &mut ResponseHeader, name: &str, ctx: &mut Context) {
    let Ok(name) = HeaderName::try_from(name) else { return };
    let values: Vec<_> = header.headers.get_all(&name).iter().cloned().collect();
    ctx.cache.withheld.extend(values.into_iter().map(|value| (name.clone(), value)));
    header.remove_header(&name);
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// An answer without a date is dated by its recipient (RFC 9110 §6.6.1).
pub(super) fn date_it(response: &mut ResponseHeader) -> Result<()> {
    if !response.headers.contains_key(DATE) {
        response.insert_header(DATE, httpdate::fmt_http_date(SystemTime::now()))?;
    }
    Ok(())
}

fn is_of_type(headers: &HeaderMap, media_type: &[u8]) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(media_type)
}
