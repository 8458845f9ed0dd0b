//! Between the request and the store: whether the cache is asked, under which key and variant, and whether what it has may be
//! given. What may be kept is decided in `keep.rs`.

use super::Edge;
use super::admit::target_of;
use super::ahead::Found;
use super::context::{Context, Filling};
use super::keep::kept;
use crate::cache::{AcceptsCodings, Held, collapse, follows_fill};
use crate::http::byte_range::{self, Selection};
use crate::http::cache_control::RequestCacheControl;
use crate::http::cache_status::Fwd;
use crate::http::precondition::{self, Outcome, Validators};
use crate::http::reuse::{self, Reuse, Stored, Trouble};
use crate::http::{key, negotiation, variant};
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, StatusCode};
use pingora_cache::key::HashBinary;
use pingora_cache::{CacheKey, CacheMeta, ForcedFreshness, HitHandler, NoCacheReason, VarianceBuilder};
use pingora_error::{Error, ErrorSource, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{RangeType, Session, range_header_filter};
use std::time::SystemTime;

/// A range that begins this far beyond what a running fill has is fetched by itself: about what arrives while a connection
/// to the origin would be made.
const FILL_AHEAD_BYTES: u64 = 1 << 20;

/// Ranges of one request, at most; more are no ranges (RFC 9110 §14.2 lets a server ignore them).
const RANGES_MAX: usize = 200;

impl Edge {
    /// Decides whether the cache is asked at all.
    pub(super) fn open_cache(&self, session: &mut Session, ctx: &mut Context) {
        let Some(site) = ctx.site.clone() else { return };
        let ahead = ctx.cache.ahead.take();
        if ctx.part.is_some() || self.show_slices(session, ctx) {
            return;
        }
        let request = session.req_header();
        let refuse = |ctx: &mut Context, fwd, detail| {
            ctx.cache.bypass = Some(fwd);
            ctx.cache.detail = detail;
        };
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return refuse(ctx, Fwd::Method, None);
        }
        if site.cache.honor_request_directives {
            ctx.cache.asked = reuse::request_directives(&request.headers);
        }
        if !site.cache.enabled {
            return refuse(ctx, Fwd::Bypass, None);
        }
        if ctx.long_lived {
            return refuse(ctx, Fwd::Bypass, Some("long-lived"));
        }
        // An origin may answer by it, and the key does not know it (RFC 9110 §9.3.1: "might enable request smuggling").
        if !session.is_body_empty() {
            return refuse(ctx, Fwd::Bypass, Some("request-body"));
        }
        let request = session.req_header();
        let Ok(mut key) = ctx.cache.key.take().map_or_else(|| self.cache_key(session, ctx), Ok) else {
            return refuse(ctx, Fwd::Bypass, Some("key-too-long"));
        };
        let compact = key.to_compact();
        if self.store.is_too_large(&compact) {
            return refuse(ctx, Fwd::Bypass, Some("too-large"));
        }
        let large = !ctx.slices.small;
        let held = ahead.as_ref().map_or_else(|| self.store.held(&compact), Found::held);
        if request.headers.contains_key(RANGE) && !ctx.cache.refuses_identity && is_far(&request.headers, held, large) {
            return refuse(ctx, Fwd::Partial, Some("range"));
        }
        if let Some(ahead) = ahead {
            ahead.give_to(&mut key);
        }
        ctx.cache.key = Some(key);
        ctx.cache.filling = filling(request, &ctx.cache.asked);
        // A request that fills nothing must neither hold others up nor wait for them.
        let lock = (ctx.cache.filling == Filling::Allowed).then_some(self.lock);
        let waiting = collapse::overrides(ctx.generation.config.cache.collapse_timeout);
        session.cache.enable(self.store, None, None, lock, Some(waiting));
    }

    /// Site, path and query as its rules take them; the host only where hosts are told apart.
    pub(super) fn cache_key(&self, session: &Session, ctx: &Context) -> Result<CacheKey> {
        let mut key = bare_key(session.req_header(), ctx)?;
        self.note_begin(&mut key);
        if session.req_header().headers.get(ACCEPT_ENCODING).is_some_and(|codings| codings != "identity") {
            key.extensions.insert(AcceptsCodings);
        }
        Ok(key)
    }

    /// The variant a request selects; notes whether it is another than the stored one.
    pub(super) fn variance(&self, meta: &CacheMeta, ctx: &mut Context, request: &RequestHeader) -> Option<HashBinary> {
        let variance = variance_of(meta, request);
        // Pingora asks once with what is stored under the key, and once more with what it is about to store.
        ctx.cache.vary_miss |= meta.variance().is_some_and(|stored| Some(stored) != variance);
        variance
    }

    /// Whether what was found answers this request (RFC 9111 §4); noted for `Cache-Status`.
    pub(super) fn found(
        &self,
        session: &mut Session,
        meta: &CacheMeta,
        hit: &HitHandler,
        is_fresh: bool,
        ctx: &mut Context,
    ) -> Option<ForcedFreshness> {
        if ctx.slices.is_shown() {
            if let Some(connection) = &ctx.connection {
                connection.answer_may_pause();
            }
            return Some(ForcedFreshness::ForceFresh);
        }
        let now = SystemTime::now();
        ctx.cache.ttl_s = Some(seconds_until(meta.fresh_until(), now));
        ctx.cache.collapsed = follows_fill(hit);
        if let (true, Some(connection)) = (ctx.cache.collapsed, &ctx.connection) {
            connection.answer_may_pause();
        }
        ctx.cache.fwd = None;
        ctx.cache.detail = None;
        let (Some(kept), Some(mut verdict)) = (kept(meta), self.reuse(meta, hit, ctx, now)) else {
            return Some(ForcedFreshness::ForceMiss);
        };
        if matches!(verdict, Reuse::Fresh | Reuse::Stale | Reuse::StaleWhileRevalidate)
            && ctx.cache.filling == Filling::Never
            && !holds_here(session.req_header(), meta, kept.modified)
        {
            verdict = Reuse::ValidateOnRequest;
        }
        if verdict == Reuse::StaleWhileRevalidate {
            // The request that refreshes is the one that may not take the stale answer.
            if ctx.refresh.is_some() {
                verdict = Reuse::Validate;
            } else {
                ctx.cache.detail = Some("stale-while-revalidate");
                self.refresh(session, ctx);
            }
        }
        match verdict {
            Reuse::Fresh | Reuse::StaleWhileRevalidate => return Some(ForcedFreshness::ForceFresh),
            Reuse::Stale => {
                ctx.cache.detail = Some("max-stale");
                return Some(ForcedFreshness::ForceFresh);
            }
            Reuse::Validate => ctx.cache.fwd = Some(Fwd::Stale),
            Reuse::ValidateOnRequest => ctx.cache.fwd = Some(Fwd::Request),
        }
        let can_be_validated = meta.headers().contains_key(ETAG) || meta.headers().contains_key(LAST_MODIFIED);
        if ctx.cache.filling == Filling::Never || (ctx.cache.filling == Filling::UpdatesOnly && !can_be_validated) {
            return Some(ForcedFreshness::ForceMiss);
        }
        // What each request must ask for itself is not worth waiting for in line.
        if (verdict == Reuse::ValidateOnRequest || kept.fresh_for.is_zero())
            && !session.cache.is_cache_locked()
            && !session.cache.is_cache_lock_writer()
        {
            session.cache.set_cache_lock(None, None);
        }
        is_fresh.then_some(ForcedFreshness::ForceExpiredServeStale { expired_at: None })
    }

    /// Nothing here answers the request: a request that may fill nothing goes on as it came.
    pub(super) fn missed(&self, session: &mut Session, ctx: &mut Context) {
        if ctx.cache.filling == Filling::Allowed {
            return session.cache.cache_miss();
        }
        let miss = if ctx.cache.vary_miss { Fwd::VaryMiss } else { Fwd::UriMiss };
        ctx.cache.bypass = Some(ctx.cache.fwd.unwrap_or(miss));
        session.cache.disable(NoCacheReason::Custom("passes unstored"));
    }

    /// `only-if-cached` (RFC 9111 §5.2.1.7): what is not here is not asked for. False: answered.
    pub(super) async fn may_ask_origin(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        if !ctx.cache.asked.only_if_cached {
            return Ok(true);
        }
        let detail = "It is not in the cache, and the request said only-if-cached.";
        self.refuse(session, ctx, StatusCode::GATEWAY_TIMEOUT, detail, None).await?;
        Ok(false)
    }

    /// A stale object stands in for an origin that failed, never merely to save a request (RFC 9111 §4.2.4, RFC 5861 §4).
    pub(super) fn may_serve_stale(&self, session: &mut Session, ctx: &mut Context, error: Option<&Error>) -> bool {
        let Some(error) = error else { return false };
        let trouble = match (error.esource(), error.etype()) {
            (ErrorSource::Upstream, ErrorType::HTTPStatus(status)) => {
                self.note_answer(ctx, *status);
                match status {
                    500 | 502 | 503 | 504 => Trouble::ServerError,
                    _ => return false,
                }
            }
            // Our own refusal after the cache was asked: no server is left to ask.
            (ErrorSource::Upstream, _) | (_, ErrorType::HTTPStatus(502..=504)) => Trouble::Unreachable,
            _ => return false,
        };
        let (Some(meta), Some(site)) = (session.cache.maybe_cache_meta(), &ctx.site) else { return false };
        let Some(kept) = kept(meta) else { return false };
        let stored = Stored { kept: &kept, age: meta.age(), fresh_until: meta.fresh_until() };
        let longest = site.cache.stale_if_unreachable;
        let stands_in = reuse::may_stand_in(&stored, &ctx.cache.asked, trouble, longest, SystemTime::now());
        if stands_in {
            ctx.cache.detail = Some("stale-if-error");
            ctx.refusal = None;
            if trouble == Trouble::Unreachable {
                // Pingora gives up the client's connection with the origin's: no next request may be sent on it.
                session.set_keepalive(None);
            }
        }
        stands_in
    }

    /// Whether the client has what would be sent (RFC 9110 §13.2.2, RFC 9111 §4.3.2). Only a 200 is ever "not modified".
    pub(super) fn is_not_modified(&self, session: &Session, response: &ResponseHeader) -> bool {
        is_not_modified(session.req_header(), response, session.cache.maybe_cache_meta())
    }

    /// Whether a range may be cut out of the answer (RFC 9110 §13.1.5): Pingora compares `If-Range` as text, which lets weak
    /// entity-tags and young dates pass.
    pub(super) fn range_counts(&self, session: &Session, response: &ResponseHeader) -> bool {
        let headers = &session.req_header().headers;
        if !headers.contains_key(IF_RANGE) {
            return true;
        }
        let etag = response.headers.get(ETAG).and_then(|value| value.to_str().ok());
        let validators = Validators { etag, last_modified: date(&response.headers, "last-modified") };
        precondition::if_range_holds(headers, validators, SystemTime::now())
    }
}

/// See [`Edge::cache_key`]; without what a look-up wants to know besides.
pub(super) fn bare_key(request: &RequestHeader, ctx: &Context) -> Result<CacheKey> {
    let site = ctx.site.as_ref();
    let host = ctx.host.as_deref().filter(|_| site.is_some_and(|site| site.host_in_key));
    let name = site.map_or("", |site| site.name.as_str());
    let target = target_of(request);
    let target = site.map_or(target.into(), |site| site.cache.key.apply(target));
    let key = key::content_key(name, host, &target);
    Ok(crate::cache::key(key.or_err(ErrorType::InternalError, "a cache key")?))
}

/// See [`Edge::is_not_modified`]. `stored`: what the answer was made of.
pub(super) fn is_not_modified(request: &RequestHeader, response: &ResponseHeader, stored: Option<&CacheMeta>) -> bool {
    let asked = &request.headers;
    let is_asked = asked.contains_key(IF_NONE_MATCH) || asked.contains_key(IF_MODIFIED_SINCE);
    if response.status != StatusCode::OK || !is_asked {
        return false;
    }
    let last_modified = match stored.and_then(kept) {
        Some(kept) => Some(kept.modified),
        None => date(&response.headers, "last-modified").or_else(|| date(&response.headers, "date")),
    };
    let tag = response.headers.get(ETAG);
    // Some origins' tags are none by the grammar (no quotes). Whoever sends back just that has that.
    if tag.is_some() && request.headers.get(IF_NONE_MATCH) == tag {
        return true;
    }
    let etag = tag.and_then(|value| value.to_str().ok());
    let validators = Validators { etag, last_modified };
    precondition::evaluate(&request.method, &request.headers, validators) == Outcome::NotModified
}

/// Whether a range is better fetched by itself. Pingora fills the whole object to serve a part of it: right where the
/// range is the whole (browsers ask for films by `bytes=0-`) or the fill is nearly there, else a seek would wait for
/// all that lies before it. `held`: what is there of it; `large`: what is not there at all may be.
pub(super) fn is_far(headers: &HeaderMap, held: Option<Held>, large: bool) -> bool {
    const LENGTH_UNKNOWN: u64 = u64::MAX;
    let asked = headers.get(RANGE).map(|range| byte_range::parse(range.as_bytes(), LENGTH_UNKNOWN));
    let Some(Selection::Part(asked)) = asked else { return large && held.is_none() };
    match held {
        Some(Held::Whole) => false,
        Some(Held::Filling { body_bytes }) => asked.first > body_bytes.saturating_add(FILL_AHEAD_BYTES),
        None if !large => false,
        None => asked.first > 0 || asked.last < LENGTH_UNKNOWN - 1 || headers.contains_key(IF_RANGE),
    }
}

/// The variant that a request selects of what is stored (RFC 9111 §4.1): a hash of the fields that the stored response named.
pub(super) fn variance_of(meta: &CacheMeta, request: &RequestHeader) -> Option<HashBinary> {
    let kept = kept(meta)?;
    let mut builder = VarianceBuilder::new();
    for name in &kept.vary {
        // As many variants as there are formats, where the answer says which, and not one for each way to write `Accept`.
        let chosen = if name == "accept" { negotiation::selected(meta.headers(), &request.headers) } else { None };
        let value = chosen.unwrap_or_else(|| variant::selecting_value(&request.headers, name));
        builder.add_owned_name_value(name.clone(), value);
    }
    builder.finalize()
}

/// What a request may do to the store. `If-Match` and `If-Unmodified-Since` are the origin's to judge (RFC 9111 §4.3.2), and
/// would be lost where the cache asks for itself; a HEAD for what is not here should not fetch the whole body.
pub(super) fn filling(request: &RequestHeader, asked: &RequestCacheControl) -> Filling {
    let conditional = request.headers.contains_key(IF_MATCH) || request.headers.contains_key(IF_UNMODIFIED_SINCE);
    if asked.no_store || asked.only_if_cached || conditional {
        Filling::Never
    } else if request.method == Method::HEAD {
        Filling::UpdatesOnly
    } else {
        Filling::Allowed
    }
}

/// Whether `If-Match` and `If-Unmodified-Since` hold for what is stored. Where they do not, the origin may have a newer
/// version for which they do.
pub(super) fn holds_here(request: &RequestHeader, meta: &CacheMeta, modified: SystemTime) -> bool {
    let etag = meta.headers().get(ETAG).and_then(|value| value.to_str().ok());
    let validators = Validators { etag, last_modified: Some(modified) };
    precondition::evaluate(&request.method, &request.headers, validators) != Outcome::Failed
}

/// Makes an answer that of the ranges asked for, as Pingora does; but it takes the last no bytes (`bytes=-0`) for a range, which
/// cannot be satisfied (RFC 9110 §14.1.2), and fails where there are none to count from.
pub(super) fn cut(request: &RequestHeader, response: &mut ResponseHeader) -> RangeType {
    // What it would only say of itself is said.
    let says_bytes = || response.headers.get(ACCEPT_RANGES).is_some_and(|unit| unit == "bytes");
    if !request.headers.contains_key(RANGE) && says_bytes() {
        return RangeType::None;
    }
    if response.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0") {
        return RangeType::None;
    }
    match range_header_filter(request, response, Some(RANGES_MAX)) {
        RangeType::Single(range) if range.is_empty() => {
            let _ = response.set_status(StatusCode::RANGE_NOT_SATISFIABLE);
            for name in [CONTENT_TYPE, CONTENT_ENCODING, TRANSFER_ENCODING] {
                response.remove_header(&name);
            }
            let _ = response.insert_header(CONTENT_LENGTH, 0);
            let _ = response.insert_header(CONTENT_RANGE, format!("bytes */{}", range.start));
            RangeType::Invalid
        }
        asked => asked,
    }
}

fn date(headers: &HeaderMap, name: &str) -> Option<SystemTime> {
    crate::http::date::parse(headers.get(name)?.as_bytes())
}

/// To the nearest second; negative once it has passed.
pub(super) fn seconds_until(time: SystemTime, now: SystemTime) -> i64 {
    match time.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64().round() as i64,
        Err(behind) => -(behind.duration().as_secs_f64().round() as i64),
    }
}
